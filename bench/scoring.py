"""From rows and frozen targets to scores: time to target, speed-up, success, controls, and the verdict.

Nothing here draws or trains. `bench report --json` prints `first_screen`; the page and the terminal show it.

Speed-up of a contender over a reference on a task, for a target that is the reference's own loss at a share of the
horizon (protocol rules 9 and 10):

    speed-up = share * horizon * s_ref / median_KM(t) = (share * horizon / median_KM(n)) * (s_ref / s_contender)

with t and n the seconds and steps to the target, a seed each, and s the seconds per step, whose ratio is taken within
timing blocks. The two factors have intervals of their own; the product's comes from resampling seeds and blocks. A run
that misses is censored at the horizon, whatever ended it, so that the Kaplan-Meier median is an order statistic: the
smallest time by which half of the runs have arrived, and infinite where they have not. Then the speed-up is below
share * s_ref / s_contender, a bound, marked "<".
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import BASELINES
from bench import controls
from bench.rows import CONTROL, HAND_DESIGNED, LEARNED, Frame, Rows
from bench.statistics import (
    CONFIDENCE,
    MIN_SEEDS,
    Interval,
    crossed_interval,
    median_interval,
    paired_difference,
    restricted_mean,
    t_interval,
    wilson_interval,
)
from bench.targets import GROUPS, SHARES, Targets, first_crossing, smooth, steps_to

TargetsByTask = Mapping[str, Targets]
NUM_RESAMPLES = 4000
PAPER_TARGET = "hard"
ALL = "all"  # the row over all tasks


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


@functools.cache  # rows are compared by identity; a report asks for the same times many times over
def steps_to_target(rows: Rows, task: str, optimizer: str, level: float, metric: str = "train_loss") -> NDArray:
    """Inner steps to a smoothed loss, (num_seeds,), inf for a miss; a cell without a curve is a miss."""
    runs, curves = rows.runs(optimizer, (task,)), _smoothed(rows, task, optimizer, metric)
    steps = [
        first_crossing(level, *curves[seed]) if seed in curves else math.inf
        for seed in sorted(int(seed) for seed in runs["seed"])
    ]
    return np.array(steps, np.float64)


@functools.cache
def _smoothed(rows: Rows, task: str, optimizer: str, metric: str) -> dict[int, tuple[NDArray, NDArray]]:
    """Seed -> (steps, smoothed losses)."""
    curve = rows.curve(task, optimizer, metric)
    if curve is None:
        return {}
    steps, losses = curve.index.to_numpy(dtype=float), smooth(curve.to_numpy(dtype=float))
    return {int(seed): (steps, losses[:, i]) for i, seed in enumerate(curve.columns)}


def median_steps(steps: NDArray) -> float:
    """Kaplan-Meier median of steps to a target whose misses are censored at the horizon.

    The smallest time by which at least half of the runs have arrived; inf if they never have.
    """
    return float(np.sort(steps)[(len(steps) - 1) // 2])


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
    ratios = [block_ratio(rows, task, numerator, below.get(task, "")) for task in tasks]
    if any(ratio is None for ratio in ratios):
        return None
    known = [ratio for ratio in ratios if ratio is not None]
    if len(known) == 1:
        return median_interval(known[0])
    estimate = math.exp(float(np.mean([math.log(float(np.median(ratio))) for ratio in known])))
    if any(median_interval(ratio).low is None for ratio in known):  # too few blocks to say how far they spread
        return Interval(estimate, None, None, min(len(ratio) for ratio in known))
    rng = np.random.default_rng(0)
    draws = np.mean([np.log(_resampled_medians(ratio, rng)) for ratio in known], axis=0)
    low, high = np.exp(np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Interval(estimate, float(low), float(high), min(len(ratio) for ratio in known))


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
    rng = np.random.default_rng(0)
    logs, step_logs, lows, highs, step_lows, step_highs, bound, sizes = [], [], [], [], [], [], False, []
    few_blocks = False
    for task in tasks:
        frozen, name = targets.get(task), reference.get(task, "")
        ratio = block_ratio(rows, task, name, contender)
        if frozen is None or name not in frozen.levels or ratio is None:
            return None
        steps = steps_to_target(rows, task, contender, frozen.levels[name][metric][target], metric)
        if not len(steps) or not frozen.levels[name][metric][target] < rows.chance_loss(task):
            return None
        horizon, share = frozen.horizon, SHARES[target]
        median = median_steps(steps)
        bound |= math.isinf(median)
        few_blocks |= median_interval(ratio).low is None
        cost = float(np.median(ratio))
        logs.append(math.log(share * horizon / max(min(median, horizon), 1.0) * cost))
        step_logs.append(math.log(share * horizon / max(min(median, horizon), 1.0)))
        drawn = _resampled_median_steps(steps, rng)
        costs = np.log(_resampled_medians(ratio, rng))
        # A draw in which half of the runs miss is at most the bound and at least 0.
        reached = np.log(share * horizon / np.clip(drawn, 1.0, horizon))
        step_highs.append(reached)
        step_lows.append(np.where(np.isinf(drawn), -np.inf, reached))
        highs.append(reached + costs)
        lows.append(step_lows[-1] + costs)
        sizes.append(len(steps))
    num_seeds = min(sizes)

    def ends(lowest: Sequence[NDArray], highest: Sequence[NDArray]) -> tuple[float | None, float | None]:
        if num_seeds < MIN_SEEDS:
            return None, None
        tail = _expanded_tail(num_seeds)
        low = float(np.exp(np.quantile(np.mean(lowest, axis=0), tail, method="inverted_cdf")))
        return 0.0 if bound else low, float(
            np.exp(np.quantile(np.mean(highest, axis=0), 1 - tail, method="inverted_cdf"))
        )

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


def _resampled_medians(values: NDArray, rng: np.random.Generator) -> NDArray:
    return np.median(values[rng.integers(0, len(values), (NUM_RESAMPLES, len(values)))], axis=1)


def _resampled_median_steps(steps: NDArray, rng: np.random.Generator) -> NDArray:
    drawn = steps[rng.integers(0, len(steps), (NUM_RESAMPLES, len(steps)))]
    return np.sort(drawn, axis=1)[:, (len(steps) - 1) // 2]


def success_rate(
    rows: Rows, targets: TargetsByTask, tasks: Sequence[str], optimizer: str, reference: Mapping[str, str], target: str
) -> Interval | None:
    """Share of runs that reach the reference's target within the horizon, with its Wilson interval (rule 11)."""
    steps = []
    for task in tasks:
        if task not in targets or reference.get(task) not in targets[task].levels:
            return None
        level = targets[task].levels[reference[task]]["train_loss"][target]
        steps.append(steps_to_target(rows, task, optimizer, level))
    reached = np.isfinite(np.concatenate(steps)) if steps else np.zeros(0)
    return wilson_interval(int(reached.sum()), len(reached)) if len(reached) else None


