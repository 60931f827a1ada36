"""The statistics of the reports, in numpy and scipy, each small enough to check by hand.

The seed is the unit of replication (protocol rule 5; Bouthillier et al. 2021, arXiv 2103.03098), differences are taken
within a seed, and ratios of step costs within a timing block (protocol rule 7). No function drops or imputes a value:
a non-finite one raises `ValueError`, so that what a failed run means is decided, and shown, by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
MIN_SEEDS = 5  # Below this many seeds a point is shown without an interval (protocol rule 12).


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; `low` and `high` are None where the data allow none."""

    estimate: float
    low: float | None
    high: float | None
    n: int  # seeds, pairs or blocks behind the estimate

    def excludes(self, value: float) -> bool:
        """Whether there is an interval and it leaves `value` out."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high

    def without_bounds(self) -> Interval:
        """The same estimate, its interval withheld."""
        return Interval(self.estimate, None, None, self.n)


def t_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean over seeds with Student's t interval (protocol rule 12).

        mean -+ t(n - 1; (1 + confidence) / 2) * s / sqrt(n),    s^2 = sum (x - mean)^2 / (n - 1)

    A percentile bootstrap over 5 seeds covers 83 % for a nominal 95 %; for near-normal values this one holds its level.

    Args:
      values: (num_seeds,), finite.
      confidence: in (0, 1).

    Returns:
      The mean; bounds only from `MIN_SEEDS` seeds on.

    Example:
      >>> t_interval([1.0, 2.0, 3.0, 4.0, 5.0]).estimate
      3.0

    Reference: Student, The probable error of a mean, Biometrika 6, 1908.
    """
    from scipy.special import stdtrit

    x = _finite("values", values, ndim=(1,))
    _check_confidence(confidence)
    mean = float(x.mean())
    if x.size < MIN_SEEDS:
        return Interval(mean, None, None, x.size)
    half = float(stdtrit(x.size - 1, 0.5 + confidence / 2) * x.std(ddof=1) / np.sqrt(x.size))
    return Interval(mean, mean - half, mean + half, x.size)


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean of a - b within seeds, with its t interval (protocol rules 5 and 12).

    With several tasks, each seed's differences are averaged over tasks first: the seed, not the task, is replicated.

        d[seed] = mean over tasks of (a - b)[seed, task],    t_interval(d)

    Args:
      a: (num_seeds,) or (num_seeds, num_tasks), finite.
      b: the same shape, row k from the same seed as row k of `a`.
      confidence: in (0, 1).

    Returns:
      The mean difference, negative where `a` is lower, and n = the number of pairs (seeds).

    Example:
      >>> paired_difference([1.0, 2.0], [2.0, 4.0]).estimate
      -1.5
    """
    x, y = _finite("a", a, ndim=(1, 2)), _finite("b", b, ndim=(1, 2))
    if x.shape != y.shape:
        raise ValueError(f"Pairs need equal shapes, got a.shape={x.shape} and b.shape={y.shape}.")
    difference = x - y
    return t_interval(difference.mean(axis=1) if difference.ndim == 2 else difference, confidence)


def median_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Median over blocks with the distribution-free interval between two order statistics (protocol rule 7).

    [x_(k), x_(n + 1 - k)] with the largest k for which P(Binomial(n, 1/2) <= k - 1) <= (1 - confidence) / 2. It covers
    at least `confidence` whatever the distribution; for 95 % it exists from 6 values on.

    Args:
      values: (num_blocks,), finite.
      confidence: in (0, 1).

    Example:
      >>> median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
      Interval(estimate=3.5, low=1.0, high=6.0, n=6)

    Reference: Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2.
    """
    from scipy.special import bdtr

    x = np.sort(_finite("values", values, ndim=(1,)))
    _check_confidence(confidence)
    n = x.size
    # tails[j] = P(Binomial(n, 1/2) <= j), so the number of admissible j is the largest admissible k.
    tails = bdtr(np.arange(n, dtype=float), n, 0.5)
    k = int(np.sum(tails <= (1 - confidence) / 2))
    bounds = (float(x[k - 1]), float(x[n - k])) if k else (None, None)
    return Interval(float(np.median(x)), *bounds, n)


def ratio_interval(a_blocks: ArrayLike, b_blocks: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Median over blocks of the within-block ratios a / b, with `median_interval` (protocol rule 7).

    A block times every optimizer once, close together in time, so a slow spell of the machine cancels in the ratio.

    Args:
      a_blocks: (num_blocks,) seconds per step, positive.
      b_blocks: (num_blocks,) seconds per step of the same blocks, positive.
      confidence: in (0, 1).

    Reference: Kalibera and Jones, Rigorous benchmarking in reasonable time, ISMM 2013.
    """
    a, b = _finite("a_blocks", a_blocks, ndim=(1,)), _finite("b_blocks", b_blocks, ndim=(1,))
    if a.shape != b.shape:
        raise ValueError(f"Ratios need the same blocks on both sides, got {a.size} and {b.size} values.")
    if min(a.min(), b.min()) <= 0:
        raise ValueError(f"Times must be positive, got a minimum of {min(a.min(), b.min())}.")
    return median_interval(a / b, confidence)


def _finite(name: str, values: ArrayLike, *, ndim: tuple[int, ...]) -> NDArray[np.floating[Any]]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim not in ndim or x.size == 0:
        raise ValueError(f"`{name}` must be a non-empty array of rank {ndim}, got shape {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError(
            f"`{name}` has {int((~np.isfinite(x)).sum())} non-finite value(s): decide on failed runs first."
        )
    return x


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must lie between 0 and 1, got {confidence}.")
