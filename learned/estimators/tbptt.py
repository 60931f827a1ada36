"""Truncated backpropagation through time.

Williams and Peng, "An efficient gradient-based algorithm for on-line training of recurrent network trajectories",
Neural Computation 2, 1990; for learned optimizers Andrychowicz et al., arXiv 1606.04474. Each task is carried on by a
window of K inner steps, and the window's mean loss is differentiated with the state at its start held fixed:

    g = d/dtheta (1/K) sum_{t in window} l(w_t(theta)),    w at the window's start constant

Biased: what theta did to the state before the window is left out (Metz et al., arXiv 1810.10180, section 2.3). It has
no perturbation: the gradient is that of the loss at theta, not of the smoothed one. With K the horizon it is exact.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from learned.base import Key, Theta
from learned.estimators.base import Estimate, Estimator, OuterObjective, mean_loss


class Carried(NamedTuple):
    """Where the tasks stand; every leaf has the leading axis num_tasks."""

    key: Array
    position: Array  # int32: inner steps taken; -1 before the first window
    length: Array  # int32: inner steps of this episode
    inner: Any  # inner state


def tbptt(objective: OuterObjective, num_tasks: int, batch_size: int | None = None) -> Estimator:
    """Truncated backpropagation.

    Args:
      objective: the outer-loss, differentiable in theta.
      num_tasks: samples of an estimate; each costs one unroll of a window and its backward pass.
      batch_size: tasks side by side under vmap; None runs them one after the other.
    """

    def init(theta: Theta, arrays, key: Key, num_steps: int, horizon) -> Carried:
        keys = jax.random.split(key, num_tasks)
        windows = jnp.asarray(horizon, jnp.int32) // num_steps
        first = jnp.maximum((jnp.arange(1, num_tasks + 1) * windows) // num_tasks, 1) * num_steps
        inner = jax.lax.map(lambda k: objective.start(theta, arrays, k), keys)
        return Carried(keys, jnp.full(num_tasks, -1, jnp.int32), first, inner)

    def estimate(theta: Theta, state: Carried, arrays, key: Key, num_steps: int, horizon):
        new_keys = jax.random.split(jax.random.split(key)[1], num_tasks)  # as `base.samples` names tasks

        def carry_on(operand):
            task, new_key = operand
            first_ever = task.position < 0
            begins = first_ever | (task.position >= task.length)
            run_key = jax.random.wrap_key_data(
                jnp.where(begins, jax.random.key_data(new_key), jax.random.key_data(task.key))
            )

            def window_loss(theta: Theta):
                anew = objective.start(theta, arrays, run_key)
                inner = jax.tree.map(lambda a, b: jnp.where(begins, a, b), anew, task.inner)
                inner, losses = objective.advance(theta, arrays, inner, run_key, num_steps)
                loss, bad = mean_loss(losses)
                return loss, (inner, bad)

            (loss, (inner, bad)), gradient = jax.value_and_grad(window_loss, has_aux=True)(theta)
            length = jnp.where(begins & ~first_ever, jnp.asarray(horizon, jnp.int32), task.length)
            position = jnp.where(begins, 0, task.position) + num_steps
            return Carried(run_key, position, length, inner), gradient, loss[None], bad

        state, gradients, losses, bad = jax.lax.map(carry_on, (state, new_keys), batch_size=batch_size)
        return Estimate(gradients, losses, jnp.sum(bad)), state

    return Estimator(init, estimate, truncated=True)
