"""The base of every kind of cell: a configuration that identifies it, a title, and a method that runs it.

A kind is a module of this folder with a configuration, a function `plan` and a subclass of `Cell`. Code outside this
folder does not depend on the kind of a cell.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tasks
from bench.entries import controls
from bench.entries.entrants import Entrant
from bench.entries.plugins import Registry
from bench.store.provenance import default_device
from bench.store.record import VERSION, Outcome, cell_id
from bench.suites.members import suite_entrants
from bench.suites.suite import Suite
from bench.training.programs import Program, chunk_lengths, compile_program
from bench.tuning import targets

Advance = Callable[[float], None]  # called with the share of a cell that has been done since the last call


@dataclasses.dataclass(frozen=True, eq=False)
class Cell(abc.ABC):
    """A planned cell.

    Attributes:
      config: the resolved configuration, a dataclass with JSON-ready fields.
      entrants: the optimizer that trains, or all optimizers that are timed.
      failure: the outcome of a cell whose task cannot be built; else None.
    """

    kind: ClassVar[str]
    config: Any
    entrants: tuple[Entrant, ...]
    failure: Outcome | None = None

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """The configuration as a JSON-ready dict; it is stored in the record, and its digest names the cell."""
        return {"kind": self.kind, **dataclasses.asdict(self.config)}

    @functools.cached_property
    def name(self) -> str:
        """The cell's digest."""
        return cell_id(self.identity)

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """Text of a progress line."""

    @property
    def row(self) -> tuple[str, str] | None:
        """(task, optimizer) of a cell that trains; None of others."""
        return None

    @property
    def is_timed(self) -> bool:
        """Whether it measures time, and must have its device to itself."""
        return False

    @property
    def data_of(self) -> str | None:
        """The task whose data the cell reads; None if it reads none."""
        return None if self.failure else self.config.task

    def prepare(self, session: Session) -> None:
        """Loads what the cell needs. Its exceptions are usage errors and are not stored as the cell's outcome.

        Raises:
          tasks.data.MissingDataError: the task's data is neither cached nor found.
        """
        if not self.failure:
            session.task(self.config.task)

    @abc.abstractmethod
    def execute(self, session: Session, advance: Advance) -> Outcome:
        """Runs the cell. The caller stores an exception as the cell's outcome."""


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """The part of a configuration that all cells of a task share.

    Attributes:
      version: version of the results; results of one version compare.
      suite: name.
      task: name.
      task_digest: digest of the task's definition.
      data_digest: digest of its data.
      family: task family.
      horizon: inner steps.
      batch_size: examples of a training batch.
      num_params: parameters of the network.
      chance_loss: loss of a predictor that knows nothing.
      device_kind: kind of device that the cell runs on.
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
        """The configuration of a task of a suite.

        Raises:
          bench.entries.plugins.BrokenTask: a plug-in's task cannot be built.
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
        """The configuration of a task that cannot be built; unknown numbers are 1."""
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
    """The optimizers that take part on a task of a suite.

    Attributes:
      suite: the suite.
      task: the configuration that the cells share.
      entrants: the optimizers that are compared, in the order of the suite.
      trained: these, and the controls that train.
      timed: these, and the controls of the clock.
      frozen: the task's frozen targets at this horizon; None without targets, or where the suite does not time.
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
        """The line-up of a task; the folders hold the user's own tuned values and targets.

        Raises:
          UsageError: an optimizer or hyperparameter is unknown, two optimizers have one name, or tuned values or
            targets are damaged.
        """
        entrants = suite_entrants(suite, registry, task.family, task.horizon, tuned_dir)
        base = controls.base_of(entrants) if suite.controls else None
        trained = [*entrants, *(controls.trained_controls(base) if base else ())]
        trained += controls.untrained_controls(entrants) if suite.controls else ()
        timed = [*entrants, *(controls.timed_controls(base) if base else ())]
        frozen = targets.load(task.task, task.horizon, local_dir=targets_dir) if suite.timing_blocks else None
        return cls(suite, task, tuple(entrants), tuple(trained), tuple(timed), frozen)


class Session:
    """The state that cells share when they run one after the other: the loaded task and compiled programs."""

    def __init__(self, registry: Registry, time_limit_sec: float):
        self.registry, self.time_limit_sec = registry, time_limit_sec
        self._programs: dict[str, Program] = {}
        self._loaded: dict[str, tasks.Task] = {}
        self._ran: dict[tuple[str, str], bool] = {}

    def note(self, cell: Cell, ran: bool) -> None:
        """Notes whether a cell has a result, however its run ended; without one it raised, or its process died."""
        if cell.row is not None:
            self._ran[cell.row] = ran or self._ran.get(cell.row, False)

    def cannot_run(self, task: str, entrants: Sequence[Entrant]) -> list[Entrant]:
        """Those of some entrants that none of the cells so far has a result of, and their variants."""
        lost = {entrant.make for entrant in entrants if self._ran.get((task, entrant.name)) is False}
        return [entrant for entrant in entrants if entrant.make in lost]

    def task(self, name: str) -> tasks.Task:
        """A task with its data on the device. One task is kept; programs are kept while its problem stays the same."""
        if name not in self._loaded:
            problem = self.registry.problem(name)
            if not any(self.registry.problem(other) == problem for other in self._loaded):
                self._programs.clear()
            self._loaded = {name: self.registry.load(name)}
        return self._loaded[name]

    def program(self, entrant: Entrant, config: TaskConfig) -> tuple[Program, bool]:
        """An entrant's program for a task, and whether this call compiled it."""
        key = json.dumps([entrant.program or entrant.name, config.horizon, config.family])
        fresh = key not in self._programs
        if fresh:
            lengths = chunk_lengths(config.horizon)
            self._programs[key] = compile_program(entrant, self.task(config.task), config.horizon, lengths)
        return self._programs[key], fresh


def identities(entrants: tuple[Entrant, ...]) -> dict[str, Mapping[str, Any]]:
    """Name -> hyperparameters as a record stores them."""
    return {entrant.name: dict(entrant.identity) for entrant in entrants}
