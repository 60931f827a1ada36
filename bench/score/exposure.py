"""The data and cost of a learned optimizer's outer-training, and its overlap with an evaluation task."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

import tasks
from learned import cards as weight_cards
from learned import weights
from tasks.data.sources import IMAGENET_LABELS, PER_CLASS, POOLS, _fixed_shuffle
from tasks.images import NUM_CLASSES
from tasks.task import SPLITS, Split

Mark = Literal["in-distribution", "used for choosing", "held-out", "out-of-distribution", "unknown"]
OUTER_TRAIN, OUTER_VALIDATION = "outer_train", "outer_validation"  # pools of classes
# The source's label of each row of the data sets that are stored by class.
CLASS_LABELS = {"imagenet32": tuple(_fixed_shuffle("imagenet32", IMAGENET_LABELS))}


@dataclass(frozen=True)
class Overlap:
    """Numbers of classes and images that two sets share."""

    classes: int
    images: int


@dataclass(frozen=True)
class Images:
    """A set of labelled images of one data set.

    Attributes:
      data_set: name in `tasks.data.DATA_SETS`.
      classes: the source's labels.
      images: (class, split, position among the split's images of that class). In a data set that is not stored by
        class, class is None and the position is that in the whole split.
    """

    data_set: str
    classes: frozenset[int]
    images: frozenset[tuple[int | None, str, int]]

    def overlap(self, other: Images) -> Overlap:
        """The overlap with another set; images of different data sets are different."""
        if self.data_set != other.data_set:
            return Overlap(0, 0)
        return Overlap(len(self.classes & other.classes), len(self.images & other.images))


@dataclass(frozen=True)
class OuterTraining:
    """The data and cost of a learned optimizer's outer-training, from the card in its weights.

    Attributes:
      family: task family of outer-training.
      data_set: data set of its images.
      classes: the source's labels, sorted.
      splits: splits that outer-training reads: "train", and "validation" where the objective is the validation loss.
      num_images: number of images of those classes and splits.
      objective: the split whose loss is the outer-loss.
      horizon: inner steps of the longest unroll of outer-training; longer runs are extrapolation.
      inner_steps: inner steps of all unrolls up to the outer step at which theta was taken.
      device_hours: wall-clock up to that outer step, times the number of devices.
      device: kind of device.
      total_inner_steps: inner steps of the whole run; None where they were not recorded.
      total_device_hours: likewise.
      choosing_classes: labels of the outer-validation classes by which theta was chosen; empty if there was no choice.
    """

    family: str
    data_set: str
    classes: tuple[int, ...]
    splits: tuple[Split, ...]
    num_images: int
    objective: str
    horizon: int
    inner_steps: int
    device_hours: float
    device: str
    total_inner_steps: int | None
    total_device_hours: float | None
    choosing_classes: tuple[int, ...]


def mark_of(trained: Overlap, choosing: Overlap, same_kind: bool) -> Mark:
    """The relation of an evaluation task to outer-training.

    Args:
      trained: overlap of the task with the images that theta was outer-trained on.
      choosing: overlap with the images by which theta was chosen.
      same_kind: whether data set and architecture are those of outer-training.

    Returns:
      "in-distribution" where the task shares an image with outer-training; else "used for choosing" where it shares one
      with outer-validation; else "held-out" for the same data set and architecture; else "out-of-distribution".
    """
    if trained.images:
        return "in-distribution"
    if choosing.images:
        return "used for choosing"
    return "held-out" if same_kind else "out-of-distribution"


def outer_training(card: weights.Card) -> OuterTraining:
    """The data and cost of outer-training, from the card of the weights."""
    trained, choosing = trained_images(card), choosing_images(card)
    runs = _runs(card)
    facts = [run.facts for run in runs]
    whole = all("total_inner_steps" in found for found in facts)
    return OuterTraining(
        family=card.outer_training["family"],
        data_set=trained.data_set,
        classes=tuple(sorted(trained.classes)),
        splits=tuple(split for split in SPLITS if any(split in _splits(run) for run in runs)),
        num_images=len(trained.images),
        objective=card.outer_training["objective"],
        horizon=max(map(weight_cards.longest_unroll, runs)),
        inner_steps=sum(found["inner_steps"] for found in facts),
        device_hours=round(sum(found["device_hours"] for found in facts), 3),
        device=card.facts["device"],
        total_inner_steps=sum(found["total_inner_steps"] for found in facts) if whole else None,
        total_device_hours=round(sum(found["total_device_hours"] for found in facts), 3) if whole else None,
        choosing_classes=tuple(sorted(choosing.classes)),
    )


def trained_images(card: weights.Card) -> Images:
    """The images that theta was outer-trained on."""
    return _union([pool_images(run.outer_training["family"], OUTER_TRAIN, _splits(run)) for run in _runs(card)])


def choosing_images(card: weights.Card) -> Images:
    """The outer-validation images, by which theta was chosen; none where the card records no outer-validation."""
    nothing = Images(tasks.members(card.outer_training["family"])[0].data_set, frozenset(), frozenset())
    judged = [run for run in _runs(card) if "outer_validation_loss" in run.facts]
    outer = [(run.outer_training, _splits(run)) for run in judged]
    names = [(run.get("validation_family") or run["family"], splits) for run, splits in outer]
    pools = [pool_images(name, OUTER_VALIDATION, splits) for name, splits in names]
    return _union([nothing, *pools])


def official_training(images: Images) -> Images:
    """Those of a set that are training images of its source: the training and validation splits here."""
    return dataclasses.replace(images, images=frozenset(place for place in images.images if place[1] != "test"))


def _runs(card: weights.Card) -> list[weights.Card]:
    """The card of the run that made the weights, and the cards of the weights that it began from."""
    return [card, *weight_cards.ancestors(card)]


def _union(sets: Sequence[Images]) -> Images:
    """The union of sets of one data set; `learned.config.load_config` ensures that there is only one."""
    sets = list({id(found): found for found in sets if found.images}.values()) or sets[:1]
    if len(sets) == 1:  # the usual case: avoids copying hundreds of thousands of images
        return sets[0]
    classes, images = ([getattr(found, name) for found in sets] for name in ("classes", "images"))
    return Images(sets[0].data_set, frozenset().union(*classes), frozenset().union(*images))


def _splits(card: weights.Card) -> tuple[Split, ...]:
    """The splits that an unroll reads: train, and validation where the outer-loss is the validation loss."""
    return ("train", "validation") if card.outer_training["objective"] == "validation" else ("train",)


@functools.cache
def pool_images(family: str, pool: str, splits: tuple[Split, ...] = SPLITS) -> Images:
    """The images of a pool of classes of a family or a mixture; all images where the family has no pools."""
    return _images(family, range(POOLS[pool].start, POOLS[pool].stop), splits)


@functools.cache
def task_images(task: str) -> Images:
    """The images of a fixed task, of all splits.

    Raises:
      tasks.UnknownNameError: no task of the registry.
    """
    return _images(task.split("/")[0], [int(row) for row in tasks.task_cfg(task)], SPLITS)


@dataclass(frozen=True)
class SharedClasses:
    """Numbers of classes: of one task, of all tasks together, and shared by two of them on average."""

    of_a_task: int
    of_all: int
    of_a_pair: float


def shared_classes(names: Sequence[str]) -> SharedClasses | None:
    """How far tasks of one family overlap; None where they are not all drawn from its pools, or none shares a class.

    Args:
      names: of fixed tasks, FAMILY/NUMBER.
    """
    families = {name.partition("/")[0] for name in names}
    if len(names) < 2 or len(families) != 1 or not families <= set(tasks.FAMILIES):
        return None
    if not all("/" in name for name in names):
        return None
    classes = [task_images(name).classes for name in names]
    pair = float(np.mean([len(a & b) for a, b in itertools.combinations(classes, 2)]))
    if not pair or len(set(map(len, classes))) != 1:
        return None
    return SharedClasses(len(classes[0]), len(frozenset().union(*classes)), pair)


def _images(family: str, class_rows: Collection[int], splits: Sequence[Split]) -> Images:
    row = tasks.members(family)[0]  # the families of a mixture differ in their nets
    classes = [CLASS_LABELS[row.data_set][i] for i in class_rows] if row.pools else [None]
    # Of a family with labelled images a problem counts each image once for each label.
    per_class = {split: PER_CLASS[split] if row.pools else row.problem.size(split) for split in splits}
    places = ((label, split, k) for label in classes for split in splits for k in range(per_class[split]))
    known = [label for label in classes if label is not None] or range(NUM_CLASSES)
    return Images(row.data_set, frozenset(known), frozenset(places))


def architecture(family: str) -> str:
    """A family's net without its sizes, such as "CNN, strides (2, 2, 1)" or "MLP, 2 layers"."""
    module = tasks.members(family)[0].problem.init.module
    strides = getattr(module, "strides", None)
    depth = f"{len(module.widths)} layers" if strides is None else f"strides {tuple(strides)}"
    return f"{type(module).__name__}, {depth}"
