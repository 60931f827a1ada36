"""Intervals and tests over seeds, pairs and timing blocks."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.statistics.digits import estimate_text

CONFIDENCE = 0.95
ENDS = ("low", "high")
MIN_SEEDS = 5  # Below this many seeds a point is shown without an interval (protocol rule 12).


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; `low` and `high` are None without an interval."""

    estimate: float
    low: float | None
    high: float | None
    n: int  # seeds, pairs, runs or blocks behind the estimate

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Interval:
        """From "estimate", "low" and "high", as in `report.json` and in a row of a table; "n" where it is there."""
        low, high = (None if values[end] is None or math.isnan(values[end]) else float(values[end]) for end in ENDS)
        return cls(float(values["estimate"]), low, high, int(values.get("n", 0)))

    def __format__(self, form: str) -> str:
        """The estimate and its bounds, each in the given float format: "1.2 [0.9, 1.5]"."""
        bounds = "" if self.low is None or self.high is None else f" [{self.low:{form}}, {self.high:{form}}]"
        return f"{self.estimate:{form}}{bounds}"

    def text(self, limit: float | None = None) -> str:
        """The estimate and its bounds to three digits, as `estimate_text` writes them."""
        return estimate_text(self.estimate, self.low, self.high, limit=limit)

    def excludes(self, value: float) -> bool:
        """Whether there is an interval and `value` lies outside."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high

    def exponential(self) -> Interval:
        """A difference of logarithms as a ratio."""
        low, high = (None if end is None else math.exp(end) for end in (self.low, self.high))
        return Interval(math.exp(self.estimate), low, high, self.n)

    def without_bounds(self) -> Interval:
        """The estimate without its interval."""
        return Interval(self.estimate, None, None, self.n)


def t_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean over seeds with Student's t interval (protocol rule 12).

        mean -+ t(n - 1; (1 + confidence) / 2) * s / sqrt(n),    s^2 = sum (x - mean)^2 / (n - 1)

    For near-normal values it covers its nominal level; a percentile bootstrap over 5 seeds covers 83 % instead of 95 %.

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

    x = checked("values", values, ndim=(1,))
    check_confidence(confidence)
    mean = float(x.mean())
    if x.size < MIN_SEEDS:
        return Interval(mean, None, None, x.size)
    half = float(stdtrit(x.size - 1, 0.5 + confidence / 2) * x.std(ddof=1) / np.sqrt(x.size))
    return Interval(mean, mean - half, mean + half, x.size)


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean of a - b within seeds, with its t interval (protocol rules 5 and 12).

    With several tasks, each seed's differences are averaged over tasks first: the seed is the unit of replication.

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
    return t_interval(_differences(a, b), confidence)


def p_value(found: Interval, confidence: float = CONFIDENCE) -> float | None:
    """Two-sided p-value of the t test that the mean behind a t interval is zero (protocol rule 12).

        error = half-width / t(n - 1; (1 + confidence) / 2),    p = 2 P(T_(n-1) >= |mean / error|)

    It is computed from the interval, so that it is below 1 - confidence exactly where the interval excludes zero. For
    `paired_difference` it is the paired t test; for `crossed_interval` it accounts for test images too.

    Args:
      found: from `t_interval`, `paired_difference` or `crossed_interval`, at this confidence.
      confidence: in (0, 1).

    Returns:
      p in [0, 1]; None without bounds. For an interval of width zero, 1 if the estimate is zero, else 0.

    Example:
      >>> p_value(paired_difference([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0]))
      1.0

    Reference: Student, The probable error of a mean, Biometrika 6, 1908.
    """
    from scipy.special import stdtr, stdtrit

    check_confidence(confidence)
    if found.low is None or found.high is None:
        return None
    error = (found.high - found.low) / 2 / float(stdtrit(found.n - 1, 0.5 + confidence / 2))
    # The standard deviation of equal numbers can be 1e-17 instead of 0, since their mean is rounded.
    if error <= 1e-15 * abs(found.estimate):
        return 1.0 if found.estimate == 0 else 0.0
    return float(2 * stdtr(found.n - 1, -abs(found.estimate / error)))


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's adjusted p-values, over the optimizers compared within a task (protocol rule 12).

        p_(1) <= ... <= p_(m),    adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j))

    Rejecting where an adjusted value is at most alpha keeps the probability of any false rejection at most alpha, for
    any dependence of the tests.

    Args:
      p_values: name -> p-value, or None where there is no test; None stays None and is not counted in m.

    Returns:
      The same names, in the same order.

    Example:
      >>> holm({"adam": 0.5, "sgdm": 0.125, "muon": None})
      {'adam': 0.5, 'sgdm': 0.25, 'muon': None}

    Reference: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 1979.
    """
    for name, p in p_values.items():
        if p is not None and not 0 <= p <= 1:
            raise ValueError(f"A p-value lies between 0 and 1, got {p} for {name!r}.")
    tested = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    largest = 0.0
    for j, (p, name) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - j) * p))
        adjusted[name] = largest
    return adjusted


