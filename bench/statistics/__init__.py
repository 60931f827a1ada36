"""The statistics of the reports, in numpy and scipy, each small enough to check by hand.

    intervals   means, pairs, medians, shares and ratios, each with an interval; p-values within a task
    survival    time to a target, where a run that misses is right-censored: Kaplan-Meier, performance profiles
    aggregate   one number over tasks and seeds, with its bootstrap; the best of k tuning trials
    crossing    the step at which a curve of losses first reaches a level
    digits      numbers rounded to significant digits, and an estimate with its interval as text

The seed is the unit of replication (protocol rule 5; Bouthillier et al. 2021, arXiv 2103.03098). Differences are taken
within a seed, and ratios of step costs within a timing block (protocol rule 7). No function drops or imputes a value.
NaN raises `ValueError`, and so does an infinite value unless the docstring gives it a meaning: the caller decides what
a failed run counts as.
"""

from bench.statistics.aggregate import (
    best_of_k,
    geometric_mean,
    interquartile_mean,
    lower_median,
    probability_of_improvement,
    stratified_bootstrap,
)
from bench.statistics.digits import estimate_text, significant, three_digits
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
    "estimate_text",
    "geometric_mean",
    "holm",
    "interquartile_mean",
    "kaplan_meier",
    "km_median",
    "lower_median",
    "median_interval",
    "p_value",
    "paired_difference",
    "performance_profile",
    "performance_profile_bands",
    "probability_of_improvement",
    "ratio_interval",
    "restricted_mean",
    "significant",
    "stratified_bootstrap",
    "t_interval",
    "three_digits",
    "wilson_interval",
]
