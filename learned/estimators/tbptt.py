"""Truncated backpropagation through time.

Williams and Peng, "An efficient gradient-based algorithm for on-line training of recurrent network trajectories",
Neural Computation 2, 1990; for learned optimizers Andrychowicz et al., arXiv 1606.04474. Each task advances by a window
of K inner steps, and the window's mean loss is differentiated with the state at its start held fixed:

    g = d/dtheta (1/K) sum_{t in window} l(w_t(theta)),    w at the window's start constant

Biased: it ignores how theta changed the state before the window (Metz et al., arXiv 1810.10180, section 2.3). It has
no perturbation: the gradient is that of the loss at theta, not of the smoothed one. With K the horizon it is exact.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned.base import Key, Theta
from learned.estimators.base import Each, Estimate, Estimator, OuterObjective, mean_loss, one_by_one
from learned.estimators.episodes import Episode, anew_or_carried, carried_on, staggered, started


class Carried(NamedTuple):
    """The states of the tasks; every leaf has the leading axis num_tasks."""

    episode: Episode
    inner: Any  # inner state


def tbptt(objective: OuterObjective, num_tasks: int, each: Each = one_by_one) -> Estimator:
    """Truncated backpropagation.

    Args:
      objective: the outer-loss, differentiable in theta.
      num_tasks: samples of an estimate; each costs one unroll of a window and its backward pass.
      each: how the tasks are computed: one by one, side by side, over devices.
    """

    def init(theta: Theta, arrays, key: Key, num_steps: int, horizon) -> Carried:
        episode = staggered(key, num_tasks, num_steps, horizon)
        return Carried(episode, each(started(objective), (theta, arrays, horizon), episode.key))

    def estimate(theta: Theta, state: Carried, arrays, key: Key, num_steps: int, horizon):
        new_keys = jax.random.split(jax.random.split(key)[1], num_tasks)  # as `base.samples` names tasks

        def carry_on(shared, operand):
            theta, arrays, horizon = shared
            task, new_key = operand
            episode, begins = carried_on(task.episode, new_key, num_steps, horizon)

            def window_loss(theta: Theta):
                inner = anew_or_carried(begins, objective.start(theta, arrays, episode.key, horizon), task.inner)
                inner, losses = objective.advance(theta, arrays, inner, episode.key, num_steps)
                loss, bad = mean_loss(losses)
                return loss, (inner, bad)

            (loss, (inner, bad)), gradient = jax.value_and_grad(window_loss, has_aux=True)(theta)
            return Carried(episode, inner), gradient, loss[None], bad

        state, gradients, losses, bad = each(carry_on, (theta, arrays, horizon), (state, new_keys))
        return Estimate(gradients, losses, jnp.sum(bad)), state

    return Estimator(init, estimate, "tbptt")
