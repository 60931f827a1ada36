"""The outer-loss and its backpropagated gradient for unrolls of different lengths.

Metz et al., arXiv 1810.10180, section 2.2 and figure 2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import tasks
from bench.measure.pathologies.inner import SIGMA, Curve, load
from bench.measure.pathologies.moments import flattened
from learned.estimators import reparam, side_by_side
from learned.estimators.base import perturbation
from learned.objective import clip_losses

LENGTHS = (5, 10, 20, 50, 100, 200, 500, 1000)
SLICED_LENGTHS = (10, 100, 1000)
REACH = 5.0  # of a slice to either side, in units of sigma
NUM_POINTS, NUM_SMOOTHED_POINTS = 401, 41


def gradient_norms(theta_name: str, replications: int, tick: Callable[[], None]) -> Curve:
    """Norms of the gradient at theta, unsmoothed, each of one unroll.

    Returns:
      Rows (length, "gradient_norm/i", norm), of as many unrolls as replications; the i-th is the same at each length.
    """
    inner = load(theta_name)
    # With sigma = 0 both signs are the same unroll.
    estimator = reparam(inner.objective, replications, 0.0, side_by_side(32))
    key = tasks.named_key("pathologies", "gradient_norm")
    rows: Curve = []
    for length in LENGTHS:
        estimate = jax.jit(lambda theta, arrays, n=length: estimator.estimate(theta, (), arrays, key, n, n)[0])
        gradients = jax.device_get(estimate(inner.theta, inner.arrays).gradients)
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(flattened(gradients), axis=1)
        rows += [(length, f"gradient_norm/{i}", float(norm)) for i, norm in enumerate(norms)]
        for _ in range(replications // len(LENGTHS)):
            tick()
    return rows


def slices(theta_name: str, replications: int, tick: Callable[[], None]) -> Curve:
    """The outer-loss of one unroll at theta + a z for a normal direction z and a up to five sigma to either side.

    The smoothed loss is the mean over perturbations N(0, sigma^2) of theta, one for each replication, the same at each
    point. All lengths are computed from one unroll.

    Returns:
      Rows (point, "raw/LENGTH", loss) with (point, "raw_at", a), and (point, "smoothed/LENGTH", loss) with
      (point, "smoothed_at", a).
    """
    inner = load(theta_name)
    key, direction_key, noise_key = jax.random.split(tasks.named_key("pathologies", "slices"), 3)
    direction = perturbation(direction_key, inner.theta, 1.0)
    noises = jax.vmap(lambda k: perturbation(k, inner.theta, SIGMA))(jax.random.split(noise_key, replications))

    @jax.jit
    def losses_at(places: Array, noise, arrays) -> Array:
        """Mean losses up to each sliced length, (len(places), len(SLICED_LENGTHS))."""

        def at(place):
            moved = jax.tree.map(lambda t, z, e: t + place * z + e, inner.theta, direction, noise)
            losses = clip_losses(inner.objective.per_step(moved, arrays, key, SLICED_LENGTHS[-1]))
            return jnp.stack([jnp.mean(losses[:length]) for length in SLICED_LENGTHS])

        return jax.lax.map(at, places, batch_size=64)

    places = {
        "raw": np.linspace(-REACH * SIGMA, REACH * SIGMA, NUM_POINTS),
        "smoothed": np.linspace(-REACH * SIGMA, REACH * SIGMA, NUM_SMOOTHED_POINTS),
    }
    still = jax.tree.map(jnp.zeros_like, inner.theta)
    found = {"raw": np.asarray(losses_at(places["raw"], still, inner.arrays), np.float64)}
    total = np.zeros((NUM_SMOOTHED_POINTS, len(SLICED_LENGTHS)))
    for i in range(replications):
        noise = jax.tree.map(lambda leaf, i=i: leaf[i], noises)
        total += np.asarray(losses_at(places["smoothed"], noise, inner.arrays), np.float64)
        tick()
    found["smoothed"] = total / replications
    rows: Curve = []
    for kind, values in found.items():
        rows += [(point, f"{kind}_at", float(place)) for point, place in enumerate(places[kind])]
        for column, length in enumerate(SLICED_LENGTHS):
            rows += [(point, f"{kind}/{length}", float(loss)) for point, loss in enumerate(values[:, column])]
    return rows
