"""Cells of kind "measure": one part of a named measurement (`bench.measure`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.cells.base import Advance, Cell, Outcome, Session, identities
from bench.entries import controls
from bench.entries.entrants import Entrant
from bench.entries.plugins import Registry
from bench.errors import UsageError, nearest
from bench.measure import MEASUREMENTS
from bench.store.provenance import default_device
from bench.store.record import VERSION, Status
from bench.suites.choose import expand_tasks
from bench.suites.members import suite_entrants
from bench.suites.suite import Suite
from bench.training.step_times import NUM_BLOCKS

NUM_REPLICATIONS = 64  # of a measurement that times nothing, where its suite does not say


@dataclasses.dataclass(frozen=True)
class MeasureConfig:
    """The configuration of a part of a measurement.

    Attributes:
      version: version of the results.
      suite: name.
      measurement: name.
      family: the same name; cells of other kinds have their task family here.
      horizon: inner steps, for schedules.
      device_kind: kind of device that the cell runs on.
      task: "MEASUREMENT/PART".
      facts: the part's definition.
      repeats: "blocks" or "replications", and their number.
      timed: hyperparameters and roles of the optimizers that are timed; empty if none are.
    """

    version: str
    suite: str
    measurement: str
    family: str
    horizon: int
    device_kind: str
    task: str
    facts: Mapping[str, Any]
    repeats: tuple[str, int]
    timed: Mapping[str, Any]


class MeasureCell(Cell):
    """A part of a measurement."""

    kind = "measure"
    config: MeasureConfig

    @property
    def identity(self) -> dict[str, Any]:
        """The configuration as a flat dict, with `facts`, `timed` and `repeats` merged into it."""
        found = {"kind": self.kind, **dataclasses.asdict(self.config)}
        facts, timed, (repeats, number) = found.pop("facts"), found.pop("timed"), found.pop("repeats")
        return {**found, repeats: number, **timed, **facts}

    @property
    def title(self) -> str:
        """Measurement and part."""
        return self.config.task

    @property
    def is_timed(self) -> bool:
        """Whether the measurement times optimizers."""
        return bool(self.entrants)

    @property
    def data_of(self) -> str | None:
        """The task that the part unrolls; None if it unrolls none."""
        return self.config.facts.get("inner_task")

    def prepare(self, session: Session) -> None:
        """Does nothing: a measurement loads its own data."""

    def execute(self, session: Session, advance: Advance) -> Outcome:
        """Takes the measurement."""
        del session
        name, _, part = self.config.task.partition("/")
        _, repeats = self.config.repeats
        return Outcome(
            Status.OK, MEASUREMENTS[name].measure(part, self.entrants, repeats, lambda: advance(1 / repeats))
        )


def plan(suite: Suite, registry: Registry, tuned_dir: Path | None) -> list[MeasureCell]:
    """A cell for each part of a measurement, or for the parts that the suite names as tasks.

    Raises:
      UsageError: a measurement, part, optimizer or hyperparameter is unknown, or a key does not apply.
    """
    if suite.seeds or suite.steps:
        raise UsageError(f"suite {suite.name} is a measurement: it takes neither seeds nor steps")
    name = str(suite.measurement)
    if name not in list(MEASUREMENTS):
        raise nearest(f"measurement of suite {suite.name}", name, list(MEASUREMENTS))
    measurement = MEASUREMENTS[name]
    if measurement.timed and not suite.optimizers:
        raise UsageError(f"suite {suite.name}: expected a non-empty 'optimizers'")
    has_none = ("replications",) if measurement.timed else ("optimizers", "timing_blocks", "controls")
    for key in has_none if measurement.replicated else ("replications", *has_none):
        if getattr(suite, key) not in (None, ()):
            raise UsageError(f"suite {suite.name}: {name} has no {key!r}; leave it out")
    parts = {f"{name}/{part}": facts for part, facts in measurement.parts().items()}
    entrants: tuple[Entrant, ...] = ()
    number = NUM_REPLICATIONS if suite.replications is None else suite.replications
    repeats, timed = ("replications", number if measurement.replicated else 1), {}
    if measurement.timed:
        compared = suite_entrants(suite, registry, name, measurement.horizon, tuned_dir)
        base = None if suite.controls is False else controls.base_of(compared)
        entrants = (*compared, *(controls.timed_controls(base) if base else ()))
        repeats = ("blocks", suite.timing_blocks or NUM_BLOCKS)
        timed = {"hyperparameters": identities(entrants), "roles": {entrant.name: entrant.role for entrant in entrants}}
    return [
        MeasureCell(
            MeasureConfig(
                version=VERSION,
                suite=suite.name,
                measurement=name,
                family=name,
                horizon=measurement.horizon,
                device_kind=default_device().device_kind,
                task=part,
                facts=parts[part],
                repeats=repeats,
                timed=timed,
            ),
            entrants,
        )
        for part in (expand_tasks(suite.tasks, list(parts)) if suite.tasks else parts)
    ]
