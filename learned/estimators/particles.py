"""Shared by truncated evolution strategies: antithetic pairs of unrolls that advance window by window.

A particle is a pair of unrolls of one task with common random numbers, at theta + eps and theta - eps. Each outer step
advances every particle by one window of K inner steps; at the horizon a particle starts again with another task.

Estimators differ only in their noise: the perturbation of theta in a window, and the direction that the losses weigh.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from learned.base import Key, Theta
from learned.estimators.base import Each, Estimate, Estimator, OuterObjective, mean_loss, samples, scaled, shifted
from learned.estimators.episodes import Episode, anew_or_carried, carried_on, staggered, started

# (whether an episode begins (), fresh eps, carried noise) -> (eps of this window, direction, noise to carry)
Noise = Callable[[Array, Theta, Theta], tuple[Theta, Theta, Theta]]


class Particles(NamedTuple):
    """The states of the particles; every leaf has the leading axis num_tasks."""

    episode: Episode
    plus: Any  # inner state of the unroll at theta + eps
    minus: Any  # at theta - eps
    noise: Theta  # the noise that the estimator carries over from earlier windows


def truncated_estimator(
    name: str, objective: OuterObjective, num_tasks: int, sigma: float, each: Each, noise: Noise
) -> Estimator:
    """An estimator over windows of unrolls.

        g = (l+ - l-) / (2 sigma^2) * direction,    l+- the mean clipped loss over the window at theta +- eps

    Averaged over windows spread over the horizon, it estimates the gradient of the mean loss of the whole unroll.

    Args:
      name: name of the estimator.
      objective: the outer-loss.
      num_tasks: number of particles.
      sigma: scale of the perturbation.
      each: how the particles are computed: one by one, side by side, over devices.
      noise: the estimator's noise.
    """

    def init(theta: Theta, arrays, key: Key, num_steps: int, horizon) -> Particles:
        episode = staggered(key, num_tasks, num_steps, horizon)
        start = each(started(objective), (theta, arrays, horizon), episode.key)
        nothing = jax.tree.map(lambda t: jnp.zeros((num_tasks, *t.shape), t.dtype), theta)
        return Particles(episode, start, start, nothing)

    def estimate(theta: Theta, state: Particles, arrays, key: Key, num_steps: int, horizon):
        fresh, new_keys = samples(key, theta, num_tasks, sigma)

        def carry_on(shared, operand) -> tuple[Particles, Theta, Array, Array]:
            theta, arrays, horizon = shared
            particle, eps, new_key = operand
            episode, begins = carried_on(particle.episode, new_key, num_steps, horizon)
            eps, direction, carried = noise(begins, eps, particle.noise)
            ends, losses, bad = [], [], []
            for sign, inner in ((1.0, particle.plus), (-1.0, particle.minus)):
                moved = shifted(theta, eps, sign)
                inner = anew_or_carried(begins, objective.start(moved, arrays, episode.key, horizon), inner)
                inner, window = objective.advance(moved, arrays, inner, episode.key, num_steps)
                loss, count = mean_loss(window)
                ends.append(inner)
                losses.append(loss)
                bad.append(count)
            moved_on = Particles(episode, ends[0], ends[1], carried)
            return moved_on, direction, jnp.stack(losses), jnp.stack(bad).sum()

        state, directions, losses, bad = each(carry_on, (theta, arrays, horizon), (state, fresh, new_keys))
        weights = (losses[:, 0] - losses[:, 1]) / (2 * sigma**2)
        return Estimate(scaled(weights, directions), losses, jnp.sum(bad)), state

    return Estimator(init, estimate, name)
