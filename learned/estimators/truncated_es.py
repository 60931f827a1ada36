"""Truncated antithetic ES, a biased control.

Evolution strategies on windows, with fresh noise in each window and no memory of earlier noise. The effect of earlier
perturbations on the state is ignored, so the estimate leaves out how theta acts through the state across windows
(Vicol, Metz, Sohl-Dickstein, "Unbiased gradient estimation in unrolled computation graphs with persistent evolution
strategies", ICML 2021, arXiv 2112.13835, section 3.1).

    g = (l(theta + eps) - l(theta - eps)) / (2 sigma^2) * eps
"""

from learned.estimators.base import Each, Estimator, OuterObjective, one_by_one
from learned.estimators.particles import truncated_estimator


def truncated_es(objective: OuterObjective, num_tasks: int, sigma: float = 0.01, each: Each = one_by_one) -> Estimator:
    """Truncated ES; arguments as `truncated_estimator` has them."""
    return truncated_estimator(
        "truncated_es", objective, num_tasks, sigma, each, lambda begins, eps, carried: (eps, eps, carried)
    )
