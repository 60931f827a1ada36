"""Speed-up of a learned optimizer over a reference, with its interval."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.score.times import (
    TargetsByTask,
    block_ratio,
    median_steps,
    medians,
    resample,
    steps_to_target,
)
from bench.statistics import (
    CONFIDENCE,
    MIN_SEEDS,
    Interval,
    median_interval,
)
from bench.store.rows import Rows
from bench.tuning.targets import SHARES


@dataclass(frozen=True)
class Speedup:
    """A speed-up with its interval; above 1 the contender is faster.

    Attributes:
      estimate: the geometric mean over tasks.
      low: None where there are fewer than `MIN_SEEDS` seeds.
      high: see low.
      bound: the estimate is an upper bound, since on some task half of the runs never arrive.
      num_seeds: of the contender, the fewest of any task.
      steps: the same in steps instead of seconds, with an interval of its own (protocol rule 9).
    """

    estimate: float
    low: float | None
    high: float | None
    bound: bool
    num_seeds: int
    steps: Interval


def speedup(
    rows: Rows,
    targets: TargetsByTask,
    tasks: Sequence[str],
    contender: str,
    reference: Mapping[str, str],
    target: str,
    metric: str = "train_loss",
) -> Speedup | None:
    """Speed-up of a contender over each task's reference; geometric mean over tasks (module docstring).

    The interval is the expanded percentile one over seeds and blocks resampled within tasks: its levels are widened for
    few seeds as Student's t widens a normal interval (Hesterberg, The American Statistician 69, 2015, section 4.3).

    Args:
      rows: of the suite.
      targets: by task.
      tasks: to average over.
      contender: who is timed.
      reference: task -> optimizer whose own loss is the target.
      target: "hard", "medium" or "easy".
      metric: "train_loss", or "validation_loss" for the twin.

    Returns:
      None where a task lacks targets for its reference, runs of the contender, or a timing of either, or where the
      reference's loss is not below that of chance: that is reached at step 0.
    """
    parts = []
    for task in tasks:
        frozen, name = targets.get(task), reference.get(task, "")
        ratio = block_ratio(rows, task, name, contender)
        if frozen is None or name not in frozen.levels or ratio is None:
            return None
        steps = steps_to_target(rows, task, contender, frozen.levels[name][metric][target], metric)
        if not len(steps) or not frozen.levels[name][metric][target] < rows.chance_loss(task):
            return None
        parts.append((task, name, steps, len(ratio), frozen.horizon))
    share, sizes = SHARES[target], tuple((len(steps), num_blocks) for _, _, steps, num_blocks, _ in parts)
    logs, step_logs, lows, highs, step_lows, step_highs, bound = [], [], [], [], [], [], False
    few_blocks = False
    for i, (task, name, steps, _, horizon) in enumerate(parts):
        median = median_steps(steps)
        bound |= math.isinf(median)
        cost, has_interval = _median_cost(rows, task, name, contender)
        few_blocks |= not has_interval
        logs.append(math.log(share * horizon / max(min(median, horizon), 1.0) * cost))
        step_logs.append(math.log(share * horizon / max(min(median, horizon), 1.0)))
        drawn = _median_steps(steps[_resamples(sizes)[i][0]])
        costs = _resampled_log_costs(rows, task, name, contender, sizes, i)
        # A draw in which half of the runs miss is at most the bound and at least 0.
        reached = np.log(share * horizon / np.clip(drawn, 1.0, horizon))
        step_highs.append(reached)
        step_lows.append(np.where(np.isinf(drawn), -np.inf, reached))
        highs.append(reached + costs)
        lows.append(step_lows[-1] + costs)
    num_seeds = min(num_steps for num_steps, _ in sizes)

    def ends(lowest: Sequence[NDArray], highest: Sequence[NDArray]) -> tuple[float | None, float | None]:
        if num_seeds < MIN_SEEDS:
            return None, None
        tail = _expanded_tail(num_seeds)
        low = float(np.exp(_order_statistic(np.mean(lowest, axis=0), tail)))
        return 0.0 if bound else low, float(np.exp(_order_statistic(np.mean(highest, axis=0), 1 - tail)))

    low, high = (None, None) if few_blocks else ends(lows, highs)
    return Speedup(
        estimate=math.exp(float(np.mean(logs))),
        low=low,
        high=high,
        bound=bound,
        num_seeds=num_seeds,
        steps=Interval(math.exp(float(np.mean(step_logs))), *ends(step_lows, step_highs), num_seeds),
    )


def _expanded_tail(n: int) -> float:
    """Percentile level of a bootstrap over n units: Phi(-sqrt(n / (n - 1)) * t(n - 1; (1 + confidence) / 2))."""
    from scipy.special import ndtr, stdtrit

    return float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + CONFIDENCE) / 2)))


@functools.lru_cache(maxsize=4)  # the speed-ups over the same tasks follow one another
def _resamples(sizes: tuple[tuple[int, int], ...]) -> list[tuple[NDArray, NDArray]]:
    """For each task the seeds and the blocks of every resample, (NUM_RESAMPLES, how many of them).

    They are the same for every speed-up over tasks with so many seeds and blocks.
    """
    rng = np.random.default_rng(0)
    return [(resample(rng, num_seeds), resample(rng, num_blocks)) for num_seeds, num_blocks in sizes]


@functools.cache
def _median_cost(rows: Rows, task: str, numerator: str, denominator: str) -> tuple[float, bool]:
    """Ratio of seconds per step, and whether there are blocks enough for an interval."""
    ratio = block_ratio(rows, task, numerator, denominator)
    assert ratio is not None
    return float(np.median(ratio)), median_interval(ratio).low is not None


@functools.cache  # the same for every target
def _resampled_log_costs(
    rows: Rows, task: str, numerator: str, denominator: str, sizes: tuple[tuple[int, int], ...], i: int
) -> NDArray:
    """Logarithms of the medians of resampled ratios of step costs, (NUM_RESAMPLES,); task i of those resampled."""
    ratio = block_ratio(rows, task, numerator, denominator)
    assert ratio is not None
    return np.log(medians(ratio[_resamples(sizes)[i][1]]))


def _median_steps(drawn: NDArray) -> NDArray:
    return np.sort(drawn, axis=1)[:, (drawn.shape[1] - 1) // 2]


def _order_statistic(draws: NDArray, level: float) -> float:
    """`np.quantile(draws, level, method="inverted_cdf")`, which is one of the draws."""
    place = _place(len(draws), level)
    return float(np.partition(draws, place)[place])


@functools.cache
def _place(num_draws: int, level: float) -> int:
    return int(np.quantile(np.arange(num_draws), level, method="inverted_cdf"))


def three_digits(value: float) -> str:
    """Three significant digits, zeros at the end kept, so that the numbers of a column have the same precision.

    Example:
      >>> three_digits(0.2), three_digits(1.0), three_digits(123.4), three_digits(0.0)
      ('0.200', '1.00', '123', '0')
    """
    return "0" if value == 0 else f"{value:#.3g}".removesuffix(".")


def format_speedup(found: Speedup | None) -> str:
    """ "1.52 [1.40, 1.66]", "<0.250" for a bound, a dash for nothing."""
    if found is None:
        return "–"
    if found.bound:
        return f"<{three_digits(found.estimate)}"
    ends = (found.low, found.high)
    interval = "" if None in ends else f" [{', '.join(three_digits(end) for end in ends if end is not None)}]"
    return f"{three_digits(found.estimate)}{interval}"
