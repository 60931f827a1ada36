"""The bias of merging, measured where the true mean is known to be 1.

Lognormal samples are merged with normal samples of the same mean and variance. Weights by inverse sample variance
favour an estimate whose samples miss the tail, which is too small.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bench.measure.pathologies.inner import Curve
from learned.estimators import Estimate, merged

SCALES = (0.5, 1.0, 2.0, 3.0)  # standard deviation of the log
NUM_SAMPLES = (8, 32, 128)
ESTIMATES_PER_REPLICATION = 64


def merged_means(replications: int, tick: Callable[[], None]) -> Curve:
    """Merged estimates of 1.

    Returns:
      Rows (replication, "merged/SCALE/NUM_SAMPLES", mean of 64 merged estimates).
    """
    rng = np.random.default_rng(0)
    nothing = jnp.zeros((), jnp.int32)

    @jax.jit
    @jax.vmap
    def merge_both(heavy, normal):
        one, other = (Estimate({"x": g}, g, nothing) for g in (heavy, normal))
        return jnp.mean(merged(one, other, ("heavy", "normal")).gradients["x"])

    rows: Curve = []
    for i in range(replications):
        for scale in SCALES:
            spread = np.sqrt(np.expm1(scale**2))
            for n in NUM_SAMPLES:
                draws = rng.normal(size=(2, ESTIMATES_PER_REPLICATION, n))
                heavy = np.exp(scale * draws[0] - scale**2 / 2)
                value = merge_both(heavy.astype(np.float32), (1 + spread * draws[1]).astype(np.float32))
                rows.append((i, f"merged/{scale:g}/{n}", float(np.mean(np.asarray(value, np.float64)))))
        tick()
    return rows