def survival(
    rows: Rows, targets: TargetsByTask, task: str, optimizer: str, reference: str, target: str, *, seconds: bool = True
) -> tuple[NDArray, NDArray, float] | None:
    """Times to the reference's target on a task and whether each is an arrival, and the budget in the same unit.

    Returns:
      (times (num_seeds,), events (num_seeds,) bool, budget): a miss is censored at the budget, the horizon, in seconds
      unless `seconds` is False; None where targets, runs or the clock are missing.
    """
    if task not in targets or reference not in targets[task].levels:
        return None
    steps = steps_to_target(rows, task, optimizer, targets[task].levels[reference]["train_loss"][target])
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


# ---------------------------------------------------------------------------------------------------------------------
# Losses
# ---------------------------------------------------------------------------------------------------------------------


def test_blocks(rows: Rows, task: str, optimizer: str) -> Frame | None:
    """(block x seed) final test loss on blocks of neighbouring test images; None without rows."""
    return rows.curve(task, optimizer, "test_block_loss")


def block_classes(rows: Rows, task: str, num_blocks: int) -> NDArray | None:
    """The class of each block of test images, -1 for a block of several; None where images do not lie class by class.

    Then what differs between blocks is what differs between classes, which a task has by definition and not by chance.
    """
    from tasks.registry import classes_in_order

    classes = classes_in_order(str(rows.train.loc[rows.train["task"] == task, "family"].iloc[0]), "test")
    if classes is None:
        return None
    parts = np.array_split(classes, num_blocks)
    return np.array([part[0] if (part == part[0]).all() else -1 for part in parts])


