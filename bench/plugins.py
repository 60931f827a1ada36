"""Tasks and optimizers of other packages and files, beside the built-in tables.

A plug-in is a module with `TASKS = {name: () -> tasks.Task}` and/or `OPTIMIZERS = {name: baselines.Baseline}`: a
file given by `--plugin FILE`, or entry points in the groups `bench.tasks` and `bench.optimizers`.
"""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import tasks
from baselines import BASELINES, Baseline
from bench.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Registry:
    """What can be named on the command line.

    Attributes:
      task_builders: plug-in tasks, name -> constructor.
      baselines: plug-in optimizers, name -> row.
      data_dir: where TFDS data lies.
      cache_dir: where decoded arrays are kept.
    """

    task_builders: dict[str, Callable[[], tasks.Task]] = dataclasses.field(default_factory=dict)
    baselines: dict[str, Baseline] = dataclasses.field(default_factory=dict)
    data_dir: Path | None = None
    cache_dir: Path | None = None

    def task_names(self) -> list[str]:
        """All tasks that can be run."""
        return [*tasks.task_names(), *self.task_builders]

    def problem(self, name: str) -> tasks.Problem:
        """A task's problem; loads no data for built-in ones."""
        return self.task_builders[name]().problem if name in self.task_builders else tasks.family_row(name).problem

    def load(self, name: str) -> tasks.Task:
        """A task with its data on the device."""
        if name in self.task_builders:
            return self.task_builders[name]()
        return tasks.load(name, data_dir=self.data_dir, cache_dir=self.cache_dir)

    def digest(self, name: str) -> str:
        """Digest that identifies a task's definition."""
        return (
            _arrays_digest(self.task_builders[name]())[:16] if name in self.task_builders else tasks.task_digest(name)
        )

    def data_facts(self, name: str) -> dict[str, str]:
        """Name, version, digest and note of a task's data."""
        if name in self.task_builders:
            digest = _arrays_digest(self.task_builders[name]())
            return {"name": name, "version": "plug-in", "source": "plug-in", "digest": digest, "note": ""}
        return tasks.data_facts(name, data_dir=self.data_dir, cache_dir=self.cache_dir)


def build_registry(files: Sequence[str] = (), data_dir: Path | None = None, cache_dir: Path | None = None) -> Registry:
    """The registry of built-in tables, installed plug-ins and plug-in files.

    Raises:
      UsageError: a plug-in that cannot be imported, holds nothing, or takes a name that is taken.
    """
    registry = Registry(data_dir=data_dir, cache_dir=cache_dir)
    for group, table in (("bench.tasks", registry.task_builders), ("bench.optimizers", registry.baselines)):
        for entry in importlib.metadata.entry_points(group=group):
            try:
                _add(table, entry.name, entry.load(), f"entry point {entry.value}")
            except UsageError:
                raise
            except Exception as error:
                raise UsageError(f"entry point {entry.name} = {entry.value} of {group}: {_cause(error)}") from None
    for file in files:
        module = _import_file(file)
        found = False
        for attribute, table in (("TASKS", registry.task_builders), ("OPTIMIZERS", registry.baselines)):
            rows = getattr(module, attribute, {})
            if not isinstance(rows, dict):
                raise UsageError(f"plug-in {file}: expected {attribute} to be a dict, got {type(rows).__name__}")
            for name, row in rows.items():
                _add(table, name, row, f"plug-in {file}")
                found = True
        if not found:
            raise UsageError(
                f"plug-in {file}: expected TASKS = {{name: function}} or OPTIMIZERS = {{name: Baseline}}, got neither"
            )
    return registry


def _add(table: dict[str, Any], name: Any, row: Any, origin: str) -> None:
    from bench.entrants import optimizer_names

    if not isinstance(name, str) or not name:
        raise UsageError(f"{origin}: expected a name, got {name!r}")
    if (
        name in table
        or name in tasks.task_names()
        or name in tasks.FAMILIES
        or name in BASELINES
        or name in optimizer_names()
    ):
        raise UsageError(f"{origin}: the name {name!r} is taken; choose another")
    if not (callable(row) or isinstance(row, Baseline)):
        raise UsageError(f"{origin}: {name!r} is neither a function that returns a Task nor a Baseline")
    table[name] = row


def _import_file(file: str) -> Any:
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"--plugin expects a Python file, got {file}")
    spec = importlib.util.spec_from_file_location(f"bench_plugin_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"plug-in {file} cannot be imported: {_cause(error)}") from None
    return module


def _cause(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def _arrays_digest(task: tasks.Task) -> str:
    digest = hashlib.sha256(repr((task.problem.sizes, task.problem.batch_size)).encode())
    for leaf in jax.tree.leaves((task.arrays, task.cfg)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
