"""What truncated estimators by evolution strategies share: antithetic pairs of unrolls, carried on window by window.

A particle is a pair of unrolls of one task with common random numbers, at theta + eps and theta - eps. Each outer step
carries every particle on by one window of K inner steps; one that has reached the horizon begins anew with another
task. So that the windows of an outer step lie all over the horizon, the first episodes are cut short by different
amounts (Vicol, Metz, Sohl-Dickstein 2021, section 4).

Estimators differ in the noise alone: what theta is perturbed by in a window, and which direction its losses weigh.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from learned.base import Key, Theta
from learned.estimators.base import Estimate, Estimator, OuterObjective, mean_loss, samples, scaled, shifted

# (whether an episode begins (), fresh eps, carried noise) -> (eps of this window, direction, noise to carry)
Noise = Callable[[Array, Theta, Theta], tuple[Theta, Theta, Theta]]


class Particles(NamedTuple):
    """Where the particles stand; every leaf has the leading axis num_tasks."""

    key: Array  # of the unrolls: task, initialization, batches
    position: Array  # int32: inner steps taken; -1 before the first window, which takes the samples of its outer step
    length: Array  # int32: inner steps of this episode
    plus: Any  # inner state of the unroll at theta + eps
    minus: Any  # at theta - eps
    noise: Theta  # what the estimator carries of past perturbations


def truncated_estimator(
    objective: OuterObjective, num_tasks: int, sigma: float, noise: Noise, batch_size: int | None = None
) -> Estimator:
    """An estimator over windows of unrolls.

        g = (l+ - l-) / (2 sigma^2) * direction,    l+- the mean clipped loss over the window at theta +- eps

    Averaged over windows all over the horizon this estimates the gradient of the mean over the whole unroll.

    Args:
      objective: the outer-loss.
      num_tasks: particles.
      sigma: scale of the perturbation.
      noise: what tells estimators apart.
      batch_size: particles side by side under vmap; None runs them one after the other.
    """

    def init(theta: Theta, arrays, key: Key, num_steps: int, horizon) -> Particles:
        keys = jax.random.split(key, num_tasks)
        start = jax.lax.map(lambda k: objective.start(theta, arrays, k), keys)
        windows = jnp.asarray(horizon, jnp.int32) // num_steps
        # Particle i's first episode is a share (i + 1) / num_tasks of the horizon, at least a window.
        first = jnp.maximum((jnp.arange(1, num_tasks + 1) * windows) // num_tasks, 1) * num_steps
        nothing = jax.tree.map(lambda t: jnp.zeros((num_tasks, *t.shape), t.dtype), theta)
        return Particles(keys, jnp.full(num_tasks, -1, jnp.int32), first, start, start, nothing)

    def estimate(theta: Theta, state: Particles, arrays, key: Key, num_steps: int, horizon):
        fresh, new_keys = samples(key, theta, num_tasks, sigma)

        def carry_on(operand) -> tuple[Particles, Theta, Array, Array]:
            particle, eps, new_key = operand
            first_ever = particle.position < 0
            begins = first_ever | (particle.position >= particle.length)
            run_key = jax.random.wrap_key_data(
                jnp.where(begins, jax.random.key_data(new_key), jax.random.key_data(particle.key))
            )
            eps, direction, carried = noise(begins, eps, particle.noise)
            ends, losses, bad = [], [], []
            for sign, inner in ((1.0, particle.plus), (-1.0, particle.minus)):
                moved = shifted(theta, eps, sign)
                anew = objective.start(moved, arrays, run_key)
                inner = jax.tree.map(lambda a, b: jnp.where(begins, a, b), anew, inner)
                inner, window = objective.advance(moved, arrays, inner, run_key, num_steps)
                loss, count = mean_loss(window)
                ends.append(inner)
                losses.append(loss)
                bad.append(count)
            length = jnp.where(begins & ~first_ever, jnp.asarray(horizon, jnp.int32), particle.length)
            position = jnp.where(begins, 0, particle.position) + num_steps
            moved_on = Particles(run_key, position, length, ends[0], ends[1], carried)
            return moved_on, direction, jnp.stack(losses), jnp.stack(bad).sum()

        state, directions, losses, bad = jax.lax.map(carry_on, (state, fresh, new_keys), batch_size=batch_size)
        weights = (losses[:, 0] - losses[:, 1]) / (2 * sigma**2)
        return Estimate(scaled(weights, directions), losses, jnp.sum(bad)), state

    return Estimator(init, estimate, truncated=True)