def _over_images(rows: Rows, tasks: Sequence[str], values: Sequence[NDArray], mean: float | None) -> Interval:
    """The mean with the crossed interval of block losses (num_seeds, num_blocks), a task each (protocol rule 12).

    `mean` is that of the losses, from which that of the blocks differs a little where they differ by an image.
    """
    strata = [block_classes(rows, task, x.shape[1]) for task, x in zip(tasks, values, strict=True)]
    crossed = crossed_interval(*values, strata=strata)
    mean = crossed.estimate if mean is None else mean
    shift = mean - crossed.estimate
    low, high = (None if end is None else end + shift for end in (crossed.low, crossed.high))
    return Interval(mean, low, high, crossed.n)


def loss(rows: Rows, tasks: Sequence[str], optimizer: str, metric: str) -> tuple[Interval | None, int]:
    """Mean of a loss over the finished runs of tasks, and the number of runs that failed.

    The interval is Student's over seeds, each seed averaged over tasks; of the final test loss it also lets the test
    images vary. It is withheld where a run failed.
    """
    table = rows.losses(optimizer, tuple(tasks), metric)
    values = table.to_numpy(dtype=float)
    if not values.size:
        return None, 0
    failed = int(np.isinf(values).sum())
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None, failed
    if failed or np.isnan(values).any():
        return Interval(float(finite.mean()), None, None, len(table)), failed
    if metric == "final_test_loss":
        blocks = [test_blocks(rows, task, optimizer) for task in tasks]
        known = [b.to_numpy(dtype=float).T for b in blocks if b is not None and list(b.columns) == list(table.index)]
        if len(known) == len(tasks) and all(np.isfinite(x).all() for x in known):
            return _over_images(rows, tasks, known, float(values.mean())), 0
    return t_interval(values.mean(axis=1)), 0


def difference_of_test_loss(
    rows: Rows, tasks: Sequence[str], a: str, b: str, mean: float | None = None
) -> Interval | None:
    """Mean of final test loss of a minus that of b within (seed, task), letting seeds and test images vary (rule 12).

    The tasks are those chosen: what differs between them is in no interval. `mean` is that of the losses, the
    blocks' own without it.

    Returns:
      None where not both have the same seeds on every task, all finished, with their test losses by blocks of images.
    """
    differences, seeds = [], None
    for task in tasks:
        blocks = [test_blocks(rows, task, name) for name in (a, b)]
        if any(table is None for table in blocks):
            return None
        x, y = (table for table in blocks if table is not None)
        seeds = x.columns if seeds is None else seeds
        if not (x.index.equals(y.index) and x.columns.equals(seeds) and y.columns.equals(seeds)):
            return None
        differences.append((x - y).to_numpy(dtype=float).T)
    if not differences or not all(np.isfinite(values).all() for values in differences):
        return None
    return _over_images(rows, tasks, differences, mean)


def learned_names(rows: Rows, headline: str | None = None) -> tuple[str, ...]:
    """The learned optimizers of the rows, the one that claims are judged on first."""
    names = [name for name in rows.trained if rows.role(name) == LEARNED]
    return tuple(sorted(names, key=lambda name: (name != headline, name)))


def hand_designed_names(rows: Rows) -> tuple[str, ...]:
    """The hand-designed optimizers of the rows."""
    return tuple(name for name in rows.trained if rows.role(name) == HAND_DESIGNED)


def tuned_by_train(rows: Rows) -> tuple[str, ...]:
    """Those of the hand-designed optimizers whose values were chosen by train loss."""
    return tuple(
        name for name in hand_designed_names(rows) if name in BASELINES and BASELINES[name].tuned_by == "train"
    )


