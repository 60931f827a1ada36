"""The reparameterization gradient: backpropagation through perturbed full unrolls.

Kingma, Welling, "Auto-encoding variational Bayes", arXiv 1312.6114; on the variational outer-objective by Metz et al.,
arXiv 1810.10180, section 4. With eps ~ N(0, sigma^2 I), both signs on the same task, initialization and batches:

    g_rp = 1/2 (grad L(theta + eps) + grad L(theta - eps))

Unbiased for the gradient of E_eps[L(theta + eps)]; its variance grows with the unroll where the loss is rugged.

Memory: the unroll is cut into about sqrt(T) pieces of sqrt(T) steps, which the backward pass recomputes (Chen, Xu,
Zhang, Guestrin, "Training deep nets with sublinear memory cost", arXiv 1604.06174), so it holds sqrt(T) states.
"""

import math

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
    shifted,
)


def reparam(
    objective: OuterObjective, num_tasks: int, sigma: float = 0.01, each: Each = one_by_one, late: bool = False
) -> Estimator:
    """The reparameterization estimator.

    Args:
      objective: the outer-loss, differentiable in theta.
      num_tasks: samples of an estimate; each costs two unrolls, their recomputation and their backward passes.
      sigma: scale of the perturbation.
      each: how the samples are computed: one by one, side by side, over devices.
      late: whether the loss of a step counts in proportion to its number.

    Returns:
      The estimator; it carries no state.
    """

    def estimate(theta: Theta, state, arrays, key: Key, num_steps: int, horizon) -> tuple[Estimate, tuple]:
        del horizon

        def loss_of(theta: Theta, arrays, run_key: Key) -> tuple[Array, Array]:
            return mean_loss(losses_of_unroll(objective, theta, arrays, run_key, num_steps), late)

        def one(shared, operand):
            theta, arrays = shared
            eps, run_key = operand
            differentiated = jax.value_and_grad(loss_of, has_aux=True)
            # A loop over the signs: one program for both takes half as long to compile.
            (losses, bad), gradients = jax.lax.map(
                lambda sign: differentiated(shifted(theta, eps, sign), arrays, run_key), jnp.array([1.0, -1.0])
            )
            return jax.tree.map(lambda both: (both[0] + both[1]) / 2, gradients), losses, jnp.sum(bad)

        operands = samples(key, theta, num_tasks, sigma)
        gradients, losses, bad = each(one, (theta, arrays), operands)
        return Estimate(gradients, losses, jnp.sum(bad)), state

    return Estimator(nothing_carried, estimate, "reparam")


def losses_of_unroll(objective: OuterObjective, theta: Theta, arrays, key: Key, num_steps: int) -> Array:
    """Unclipped losses of a whole unroll, (num_steps,), whose backward pass recomputes it piece by piece."""
    piece = piece_of(num_steps)
    pieces, rest = divmod(num_steps, piece)

    @jax.checkpoint
    def advance(inner, _):
        return objective.advance(theta, arrays, inner, key, piece)

    inner, losses = jax.lax.scan(advance, objective.start(theta, arrays, key, num_steps), length=pieces)
    losses = losses.reshape(-1)
    if rest:
        _, last = objective.advance(theta, arrays, inner, key, rest)
        losses = jnp.concatenate([losses, last])
    return losses


def piece_of(num_steps: int) -> int:
    """Inner steps of a piece: the largest divisor of num_steps between half its square root and the root.

    Without such a divisor it is the root, rounded down; the shorter last piece is then compiled separately.
    """
    root = math.isqrt(num_steps)
    return next((d for d in range(root, root // 2, -1) if num_steps % d == 0), root)