def wilson_interval(successes: SupportsIndex, n: SupportsIndex, confidence: float = CONFIDENCE) -> Interval:
    """A share of runs with Wilson's score interval (protocol rule 11).

        { p : |k / n - p| <= z sqrt(p (1 - p) / n) } = (k + z^2 / 2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2)

    with k successes and z the normal quantile at (1 + confidence) / 2. Unlike k / n -+ z sqrt(...), it does not shrink
    to a point where all runs succeed or all miss. So it is valid, and wide, even for few runs.

    Args:
      successes: k, from 0 to n.
      n: number of runs, at least 1.
      confidence: in (0, 1).

    Example:
      >>> interval = wilson_interval(10, 10)
      >>> interval.estimate, round(interval.low, 3), interval.high
      (1.0, 0.722, 1.0)

    Reference: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    from scipy.special import ndtri

    check_confidence(confidence)
    k, total = operator.index(successes), operator.index(n)
    if not 0 <= k <= total or total == 0:
        raise ValueError(f"A share needs 0 <= successes <= n and n >= 1, got {k} of {total}.")
    z = float(ndtri(0.5 + confidence / 2))
    centre = (k + z**2 / 2) / (total + z**2)
    half = z * math.sqrt(k * (total - k) / total + z**2 / 4) / (total + z**2)
    # At k = 0 and k = n, centre and half are equal in exact arithmetic; this avoids rounding errors.
    low, high = (0.0 if k == 0 else centre - half), (1.0 if k == total else centre + half)
    return Interval(k / total, low, high, total)


def crossed_interval(
    *tasks: ArrayLike, strata: Sequence[ArrayLike | None] | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """Mean over tasks, seeds and blocks of test images; the interval accounts for seeds and images (rule 12).

        V = max(V_seed + V_image - V_both, V_seed, V_image),    mean -+ t(num_seeds - 1; (1 + confidence) / 2) * sqrt(V)

    and on one task

        V_seed = var(means of the seeds) / num_seeds,    V_image = var(means of the blocks) / num_image_blocks,
        V_both = var(all values) / (num_seeds * num_image_blocks),    var with divisor count - 1

    All seeds are evaluated on the same test images, so the sampling error of images does not average out over seeds.
    V_both is contained in V_seed and in V_image and is subtracted once. By chance the result may be smaller than V_seed
    or V_image, even negative; then the larger of the two is used.

    Where each block holds images of one class (`strata`), differences between classes are no sampling error, since the
    classes of a task are given. The variances over blocks are then taken around the mean of the block's class, with the
    divisor reduced by one for each class, over the blocks that hold a single class.

    With several tasks, seeds are averaged over tasks first. Tasks may share test images; V_image is then the upper
    limit, reached when all share them: the square of the mean of the tasks' sqrt(V_image).

    Args:
      tasks: (num_seeds, num_image_blocks) each, finite: mean test loss of a seed on a block; blocks of equal size.
      strata: for each task (num_image_blocks,), the class of each block, negative for a block of several; or None.
      confidence: in (0, 1).

    Returns:
      The mean; bounds only from `MIN_SEEDS` seeds and two blocks on. n = num_seeds. The degrees of freedom assume at
      least as many blocks as seeds.

    Example:
      >>> crossed_interval([[1.0, 2.0], [3.0, 4.0]])
      Interval(estimate=2.5, low=None, high=None, n=2)

    Reference: Cameron, Gelbach and Miller, Robust inference with multiway clustering, J. Bus. Econ. Stat. 29, 2011;
    strata: Cochran, Sampling Techniques, 3rd edition, section 5.3.
    """
    from scipy.special import stdtrit

    check_confidence(confidence)
    values = [checked("values", task, ndim=(2,)) for task in tasks]
    num_seeds = values[0].shape[0]
    if any(x.shape[0] != num_seeds for x in values):
        raise ValueError(f"All tasks need the same seeds, got {[x.shape[0] for x in values]} of them.")
    mean = float(np.mean([x.mean() for x in values]))
    if num_seeds < MIN_SEEDS or any(x.shape[1] < 2 for x in values):
        return Interval(mean, None, None, num_seeds)
    v_seed = np.mean([x.mean(axis=1) for x in values], axis=0).var(ddof=1) / num_seeds
    parts = [_image_variances(x, labels) for x, labels in zip(values, strata or [None] * len(values), strict=True)]
    v_image = np.mean([math.sqrt(of_images) for of_images, _ in parts]) ** 2
    v_both = sum(of_both for _, of_both in parts) / len(parts) ** 2
    variance = max(v_seed + v_image - v_both, v_seed, v_image)
    half = float(stdtrit(num_seeds - 1, 0.5 + confidence / 2) * np.sqrt(variance))
    return Interval(mean, mean - half, mean + half, num_seeds)


def _image_variances(x: NDArray[np.float64], strata: ArrayLike | None) -> tuple[float, float]:
    """V_image and V_both of one task, (num_seeds, num_image_blocks)."""
    labels = np.zeros(x.shape[1], int) if strata is None else np.asarray(strata)
    if labels.shape != x.shape[1:]:
        raise ValueError(f"`strata` needs a class for each of {x.shape[1]} blocks, got shape {labels.shape}.")
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    if not (counts > 1).any():
        raise ValueError("`strata` needs a class with at least two blocks of its own.")
    centred = [x[:, labels == one] - x[:, labels == one].mean() for one in classes]
    around = np.concatenate(centred, axis=1)
    freedom = around.shape[1] - len(classes)
    of_images = float((around.mean(axis=0) ** 2).sum()) / freedom / x.shape[1]
    return of_images, float((around**2).sum()) / (around.size - len(classes)) / x.size


def median_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Median over blocks with the distribution-free interval between two order statistics (protocol rule 7).

    [x_(k), x_(n + 1 - k)] with the largest k for which P(Binomial(n, 1/2) <= k - 1) <= (1 - confidence) / 2. Its
    coverage is at least `confidence` for any distribution; at 95 % it needs 6 values.

    Args:
      values: (num_blocks,), finite.
      confidence: in (0, 1).

    Example:
      >>> median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
      Interval(estimate=3.5, low=1.0, high=6.0, n=6)

    Reference: Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2.
    """
    from scipy.special import bdtr

    x = np.sort(checked("values", values, ndim=(1,)))
    check_confidence(confidence)
    n = x.size
    # tails[j] = P(Binomial(n, 1/2) <= j), so the number of admissible j is the largest admissible k.
    tails = bdtr(np.arange(n, dtype=float), n, 0.5)
    k = int(np.sum(tails <= (1 - confidence) / 2))
    bounds = (float(x[k - 1]), float(x[n - k])) if k else (None, None)
    return Interval(float(np.median(x)), *bounds, n)