def references(rows: Rows, targets: TargetsByTask, group: str) -> dict[str, str]:
    """Task -> the frozen reference of a group, for the tasks that have targets."""
    return {
        task: targets[task].references[group]
        for task in rows.tasks
        if task in targets and group in targets[task].references
    }


# ---------------------------------------------------------------------------------------------------------------------
# Controls
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Controls:
    """What the controls measured; None where they did not run.

    Attributes:
      base: the optimizer that they vary.
      aa: seconds per step of the base entered twice, second over first, over the blocks of all tasks.
      double_step: seconds per step with every step performed twice, over the base's.
      frozen_rank: (rank, of) of the base at rate 0 among the optimizers of which no run failed, by restricted mean time
        to target, ties last; by final train loss where no target is frozen.
      frozen_success: share of its runs that reach the easy target.
      tenfold: final train loss at ten times the tuned rate minus the base's, within the seeds whose runs all finished;
        without bounds where one failed.
      tenfold_failed: runs at ten times the rate that failed; they are worse, and are in no mean.
      by_task: of "aa" and "double_step", the lowest and the highest median of a task.
      frozen_ties: optimizers that share the frozen one's place.
      untrained: learned optimizer -> steps to the hard target before its outer-training, over those after it: within
        seeds, the geometric mean over tasks. A miss counts as the horizon.
      untrained_misses: learned optimizer -> misses among those runs, (before, after).
      untrained_test: learned optimizer -> final test loss before its outer-training minus that after it.
    """

    base: str
    aa: Interval | None
    double_step: Interval | None
    frozen_rank: tuple[int, int] | None
    frozen_success: Interval | None
    tenfold: Interval | None
    tenfold_failed: int
    by_task: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    frozen_ties: tuple[str, ...] = ()
    untrained: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
    untrained_misses: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    untrained_test: Mapping[str, Interval] = dataclasses.field(default_factory=dict)

    @property
    def floor(self) -> float | None:
        """Half-width of the A/A ratio around 1: no ratio of times closer to 1 than this is called a difference."""
        if self.aa is None or self.aa.low is None or self.aa.high is None:
            return None
        return max(abs(self.aa.low - 1), abs(self.aa.high - 1))


def read_controls(rows: Rows, targets: TargetsByTask) -> Controls | None:
    """The controls of a suite (protocol rules 8 and 14); None where it has none."""
    bases = set(rows.controls.values())
    if not bases:
        return None
    base = min(bases)

    blocks = {
        key: [
            values
            for task in rows.tasks
            if (values := block_ratio(rows, task, controls.control_name(base, control), base)) is not None
        ]
        for key, control in (("aa", "again"), ("double_step", "twice"))
    }
    ratios = {key: median_interval(np.concatenate(known)) for key, known in blocks.items() if known}
    medians = {key: [float(np.median(values)) for values in known] for key, known in blocks.items() if known}

    frozen = controls.control_name(base, "frozen")
    tenfold = controls.control_name(base, "10x")
    rank = success = difference = None
    ties: tuple[str, ...] = ()
    failed = 0
    if frozen in rows.trained:
        place, of, ties = _frozen_rank(rows, targets, frozen)
        rank = (place, of) if of > 1 else None
        reference = references(rows, targets, "all_hand_designed")
        success = success_rate(rows, targets, list(reference), frozen, reference, "easy") if reference else None
    if tenfold in rows.trained:
        a = rows.losses(tenfold, rows.tasks, "final_train_loss").to_numpy(dtype=float)
        failed = int(np.isinf(a).sum())
        difference = _paired(rows, tenfold, base, "final_train_loss")
    untrained = {name: found for name in rows.untrained if (found := _over_untrained(rows, targets, name))}
    return Controls(
        untrained={name: found for name, (found, _) in untrained.items()},
        untrained_misses={name: misses for name, (_, misses) in untrained.items()},
        untrained_test={
            name: found
            for name, control in rows.untrained.items()
            if (found := _paired(rows, control, name, "final_test_loss")) is not None
        },
        base=base,
        aa=ratios.get("aa"),
        double_step=ratios.get("double_step"),
        frozen_rank=rank,
        frozen_success=success,
        tenfold=difference,
        tenfold_failed=failed,
        by_task={key: (min(values), max(values)) for key, values in medians.items()},
        frozen_ties=ties,
    )


