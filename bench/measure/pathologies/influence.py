"""Influence balancing: a problem on which gradients of short windows have the wrong sign.

Tallec, Ollivier, "Unbiasing truncated backpropagation through time", arXiv 1705.08209; as in Vicol, Metz,
Sohl-Dickstein, arXiv 2112.13835, section 5.1.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import tasks
from bench.measure.pathologies.inner import SIGMA, Curve
from learned.estimators import make_by_name, side_by_side
from learned.estimators.base import Estimator

HORIZON = 100
WINDOWS = (5, 10, 20, 50, 100)
NAMES = ("tbptt", "truncated_es", "pes", "nres")
NUM_UPDATES = 300
PATH_WINDOW = 5
PARTICLES_PER_REPLICATION = 16


class Influence:
    """s <- A s + theta (1, ..., 1, -1, ..., -1), loss (s_1 - 1)^2 / 20, from s = 0.

    A has 1/2 on the diagonal and above it; 10 of 23 signs are +1. At first theta increases s_1, in the end it decreases
    it by 6 theta, so gradients of short windows have the wrong sign. The loss is quadratic in theta, so smoothing does
    not change its gradient. It is a tenth of the usual loss and so stays below the clip.
    """

    n, positive = 23, 10
    theta = {"theta": np.float32(0.5)}

    def start(self, theta, arrays, key, horizon):
        """The state before the first step, (23,)."""
        del theta, arrays, key, horizon
        return jnp.zeros(self.n)

    def advance(self, theta, arrays, state, key, num_steps):
        """`num_steps` further steps: the state after them, losses (num_steps,)."""
        del arrays, key
        matrix = 0.5 * (jnp.eye(self.n) + jnp.eye(self.n, k=1))
        signs = jnp.where(jnp.arange(self.n) < self.positive, 1.0, -1.0)

        def step(s, _):
            s = matrix @ s + theta["theta"] * signs
            return s, (s[0] - 1) ** 2 / 20

        return jax.lax.scan(step, state, length=num_steps)


@jax.jit
def whole_loss(theta: jax.Array) -> jax.Array:
    """The mean loss over the horizon, ()."""
    problem, key = Influence(), jax.random.key(0)
    where = {"theta": theta}
    return jnp.mean(problem.advance(where, {}, problem.start(where, {}, key, HORIZON), key, HORIZON)[1])


def make(name: str, num_particles: int) -> Estimator:
    """An estimator of the problem's gradient, with all particles under one vmap."""
    return make_by_name(name, Influence(), num_particles, SIGMA, side_by_side(num_particles))


@functools.cache
def episodes(name: str, window: int, num_particles: int) -> Callable[[jax.Array], jax.Array]:
    """key -> each particle's mean gradient at theta over one episode of full length, (num_particles,)."""
    estimator, windows = make(name, num_particles), HORIZON // window

    @jax.jit
    def run(key):
        def step(state, outer_step):
            found, state = estimator.estimate(
                Influence.theta, state, {}, jax.random.fold_in(key, outer_step), window, HORIZON
            )
            return state, found.gradients["theta"]

        state = estimator.init(Influence.theta, {}, key, window, HORIZON)
        # From outer step `windows` on, all particles are in episodes of full length, at different positions.
        return jnp.mean(jax.lax.scan(step, state, jnp.arange(2 * windows))[1][windows:], axis=0)

    return run


def descent(name: str, num_particles: int, rate: float) -> Callable[[jax.Array], jax.Array]:
    """key -> theta before each of `NUM_UPDATES` steps of gradient descent on estimates of one window each."""
    estimator = make(name, num_particles)

    @jax.jit
    def run(key):
        def update(carry, outer_step):
            theta, state = carry
            key_now = jax.random.fold_in(key, outer_step)
            found, state = estimator.estimate(theta, state, {}, key_now, PATH_WINDOW, HORIZON)
            moved = theta["theta"] - rate * jnp.mean(found.gradients["theta"])
            return ({"theta": moved}, state), theta["theta"]

        state = estimator.init(Influence.theta, {}, key, PATH_WINDOW, HORIZON)
        return jax.lax.scan(update, (Influence.theta, state), jnp.arange(NUM_UPDATES))[1]

    return run


def paths(replications: int, tick: Callable[[], None]) -> Curve:
    """Gradients at theta = 0.5, and the path of gradient descent with each estimator.

    Returns:
      Rows (i, "gradient/NAME/WINDOW", mean gradient of the i-th particle over an episode), (0, "gradient/exact", ...);
      (update, "theta/NAME", theta) and (update, "loss/NAME", loss of the whole unroll there).
    """
    num_particles = PARTICLES_PER_REPLICATION * replications
    key = tasks.named_key("pathologies", "influence")
    exact = jax.jit(jax.grad(whole_loss))
    curvature = float(exact(1.0) - exact(0.0))
    rows: Curve = [(0, "gradient/exact", float(exact(0.5)))]
    for name in NAMES:
        for window in WINDOWS:
            values = np.asarray(episodes(name, window, num_particles)(key), np.float64)
            rows += [(i, f"gradient/{name}/{window}", float(value)) for i, value in enumerate(values)]
        path = np.asarray(descent(name, num_particles, 0.02 / curvature)(key), np.float64)
        for update, theta in enumerate(path):
            rows += [(update, f"theta/{name}", float(theta)), (update, f"loss/{name}", float(whole_loss(theta)))]
        for _ in range(replications // len(NAMES)):
            tick()
    return rows
