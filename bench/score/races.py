"""Races: the speed-up as raced beside the one predicted (protocol rule 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.score.times import TargetsByTask, block_ratio
from bench.statistics.crossing import steps_to
from bench.store.rows import LEARNED, Frame, Rows


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

    @property
    def predicted_over_raced(self) -> float | None:
        """How far the prediction is off; None where not both arrive."""
        return None if self.raced is None or self.predicted is None else self.predicted / self.raced


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
