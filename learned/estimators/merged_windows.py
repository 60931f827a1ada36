"""Backpropagation and evolution strategies merged by inverse variance, window by window of whole unrolls.

The mean loss of an unroll of T steps is a sum over W windows, L = sum_w L_w, with L_w the sum of the losses in window w
over T. Backpropagation is precise for early windows and has a large variance for late ones, whose gradient goes through
many steps; that of ES grows slowly. So the two are merged (`learned.estimators.merge`) for each window and element:

    g = sum_w merged(reparam of L_w, ES of L_w)

The idea is that of arXiv 2604.18161, which merges step by step; Metz et al., arXiv 1810.10180, merge whole unrolls.
Both estimates share their unrolls: ES costs nothing beyond the backward passes, of which there is one for each window.
Merged from the same samples, it is biased as `merge` is.
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
    nothing_carried,
    one_by_one,
    samples,
    scaled,
    shifted,
)
from learned.estimators.merge import merged
from learned.estimators.reparam import losses_of_unroll
from learned.objective import clip_losses, weights_of

NUM_WINDOWS = 4


def merged_windows(
    objective: OuterObjective, num_tasks: int, sigma: float = 0.01, each: Each = one_by_one, late: bool = False
) -> Estimator:
    """The estimator; an unroll shorter than `NUM_WINDOWS` steps has a window for each step.

    Args:
      objective: the outer-loss, differentiable in theta.
      num_tasks: samples of an estimate; each costs two unrolls, their recomputation and `NUM_WINDOWS` backward passes.
      sigma: scale of the perturbation.
      each: how the samples are computed: one by one, side by side, over devices.
      late: whether the loss of a step counts in proportion to its number.

    Returns:
      The estimator; it carries no state.
    """

    def estimate(theta: Theta, state, arrays, key: Key, num_steps: int, horizon) -> tuple[Estimate, tuple]:
        del horizon
        num_windows = min(NUM_WINDOWS, num_steps)
        window = jnp.arange(num_steps) * num_windows // num_steps

        def parts(theta: Theta, arrays, run_key: Key) -> tuple[Array, tuple[Array, Array]]:
            losses = losses_of_unroll(objective, theta, arrays, run_key, num_steps)
            found = jax.ops.segment_sum(weights_of(num_steps, late) * clip_losses(losses), window, num_windows)
            return found, (found, jnp.sum(~jnp.isfinite(losses)))

        def one(shared, operand):
            theta, arrays = shared
            eps, run_key = operand
            # (windows, *shape) of both signs
            gradients, (losses, bad) = jax.lax.map(
                lambda sign: jax.jacrev(parts, has_aux=True)(shifted(theta, eps, sign), arrays, run_key),
                jnp.array([1.0, -1.0]),
            )
            return jax.tree.map(lambda both: (both[0] + both[1]) / 2, gradients), losses, jnp.sum(bad)

        eps, keys = samples(key, theta, num_tasks, sigma)
        gradients, losses, bad = each(one, (theta, arrays), (eps, keys))  # losses (num_tasks, 2, windows)
        rises = (losses[:, 0] - losses[:, 1]) / (2 * sigma**2)
        nothing = jnp.zeros((), jnp.int32)

        def of_window(gradients: Theta, rise: Array) -> tuple[Theta, dict[str, Array]]:
            found = merged(
                Estimate(gradients, losses[..., 0], nothing),
                Estimate(scaled(rise, eps), losses[..., 0], nothing),
                ("reparam", "es"),
            )
            return found.gradients, found.info

        mixed, info = jax.vmap(of_window, in_axes=1)(gradients, rises)
        info = {name: jnp.mean(values) for name, values in info.items() if not name.startswith("finite/")}
        gradients = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), mixed)
        return Estimate(gradients, jnp.sum(losses, axis=-1), jnp.sum(bad), info), state

    return Estimator(nothing_carried, estimate, "merged_windows")
