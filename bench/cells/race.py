"""Cells of kind "race": a learned optimizer and the reference train to the hard target (protocol rule 9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import learned
from bench.cells.base import Advance, Cell, Lineup, Outcome, Session, TaskConfig, identities
from bench.entries.entrants import Entrant
from bench.store.record import Status
from bench.training.programs import NUM_EVALUATIONS, run_key
from bench.training.race import race
from bench.tuning.targets import CLAIMED


@dataclasses.dataclass(frozen=True)
class RaceConfig(TaskConfig):
    """The configuration of a race.

    Attributes:
      seed: seed of initialization and data order, the same for both optimizers.
      hyperparameters: optimizer -> hyperparameters.
      level: smoothed validation loss at which the race ends.
      targets_digest: digest of the frozen targets that this level is taken from.
    """

    seed: int
    hyperparameters: Mapping[str, Any]
    level: float
    targets_digest: str


class RaceCell(Cell):
    """A race on a task."""

    kind = "race"
    config: RaceConfig

    @property
    def title(self) -> str:
        """The task, and "race"."""
        return f"{self.config.task} race"

    @property
    def is_timed(self) -> bool:
        """It is."""
        return True

    def execute(self, session: Session, advance: Advance) -> Outcome:
        """Trains both optimizers in turns, each with its own clock."""
        config = self.config
        found = race(
            self.entrants,
            session.task(config.task),
            run_key(config.task, config.seed),
            config.horizon,
            config.level,
            compile_for=lambda entrant: session.program(entrant, config)[0],
            tick=lambda: advance(1 / NUM_EVALUATIONS),
        )
        return Outcome(Status.OK, found)


def plan(lineup: Lineup) -> list[RaceCell]:
    """One cell if there are frozen targets and both a learned optimizer and the reference take part; else none."""
    pair = _pair(lineup)
    if not (lineup.frozen and pair):
        return []
    config = RaceConfig(
        **lineup.task.fields,
        seed=lineup.suite.seeds[0],
        hyperparameters=identities(pair),
        level=lineup.frozen.levels[pair[1].name][CLAIMED]["hard"],
        targets_digest=lineup.frozen.digest,
    )
    return [RaceCell(config, pair)]


def _pair(lineup: Lineup) -> tuple[Entrant, ...]:
    """(the headline or else the first learned optimizer, the best hand-designed one); empty if one is missing."""
    learned_ones = sorted((e for e in lineup.entrants if e.role == "learned"), key=lambda e: e.name != learned.HEADLINE)
    reference = lineup.frozen.references.get("all_hand_designed") if lineup.frozen else None
    references = [e for e in lineup.entrants if e.name == reference]
    return (learned_ones[0], references[0]) if learned_ones and references else ()
