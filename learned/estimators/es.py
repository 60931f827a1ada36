"""Antithetic evolution strategies over full unrolls.

Salimans, Ho, Chen, Sidor, Sutskever, "Evolution strategies as a scalable alternative to reinforcement learning", 2017,
arXiv 1703.03864; as used on the variational outer-objective by Metz et al., arXiv 1810.10180, section 4. For each
sample (one task, one perturbation eps ~ N(0, sigma^2 I)) both signs see the same initialization and batches:

    g_es = (L(theta + eps) - L(theta - eps)) / (2 sigma^2) * eps

Unbiased for the gradient of E_eps[L(theta + eps)]. One sample of a linear L has total variance (P + 1) |grad|^2.
"""

import jax
import jax.numpy as jnp
from jax import Array

from learned.base import Key, Theta
from learned.estimators.base import (
    Each,
    Estimate,
    Estimator,
    OuterObjective,
    mean_loss,
    nothing_carried,
    one_by_one,
    samples,
    scaled,
)


def es(
    objective: OuterObjective, num_tasks: int, sigma: float = 0.01, each: Each = one_by_one, late: bool = False
) -> Estimator:
    """Antithetic ES.

    Args:
      objective: the outer-loss.
      num_tasks: samples of an estimate; each costs two unrolls.
      sigma: scale of the perturbation.
      each: how the 2 num_tasks unrolls are computed: one by one, side by side, over devices.
      late: whether the loss of a step counts in proportion to its number.

    Returns:
      The estimator; it carries no state.
    """

    def unroll_loss(arrays, num_steps: int, operand: tuple[Theta, Key]) -> tuple[Array, Array]:
        theta, key = operand
        _, losses = objective.advance(theta, arrays, objective.start(theta, arrays, key, num_steps), key, num_steps)
        return mean_loss(losses, late)

    def estimate(theta: Theta, state, arrays, key: Key, num_steps: int, horizon) -> tuple[Estimate, tuple]:
        del horizon
        eps, task_keys = samples(key, theta, num_tasks, sigma)
        pairs = jax.tree.map(
            lambda t, e: jnp.stack([t[None] + e, t[None] - e], axis=1).reshape(-1, *t.shape), theta, eps
        )
        operands = (pairs, jnp.repeat(task_keys, 2))
        losses, bad = each(lambda arrays, operand: unroll_loss(arrays, num_steps, operand), arrays, operands)
        losses = losses.reshape(num_tasks, 2)
        return Estimate(of_losses(losses, eps, sigma), losses, jnp.sum(bad)), state

    return Estimator(nothing_carried, estimate, "es")


def of_losses(losses: Array, eps: Theta, sigma: float) -> Theta:
    """Per-sample gradients from the losses of both signs, (num_tasks, 2), and the perturbations."""
    return scaled((losses[:, 0] - losses[:, 1]) / (2 * sigma**2), eps)
