"""The verdict (faster, slower or no difference shown) and the rows of the table below it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.score.controls import Controls, read_controls
from bench.score.losses import loss
from bench.score.speedup import Speedup, speedup, speedup_in_words
from bench.score.times_to_target import (
    ALL,
    PAPER_TARGET,
    TargetsByTask,
    hand_designed_names,
    learned_names,
    reference_text,
    references,
    step_cost_ratio,
    success_rate,
)
from bench.statistics import (
    Interval,
)
from bench.store.rows import LEARNED, Rows
from bench.tuning.targets import GROUPS, METRICS, SHARES

NOTHING_TO_JUDGE_BY = "no frozen targets for these tasks and horizons, or no clock"
GROUP_NAMES = {  # the strongest at equal steps first
    "all_hand_designed": "the best hand-designed",
    "paper_scheduled": "the best of the paper's three with schedules",
    "paper_constant": "the best of the paper's three with constant rates",
}


@dataclass(frozen=True)
class Row:
    """A row of the first screen's table: an optimizer on a task, or on all tasks.

    In the row of a hand-designed optimizer, speed-ups and the ratio of step costs are those of the learned optimizer
    over it, to its own frozen losses. In the row of a learned optimizer they are over the best hand-designed optimizer
    of each task.
    """

    task: str
    optimizer: str
    role: str
    speedups: Mapping[str, Speedup | None]  # to validation losses
    train_speedups: Mapping[str, Speedup | None]  # the same to the frozen train losses
    step_cost: Interval | None  # seconds per step: learned over hand-designed
    losses: Mapping[str, Interval | None]  # "train_loss", "validation_loss", "test_loss": final
    num_failed: int
    success: Interval | None  # share of runs that reach the reference's hard target
    set_by_hand: tuple[str, ...] = ()  # hyperparameters


@dataclass(frozen=True)
class Scores:
    """All that the first screen shows."""

    optimizer: str | None  # the learned optimizer that the verdict is about
    against: Mapping[str, Mapping[str, Speedup | None]]  # group -> target -> speed-up
    group_references: Mapping[str, Mapping[str, str]]  # group -> task -> reference
    over_itself: Mapping[str, Speedup]  # group -> its references over themselves, to the hard target; where they ran
    rows: tuple[Row, ...]
    controls: Controls | None
    verdict: str
    word: str  # "faster", "slower", "not reached" or "no difference shown"; "no claim" without targets or a clock


def score(rows: Rows, targets: TargetsByTask, headline: str | None = None) -> Scores:
    """Scores of a suite.

    Args:
      rows: of the suite.
      targets: by task; a task without targets has losses and step costs only.
      headline: the learned optimizer that claims are judged on (protocol rule 3); the first by name if it did not run.
    """
    learned_optimizers = learned_names(rows, headline)
    optimizer = learned_optimizers[0] if learned_optimizers else None
    group_references = {group: references(rows, targets, group) for group in GROUPS}
    against: dict[str, dict[str, Speedup | None]] = {}
    if optimizer:
        for group, reference in group_references.items():
            against[group] = {
                target: speedup(rows, targets, rows.tasks, optimizer, reference, target) for target in SHARES
            }
    over_itself = {
        group: found
        for group, reference in group_references.items()
        if reference and (found := speedup(rows, targets, rows.tasks, reference, reference, PAPER_TARGET)) is not None
    }
    scopes: list[tuple[str, tuple[str, ...]]] = [(task, (task,)) for task in rows.tasks]
    if len(rows.tasks) > 1:
        scopes.insert(0, (ALL, rows.tasks))
    table = [
        _row(rows, targets, scope, tasks, name, optimizer, group_references["all_hand_designed"])
        for scope, tasks in scopes
        for name in (*learned_optimizers, *hand_designed_names(rows))
        if len(rows.runs(name, tuple(tasks)))
    ]
    measured = read_controls(rows, targets)
    word, verdict = _verdict(optimizer, against, group_references, measured)
    return Scores(optimizer, against, group_references, over_itself, tuple(table), measured, verdict, word)


def _row(
    rows: Rows,
    targets: TargetsByTask,
    scope: str,
    tasks: Sequence[str],
    name: str,
    optimizer: str | None,
    reference: Mapping[str, str],
) -> Row:
    is_learned = rows.role(name) == LEARNED
    over = {task: reference.get(task, "") if is_learned else name for task in tasks}
    timed = name if is_learned else optimizer
    speedups: dict[str, Speedup | None] = dict.fromkeys(SHARES)
    train_speedups, cost = dict(speedups), None
    if timed:
        speedups, train_speedups = (
            {target: speedup(rows, targets, tasks, timed, over, target, metric) for target in SHARES}
            for metric in METRICS
        )
        cost = step_cost_ratio(rows, tasks, timed, over)
    finals = {split: loss(rows, tasks, name, f"final_{split}_loss") for split in ("train", "validation", "test")}
    return Row(
        task=scope,
        optimizer=name,
        role=rows.role(name),
        speedups=speedups,
        train_speedups=train_speedups,
        step_cost=cost,
        losses={f"{split}_loss": interval for split, (interval, _) in finals.items()},
        num_failed=finals["train"][1],
        set_by_hand=_set_by_hand(rows, tasks, name),
        success=success_rate(rows, targets, tasks, name, reference, PAPER_TARGET),
    )


def _set_by_hand(rows: Rows, tasks: Sequence[str], name: str) -> tuple[str, ...]:
    values = [json.loads(text or "null") or {} for text in rows.runs(name, tuple(tasks))["hyperparameters"]]
    return tuple(sorted({key for found in values for key in found.get("set_by_hand", ())}))


def beyond_floor(ratio: float, floor: float | None) -> bool:
    """Whether a ratio of times is further from 1, either way, than the clock's floor (protocol rule 8)."""
    margin = 1 + (floor or 0.0)
    return not 1 / margin <= ratio <= margin


