"""Speed-up of a learned optimizer over a reference, with its interval."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.score.times_to_target import (
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
    estimate_text,
    lower_median,
    median_interval,
)
from bench.statistics.crossing import smooth
from bench.store.rows import Rows
from bench.tuning.targets import CLAIMED, SHARES


@dataclass(frozen=True)
class Speedup:
    """A speed-up with its interval; above 1 the optimizer is faster.

    Attributes:
      estimate: the geometric mean over tasks.
      low: None where there are fewer than `MIN_SEEDS` seeds.
      high: see low.
      bound: whether the estimate is an upper bound, because on some task at least half of the runs miss the target.
      num_seeds: number of seeds, the smallest over tasks.
      steps: the speed-up in steps instead of seconds, with its own interval (protocol rule 9).
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
    optimizer: str | Mapping[str, str],
    reference: Mapping[str, str],
    target: str,
    metric: str = CLAIMED,
) -> Speedup | None:
    """Speed-up of an optimizer over each task's reference; geometric mean over tasks (`score.times_to_target`).

    The interval is an expanded percentile bootstrap over seeds and blocks, resampled within tasks: its levels are
    widened for few seeds as Student's t widens a normal interval (Hesterberg, The American Statistician 69, 2015,
    section 4.3).

    Args:
      rows: of the suite.
      targets: by task.
      tasks: to average over.
      optimizer: the optimizer whose speed-up it is; a mapping has one for each task.
      reference: task -> optimizer whose own loss is the target.
      target: "hard", "medium" or "easy".
      metric: "validation_loss", which claims are about, or "train_loss".

    Returns:
      None where a task lacks targets for its reference, runs of the optimizer, or a timing of either. Also None where
      the target is not below the loss of chance, since every run reaches that at step 0.
    """
    goals = {}
    for task in tasks:
        frozen, name = targets.get(task), reference.get(task, "")
        if frozen is None or name not in frozen.levels:
            return None
        goals[task] = Goal(frozen.levels[name][metric][target], SHARES[target] * frozen.horizon, frozen.horizon)
    return speedup_to(rows, goals, tasks, optimizer, reference, metric)


class Goal(NamedTuple):
    """A loss of a task's reference, and when it has it."""

    level: float
    steps: float  # inner steps that the reference takes
    horizon: int


def best_goals(rows: Rows, tasks: Sequence[str], reference: Mapping[str, str], metric: str) -> dict[str, Goal] | None:
    """The lowest loss of each reference along the way, of the median over seeds, and the step at which it has it.

    None where a reference did not run.
    """
    goals = {}
    for task in tasks:
        curve = rows.curve(task, reference.get(task, ""), metric)
        if curve is None:
            return None
        at_median = lower_median(smooth(curve.to_numpy(dtype=float)))
        lowest = int(np.argmin(at_median))
        goals[task] = Goal(float(at_median[lowest]), float(curve.index[lowest]), rows.horizon(task))
    return goals


def speedup_to(
    rows: Rows,
    goals: Mapping[str, Goal],
    tasks: Sequence[str],
    optimizer: str | Mapping[str, str],
    reference: Mapping[str, str],
    metric: str,
) -> Speedup | None:
    """Speed-up to the goal of each task; otherwise as `speedup`."""
    parts = []
    for task in tasks:
        name, goal = reference[task], goals[task]
        who = optimizer if isinstance(optimizer, str) else optimizer[task]
        ratio = block_ratio(rows, task, name, who)
        if ratio is None:
            return None
        steps = steps_to_target(rows, task, who, goal.level, metric)
        if not len(steps) or not goal.level < rows.chance_loss(task):
            return None
        parts.append((task, who, name, steps, len(ratio)))
    sizes = tuple((len(steps), num_blocks) for *_, steps, num_blocks in parts)
    logs, step_logs, lows, highs, step_lows, step_highs, bound = [], [], [], [], [], [], False
    few_blocks = False
    for i, (task, who, name, steps, _) in enumerate(parts):
        median, (_, needed, horizon) = median_steps(steps), goals[task]
        bound |= math.isinf(median)
        cost, has_interval = _median_cost(rows, task, name, who)
        few_blocks |= not has_interval
        logs.append(math.log(needed / max(min(median, horizon), 1.0) * cost))
        step_logs.append(math.log(needed / max(min(median, horizon), 1.0)))
        drawn = lower_median(steps[_resamples(sizes)[i][0]])
        costs = _resampled_log_costs(rows, task, name, who, sizes, i)
        # Where half of the drawn runs miss the target, the speed-up lies between 0 and the bound.
        reached = np.log(needed / np.clip(drawn, 1.0, horizon))
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
    """For each task the indices of seeds (NUM_RESAMPLES, num_seeds) and of blocks (NUM_RESAMPLES, num_blocks).

    They depend on the numbers of seeds and blocks alone: all speed-ups over the same tasks use the same resamples.
    """
    rng = np.random.default_rng(0)
    return [(resample(rng, num_seeds), resample(rng, num_blocks)) for num_seeds, num_blocks in sizes]


@functools.cache
def _median_cost(rows: Rows, task: str, numerator: str, denominator: str) -> tuple[float, bool]:
    """Ratio of seconds per step, and whether there are enough blocks for an interval."""
    ratio = block_ratio(rows, task, numerator, denominator)
    assert ratio is not None
    return float(np.median(ratio)), median_interval(ratio).low is not None


@functools.cache  # the same for every target
def _resampled_log_costs(
    rows: Rows, task: str, numerator: str, denominator: str, sizes: tuple[tuple[int, int], ...], i: int
) -> NDArray:
    """Logarithms of the resampled medians of task i's step-cost ratios, (NUM_RESAMPLES,)."""
    ratio = block_ratio(rows, task, numerator, denominator)
    assert ratio is not None
    return np.log(medians(ratio[_resamples(sizes)[i][1]]))


def _order_statistic(draws: NDArray, level: float) -> float:
    """`np.quantile(draws, level, method="inverted_cdf")`, which is one of the draws."""
    place = _place(len(draws), level)
    return float(np.partition(draws, place)[place])


@functools.cache
def _place(num_draws: int, level: float) -> int:
    return int(np.quantile(np.arange(num_draws), level, method="inverted_cdf"))


def format_speedup(found: Speedup | None) -> str:
    """ "1.52 [1.40, 1.66]", "<0.250" for a bound, a dash for nothing."""
    return estimate_text(found.estimate, found.low, found.high, bound=found.bound) if found else "–"


def speedup_in_words(found: Speedup | None) -> str:
    """ "1.52 [1.40, 1.66]", "at most 0.250" for a bound, a dash for nothing."""
    return format_speedup(found).replace("<", "at most ")
