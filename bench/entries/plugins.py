"""Tasks and optimizers from plug-ins, beside the built-in tables.

A plug-in file (`--plugin FILE`) defines `TASKS = {name: () -> tasks.Task}`, `OPTIMIZERS = {name: row}`, or both. A row
is a `baselines.Baseline`, or a `learned.External` for a learned optimizer. An installed package uses entry points in
the groups `bench.tasks` and `bench.optimizers` instead.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import math
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import learned
import tasks
from baselines import BASELINES, Baseline, LogUniform, is_of_optax, of_optax
from bench.device import require_usual_settings
from bench.entries.plugin_files import failure, import_file, plugin_path, source_digest
from bench.errors import UsageError
from learned.base import External
from learned.elsewhere import ELSEWHERE
from learned.weights import known_names
from tasks.files import SAFE_NAME, SAFE_NAMES
from tasks.registry import describe_module
from tasks.task import SPLITS

BESIDE_VALUES = ("source", "set_by_hand", "tuned_on")  # what `entrants` puts beside the values of a row


class BrokenTask(UsageError):
    """A plug-in's task cannot be built; holds the status and reason that its cells get."""

    def __init__(self, name: str, status: str, reason: str):
        super().__init__(f"plug-in task {name!r} cannot be built: {reason}")
        self.status, self.reason = status, reason


class _Facts(NamedTuple):
    """What is asked of a plug-in's task beside its data."""

    problem: tasks.Problem
    digest: str  # of its definition
    data_digest: str


@dataclasses.dataclass(frozen=True)
class Registry:
    """The tasks and optimizers that can be named on the command line.

    Attributes:
      task_builders: plug-in tasks, name -> constructor.
      baselines: hand-designed plug-in optimizers, name -> row.
      learned: learned plug-in optimizers, name -> row.
      sources: name -> digest of the source that defines it, so that an edited plug-in makes new cells.
      data_dir: where TFDS data lies.
      cache_dir: where decoded arrays are kept.
      weights_dir: where weights of `learned.elsewhere` lie.
      broken: tasks that crashed or hung when another process built them, name -> (status, reason); never built here.
    """

    task_builders: dict[str, Callable[[], tasks.Task]] = dataclasses.field(default_factory=dict)
    baselines: dict[str, Baseline] = dataclasses.field(default_factory=dict)
    learned: dict[str, External] = dataclasses.field(default_factory=dict)
    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    data_dir: Path | None = None
    cache_dir: Path | None = None
    weights_dir: Path | None = None
    broken: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    _built: dict[str, tasks.Task] = dataclasses.field(default_factory=dict, repr=False)
    _facts: dict[str, "_Facts"] = dataclasses.field(default_factory=dict, repr=False)

    def baseline(self, name: str) -> Baseline | None:
        """The hand-designed optimizer with a name: built-in, of optax or of a plug-in; None if there is none.

        Raises:
          ValueError: the name begins with "optax." and is no usable optimizer; one line.
        """
        if is_of_optax(name):
            return of_optax(name)
        return BASELINES.get(name) or self.baselines.get(name)

    def task_names(self) -> list[str]:
        """All tasks that can be run."""
        return [*tasks.task_names(), *self.task_builders]

    def _build(self, name: str) -> tasks.Task:
        """A plug-in's task. The last one that was built is kept: of several large ones the data is held of one.

        Raises:
          BrokenTask: it cannot be built.
        """
        if name in self._built:
            return self._built[name]
        self.forget()
        if name in self.broken:
            raise BrokenTask(name, *self.broken[name])
        try:
            with contextlib.redirect_stdout(sys.stderr):
                task = self.task_builders[name]()
        except (Exception, SystemExit) as error:
            raise BrokenTask(name, *failure(error)) from None
        if not isinstance(task, tasks.Task):
            raise BrokenTask(name, "error", f"expected a tasks.Task, got {type(task).__name__}")
        try:
            task = dataclasses.replace(task, problem=_in_plain_numbers(task.problem))
        except ValueError as error:
            raise BrokenTask(name, "error", str(error)) from None
        if not _is_name(task.problem.family, parts=True):
            raise BrokenTask(name, "error", f"expected a family of {SAFE_NAMES}, got {task.problem.family!r}")
        self._built[name] = task
        self._facts[name] = _Facts(
            task.problem, _task_digest(task, self.sources.get(name, ""))[:16], _task_digest(task, "")
        )
        return task

    def _known(self, name: str) -> "_Facts":
        """The facts of a plug-in's task, which planning and every record ask for; it is built for them once."""
        if name not in self._facts:
            self._build(name)
        return self._facts[name]

    def forget(self) -> None:
        """Drops the data of the task that was built; it is built again when it is loaded."""
        self._built.clear()

    def problem(self, name: str) -> tasks.Problem:
        """A task's problem; loads no data for built-in ones."""
        return self._known(name).problem if name in self.task_builders else tasks.family_row(name).problem

    def load(self, name: str) -> tasks.Task:
        """A task with its data on the device."""
        if name in self.task_builders:
            return self._build(name)
        return tasks.load(name, data_dir=self.data_dir, cache_dir=self.cache_dir)

    def digest(self, name: str) -> str:
        """Digest that identifies a task's definition."""
        return self._known(name).digest if name in self.task_builders else tasks.task_digest(name)

    def data_facts(self, name: str) -> dict[str, str]:
        """Name, version, digest and note of a task's data."""
        if name in self.task_builders:
            digest = self._known(name).data_digest
            return {"name": name, "version": "plug-in", "source": "plug-in", "digest": digest, "note": ""}
        return tasks.data_facts(name, data_dir=self.data_dir, cache_dir=self.cache_dir)