def ratio_interval(a_blocks: ArrayLike, b_blocks: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Median over blocks of the within-block ratios a / b, with `median_interval` (protocol rule 7).

    A block times every optimizer once within a short time, so that slow phases of the machine cancel in the ratio.

    Args:
      a_blocks: (num_blocks,) seconds per step, positive.
      b_blocks: (num_blocks,) seconds per step of the same blocks, positive.
      confidence: in (0, 1).

    Reference: Kalibera and Jones, Rigorous benchmarking in reasonable time, ISMM 2013.
    """
    a, b = checked("a_blocks", a_blocks, ndim=(1,)), checked("b_blocks", b_blocks, ndim=(1,))
    if a.shape != b.shape:
        raise ValueError(f"Ratios need the same blocks on both sides, got {a.size} and {b.size} values.")
    if min(a.min(), b.min()) <= 0:
        raise ValueError(f"Times must be positive, got a minimum of {min(a.min(), b.min())}.")
    return median_interval(a / b, confidence)


def _differences(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """(num_seeds,): a - b within seeds, averaged over tasks where there are several."""
    x, y = checked("a", a, ndim=(1, 2)), checked("b", b, ndim=(1, 2))
    if x.shape != y.shape:
        raise ValueError(f"Pairs need equal shapes, got a.shape={x.shape} and b.shape={y.shape}.")
    difference = x - y
    return difference.mean(axis=1) if difference.ndim == 2 else difference


def checked(
    name: str, values: ArrayLike, *, ndim: tuple[int, ...], allowed: tuple[float, ...] = ()
) -> NDArray[np.float64]:
    """`values` as a non-empty float64 array of a rank in `ndim`, finite except for values in `allowed`."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim not in ndim or x.size == 0:
        raise ValueError(f"`{name}` must be a non-empty array of rank {ndim}, got shape {x.shape}.")
    finite = np.isfinite(x)
    if finite.all():  # the usual case; a bootstrap calls this thousands of times
        return x
    refused = int(np.sum(~finite & ~np.isin(x, allowed)))
    if refused:
        expected = " or ".join(["finite numbers", *map(str, allowed)])
        raise ValueError(
            f"`{name}` has {refused} non-finite value(s) where {expected} are expected: decide on failed runs first."
        )
    return x


def check_confidence(confidence: float) -> None:
    """Raises ValueError for a confidence outside (0, 1), such as 95."""
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must lie between 0 and 1, got {confidence}.")
