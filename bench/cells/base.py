"""What every kind of cell has: a configuration that identifies it, a title, and how it is run.

A kind is a module of this folder with a configuration, `plan` and a `Cell` with `title` and `execute`; nothing outside
asks what kind a cell is.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pandas as pd

import tasks
from bench.clock.engine import Program, chunk_lengths, compile_program
from bench.entries import controls
from bench.entries.entrants import Entrant
from bench.entries.plugins import Registry
from bench.store.provenance import default_device
from bench.store.record import VERSION, Clock, Result, Status, cell_id
from bench.suites.expand import suite_entrants
from bench.suites.suite import Suite
from bench.tuning import targets

Advance = Callable[[float], None]  # called with the share of a cell that has been done since the last call
NO_CURVE = pd.DataFrame(columns=["step", "metric", "value"])


class Outcome(NamedTuple):
    """What a cell came to: the parts of its record, and its curve (step, metric, value)."""

    status: Status
    curve: pd.DataFrame = NO_CURVE
    reason: str | None = None
    first_bad_step: int | None = None
    result: Result | None = None
    clock: Clock | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Cell(abc.ABC):
    """A planned cell.

    Attributes:
      config: its resolved configuration, a dataclass whose fields are JSON-ready.
      entrants: the one that trains, or all that are timed.
      failure: how it ends, of a cell that has no task to run on.
    """

    kind: ClassVar[str]
    config: Any
    entrants: tuple[Entrant, ...]
    failure: Outcome | None = None

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """The configuration as a dict for JSON: what the digest is of, and what the record holds."""
        return {"kind": self.kind, **dataclasses.asdict(self.config)}

    @functools.cached_property
    def name(self) -> str:
        """The cell's digest."""
        return cell_id(self.identity)

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """What a progress line says."""

    @property
    def data_of(self) -> str | None:
        """The task whose data the cell reads; None where it reads none."""
        return None if self.failure else self.config.task

    def prepare(self, session: Session) -> None:
        """Loads what the cell needs; what this raises is the user's to mend, and no outcome of the cell.

        Raises:
          tasks.data.MissingDataError: the task's data is neither cached nor found.
        """
        if not self.failure:
            session.task(self.config.task)

    @abc.abstractmethod
    def execute(self, session: Session, advance: Advance) -> Outcome:
        """Runs the cell; what it raises is recorded as its outcome by the caller."""


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """What the configurations of all cells of a task share.

    Attributes:
      version: of the results; they compare within it.
      suite: its name.
      task: its name.
      task_digest: of its definition.
      data_digest: of its data.
      family: of the task.
      horizon: inner steps.
      batch_size: examples of a step.
      num_params: of the network.
      chance_loss: the loss of a guess.
      device_kind: what it runs on.
    """

    version: str
    suite: str
    task: str
    task_digest: str
    data_digest: str
    family: str
    horizon: int
    batch_size: int
    num_params: int
    chance_loss: float
    device_kind: str

    @classmethod
    def of(cls, suite: Suite, registry: Registry, task: str) -> TaskConfig:
        """The part that a task of a suite settles.

        Raises:
          bench.entries.plugins.BrokenTask: a plug-in's task that cannot be built.
          tasks.data.MissingDataError: the task's data is neither cached nor found.
        """
        problem = registry.problem(task)
        return cls(
            version=VERSION,
            suite=suite.name,
            task=task,
            task_digest=registry.digest(task),
            data_digest=registry.data_facts(task)["digest"],
            family=problem.family,
            horizon=suite.steps or problem.horizon,
            batch_size=problem.batch_size,
            num_params=tasks.num_params(problem),
            chance_loss=problem.chance_loss,
            device_kind=default_device().device_kind,
        )

    @classmethod
    def of_broken(cls, suite: Suite, registry: Registry, task: str) -> TaskConfig:
        """What is known of a task that cannot be built."""
        return cls(
            version=VERSION,
            suite=suite.name,
            task=task,
            task_digest=registry.sources.get(task, ""),
            data_digest="",
            family=task,
            horizon=suite.steps or 1,
            batch_size=1,
            num_params=1,
            chance_loss=1.0,
            device_kind=default_device().device_kind,
        )

    @property
    def fields(self) -> dict[str, Any]:
        """The fields by name, for a configuration that extends this one."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, eq=False)
class Lineup:
    """Who takes part on a task of a suite.

    Attributes:
      suite: the suite.
      task: what the cells share.
      entrants: what is compared, in the order of the suite.
      trained: those and the controls that train.
      timed: those and the controls of the clock.
      frozen: the task's targets at this horizon, where there are any and the clock is on.
    """

    suite: Suite
    task: TaskConfig
    entrants: tuple[Entrant, ...]
    trained: tuple[Entrant, ...]
    timed: tuple[Entrant, ...]
    frozen: targets.Targets | None

    @classmethod
    def of(
        cls, suite: Suite, registry: Registry, task: TaskConfig, tuned_dir: Path | None, targets_dir: Path | None
    ) -> Lineup:
        """The line-up of a task; the folders are of a user's own tuned values and targets.

        Raises:
          UsageError: an unknown optimizer or hyperparameter, two optimizers of one name, or damaged values or targets.
        """
        entrants = suite_entrants(suite, registry, task.family, task.horizon, tuned_dir)
        base = controls.base_of(entrants) if suite.controls else None
        trained = [*entrants, *(controls.trained_controls(base) if base else ())]
        trained += controls.untrained_controls(entrants) if suite.controls else ()
        timed = [*entrants, *(controls.timed_controls(base) if base else ())]
        frozen = targets.load(task.task, task.horizon, local_dir=targets_dir) if suite.timing_blocks else None
        return cls(suite, task, tuple(entrants), tuple(trained), tuple(timed), frozen)


class Session:
    """What cells that run one after the other share: the task that is loaded, and programs that are compiled."""

    def __init__(self, registry: Registry, time_limit_sec: float):
        self.registry, self.time_limit_sec = registry, time_limit_sec
        self._programs: dict[str, Program] = {}
        self._loaded: dict[str, tasks.Task] = {}

    def task(self, name: str) -> tasks.Task:
        """A task with its data on the device; one is kept, and programs as long as its problem is the same."""
        if name not in self._loaded:
            problem = self.registry.problem(name)
            if not any(self.registry.problem(other) == problem for other in self._loaded):
                self._programs.clear()
            self._loaded = {name: self.registry.load(name)}
        return self._loaded[name]

    def program(self, entrant: Entrant, config: TaskConfig) -> tuple[Program, bool]:
        """An entrant's program on a task, and whether it was compiled just now."""
        key = json.dumps([entrant.program or entrant.name, config.horizon, config.family])
        fresh = key not in self._programs
        if fresh:
            lengths = chunk_lengths(config.horizon)
            self._programs[key] = compile_program(entrant, self.task(config.task), config.horizon, lengths)
        return self._programs[key], fresh


def identities(entrants: tuple[Entrant, ...]) -> dict[str, Mapping[str, Any]]:
    """Name -> what the record of each says of its hyperparameters."""
    return {entrant.name: dict(entrant.identity) for entrant in entrants}