def _paired(rows: Rows, a: str, b: str, metric: str) -> Interval | None:
    """Loss of a minus that of b within the seeds whose runs all finished, without bounds where some did not."""
    x, y = (rows.losses(name, rows.tasks, metric) for name in (a, b))
    seeds = [seed for seed in x.index if seed in y.index]
    x, y = x.loc[seeds].to_numpy(dtype=float), y.loc[seeds].to_numpy(dtype=float)
    whole = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    if not whole.any():
        return None
    found = paired_difference(x[whole], y[whole])
    return found if whole.all() else found.without_bounds()


def _over_untrained(rows: Rows, targets: TargetsByTask, name: str) -> tuple[Interval, tuple[int, int]] | None:
    """Steps to the hard target of the best hand-designed row, before outer-training over after it; misses of both."""
    logs, misses = ([], []), [0, 0]
    seeds = set.intersection(*(set(rows.runs(which, rows.tasks)["seed"]) for which in (rows.untrained[name], name)))
    for task, reference in references(rows, targets, "all_hand_designed").items():
        level = targets[task].levels[reference]["train_loss"][PAPER_TARGET]
        for i, which in enumerate((rows.untrained[name], name)):
            ran = sorted(rows.runs(which, (task,))["seed"])
            if not seeds <= set(ran):
                return None
            steps = steps_to_target(rows, task, which, level)[[seed in seeds for seed in ran]]
            misses[i] += int(np.isinf(steps).sum())
            logs[i].append(np.log(np.minimum(steps, rows.horizon(task))))
    if not seeds or not logs[0]:
        return None
    found = paired_difference(np.array(logs[0]).T, np.array(logs[1]).T)
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Interval(math.exp(found.estimate), low, high, found.n), (misses[0], misses[1])


def _frozen_rank(rows: Rows, targets: TargetsByTask, frozen: str) -> tuple[int, int, tuple[str, ...]]:
    """Place of the frozen optimizer among all that train, 1 for the best, of how many, and who shares it.

    Ties share the worse place. An optimizer of which a run failed has no part in it: it may end behind one that stays.
    """
    trained = [name for name in rows.trained if name == frozen or rows.role(name) != CONTROL]
    losses = {name: rows.losses(name, rows.tasks, "final_train_loss") for name in trained}
    names = [n for n in trained if n != frozen and not np.isinf(losses[n].to_numpy(dtype=float)).any()]
    reference = references(rows, targets, "all_hand_designed")
    if reference:
        score = {name: mean_restricted_steps(rows, targets, name, reference) for name in [*names, frozen]}
    else:
        score = {name: float(losses[name].mean().mean()) for name in [*names, frozen]}
    score = {name: math.inf if math.isnan(value) else value for name, value in score.items()}
    better = sum(score[name] < score[frozen] for name in names)
    ties = tuple(name for name in names if score[name] == score[frozen])
    return 1 + better + len(ties), 1 + len(names), ties


# ---------------------------------------------------------------------------------------------------------------------
# Races
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Race:
    """A race on one task for one target: the speed-up as raced and as predicted, None where not both arrive."""

    task: str
    contender: str
    reference: str
    target: str
    raced: float | None  # reference seconds / contender seconds, on the race's own clocks
    predicted: float | None  # the same from steps to target times the step-cost ratio of the timing cell
    missed: tuple[str, ...] = ()  # who does not arrive within the horizon