def build_registry(
    files: Sequence[str] = (),
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    weights_dir: Path | None = None,
) -> Registry:
    """The registry of built-in tables, installed plug-ins and plug-in files.

    Raises:
      UsageError: a plug-in cannot be imported, defines nothing or sets JAX so that results would be others, or a name
        is taken or not allowed.
    """
    registry = Registry(data_dir=data_dir, cache_dir=cache_dir, weights_dir=weights_dir)
    for group, add in (("bench.tasks", _add_task), ("bench.optimizers", _add_optimizer)):
        for entry in importlib.metadata.entry_points(group=group):
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    row = entry.load()
                add(registry, entry.name, row, f"entry point {entry.value}")
                registry.sources[entry.name] = _entry_digest(entry)
            except UsageError:
                raise
            except (Exception, SystemExit) as error:
                raise UsageError(f"entry point {entry.name} = {entry.value} of {group}: {failure(error)[1]}") from None
    for file in files:
        module, source, found = import_file(file), source_digest(plugin_path(file)), False
        for attribute, add in (("TASKS", _add_task), ("OPTIMIZERS", _add_optimizer)):
            rows = getattr(module, attribute, {})
            if not isinstance(rows, dict):
                raise UsageError(f"plug-in {file}: expected {attribute} to be a dict, got {type(rows).__name__}")
            for name, row in rows.items():
                add(registry, name, row, f"plug-in {file}")
                registry.sources[name] = source
                found = True
        if not found:
            raise UsageError(
                f"plug-in {file}: expected TASKS = {{name: function}} or OPTIMIZERS = {{name: Baseline}}, got neither"
            )
    require_usual_settings()  # a plug-in may have changed them, for all others too
    return registry


def _in_plain_numbers(problem: Any) -> tasks.Problem:
    """A problem whose numbers are Python's own, as records store them: NumPy's and JAX's are taken too.

    Raises:
      ValueError: it is no problem, or one of its numbers is none; one line.
    """
    if not isinstance(problem, tasks.Problem):
        raise ValueError(f"expected a tasks.Problem, got {type(problem).__name__}")
    if not isinstance(problem.sizes, tuple | list) or len(problem.sizes) != len(SPLITS):
        raise ValueError(
            f"expected sizes to be three whole numbers, of {', '.join(SPLITS)}, got {problem.sizes!r:.100}"
        )
    given = {f"size of {split}": size for split, size in zip(SPLITS, problem.sizes, strict=True)}
    given |= {"horizon": problem.horizon, "batch_size": problem.batch_size}
    whole = []
    for name, value in given.items():
        try:
            whole.append(operator.index(value))
        except TypeError:
            whole.append(0)
        if whole[-1] < 1:
            raise ValueError(f"expected {name} to be a whole number, at least 1, got {value!r:.100}")
    *sizes, horizon, batch_size = whole
    try:
        chance = float(problem.chance_loss)
    except (TypeError, ValueError):
        chance = math.nan
    if not math.isfinite(chance):
        raise ValueError(f"expected chance_loss to be a finite number, got {problem.chance_loss!r:.100}")
    numbers: dict[str, Any] = {"sizes": tuple(sizes), "horizon": horizon, "batch_size": batch_size}
    return dataclasses.replace(problem, **numbers, chance_loss=chance)


