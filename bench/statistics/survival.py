"""Time to a target. A run that misses the target is right-censored, never dropped or imputed (protocol rule 11).

A run is a pair (time, event): the time at which it reached the target and True, or the time at which it was censored,
its budget, and False. Performance profiles take the time of a miss as infinite.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.statistics.aggregate import lower_median, percentile_bounds
from bench.statistics.intervals import CONFIDENCE, MIN_SEEDS, Interval, check_confidence, checked


@dataclass(frozen=True, eq=False)
class KaplanMeier:
    """The share of runs that have not reached the target, as a step function of time; 1 before `times[0]`.

    Attributes:
      times: (num_times,), distinct times of events and censorings, ascending.
      survival: (num_times,), the share from this time up to the next.
      low: (num_times,), pointwise lower bound of `survival`.
      high: (num_times,), pointwise upper bound.
      at_risk: (num_times,), int, runs neither censored nor with an event before this time.
      num_events: (num_times,), int, runs that reach the target at this time.
    """

    times: NDArray[np.float64]
    survival: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    at_risk: NDArray[np.int64]
    num_events: NDArray[np.int64]


def kaplan_meier(times: ArrayLike, events: ArrayLike, confidence: float = CONFIDENCE) -> KaplanMeier:
    """Kaplan-Meier curve of right-censored times, with pointwise log(-log) bands (protocol rule 11).

        S(t) = product over t_i <= t of (1 - d_i / n_i),    v = sum over t_i <= t of d_i / (n_i (n_i - d_i))
        band: S^exp(-+ z sqrt(v) / log S),    z the normal quantile at (1 + confidence) / 2

    with d_i events among the n_i runs at risk at t_i. A run censored at the time of an event is at risk for it.

    Greenwood's v is not defined where S is 1 or 0. There the band is the exact binomial one, with h = (1 -
    confidence)/2: with no event among n at risk, S is at least h^(1/n); once the last m runs, those after the last
    censoring, have all reached the target, S is at most 1 - h^(1/m), and at most its previous bound.

    Args:
      times: (num_runs,), finite, not negative.
      events: (num_runs,), True or 1 where the target was reached, False or 0 where the run was censored.
      confidence: in (0, 1).

    Example:
      >>> curve = kaplan_meier([1.0, 2.0, 2.0, 4.0], [True, True, False, True])
      >>> curve.times, curve.survival
      (array([1., 2., 4.]), array([0.75, 0.5 , 0.  ]))

    References:
      Kaplan and Meier, Nonparametric estimation from incomplete observations, JASA 53, 1958.
      Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 2nd edition, section 1.4: the band.
      Clopper and Pearson, The use of confidence or fiducial limits, Biometrika 26, 1934.
    """
    t, reached = _observations(times, events)
    check_confidence(confidence)
    curve, at_risk, num_events = _steps_down(t, reached)
    at, survival = curve.quantiles, curve.probabilities
    with warnings.catch_warnings():  # scipy's bounds are NaN, with a warning, where survival is 1 or 0
        warnings.simplefilter("ignore", RuntimeWarning)
        band = curve.confidence_interval(confidence, method="log-log")
    low, high = band.low.probabilities.copy(), band.high.probabilities.copy()
    tail = (1 - confidence) / 2
    none_yet = survival == 1
    low[none_yet], high[none_yet] = tail ** (1 / at_risk[none_yet]), 1.0
    if survival[-1] == 0:
        num_last = np.sum(t > t[~reached].max(initial=-math.inf))
        low[-1], high[-1] = 0.0, min(1 - tail ** (1 / num_last), high[-2] if len(at) > 1 else 1.0)
    return KaplanMeier(at, survival, low, high, at_risk, num_events)


def _steps_down(t: NDArray[np.float64], reached: NDArray[np.bool_]) -> tuple[Any, NDArray[np.int64], NDArray[np.int64]]:
    """scipy's curve, and the numbers of runs at risk and of events at each of its times."""
    from scipy.stats import CensoredData, ecdf

    curve = ecdf(CensoredData(uncensored=t[reached], right=t[~reached])).sf
    ordered, arrivals = np.sort(t), np.sort(t[reached])
    at_risk = t.size - np.searchsorted(ordered, curve.quantiles, side="left")
    num_events = [np.searchsorted(arrivals, curve.quantiles, side=side) for side in ("left", "right")]
    return curve, at_risk, num_events[1] - num_events[0]