def race_result(
    task: str,
    table: Frame,
    cost_ratio: float,
    contender: str,
    reference: str,
    levels: Mapping[str, float],
) -> list[Race]:
    """The outcome for every target.

    Args:
      task: name.
      table: (step x metric) of the race, metrics "train_loss/NAME" and "wall_time_sec/NAME".
      cost_ratio: seconds per step, contender / reference: the median over interleaved blocks of the ratio within one.
      contender: name.
      reference: name.
      levels: target -> smoothed train loss.
    """
    found = []
    for target, level in levels.items():
        steps, seconds = [], []
        for name in (contender, reference):
            steps.append(steps_to(level, table.index, table[f"train_loss/{name}"]))
            seconds.append(float(np.interp(steps[-1], table.index, table[f"wall_time_sec/{name}"])))
        missed = tuple(name for name, at in zip((contender, reference), steps, strict=True) if math.isinf(at))
        raced = predicted = None
        if not missed and min(seconds) > 0:
            raced, predicted = seconds[1] / seconds[0], steps[1] / (steps[0] * cost_ratio)
        found.append(Race(task, contender, reference, target, raced, predicted, missed))
    return found


def races(rows: Rows, targets: TargetsByTask) -> list[Race]:
    """The outcome of every race for every target (protocol rule 9)."""
    found = []
    for task, table in rows.races.items():
        names = [column.partition("/")[2] for column in table.columns if column.startswith("train_loss/")]
        learners = [name for name in names if rows.role(name) == LEARNED]
        rivals = [name for name in names if name not in learners]
        if task not in targets or len(learners) != 1 or len(rivals) != 1:
            continue
        ratios = block_ratio(rows, task, learners[0], rivals[0])
        levels = targets[task].levels.get(rivals[0], {}).get("train_loss")
        if levels and ratios is not None:
            found += race_result(task, table, float(np.median(ratios)), learners[0], rivals[0], levels)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The first screen
# ---------------------------------------------------------------------------------------------------------------------

GROUP_NAMES = {  # the strongest at equal steps first
    "all_hand_designed": "the best hand-designed",
    "paper_scheduled": "the best of the paper's three with schedules",
    "paper_constant": "the best of the paper's three with constant rates",
}


@dataclass(frozen=True)
class Row:
    """A row of the first screen's table: an optimizer on a task, or on all tasks.

    Of a hand-designed optimizer, speed-ups and the ratio of step costs are the learned one's over it, towards that
    optimizer's own frozen losses; of the learned one, over the best hand-designed one of each task.
    """

    task: str
    optimizer: str
    role: str
    speedups: Mapping[str, Speedup | None]
    validation_speedups: Mapping[str, Speedup | None]  # the same to the frozen validation losses
    step_cost: Interval | None  # learned / this optimizer; of the learned one, over the reference
    losses: Mapping[str, Interval | None]  # "train_loss", "validation_loss", "test_loss": final
    num_failed: int
    success: Interval | None  # of this optimizer, to the reference's hard target


@dataclass(frozen=True)
class Scores:
    """All that the first screen shows."""

    contender: str | None
    against: Mapping[str, Mapping[str, Speedup | None]]  # group -> target -> speed-up
    group_references: Mapping[str, Mapping[str, str]]  # group -> task -> reference
    rows: tuple[Row, ...]
    controls: Controls | None
    verdict: str
    word: str  # "faster", "slower", "not reached" or "no difference shown"; "no claim" without targets or a clock


def score(rows: Rows, targets: TargetsByTask, headline: str | None = None) -> Scores:
    """Scores of a suite.

    Args:
      rows: of the suite.
      targets: by task; tasks without have losses and step costs only.
      headline: the learned optimizer that claims are judged on, where it is among the rows (protocol rule 3).
    """
    learners = learned_names(rows, headline)
    contender = learners[0] if learners else None
    group_references = {group: references(rows, targets, group) for group in GROUPS}
    against: dict[str, dict[str, Speedup | None]] = {}
    if contender:
        for group, reference in group_references.items():
            against[group] = {
                target: speedup(rows, targets, rows.tasks, contender, reference, target) for target in SHARES
            }
    scopes: list[tuple[str, tuple[str, ...]]] = [(task, (task,)) for task in rows.tasks]
    if len(rows.tasks) > 1:
        scopes.insert(0, (ALL, rows.tasks))
    table = [
        _row(rows, targets, scope, tasks, name, contender, group_references["all_hand_designed"])
        for scope, tasks in scopes
        for name in (*learners, *hand_designed_names(rows))
        if len(rows.runs(name, tuple(tasks)))
    ]
    measured = read_controls(rows, targets)
    word, verdict = _verdict(contender, against, group_references, measured)
    return Scores(contender, against, group_references, tuple(table), measured, verdict, word)


