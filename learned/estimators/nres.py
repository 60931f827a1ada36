"""Noise-reuse evolution strategies.

Li, Harrison, Sohl-Dickstein, Smith, Metz, "Variance-reduced gradient estimation via noise-reuse in online evolution
strategies", NeurIPS 2023, arXiv 2304.12180. One perturbation for a whole episode, used in all of its windows:

    g = (l(theta + eps) - l(theta - eps)) / (2 sigma^2) * eps,    eps drawn when the episode begins

Unbiased like PES, without the variance that grows with the number of windows. With one window it is ES.
"""

import jax
import jax.numpy as jnp

from learned.base import Theta
from learned.estimators.base import Each, Estimator, OuterObjective, one_by_one
from learned.estimators.particles import truncated_estimator


def nres(objective: OuterObjective, num_tasks: int, sigma: float = 0.01, each: Each = one_by_one) -> Estimator:
    """NRES; arguments as `truncated_estimator` has them."""

    def noise(begins, eps: Theta, kept: Theta) -> tuple[Theta, Theta, Theta]:
        kept = jax.tree.map(lambda k, e: jnp.where(begins, e, k), kept, eps)
        return kept, kept, kept

    return truncated_estimator("nres", objective, num_tasks, sigma, each, noise)
