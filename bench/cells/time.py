"""Cells of kind "time": the training steps of all optimizers of a task, timed in interleaved blocks (rule 7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bench.cells.base import Advance, Cell, Lineup, Outcome, Session, TaskConfig, identities
from bench.entries import controls
from bench.entries.entrants import Entrant
from bench.entries.plugin_files import failure
from bench.store.record import Status
from bench.training.step_times import chunk_steps, curve, time_entrants


@dataclasses.dataclass(frozen=True)
class TimeConfig(TaskConfig):
    """The configuration of a timing.

    Attributes:
      blocks: number of interleaved blocks.
      chunk_steps: inner steps of a timed chunk.
      hyperparameters: optimizer -> hyperparameters.
      controls: names of the controls among the optimizers.
    """

    blocks: int
    chunk_steps: int
    hyperparameters: Mapping[str, Any]
    controls: Sequence[str]


class TimeCell(Cell):
    """A timing of a task."""

    kind = "time"
    config: TimeConfig

    @property
    def title(self) -> str:
        """The task, and "timing"."""
        return f"{self.config.task} timing"

    @property
    def is_timed(self) -> bool:
        """It is."""
        return True

    def execute(self, session: Session, advance: Advance) -> Outcome:
        """Times every optimizer that can run once in each block; the reason of the outcome names the others."""
        config = self.config
        left_out = {entrant.name: "no run has a result" for entrant in session.cannot_run(config.task, self.entrants)}

        def failed(entrant: Entrant, error: BaseException) -> None:
            left_out[entrant.name] = failure(error)[1]

        able = [entrant for entrant in self.entrants if entrant.name not in left_out]
        if not able:
            return Outcome(Status.ERROR, reason="no run of any optimizer has a result")
        timings = time_entrants(
            able,
            session.task(config.task),
            config.horizon,
            num_blocks=config.blocks,
            compile_for=lambda entrant: session.program(entrant, config)[0],
            tick=lambda: advance(1 / config.blocks),
            failed=failed,
        )
        told = "; ".join(f"{name} ({reason})" for name, reason in left_out.items())
        timed = [entrant.name for entrant in able if entrant.name not in left_out]
        return Outcome(Status.OK, curve(timings, timed), reason=f"without {told}" if told else None)


def plan(lineup: Lineup) -> list[TimeCell]:
    """One cell; none if the suite has no timing blocks."""
    if not lineup.suite.timing_blocks:
        return []
    config = TimeConfig(
        **lineup.task.fields,
        blocks=lineup.suite.timing_blocks,
        chunk_steps=chunk_steps(lineup.task.horizon),
        hyperparameters=identities(lineup.timed),
        controls=[entrant.name for entrant in lineup.timed if entrant.role == controls.ROLE],
    )
    return [TimeCell(config, lineup.timed)]
