"""Persistent evolution strategies.

Vicol, Metz, Sohl-Dickstein, "Unbiased gradient estimation in unrolled computation graphs with persistent evolution
strategies", ICML 2021, arXiv 2112.13835, algorithm 2 (antithetic). There is fresh noise in every window. The losses of
a window weigh the sum xi of all noise since the episode began, since all of it has affected them:

    xi <- xi + eps,    g = (l(theta + eps) - l(theta - eps)) / (2 sigma^2) * xi

Unbiased for the gradient of the smoothed loss as long as theta does not change; its variance grows with the number of
windows in an episode. With one window it is ES.
"""

import jax
import jax.numpy as jnp

from learned.base import Theta
from learned.estimators.base import Each, Estimator, OuterObjective, one_by_one
from learned.estimators.particles import truncated_estimator


def pes(objective: OuterObjective, num_tasks: int, sigma: float = 0.01, each: Each = one_by_one) -> Estimator:
    """PES; arguments as `truncated_estimator` has them."""

    def noise(begins, eps: Theta, total: Theta) -> tuple[Theta, Theta, Theta]:
        total = jax.tree.map(lambda s, e: jnp.where(begins, 0.0, s) + e, total, eps)
        return eps, total, total

    return truncated_estimator("pes", objective, num_tasks, sigma, each, noise)
