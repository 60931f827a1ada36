"""Races: the measured speed-up beside the predicted one (protocol rule 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.score.times_to_target import TargetsByTask, block_ratio
from bench.statistics.crossing import steps_to
from bench.store.rows import LEARNED, Frame, Rows
from bench.tuning.targets import CLAIMED


@dataclass(frozen=True)
class Race:
    """The outcome of a race on one task to one target; speed-ups are None where one of the two misses the target."""

    task: str
    optimizer: str
    reference: str
    target: str
    raced: float | None  # seconds of the reference over seconds of the optimizer, measured in the race
    predicted: float | None  # the same ratio from steps to target and the step-cost ratio of the timing cell
    missed: tuple[str, ...] = ()  # optimizers that do not reach the target within the horizon
    metric: str = CLAIMED  # what was raced for: "validation_loss" or, in races of old, "train_loss"

    @property
    def predicted_over_raced(self) -> float | None:
        """Predicted over measured speed-up; None where there is no speed-up."""
        return None if self.raced is None or self.predicted is None else self.predicted / self.raced


def race_result(
    task: str,
    table: Frame,
    cost_ratio: float,
    optimizer: str,
    reference: str,
    levels: Mapping[str, float],
    metric: str = CLAIMED,
) -> list[Race]:
    """The outcome for every target.

    Args:
      task: name.
      table: (step x metric) of the race, metrics METRIC/NAME and "wall_time_sec/NAME".
      cost_ratio: seconds per step, optimizer over reference: median over blocks of the ratio within a block.
      optimizer: name.
      reference: name.
      levels: target -> smoothed loss.
      metric: as `Race.metric`.
    """
    found = []
    for target, level in levels.items():
        steps, seconds = [], []
        for name in (optimizer, reference):
            steps.append(steps_to(level, table.index, table[f"{metric}/{name}"]))
            seconds.append(float(np.interp(steps[-1], table.index, table[f"wall_time_sec/{name}"])))
        missed = tuple(name for name, at in zip((optimizer, reference), steps, strict=True) if math.isinf(at))
        raced = predicted = None
        if not missed and min(seconds) > 0:
            raced, predicted = seconds[1] / seconds[0], steps[1] / (steps[0] * cost_ratio)
        found.append(Race(task, optimizer, reference, target, raced, predicted, missed, metric))
    return found


def races(rows: Rows, targets: TargetsByTask) -> list[Race]:
    """The outcome of every race for every target (protocol rule 9)."""
    found = []
    for task, table in rows.races.items():
        raced = [column.partition("/") for column in table.columns if not column.startswith("wall_time_sec/")]
        names, metrics = [name for _, _, name in raced], {metric for metric, _, _ in raced}
        learned = [name for name in names if rows.role(name) == LEARNED]
        references = [name for name in names if name not in learned]
        if task not in targets or len(learned) != 1 or len(references) != 1 or len(metrics) != 1:
            continue
        (optimizer,), (reference,), (metric,) = learned, references, metrics
        ratios = block_ratio(rows, task, optimizer, reference)
        levels = targets[task].levels.get(reference, {}).get(metric)
        if levels and ratios is not None:
            found += race_result(task, table, float(np.median(ratios)), optimizer, reference, levels, metric)
    return found
