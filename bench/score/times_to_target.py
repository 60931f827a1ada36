"""Times to the frozen targets, ratios of step costs and success rates.

Speed-up of an optimizer over a reference on a task, for a target that is the reference's own loss at a share of the
horizon (protocol rules 9 and 10):

    speed-up = share * horizon * s_ref / median_KM(t) = (share * horizon / median_KM(n)) * (s_ref / s_opt)

t and n are the seconds and steps to the target, one value for each seed; s is the seconds per step. Its ratio is taken
within timing blocks. Each factor has its own interval; the product's interval comes from resampling seeds and blocks. A
run that misses the target is censored at the horizon, whatever ended it. So the Kaplan-Meier median is an order
statistic: the smallest time by which at least half of the runs have reached the target, infinite if they never do. In
that case the speed-up is below share * s_ref / s_opt, a bound, marked "<".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import BASELINES
from bench.statistics import (
    CONFIDENCE,
    Interval,
    lower_median,
    median_interval,
    restricted_mean,
    wilson_interval,
)
from bench.statistics.crossing import first_crossings, smooth
from bench.store.rows import HAND_DESIGNED, LEARNED, Rows
from bench.tuning.targets import CLAIMED, SHARES, Targets

TargetsByTask = Mapping[str, Targets]
NUM_RESAMPLES = 4000
PAPER_TARGET = "hard"
ALL = "all"  # the row over all tasks


@functools.cache  # rows are compared by identity; a report asks for the same times many times over
def steps_to_target(rows: Rows, task: str, optimizer: str, level: float, metric: str = CLAIMED) -> NDArray:
    """Inner steps to a smoothed loss, (num_seeds,), inf for a miss; a run without a curve counts as a miss."""
    runs, curves = rows.runs(optimizer, (task,)), _smoothed(rows, task, optimizer, metric)
    ran = sorted(int(seed) for seed in runs["seed"])
    if curves is None:
        return np.full(len(ran), math.inf)
    arrived = dict(zip(curves.seeds, first_crossings(level, curves.steps, curves.losses), strict=True))
    return np.array([arrived.get(seed, math.inf) for seed in ran], np.float64)


class _Smoothed(NamedTuple):
    """Smoothed losses of the runs of an optimizer on a task."""

    steps: NDArray  # (num_points,)
    losses: NDArray  # (num_points, num_seeds)
    seeds: list[int]


@functools.cache
def _smoothed(rows: Rows, task: str, optimizer: str, metric: str) -> _Smoothed | None:
    curve = rows.curve(task, optimizer, metric)
    if curve is None:
        return None
    losses = smooth(curve.to_numpy(dtype=float))
    return _Smoothed(curve.index.to_numpy(dtype=float), losses, [int(seed) for seed in curve.columns])


def median_steps(steps: NDArray) -> float:
    """Kaplan-Meier median of steps to a target, misses being censored at the horizon; inf if half of the runs miss."""
    return float(lower_median(steps))


@functools.cache
def block_ratio(rows: Rows, task: str, numerator: str, denominator: str) -> NDArray | None:
    """Ratios of seconds per step within timing blocks, (num_blocks,); None where no block timed both."""
    blocks = rows.blocks.get(task)
    if blocks is None or numerator not in blocks or denominator not in blocks:
        return None
    a, b = (blocks[name].to_numpy(np.float64) for name in (numerator, denominator))
    both = np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0)
    return a[both] / b[both] if both.any() else None


def step_cost_ratio(
    rows: Rows, tasks: Sequence[str], numerator: str, denominator: str | Mapping[str, str]
) -> Interval | None:
    """Ratio of seconds per step: the median over blocks; over several tasks the geometric mean of the medians.

    The interval over several tasks resamples blocks within each. `denominator` may differ between tasks.
    """
    below = dict.fromkeys(tasks, denominator) if isinstance(denominator, str) else denominator
    return _step_cost_ratio(rows, numerator, tuple((task, below.get(task, "")) for task in tasks))


@functools.cache
def _step_cost_ratio(rows: Rows, numerator: str, below: tuple[tuple[str, str], ...]) -> Interval | None:
    ratios = [block_ratio(rows, task, numerator, denominator) for task, denominator in below]
    if any(ratio is None for ratio in ratios):
        return None
    known = [ratio for ratio in ratios if ratio is not None]
    if len(known) == 1:
        return median_interval(known[0])
    estimate = math.exp(float(np.mean([math.log(float(np.median(ratio))) for ratio in known])))
    if any(median_interval(ratio).low is None for ratio in known):  # too few blocks to say how far they spread
        return Interval(estimate, None, None, min(len(ratio) for ratio in known))
    rng = np.random.default_rng(0)
    draws = np.mean([np.log(medians(ratio[resample(rng, len(ratio))])) for ratio in known], axis=0)
    low, high = np.exp(np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Interval(estimate, float(low), float(high), min(len(ratio) for ratio in known))


def resample(rng: np.random.Generator, size: int) -> NDArray:
    """Indices drawn with replacement, (NUM_RESAMPLES, size)."""
    return rng.integers(0, size, (NUM_RESAMPLES, size))


def medians(drawn: NDArray) -> NDArray:
    """The median of each resample, (NUM_RESAMPLES,)."""
    return np.median(drawn, axis=1)


def success_rate(
    rows: Rows, targets: TargetsByTask, tasks: Sequence[str], optimizer: str, reference: Mapping[str, str], target: str
) -> Interval | None:
    """Share of runs that reach the reference's target within the horizon, with its Wilson interval (rule 11)."""
    steps = []
    for task in tasks:
        if task not in targets or reference.get(task) not in targets[task].levels:
            return None
        level = targets[task].levels[reference[task]][CLAIMED][target]
        steps.append(steps_to_target(rows, task, optimizer, level))
    reached = np.isfinite(np.concatenate(steps)) if steps else np.zeros(0)
    return wilson_interval(int(reached.sum()), len(reached)) if len(reached) else None


