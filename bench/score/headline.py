"""The headline: one learned optimizer, on validation loss by the clock and on test loss (protocol rule 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tasks
from bench.score.losses import difference_of_test_loss, loss, paired_loss
from bench.score.speedup import Speedup, best_goals, speedup, speedup_to
from bench.score.times_to_target import PAPER_TARGET, TargetsByTask, hand_designed_names, references
from bench.statistics import Interval
from bench.store.rows import Rows
from bench.tuning.targets import CLAIMED, GROUPS

TEST = "final_test_loss"


@dataclass(frozen=True)
class Against:
    """The headline optimizer against the reference of a group, on each task the one with the lowest validation loss."""

    group: str
    reference: Mapping[str, str]  # by task
    speedup: Speedup | None  # to the validation loss that the reference ends at
    to_best: Speedup | None  # to its lowest validation loss along the way


@dataclass(frozen=True)
class TestLoss:
    """Final test loss less that of the hand-designed row with the lowest mean."""

    reference: str
    difference: Interval
    tasks_below: int
    tasks: int


@dataclass(frozen=True)
class OuterSeed:
    """What another seed of outer-training gives on the same rows, over the best hand-designed ones."""

    optimizer: str
    speedup: Speedup | None
    difference: Interval | None


@dataclass(frozen=True)
class Headline:
    """What is claimed of one learned optimizer."""

    optimizer: str
    validation: tuple[Against, ...]
    by_architecture: Mapping[
        str, tuple[Against, ...]
    ]  # the same over tasks of one kind of net, where there are several
    test_loss: TestLoss | None
    outer_seeds: tuple[OuterSeed, ...]


def read_headline(rows: Rows, targets: TargetsByTask, optimizer: str | None) -> Headline | None:
    """The headline of a suite.

    Args:
      rows: of the suite.
      targets: by task.
      optimizer: the learned optimizer that claims are judged on. What NAME_seed_1, NAME_seed_2 and so on give stands
        beside it.

    Returns:
      None where the optimizer did not run.
    """
    if optimizer is None or optimizer not in rows.trained:
        return None
    validation = _against(rows, targets, rows.tasks, optimizer)
    kinds: dict[str, list[str]] = {}
    for task in rows.tasks:
        kinds.setdefault(_architecture(task.partition("/")[0]), []).append(task)
    by_architecture = {kind: _against(rows, targets, own, optimizer) for kind, own in kinds.items() if len(kinds) > 1}
    test_loss = _test_loss(rows, optimizer)
    best = {against.group: against.reference for against in validation}["all_hand_designed"]
    others = tuple(
        OuterSeed(
            name,
            speedup(rows, targets, rows.tasks, name, best, PAPER_TARGET) if best else None,
            test_loss_difference(rows, name, test_loss.reference) if test_loss else None,
        )
        for name in sorted(rows.trained)
        if name.startswith(f"{optimizer}_seed_")
    )
    return Headline(optimizer, validation, by_architecture, test_loss, others)


def _architecture(family: str) -> str:
    """The class of a family's net in words; that of a family that is not in the registry is not known."""
    if family not in tasks.FAMILIES:
        return "others"
    module = type(getattr(tasks.FAMILIES[family].problem.init, "module", None)).__name__
    return {"CNN": "convolutional", "MLP": "fully connected"}.get(module, "others")


def _against(rows: Rows, targets: TargetsByTask, names: Sequence[str], optimizer: str) -> tuple[Against, ...]:
    """Against the reference of each group, over some tasks."""
    found = []
    for group in GROUPS:
        reference = {task: name for task, name in references(rows, targets, group).items() if task in names}
        to_end = to_best = None
        if set(reference) == set(names):
            to_end = speedup(rows, targets, names, optimizer, reference, PAPER_TARGET)
            goals = best_goals(rows, names, reference, CLAIMED)
            to_best = speedup_to(rows, goals, names, optimizer, reference, CLAIMED) if goals else None
        found.append(Against(group, reference, to_end, to_best))
    return tuple(found)


def _test_loss(rows: Rows, optimizer: str) -> TestLoss | None:
    means = {name: loss(rows, rows.tasks, name, TEST) for name in hand_designed_names(rows)}
    whole = {name: found.estimate for name, (found, failed) in means.items() if found is not None and not failed}
    if not whole:
        return None
    reference = min(whole, key=lambda name: whole[name])
    difference = test_loss_difference(rows, optimizer, reference)
    if difference is None:
        return None
    own, other = (rows.losses(name, rows.tasks, TEST) for name in (optimizer, reference))
    below = int((own.mean(axis=0) < other.mean(axis=0)).sum())
    return TestLoss(reference, difference, below, len(rows.tasks))


def test_loss_difference(rows: Rows, a: str, b: str) -> Interval | None:
    """Final test loss of a less that of b; its interval lets test images vary too where every run finished."""
    found = paired_loss(rows, a, b, TEST)
    if found is None or found.low is None:
        return found
    crossed = difference_of_test_loss(rows, rows.tasks, a, b, found.estimate)
    return crossed if crossed is not None and crossed.low is not None else found