def km_median(times: ArrayLike, events: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Median time to the target by Kaplan-Meier: the first time by which half of the runs have reached it.

        estimate = min {t : S(t) <= 1/2},    low = min {t : low(t) <= 1/2},    high = min {t : high(t) <= 1/2}

    Args:
      times: (num_runs,), finite, not negative.
      events: (num_runs,), True where the target was reached, False where the run was censored.
      confidence: in (0, 1).

    Returns:
      The median; bounds only from `MIN_SEEDS` runs on. `math.inf` means later than every time in `times`; a number
      computed from an infinite median is a bound. With five runs the upper bound is always infinite, since five runs
      are all below the median with probability 1/32 > 0.025 (as for `median_interval`).

    Example:
      >>> km_median([3.0, 8.0, 5.0, 8.0], [True, False, True, False])
      Interval(estimate=5.0, low=None, high=None, n=4)

    Reference: Brookmeyer and Crowley, A confidence interval for the median survival time, Biometrics 38, 1982.
    """
    curve = kaplan_meier(times, events, confidence)
    num_runs = int(curve.at_risk[0])
    # A product of num_runs rounded ratios: 9/10 * 8/9 * ... * 5/6 must count as 1/2.
    half = 0.5 + 4 * num_runs * np.finfo(np.float64).eps
    estimate = _first(curve.times, curve.survival <= half)
    if num_runs < MIN_SEEDS:
        return Interval(estimate, None, None, num_runs)
    return Interval(estimate, _first(curve.times, curve.low <= 0.5), _first(curve.times, curve.high <= 0.5), num_runs)


def restricted_mean(times: ArrayLike, events: ArrayLike, tau: float, confidence: float = CONFIDENCE) -> Interval:
    """Mean of min(time to the target, tau): the area under the Kaplan-Meier curve up to tau (protocol rule 11).

        mean = integral of S from 0 to tau,    A_i = integral of S from t_i to tau
        variance = sum over t_i < tau of A_i^2 d_i / (n_i (n_i - d_i)),    mean -+ z sqrt(variance), within [0, tau]

    Without censoring before tau the variance is that of min(time, tau) with divisor num_runs, over num_runs. The
    interval is asymptotic: for exponential times with every sixth run censored at tau, a nominal 95 % covers 83 % with
    5 runs, 89 % with 10 and 94 % with 40.

    Args:
      times: (num_runs,), finite, not negative.
      events: (num_runs,), True where the target was reached, False where the run was censored.
      tau: the budget, positive, in the unit of `times`. At most the largest time, unless the curve reaches 0, since the
        curve is unknown beyond it.
      confidence: in (0, 1).

    Returns:
      The mean; bounds only from `MIN_SEEDS` runs on. Where no run reaches the target before tau, the mean is tau and
      so are the bounds.

    Example:
      >>> restricted_mean([2.0, 4.0, 6.0, 6.0], [True, True, False, False], 6.0).estimate
      4.5

    Reference: Klein and Moeschberger, Survival Analysis, 2nd edition, section 4.5.
    """
    from scipy.special import ndtri

    t, reached = _observations(times, events)
    check_confidence(confidence)
    curve, at_risk, num_events = _steps_down(t, reached)
    at, survival = curve.quantiles, curve.probabilities
    if not 0 < tau < math.inf:
        raise ValueError(f"`tau` must be positive and finite, got {tau}.")
    if tau > at[-1] and survival[-1] > 0:
        raise ValueError(
            f"The curve is known up to the largest time, {at[-1]}, where it is {survival[-1]:.3g} and "
            f"not 0: `tau` must not be later, got {tau}."
        )
    num_runs, steps = int(at_risk[0]), (num_events > 0) & (at < tau)
    at, at_risk, num_events = at[steps], at_risk[steps], num_events[steps]
    pieces = np.diff(np.concatenate([[0.0], at, [tau]])) * np.concatenate([[1.0], survival[steps]])
    mean = float(pieces.sum())
    if num_runs < MIN_SEEDS:
        return Interval(mean, None, None, num_runs)
    areas = np.cumsum(pieces[:0:-1])[::-1]
    left = at_risk - num_events
    # `left` is 0 only at the end of a curve that reaches 0, where the area is 0 too.
    variance = float(np.sum(areas**2 * num_events / (at_risk * np.maximum(left, 1)), where=left > 0))
    half = float(ndtri(0.5 + confidence / 2)) * math.sqrt(variance)
    return Interval(mean, max(mean - half, 0.0), min(mean + half, tau), num_runs)


def performance_profile(times: ArrayLike, ratios_grid: ArrayLike) -> NDArray[np.float64]:
    """Dolan-More profiles: how often an optimizer needs at most tau times as long as the best one (protocol rule 12).

        best[task] = min over optimizers of the median over seeds of times[task, optimizer]
        rho[optimizer, tau] = mean over tasks of the share of seeds with times[task, optimizer] / best[task] <= tau

    The median is Kaplan-Meier's: the smallest time by which at least half of the seeds have reached the target,
    infinite if they never do. On a task where every optimizer's median is infinite there is no best time, and every run
    counts as a miss.

    Args:
      times: (num_tasks, num_optimizers, num_seeds), positive, inf for a miss.
      ratios_grid: (num_ratios,), positive and finite, in any order.

    Returns:
      (num_optimizers, num_ratios), in [0, 1], not falling as the ratio grows.

    Example:
      >>> performance_profile([[[1.0, 1.0, 2.0], [2.0, 3.0, math.inf]]], [1.0, 2.0, 3.0]).round(2)
      array([[0.67, 1.  , 1.  ],
             [0.  , 0.33, 0.67]])

    Reference: Dolan and More, Benchmarking optimization software with performance profiles, Math. Program. 91, 2002.
    """
    x, grid = _profile_arguments(times, ratios_grid)
    same = np.broadcast_to(np.arange(x.shape[2]), (1, x.shape[0], x.shape[2]))
    return _profiles(x, grid, same)[0]


def performance_profile_bands(
    times: ArrayLike,
    ratios_grid: ArrayLike,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Pointwise percentile bands of `performance_profile`, by resampling seeds within each task (protocol rule 12).

    A resample draws seeds independently for each task, the same for all optimizers, since seed k has the same
    initialization and data order for all of them. The best median is computed anew. Tasks are not resampled.

    Args:
      times: (num_tasks, num_optimizers, num_seeds), positive, inf for a miss.
      ratios_grid: (num_ratios,), positive and finite, in any order.
      num_resamples: number of resamples.
      seed: seed of the resampling.
      confidence: in (0, 1).

    Returns:
      (low, high), both (num_optimizers, num_ratios); None below `MIN_SEEDS` seeds.

    Reference: Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, NeurIPS 2021,
      arXiv 2108.13264.
    """
    x, grid = _profile_arguments(times, ratios_grid)
    check_confidence(confidence)
    num_tasks, _, num_seeds = x.shape
    if num_seeds < MIN_SEEDS:
        return None
    indices = np.random.default_rng(seed).integers(0, num_seeds, (num_resamples, num_tasks, num_seeds))
    return percentile_bounds(_profiles(x, grid, indices), confidence)


def _observations(times: ArrayLike, events: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    t, e = checked("times", times, ndim=(1,)), checked("events", events, ndim=(1,))
    if t.shape != e.shape:
        raise ValueError(f"Every run needs a time and an event, got {t.size} times and {e.size} events.")
    if t.min() < 0:
        raise ValueError(f"`times` must not be negative, got a minimum of {t.min()}.")
    if not np.isin(e, (0, 1)).all():
        raise ValueError(f"`events` must be True or False, 1 or 0, got {np.unique(e)}.")
    return t, e == 1


def _first(times: NDArray[np.float64], crossed: NDArray[np.bool_]) -> float:
    """The first time where `crossed` holds, inf if it never does."""
    return float(times[np.argmax(crossed)]) if crossed.any() else math.inf


def _profile_arguments(times: ArrayLike, ratios_grid: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = checked("times", times, ndim=(3,), allowed=(math.inf,))
    grid = checked("ratios_grid", ratios_grid, ndim=(1,))
    if min(x.min(), grid.min()) <= 0:
        raise ValueError(f"Times and ratios must be positive, got minima of {x.min()} and {grid.min()}.")
    return x, grid


def _profiles(times: NDArray[np.float64], grid: NDArray[np.float64], indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Profiles (num_resamples, num_optimizers, num_ratios) of seeds `indices` (num_resamples, num_tasks, num_seeds)."""
    num_tasks, num_optimizers, num_seeds = times.shape
    num_resamples, num_ratios = len(indices), len(grid)
    order = np.argsort(grid)
    # cells[r, o, j]: runs whose ratio lies between the grid's values j - 1 and j; the last: beyond the grid.
    cells = np.zeros((num_resamples, num_optimizers, num_ratios + 1))
    lead = np.arange(num_resamples * num_optimizers).reshape(num_resamples, num_optimizers, 1) * (num_ratios + 1)
    for task in range(num_tasks):
        drawn = times[task].T[indices[:, task]].swapaxes(1, 2)  # (num_resamples, num_optimizers, num_seeds)
        medians = lower_median(drawn)
        best = medians.min(axis=1)[:, None, None]
        # Where no median is finite the ratio is inf: finite / inf would be 0, better than the best.
        ratios = np.divide(drawn, best, out=np.full_like(drawn, math.inf), where=np.isfinite(best))
        cell = lead + np.searchsorted(grid[order], ratios, side="left")
        cells += np.bincount(cell.ravel(), minlength=cells.size).reshape(cells.shape)
    profiles = np.empty((num_resamples, num_optimizers, num_ratios))
    profiles[:, :, order] = np.cumsum(cells[:, :, :-1], axis=2) / (num_tasks * num_seeds)
    return profiles