def _row(
    rows: Rows,
    targets: TargetsByTask,
    scope: str,
    tasks: Sequence[str],
    name: str,
    contender: str | None,
    reference: Mapping[str, str],
) -> Row:
    is_learned = rows.role(name) == LEARNED
    rival = {task: reference.get(task, "") if is_learned else name for task in tasks}
    who = name if is_learned else contender
    speedups: dict[str, Speedup | None] = dict.fromkeys(SHARES)
    twins, cost = dict(speedups), None
    if who:
        speedups, twins = (
            {target: speedup(rows, targets, tasks, who, rival, target, metric) for target in SHARES}
            for metric in ("train_loss", "validation_loss")
        )
        cost = step_cost_ratio(rows, tasks, who, rival)
    finals = {split: loss(rows, tasks, name, f"final_{split}_loss") for split in ("train", "validation", "test")}
    return Row(
        task=scope,
        optimizer=name,
        role=rows.role(name),
        speedups=speedups,
        validation_speedups=twins,
        step_cost=cost,
        losses={f"{split}_loss": interval for split, (interval, _) in finals.items()},
        num_failed=finals["train"][1],
        success=success_rate(rows, targets, tasks, name, reference, PAPER_TARGET),
    )


def beyond_floor(ratio: float, floor: float | None) -> bool:
    """Whether a ratio of times is further from 1, either way, than the clock's floor (protocol rule 8)."""
    margin = 1 + (floor or 0.0)
    return not 1 / margin <= ratio <= margin


def verdict_word(found: Speedup, floor: float | None) -> str:
    """faster, slower or no difference shown: outside the interval and outside the A/A floor (protocol rules 8, 12).

    Where half of the runs never arrive and the bound does not tell: not reached.
    """
    if found.low is None or found.high is None:
        return "no claim"
    if found.bound:  # below it, whatever it is
        return "slower" if found.high <= 1 / (1 + (floor or 0.0)) else "not reached"
    if not beyond_floor(found.estimate, floor) or found.low <= 1 <= found.high:
        return "no difference shown"
    return "faster" if found.low > 1 else "slower"


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


def _verdict(
    contender: str | None,
    against: Mapping[str, Mapping[str, Speedup | None]],
    group_references: Mapping[str, Mapping[str, str]],
    measured: Controls | None,
) -> tuple[str, str]:
    """(word, sentence) on the hard target, the group over which the speed-up is smallest first: its word is the word.

    The strongest rival at equal steps need not be the strongest on the clock. Where only a bound is known on the hard
    target, the medium and the easy one are said too.
    """
    if contender is None:
        return "no claim", "No learned optimizer is among the rows: there is nothing to judge."
    floor = measured.floor if measured else None
    known = {group: found for group in GROUP_NAMES if (found := against.get(group, {}).get(PAPER_TARGET)) is not None}
    if not known:
        return "no claim", (
            f"No claim: no frozen targets for these tasks and horizons, or no clock, to judge {contender} by."
        )
    order = sorted(known, key=lambda group: known[group].estimate)
    words = [verdict_word(known[group], floor) for group in order]
    parts = [
        f"{format_speedup(known[group])} over {GROUP_NAMES[group]} ({reference_text(group_references[group])}): {word}"
        for group, word in zip(order, words, strict=True)
    ]
    text = f"{words[0].capitalize()}. Speed-up of {contender} in wall-clock to the hard target: {'; '.join(parts)}."
    if any(found.bound for found in known.values()):
        others = " and ".join(
            f"{format_speedup(against[order[0]].get(target))} to the {target} one" for target in ("medium", "easy")
        )
        text += f" (<: a bound, since on some task half of its runs never arrive.) Over the first of these, {others}."
    return words[0], text


