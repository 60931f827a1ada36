"""Two estimators merged elementwise by inverse variance.

Metz et al., arXiv 1810.10180, section 4 (with Fleiss, "The statistical basis of meta-analysis", 1993, behind it): from
N samples of each, with sample mean m and unbiased sample variance s^2 + 1e-8 of every element of theta,

    g = (m_a / s_a^2 + m_b / s_b^2) / (1 / s_a^2 + 1 / s_b^2)

The weights are computed from the same samples as the means, so the estimate is biased. The bias is small where both
estimates are well-behaved, and large where one is heavy-tailed: samples that miss the tail have a small mean and a
small variance. Where both estimates share their samples, common noise allows a variance up to 1.125 times that of the
better one, plus the noise of the weights. 1 / (1 / s_a^2 + 1 / s_b^2) does not measure this variance; independent
replications do.

An estimate with a non-finite sample gets weight zero for all elements. If both have one, the merged samples are not
finite either, and the outer loop skips the update.
"""

import jax
import jax.numpy as jnp

from learned.base import Key, Theta
from learned.estimators.base import Estimate, Estimator, all_finite, mean_and_variance, samples, signal_to_noise
from learned.estimators.es import of_losses

VARIANCE_FLOOR = 1e-8


def merge(a: Estimator, b: Estimator, *, shared: bool = True) -> Estimator:
    """The merged estimator.

    Args:
      a: an estimator.
      b: another one with the same number of samples.
      shared: whether both use the same key and so the same tasks and perturbations.

    Returns:
      The estimator whose estimates are `merged`.
    """

    def init(theta: Theta, arrays, key: Key, num_steps: int, horizon):
        keys = jax.random.split(key)
        return tuple(e.init(theta, arrays, k, num_steps, horizon) for e, k in zip((a, b), keys, strict=True))

    def estimate(theta: Theta, state, arrays, key: Key, num_steps: int, horizon) -> tuple[Estimate, tuple]:
        keys = (key, key) if shared else tuple(jax.random.split(key))
        (one, state_a), (other, state_b) = (
            e.estimate(theta, s, arrays, k, num_steps, horizon) for e, s, k in zip((a, b), state, keys, strict=True)
        )
        return merged(one, other, (a.name, b.name)), (state_a, state_b)

    return Estimator(init, estimate, f"{a.name}+{b.name}")


def with_own_es(a: Estimator, num_tasks: int, sigma: float) -> Estimator:
    """Backpropagation merged with the ES of its own unrolls, which costs nothing: their losses are there.

    The estimates are those of `merge(a, es)` with shared samples, from half of the unrolls.

    Args:
      a: an estimator over unrolls of both signs of `base.samples`, such as reparam.
      num_tasks: its samples.
      sigma: scale of their perturbations.
    """

    def estimate(theta: Theta, state, arrays, key: Key, num_steps: int, horizon) -> tuple[Estimate, tuple]:
        one, state = a.estimate(theta, state, arrays, key, num_steps, horizon)
        eps, _ = samples(key, theta, num_tasks, sigma)
        other = Estimate(of_losses(one.losses, eps, sigma), one.losses, jnp.zeros_like(one.num_non_finite))
        return merged(one, other, (a.name, "es")), state

    return Estimator(a.init, estimate, f"{a.name}+es")


def merged(one: Estimate, other: Estimate, names: tuple[str, str]) -> Estimate:
    """Merges two estimates with the same number of samples.

    Returns:
      Per-sample gradients w_a g_a + w_b g_b, whose mean is the merged gradient. `info` has the mean weight of the first
      as "merge_weight", and for each name the signal-to-noise and whether the estimate is finite.
    """
    finite_a, finite_b = all_finite(one.gradients), all_finite(other.gradients)
    (_, var_a), (_, var_b) = mean_and_variance(one.gradients), mean_and_variance(other.gradients)

    def weight_of_a(x, y):
        precision_a, precision_b = 1 / (x + VARIANCE_FLOOR), 1 / (y + VARIANCE_FLOOR)
        between = precision_a / (precision_a + precision_b)
        return jnp.where(finite_a & finite_b, between, jnp.where(finite_a, 1.0, 0.0))

    weights = jax.tree.map(weight_of_a, var_a, var_b)

    def mixed(w, x, y):
        # `where`, since zero times a non-finite number is not zero.
        w = w[None]
        return jnp.where(w == 0, 0.0, w * x) + jnp.where(w == 1, 0.0, (1 - w) * y)

    gradients = jax.tree.map(mixed, weights, one.gradients, other.gradients)
    flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(weights)])
    info = {"merge_weight": flat.mean()}
    for name, found, finite in zip(names, (one, other), (finite_a, finite_b), strict=True):
        info[f"finite/{name}"] = finite
        info[f"signal_to_noise/{name}"] = signal_to_noise(found.gradients)
    bad = one.num_non_finite + other.num_non_finite
    return Estimate(gradients, one.losses, bad, one.info | other.info | info)
