"""The statistics of the reports, in numpy and scipy, each small enough to check by hand.

    intervals   means, pairs, medians, shares and ratios, each with an interval; p-values within a task
    survival    time to a target, where a run that misses is right-censored: Kaplan-Meier, performance profiles
    aggregate   one number over tasks and seeds, with its bootstrap; the best of k tuning trials

The seed is the unit of replication (protocol rule 5; Bouthillier et al. 2021, arXiv 2103.03098), differences are taken
within a seed, and ratios of step costs within a timing block (protocol rule 7). No function drops or imputes a value:
NaN raises `ValueError`, and so does an infinite value unless the function says what it takes it to mean, so that what a
failed run means is decided, and shown, by the caller.
"""

from bench.statistics.aggregate import (
    best_of_k,
    geometric_mean,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
)
from bench.statistics.intervals import (
    CONFIDENCE,
    MIN_SEEDS,
    Interval,
    crossed_interval,
    holm,
    median_interval,
    p_value,
    paired_difference,
    ratio_interval,
    t_interval,
    wilson_interval,
)
from bench.statistics.survival import (
    KaplanMeier,
    kaplan_meier,
    km_median,
    performance_profile,
    performance_profile_bands,
    restricted_mean,
)

__all__ = [
    "CONFIDENCE",
    "MIN_SEEDS",
    "Interval",
    "KaplanMeier",
    "best_of_k",
    "crossed_interval",
    "geometric_mean",
    "holm",
    "interquartile_mean",
    "kaplan_meier",
    "km_median",
    "median_interval",
    "p_value",
    "paired_difference",
    "performance_profile",
    "performance_profile_bands",
    "probability_of_improvement",
    "ratio_interval",
    "restricted_mean",
    "stratified_bootstrap",
    "t_interval",
    "wilson_interval",
]
