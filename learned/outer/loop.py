"""The loop of outer-training.

At intervals of outer steps, the average of theta is evaluated on outer-validation classes, and the best theta is kept.
At intervals of time, a checkpoint is written. After `patience` consecutive updates with a non-finite gradient, theta is
reset to the best.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from learned.base import Theta
from learned.curriculum import stage_ends
from learned.outer.processes import seconds_of_first
from learned.outer.record import Metrics, Position, Progress, Record, Trained, facts_of_best, inner_steps_of, summary
from learned.outer.step import Engine
from learned.outer.storage import RunFolder, Storage


def _ignore(*arguments: Any) -> None:
    """Does nothing."""
    del arguments


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """Functions that are called during a run.

    Attributes:
      on_step: called after every outer step.
      on_best: called with (theta, facts) whenever the outer-validation loss improves, to save the best theta.
      on_checkpoint: called with the metrics so far after every checkpoint.
      on_damage: called with the new path of a damaged checkpoint; the run resumes from an earlier one.
      on_resume: called with a line where a run is resumed by another number of processes.
    """

    on_step: Callable[[Progress], None] = _ignore
    on_best: Callable[[Theta, dict[str, Any]], None] = _ignore
    on_checkpoint: Callable[[pd.DataFrame], None] = _ignore
    on_damage: Callable[[Path], None] = _ignore
    on_resume: Callable[[str], None] = _ignore


QUIET = Callbacks()


def outer_train(
    engine: Engine,
    folder: RunFolder | None = None,
    *,
    callbacks: Callbacks = QUIET,
    budget_sec: float = float("inf"),
) -> Trained:
    """Runs outer-training. Where several processes outer-train together, all of them call it.

    Args:
      engine: the compiled parts, with configuration, data and devices.
      folder: folder of the run, and whether it is resumed; None writes no files.
      callbacks: functions that are called during the run.
      budget_sec: wall-clock after which the run stops; it can be resumed.

    Returns:
      The best theta by outer-validation, the metrics of every outer step, and the facts of the run (cost, best loss).

    Raises:
      ValueError: the run to resume has another configuration, other data or other initial weights, or is damaged; one
        line.
    """
    state = engine.init()
    at, metrics = Position(state, Record(), jax.device_get(state.average)), []
    with Storage(folder, engine) if folder else contextlib.nullcontext() as storage:
        if storage:
            at, metrics = storage.begin(at, callbacks.on_damage, callbacks.on_resume)
        sitting = _Sitting(engine, storage, callbacks, budget_sec, at, metrics)
        try:
            while sitting.at.record.outer_step < engine.config.outer_steps:
                sitting.outer_step()
                if sitting.is_over():
                    break
        except KeyboardInterrupt:
            # Several processes are not interrupted after the same outer step, and a checkpoint needs all of them.
            if sitting.at.record.outer_step and jax.process_count() == 1:
                sitting.save()  # the last completed outer step
            raise
    at, metrics = sitting.at, sitting.metrics
    return Trained(at.best_theta, metrics, summary(at.record, metrics) | engine.beginning)


class _Sitting:
    """The part of a run in one process: until it ends, its budget is spent, or it is interrupted.

    Attributes:
      at: position after the last completed outer step.
      metrics: metrics of all outer steps up to there, and of one more during an outer step.
    """

    def __init__(
        self,
        engine: Engine,
        storage: Storage | None,
        callbacks: Callbacks,
        budget_sec: float,
        at: Position,
        metrics: Metrics,
    ):
        self.at, self.metrics = at, metrics
        self._engine, self._config = engine, engine.config
        self._storage, self._callbacks = storage, callbacks
        self._ends = stage_ends(engine.config.stages)
        self._budget_sec = budget_sec
        self._before = at.record
        self._begin = time.monotonic()
        self._elapsed = self._last_saved = 0.0

    def is_over(self) -> bool:
        """Whether the budget is spent."""
        return self.at.record.seconds - self._before.seconds > self._budget_sec

    def outer_step(self) -> None:
        """Updates theta; validates and writes a checkpoint where these are due.

        An outer step that is interrupted before `at` is replaced is lost and will be repeated.
        """
        moved, row = self._stepped()
        outer_step = moved.record.outer_step
        self.metrics[outer_step - 1 :] = [row]
        if outer_step % self._config.validation_every == 0 or outer_step in self._ends:
            moved = self._validated(moved, row)
        self.at = moved
        if self.is_over() or outer_step in self._ends or self._is_checkpoint_due():
            self.save()
        if self.is_over() and "outer_validation_loss" not in row:
            # A validation for the user only. No checkpoint contains it, so resuming gives the same run.
            self.at = self._validated(moved, row)
        self._callbacks.on_step(_progress(self.at.record, row))

    def save(self) -> None:
        """Writes a checkpoint of the current position, if the run has a folder."""
        if self._storage is None:
            return
        metrics = self.metrics[: self.at.record.outer_step]
        self._storage.save(self.at, metrics)
        self._callbacks.on_checkpoint(pd.DataFrame(metrics))
        self._last_saved = self._elapsed

    def _is_checkpoint_due(self) -> bool:
        if self._storage is None:
            return False
        return self._elapsed - self._last_saved > self._storage.folder.checkpoint_sec

    def _stepped(self) -> tuple[Position, dict[str, float]]:
        """The position after the next update of theta, and the metrics of the update."""
        engine, state, outer_step = self._engine, self.at.state, self.at.record.outer_step
        member, num_steps, horizon = engine.unroll_at(outer_step)
        if outer_step in self._ends:
            state = engine.begin_stage(state, outer_step)
        state, metrics = engine.step(
            state, engine.arrays, outer_step, num_steps=num_steps, horizon=horizon, member=member
        )
        row: dict[str, float] = {"outer_step": outer_step + 1, "num_steps": num_steps, "horizon": horizon}
        if len(engine.families.trained) > 1:
            row["member"] = member
        row |= {name: float(value) for name, value in metrics.items()}
        record = self._counted(num_steps, int(row["skipped"]))
        if record.skipped_in_a_row >= self._config.patience:
            state = engine.back_to(self.at.best_theta, state)
            record = dataclasses.replace(record, skipped_in_a_row=0, restored=record.restored + 1)
        return self.at._replace(state=state, record=record), row

    def _counted(self, num_steps: int, skipped: int) -> Record:
        """The record after one more outer step with unrolls of `num_steps` inner steps; skipped is 0 or 1."""
        record = self.at.record
        self._elapsed = elapsed = seconds_of_first(time.monotonic() - self._begin)
        return dataclasses.replace(
            record,
            outer_step=record.outer_step + 1,
            inner_steps=record.inner_steps + inner_steps_of(self._config, num_steps),
            seconds=self._before.seconds + elapsed,
            device_seconds=self._before.device_seconds + self._engine.mesh.size * elapsed,
            skipped=record.skipped + skipped,
            skipped_in_a_row=record.skipped_in_a_row + 1 if skipped else 0,
        )

    def _validated(self, position: Position, row: dict[str, float]) -> Position:
        """Adds the outer-validation loss to the metrics of an outer step, and keeps theta if it is the best so far."""
        average = position.state.average
        row["outer_validation_loss"] = loss = self._engine.validate(average, self._engine.arrays)
        if not position.record.is_best(loss):
            return position
        record = position.record.with_best(loss, jax.devices()[0].device_kind)
        position = position._replace(record=record, best_theta=jax.device_get(average))
        facts = facts_of_best(record.best, self.metrics)
        self._callbacks.on_best(position.best_theta, facts | self._engine.beginning)
        return position


def _progress(record: Record, row: dict[str, float]) -> Progress:
    """The argument of `on_step`, from the record and the metrics of an outer step."""
    return Progress(record.outer_step, int(row["num_steps"]), row, record.seconds, record.inner_steps, record.skipped)