def survival(
    rows: Rows, targets: TargetsByTask, task: str, optimizer: str, reference: str, target: str, *, seconds: bool = True
) -> tuple[NDArray, NDArray, float] | None:
    """Right-censored times to the reference's target on a task.

    Returns:
      (times (num_seeds,), events (num_seeds,) bool, budget), in seconds, or in steps if `seconds` is False. An event is
      a run that reaches the target; a miss is censored at the budget, which is the horizon. None where targets, runs or
      timings are missing.
    """
    if task not in targets or reference not in targets[task].levels:
        return None
    steps = steps_to_target(rows, task, optimizer, targets[task].levels[reference][CLAIMED][target])
    per_step = 1.0
    if seconds:
        blocks = rows.blocks.get(task)
        if blocks is None or optimizer not in blocks:
            return None
        per_step = float(blocks[optimizer].median())
    if not len(steps):
        return None
    horizon = targets[task].horizon
    events = np.isfinite(steps)
    return np.where(events, steps, horizon) * per_step, events, horizon * per_step


def mean_restricted_steps(rows: Rows, targets: TargetsByTask, optimizer: str, reference: Mapping[str, str]) -> float:
    """Restricted mean steps to target, as a share of the horizon, averaged over tasks and the three targets."""
    shares = []
    for task in rows.tasks:
        if task not in targets or reference.get(task) not in targets[task].levels:
            continue
        for target in SHARES:
            found = survival(rows, targets, task, optimizer, reference[task], target, seconds=False)
            if found is not None:
                times, events, budget = found
                shares.append(restricted_mean(times, events, budget).estimate / budget)
    return float(np.mean(shares)) if shares else math.nan


def learned_names(rows: Rows, headline: str | None = None) -> tuple[str, ...]:
    """The learned optimizers of the rows; the headline, on which claims are judged, comes first."""
    names = [name for name in rows.trained if rows.role(name) == LEARNED]
    return tuple(sorted(names, key=lambda name: (name != headline, name)))


def hand_designed_names(rows: Rows) -> tuple[str, ...]:
    """The hand-designed optimizers of the rows."""
    return tuple(name for name in rows.trained if rows.role(name) == HAND_DESIGNED)


def tuned_by_train(rows: Rows) -> tuple[str, ...]:
    """The hand-designed optimizers whose hyperparameters were chosen by train loss."""
    return tuple(
        name for name in hand_designed_names(rows) if name in BASELINES and BASELINES[name].tuned_by == "train"
    )


def references(rows: Rows, targets: TargetsByTask, group: str) -> dict[str, str]:
    """Task -> reference of a group of optimizers, for the tasks that have frozen targets."""
    return {
        task: targets[task].references[group]
        for task in rows.tasks
        if task in targets and group in targets[task].references
    }


def reference_text(reference: Mapping[str, str]) -> str:
    """ "muon_cosine", or with the number of tasks where they differ: "adam on 3 tasks, rmsprop on 1"."""
    names = list(reference.values())
    if len(set(names)) <= 1:
        return names[0] if names else "–"
    order = sorted(set(names), key=lambda name: (-names.count(name), name))
    return ", ".join(f"{name} on {names.count(name)}" for name in order)