def _entry_digest(entry: importlib.metadata.EntryPoint) -> str:
    """Digest of the source of an entry point that is installed in place, and of the version of its distribution."""
    version = f"{entry.dist.name}=={entry.dist.version}" if entry.dist else ""
    file = getattr(sys.modules.get(entry.module), "__file__", None)
    source = source_digest(Path(file), sys.modules[entry.module].__package__ or "") if file else ""
    return hashlib.sha256(f"{version} {source}".encode()).hexdigest()[:16]


def _add_task(registry: Registry, name: Any, row: Any, origin: str) -> None:
    _check_name(registry, name, origin, parts=True)
    if isinstance(row, Baseline) or not callable(row):
        raise UsageError(f"{origin}: expected {name!r} of TASKS to be a function that returns a Task, got {row!r}")
    registry.task_builders[name] = row  # pyright: ignore[reportArgumentType] (what it returns is checked when it is built)


def _add_optimizer(registry: Registry, name: Any, row: Any, origin: str) -> None:
    _check_name(registry, name, origin, parts=False)
    if isinstance(row, External):
        registry.learned[name] = row
    elif isinstance(row, Baseline):
        if not isinstance(row.space, dict) or not all(isinstance(rng, LogUniform) for rng in row.space.values()):
            raise UsageError(f"{origin}: expected space of {name!r} to be {{name: LogUniform}}, got {row.space!r:.100}")
        if not isinstance(row.default, dict) or not all(_is_value(*item) for item in row.default.items()):
            raise UsageError(
                f"{origin}: expected default of {name!r} to be {{name: finite number}}, got {row.default!r:.100}"
            )
        if taken := [key for key in row.default if key in BESIDE_VALUES]:
            raise UsageError(
                f"{origin}: {name!r} cannot have a hyperparameter {taken[0]!r}, which records hold of a row"
            )
        registry.baselines[name] = row
    else:
        raise UsageError(f"{origin}: expected {name!r} of OPTIMIZERS to be a Baseline or an External, got {row!r}")


def _check_name(registry: Registry, name: Any, origin: str, *, parts: bool) -> None:
    if not _is_name(name, parts=parts):
        raise UsageError(f"{origin}: expected a name of {SAFE_NAMES}, got {name!r}")
    own = (registry.task_builders, registry.baselines, registry.learned)
    built_in = (tasks.task_names(), tasks.FAMILIES, BASELINES, known_names(), ELSEWHERE, learned.ALIASES)
    if any(name in names for names in (*own, *built_in)):
        raise UsageError(f"{origin}: the name {name!r} is taken; choose another")


def _is_value(name: Any, value: Any) -> bool:
    """Whether it is a hyperparameter that a record can hold."""
    return isinstance(name, str) and isinstance(value, int | float) and math.isfinite(value)


def _is_name(name: Any, *, parts: bool) -> bool:
    """Whether a name is safe as a part of paths (tuned values, targets), pages and LaTeX tables."""
    return isinstance(name, str) and all(map(SAFE_NAME.fullmatch, name.split("/") if parts else [name]))


def _task_digest(task: tasks.Task, source: str) -> str:
    problem = task.problem
    definition = (describe_module(problem.init), problem.sizes, problem.batch_size, source)
    digest = hashlib.sha256(repr(definition).encode())
    for leaf in jax.tree.leaves((task.arrays, task.cfg)):
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)  # no copy of it
    return digest.hexdigest()
