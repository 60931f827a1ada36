"""What the controls measured (protocol rules 8 and 14)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.entries import controls
from bench.score.losses import paired_loss, paired_test_loss
from bench.score.times_to_target import (
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
from bench.tuning.targets import CLAIMED


@dataclass(frozen=True)
class Controls:
    """What the controls measured; None where they did not run.

    Attributes:
      base: the optimizer that the controls are variants of.
      aa: A/A control: seconds per step of a second copy of the base over the base's, over the blocks of all tasks.
      double_step: seconds per step with every step performed twice, over the base's.
      zero_rate_rank: (rank, of) of the zero-rate control, among the optimizers without a failed run, by restricted mean
        time to target; ties take the worse rank. By final train loss where there are no frozen targets. None where the
        control itself has a failed run.
      zero_rate_success: share of the zero-rate control's runs that reach the easy target.
      tenfold: final train loss at ten times the tuned rate minus the base's, over the seeds of which all runs finished;
        without bounds where a run failed.
      tenfold_failed: number of failed runs at ten times the rate where the base finished; left out of `tenfold`.
      by_task: for "aa" and "double_step", the lowest and the highest of the tasks' medians.
      aa_by_task: the A/A control on each task, over its blocks.
      zero_rate_ties: optimizers that share the rank of the zero-rate control.
      untrained: learned optimizer -> steps to the hard target with untrained theta over those with trained theta,
        paired by seed, geometric mean over tasks. A miss counts as the horizon.
      untrained_misses: learned optimizer -> number of misses among those runs, (untrained, trained).
      untrained_test: learned optimizer -> final test loss with untrained theta minus that with trained theta.
    """

    base: str
    aa: Interval | None
    double_step: Interval | None
    zero_rate_rank: tuple[int, int] | None
    zero_rate_success: Interval | None
    tenfold: Interval | None
    tenfold_failed: int
    by_task: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    aa_by_task: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
    zero_rate_ties: tuple[str, ...] = ()
    untrained: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
    untrained_misses: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    untrained_test: Mapping[str, Interval] = dataclasses.field(default_factory=dict)

    @property
    def floor(self) -> float | None:
        """Largest distance from 1 of the A/A interval's ends: a ratio of times closer to 1 shows no difference."""
        return _distance(self.aa)

    def floor_of(self, task: str) -> float | None:
        """The same on one task, by its own A/A interval; that of all where it has none."""
        own = _distance(self.aa_by_task.get(task))
        return self.floor if own is None else own


def _distance(ratio: Interval | None) -> float | None:
    if ratio is None or ratio.low is None or ratio.high is None:
        return None
    return max(abs(ratio.low - 1), abs(ratio.high - 1))


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

    zero_rate = controls.control_name(base, "frozen")
    tenfold = controls.control_name(base, "10x")
    rank = success = difference = None
    ties: tuple[str, ...] = ()
    failed = 0
    if zero_rate in rows.trained:
        place, of, ties = _zero_rate_rank(rows, targets, zero_rate)
        ran = np.isfinite(rows.losses(zero_rate, rows.tasks, "final_train_loss").to_numpy(dtype=float)).all()
        rank = (place, of) if of > 1 and ran else None
        reference = references(rows, targets, "all_hand_designed") if ran else {}
        success = success_rate(rows, targets, list(reference), zero_rate, reference, "easy") if reference else None
    if tenfold in rows.trained:
        a, b = (rows.losses(name, rows.tasks, "final_train_loss") for name in (tenfold, base))
        finished = np.isfinite(b.reindex(index=a.index, columns=a.columns).to_numpy(dtype=float))
        failed = int((np.isinf(a.to_numpy(dtype=float)) & finished).sum())
        difference = paired_loss(rows, tenfold, base, "final_train_loss")
    untrained = {name: found for name in rows.untrained if (found := over_untrained(rows, targets, name))}
    return Controls(
        untrained={name: found for name, (found, _) in untrained.items()},
        untrained_misses={name: misses for name, (_, misses) in untrained.items()},
        untrained_test={
            name: found
            for name, control in rows.untrained.items()
            if (found := paired_test_loss(rows, control, name)) is not None
        },
        base=base,
        aa=ratios.get("aa"),
        double_step=ratios.get("double_step"),
        zero_rate_rank=rank,
        zero_rate_success=success,
        tenfold=difference,
        tenfold_failed=failed,
        by_task={key: (min(values), max(values)) for key, values in medians.items()},
        aa_by_task={
            task: median_interval(ratio)
            for task in rows.tasks
            if (ratio := block_ratio(rows, task, controls.control_name(base, "again"), base)) is not None
        },
        zero_rate_ties=ties,
    )


def over_untrained(rows: Rows, targets: TargetsByTask, name: str) -> tuple[Interval, tuple[int, int]] | None:
    """Steps to the hard target with untrained theta over those with trained theta, and the misses of both."""
    logs, misses = ([], []), [0, 0]
    seeds = set.intersection(*(set(rows.runs(which, rows.tasks)["seed"]) for which in (rows.untrained[name], name)))
    for task, reference in references(rows, targets, "all_hand_designed").items():
        level = targets[task].levels[reference][CLAIMED][PAPER_TARGET]
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


def _zero_rate_rank(rows: Rows, targets: TargetsByTask, control: str) -> tuple[int, int, tuple[str, ...]]:
    """Rank of the zero-rate control among all that train (1 is best), out of how many, and the optimizers tied with it.

    Ties take the worse rank. Optimizers with a failed run are left out, since they may be worse than no training.
    """
    trained = [name for name in rows.trained if name == control or rows.role(name) != CONTROL]
    losses = {name: rows.losses(name, rows.tasks, "final_train_loss") for name in trained}
    names = [n for n in trained if n != control and not np.isinf(losses[n].to_numpy(dtype=float)).any()]
    reference = references(rows, targets, "all_hand_designed")
    if reference:
        score = {name: mean_restricted_steps(rows, targets, name, reference) for name in [*names, control]}
    else:
        score = {name: float(losses[name].mean().mean()) for name in [*names, control]}
    score = {name: math.inf if math.isnan(value) else value for name, value in score.items()}
    better = sum(score[name] < score[control] for name in names)
    ties = tuple(name for name in names if score[name] == score[control])
    return 1 + better + len(ties), 1 + len(names), ties
