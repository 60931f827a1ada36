"""What the controls measured (protocol rules 8 and 14)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.entries import controls
from bench.score.times import (
    PAPER_TARGET,
    TargetsByTask,
    block_ratio,
    mean_restricted_steps,
    references,
    steps_to_target,
    success_rate,
)
from bench.statistics import (
    Interval,
    median_interval,
    paired_difference,
)
from bench.store.rows import CONTROL, Rows


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
