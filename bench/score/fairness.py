"""The fairness card of a learned optimizer (protocol rule 3).

Outer-training takes the place of tuning, and it has a cost (Rezk et al., "Is scaling learned optimizers worth it?",
arXiv 2310.18191). The card in the weights says on what data theta was outer-trained and at what cost. The overlap of an
evaluation task with that data is computed from sets of (data set, class, image).

An image is identified by its place (class, split, position) in the tables of `tasks`, so a card needs no image data and
is the same on every machine. Classes and splits are disjoint in the source's own index (`*_index` of
`tasks.data.DataSet`): two sets share an image exactly where they share a place. Counts are counts of places; in
ImageNet 8 of 66,000 places repeat an image of their own class and split (`tasks.data.sources.drop_duplicates`).
Duplicates that the source holds under two labels are not detected: in the copy used for the published results, one
training image of an evaluation class is identical to one of an outer-training class.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

import tasks
from baselines import find_tuned, loss_keys, read_tuned, tuned_by
from bench.entries.entrants import Entrant, resolve
from bench.errors import UsageError
from bench.measure.update_cost import bytes_per_parameter, shapes
from bench.score.controls import over_untrained
from bench.score.exposure import (
    Mark,
    OuterTraining,
    Overlap,
    architecture,
    choosing_images,
    mark_of,
    official_training,
    outer_training,
    task_images,
    trained_images,
)
from bench.score.times_to_target import TargetsByTask, median_steps, reference_text, references, steps_to_target
from bench.statistics import Interval
from bench.store.rows import HAND_DESIGNED, LEARNED, Rows
from bench.tuning.targets import CLAIMED
from learned import weights
from learned.cards import ancestors
from learned.elsewhere import ELSEWHERE, Elsewhere


@dataclass(frozen=True)
class Exposure:
    """The overlap of an evaluation task with outer-training; counts are None where the task's data is not known.

    Attributes:
      task: name.
      horizon: inner steps of its runs.
      mark: see `mark_of`; "unknown" for a plug-in's task, or for theta other than the shipped one.
      num_classes: number of classes of the task.
      num_images: number of images of all its splits.
      trained: overlap with the images that theta was outer-trained on.
      choosing: overlap with the images by which theta was chosen.
    """

    task: str
    horizon: int
    mark: Mark
    num_classes: int | None
    num_images: int | None
    trained: Overlap | None
    choosing: Overlap | None


@dataclass(frozen=True)
class FairnessCard:
    """The card of a learned optimizer of a suite.

    Attributes:
      optimizer: name.
      outer_training: None for theta other than the shipped one: its card is not available.
      by_others: for published weights of others what is known of their outer-training, as text; else None.
      exposures: one for each task of the suite.
      payback: None where it cannot be computed.
      bytes_per_parameter: task -> optimizer -> bytes of optimizer state per parameter, for this optimizer and each
        hand-designed one. Tasks and optimizers of plug-ins are left out.
    """

    optimizer: str
    outer_training: OuterTraining | None
    by_others: str | None
    exposures: tuple[Exposure, ...]
    payback: Payback | None
    bytes_per_parameter: dict[str, dict[str, float]]


def cards(rows: Rows, targets: TargetsByTask | None = None) -> list[FairnessCard]:
    """The card of each learned optimizer of the rows, in their order."""
    names = list(dict.fromkeys(rows.train["task"]))
    hand_designed = [name for name in rows.optimizers if rows.role(name) == HAND_DESIGNED]
    found = []
    for optimizer in rows.optimizers:
        if rows.role(optimizer) != LEARNED:
            continue
        source = source_card(rows, optimizer)
        exposures = tuple(_exposure(task, rows.horizon(task), source) for task in names)
        state = {task: _state_bytes((optimizer, *hand_designed), task, rows.horizon(task)) for task in names}
        known = outer_training(source) if isinstance(source, weights.Card) else None
        by_others = source.outer_training if isinstance(source, Elsewhere) else None
        paid = payback(rows, targets or {}, optimizer, known) if known else None
        found.append(FairnessCard(optimizer, known, by_others, exposures, paid, state))
    return found


@dataclass(frozen=True)
class Payback:
    """The number of runs to the hard target after which the time saved exceeds the time of outer-training.

    Attributes:
      outer_training_sec: wall-clock of outer-training, including the runs that it began from.
      saved_sec: time that a run saves against the best hand-designed optimizer of each task, mean over tasks. A run
        that misses the target takes the whole horizon.
      missed: number of tasks on which at least half of the runs miss the target; on these no time is saved.
      num_tasks: number of tasks.
      tuning_sec: time to tune those hand-designed optimizers; 0 for those that run with default hyperparameters.
      reference: names of those hand-designed optimizers, as text.
      before: steps to the hard target with untrained theta over those with trained theta, where that control ran: what
        is saved is the doing of outer-training only as far as this lies above 1.
    """

    outer_training_sec: float
    saved_sec: float
    missed: int
    num_tasks: int
    tuning_sec: float
    reference: str
    before: Interval | None = None

    def runs(self, with_tuning: bool) -> float:
        """Number of runs after which outer-training has paid for itself; inf if it never does.

        Args:
          with_tuning: whether the time of tuning the reference is subtracted from that of outer-training.
        """
        if self.missed:
            return math.inf
        owed = max(self.outer_training_sec - self.tuning_sec, 0.0) if with_tuning else self.outer_training_sec
        return owed / self.saved_sec if self.saved_sec > 0 else math.inf if owed else 0.0


def payback(rows: Rows, targets: TargetsByTask, optimizer: str, known: OuterTraining) -> Payback | None:
    """The payback of outer-training.

    Returns:
      None where a task has no target or no timing, or where the evaluation ran on another device than outer-training.
    """
    reference = references(rows, targets, "all_hand_designed")
    devices = {json.loads(text).get("device_kind") for text in rows.train["config"]}
    if not reference or set(reference) != set(rows.tasks) or devices != {known.device}:
        return None
    saved, missed, per_step = [], 0, {}
    for task, name in reference.items():
        blocks = rows.blocks.get(task)
        if blocks is None or not {name, optimizer} <= set(blocks):
            return None
        other, own = (float(np.median(blocks[which])) for which in (name, optimizer))
        level = targets[task].levels[name][CLAIMED]["hard"]
        steps = median_steps(steps_to_target(rows, task, optimizer, level))
        missed += math.isinf(steps)
        saved.append(rows.horizon(task) * other - min(steps, rows.horizon(task)) * own)
        per_step.setdefault((task.split("/")[0], rows.horizon(task), name), []).append(other)
    tuning = sum(
        _tuning_runs(family, horizon, name) * horizon * float(np.mean(seconds))
        for (family, horizon, name), seconds in per_step.items()
    )
    hours = known.device_hours if known.total_device_hours is None else known.total_device_hours
    found = over_untrained(rows, targets, optimizer) if optimizer in rows.untrained else None
    return Payback(
        3600 * hours,
        float(np.mean(saved)),
        missed,
        len(saved),
        tuning,
        reference_text(reference),
        found and found[0],
    )


def _tuning_runs(family: str, horizon: int, name: str) -> int:
    """Number of training runs behind an optimizer's shipped tuned values, all rounds; 0 without such values."""
    found = find_tuned(family, horizon, name)
    if found is None:
        return 0
    record = read_tuned(found.path)
    rounds = [record, *record["earlier_rounds"]]
    kinds = loss_keys(tuned_by(record))
    return sum(len(trial.get(kind, ())) for turn in rounds for trial in turn["trials"] for kind in kinds)