def reference_text(reference: Mapping[str, str]) -> str:
    """ "muon_cosine", or with the number of tasks where they differ: "adam on 3 tasks, rmsprop on 1"."""
    names = list(reference.values())
    if len(set(names)) <= 1:
        return names[0] if names else "–"
    order = sorted(set(names), key=lambda name: (-names.count(name), name))
    return ", ".join(f"{name} on {names.count(name)}" for name in order)


def first_screen(rows: Rows, targets: TargetsByTask, suite: str, label: str, device: str, headline: str | None) -> dict:
    """What `bench report SUITE --json` prints: JSON-ready, no infinities or NaN."""
    scores = score(rows, targets, headline)
    measured, ran = scores.controls, races(rows, targets)
    return {
        "suite": suite,
        "label": label,
        "device": device,
        "verdict": {
            "text": scores.verdict,
            "word": scores.word,
            "optimizer": scores.contender,
            "against": [
                {
                    "group": group,
                    "reference": reference_text(scores.group_references[group]),
                    "speedup": {target: _json(found) for target, found in by_target.items()},
                }
                for group, by_target in scores.against.items()
            ],
        },
        "rows": [
            {
                "task": row.task,
                "optimizer": row.optimizer,
                "role": row.role,
                "speedup": {target: _json(found) for target, found in row.speedups.items()},
                "speedup_in_steps": {
                    target: _json(found and found.steps) | ({"bound": "<"} if found and found.bound else {})
                    for target, found in row.speedups.items()
                },
                "validation_speedup": {target: _json(found) for target, found in row.validation_speedups.items()},
                "step_cost_ratio": _json(row.step_cost),
                **{name: _json(interval) for name, interval in row.losses.items()},
                "success_rate": _json(row.success),
                "failed_runs": row.num_failed,
            }
            for row in scores.rows
        ],
        "controls": {
            "aa": _json(measured.aa if measured else None),
            "double_step": _json(measured.double_step if measured else None),
            "frozen_success": _json(measured.frozen_success if measured else None),
            "frozen_rank": dict(zip(("rank", "of"), (measured and measured.frozen_rank) or (None, None), strict=True)),
            "frozen_tied_with": list(measured.frozen_ties) if measured else [],
            "adam_10x_minus_adam": _json(measured.tenfold if measured else None),
            "clock_floor": _rounded(measured.floor if measured else None),
            "adam_10x_failed": measured.tenfold_failed if measured else 0,
            **({"untrained": _untrained_json(measured)} if measured and measured.untrained else {}),
            **(
                {"untrained_test_loss": {name: _json(found) for name, found in measured.untrained_test.items()}}
                if measured and measured.untrained_test
                else {}
            ),
            "by_task": {
                key: dict(zip(("lowest", "highest"), map(_rounded, ends), strict=True))
                for key, ends in (measured.by_task if measured else {}).items()
            },
        },
        "races": [
            {
                "task": race.task,
                "target": race.target,
                "contender": race.contender,
                "reference": race.reference,
                "raced": _rounded(race.raced),
                "predicted": _rounded(race.predicted),
                "predicted_over_raced": _rounded(race.predicted / race.raced),
            }
            for race in ran
            if race.raced is not None and race.predicted is not None
        ],
        "races_not_decided": [
            {"task": race.task, "target": race.target, "contender": race.contender, "reference": race.reference}
            | {"not_arrived": list(race.missed)}
            for race in ran
            if race.raced is None
        ],
        "targets": {task: {"digest": found.digest, "made_at": found.made_at} for task, found in targets.items()},
    }


def _untrained_json(measured: Controls) -> dict[str, dict[str, Any]]:
    return {
        name: _json(found) | dict(zip(("misses_untrained", "misses"), measured.untrained_misses[name], strict=True))
        for name, found in measured.untrained.items()
    }


def _json(found: Interval | Speedup | None) -> dict[str, Any]:
    if found is None:
        return {"estimate": None, "low": None, "high": None}
    values = {name: _rounded(getattr(found, name)) for name in ("estimate", "low", "high")}
    return values | ({"bound": "<"} if isinstance(found, Speedup) and found.bound else {})


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