def verdict_word(found: Speedup, floor: float | None) -> str:
    """The verdict on a speed-up (protocol rules 8 and 12).

    Returns:
      "faster" or "slower" where the interval excludes 1 and the estimate is beyond the A/A floor, else "no difference
      shown". Where half of the runs miss the target: "slower" if the bound says so, else "not reached". "no claim"
      without an interval.
    """
    if found.low is None or found.high is None:
        return "no claim"
    if found.bound:
        return "slower" if found.high <= 1 / (1 + (floor or 0.0)) else "not reached"
    if not beyond_floor(found.estimate, floor) or found.low <= 1 <= found.high:
        return "no difference shown"
    return "faster" if found.low > 1 else "slower"


def _verdict(
    optimizer: str | None,
    against: Mapping[str, Mapping[str, Speedup | None]],
    group_references: Mapping[str, Mapping[str, str]],
    measured: Controls | None,
) -> tuple[str, str]:
    """(word, sentence) on the hard target. The group with the smallest speed-up comes first and decides the word.

    The strongest reference at equal steps need not be the strongest in wall-clock. Where only a bound is known for the
    hard target, the sentence adds the medium and the easy one.
    """
    if optimizer is None:
        return "no claim", "No learned optimizer is among the rows: there is nothing to judge."
    floor = measured.floor if measured else None
    known = {group: found for group in GROUP_NAMES if (found := against.get(group, {}).get(PAPER_TARGET)) is not None}
    if not known:
        return "no claim", f"No claim: {NOTHING_TO_JUDGE_BY}, to judge {optimizer} by."
    order = sorted(known, key=lambda group: known[group].estimate)
    words = [verdict_word(known[group], floor) for group in order]
    parts = [
        f"{speedup_in_words(known[group])} over {GROUP_NAMES[group]} "
        f"({reference_text(group_references[group])}): {word}"
        for group, word in zip(order, words, strict=True)
    ]
    text = (
        f"{words[0].capitalize()}. Speed-up of {optimizer} in wall-clock to final validation loss: {'; '.join(parts)}."
    )
    if any(found.bound for found in known.values()):
        others = " and ".join(
            f"{speedup_in_words(against[order[0]].get(target))} to the {target} one" for target in ("medium", "easy")
        )
        text += f" (At most: on some task half of its runs never arrive.) Over the first of these, {others}."
    return words[0], text