def source_card(rows: Rows, optimizer: str) -> weights.Card | Elsewhere | None:
    """The card of the weights of this name, or the row of others'; None where the rows were made with another theta."""
    if optimizer in ELSEWHERE:
        return ELSEWHERE[optimizer] if made_with(rows, optimizer, ELSEWHERE[optimizer].theta_sha256) else None
    if optimizer not in weights.known_names():
        return None
    theta, card = weights.read(optimizer)
    return card if made_with(rows, optimizer, weights.digest(theta)) else None


def made_with(rows: Rows, optimizer: str, digest: str) -> bool:
    """Whether all runs of a learned optimizer used the theta with this digest; each run stores its first 16 digits."""
    runs = rows.runs_by_optimizer[optimizer]
    return {json.loads(text).get("theta_sha256") for text in runs["hyperparameters"]} == {digest[:16]}


def _exposure(task: str, horizon: int, source: weights.Card | Elsewhere | None) -> Exposure:
    try:
        images = task_images(task)
    except tasks.UnknownNameError:
        return Exposure(task, horizon, "unknown", None, None, None, None)
    counts = (len(images.classes), len(images.images))
    if isinstance(source, Elsewhere) and source.data_sets is not None:
        seen = images.overlap(official_training(images)) if images.data_set in source.data_sets else Overlap(0, 0)
        return Exposure(task, horizon, mark_of(seen, Overlap(0, 0), same_kind=False), *counts, seen, None)
    if not isinstance(source, weights.Card):
        return Exposure(task, horizon, "unknown", *counts, None, None)
    trained, choosing = images.overlap(trained_images(source)), images.overlap(choosing_images(source))
    runs = [source, *ancestors(source)]
    members = [member for run in runs for member in tasks.members(run.outer_training["family"])]
    same_data = images.data_set == members[0].data_set
    kinds = {architecture(member.problem.family) for member in members}
    same_kind = same_data and architecture(task.split("/")[0]) in kinds
    return Exposure(task, horizon, mark_of(trained, choosing, same_kind), *counts, trained, choosing)


def _state_bytes(optimizers: Sequence[str], task: str, horizon: int) -> dict[str, float]:
    found = {}
    for name in optimizers:
        try:
            found[name] = _bytes_per_parameter(name, task.split("/")[0], horizon)
        except (UsageError, tasks.UnknownNameError):
            continue
    return found


@functools.cache
def _bytes_per_parameter(optimizer: str, family: str, horizon: int) -> float:
    params = shapes(tasks.family_row(family).problem.init)
    if optimizer in ELSEWHERE:  # which needs no weights
        row = ELSEWHERE[optimizer]
        theta = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in row.shapes.items()}
        return bytes_per_parameter(Entrant(optimizer, LEARNED, row.make, theta, {}), params, horizon)
    return bytes_per_parameter(resolve(optimizer, family, horizon), params, horizon)
