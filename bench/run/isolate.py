"""Runs cells in a child process, so that a crash or hang is stored as a failure of one cell.

The child runs the cells of a suite one after the other, as `bench.run.runner.run` does. If it dies, or exceeds the time
limit, the current cell is stored as "crashed" or "time_limit", and another child runs the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.engines.shard import Shard
from bench.errors import UsageError
from bench.processes import converse, first_message, speaking

if TYPE_CHECKING:
    from bench.cells.base import Cell
    from bench.entries.plugins import Registry
    from bench.store.store import Store
    from bench.suites.suite import Suite

PROBE_LIMIT_SEC = 600.0  # of importing plug-ins, and of building one of their tasks
GRACE_SEC = 60.0  # beyond a cell's time limit, which is not checked while compiling or within a chunk


@dataclasses.dataclass(frozen=True)
class Work:
    """What another process needs to plan the cells of a suite and run them; JSON-ready.

    Attributes:
      suite: fields of a `Suite`.
      plugins: paths of plug-in files.
      folders: results_dir, tuned_dir, targets_dir, data_dir, cache_dir, weights_dir.
      device: value of `--device`.
      time_limit_sec: time limit of a training cell.
      shard: "K/N", the part of the cells to run; None for all of them.
      skip: names of cells that an earlier child has started.
      broken: tasks that cannot be built, name -> (status, reason); see `probe`.
      since: see `bench.run.runner.run`.
    """

    suite: dict[str, Any]
    plugins: tuple[str, ...]
    folders: dict[str, str]
    device: str | None
    time_limit_sec: float
    shard: str | None = None
    skip: tuple[str, ...] = ()
    broken: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    since: str = ""

    @classmethod
    def of(
        cls,
        suite: Suite,
        plugins: Sequence[str],
        folders: Any,
        device: str | None,
        time_limit_sec: float,
        shard: str | None = None,
    ) -> Work:
        """The work for a suite. Probes plug-ins first; `folders` is a `bench.folders.Folders`.

        Raises:
          UsageError: see `probe`.
        """
        names = ("results_dir", "tuned_dir", "targets_dir", "data_dir", "cache_dir", "weights_dir")
        places = {name: str(getattr(folders, name).absolute()) for name in names}
        broken = probe(plugins, suite.tasks, time_limit_sec) if plugins else {}
        files = tuple(str(Path(plugin).absolute()) for plugin in plugins)
        return cls(dataclasses.asdict(suite), files, places, device, time_limit_sec, shard, broken=broken)

    def plan(self) -> tuple[Registry, list[Cell]]:
        """In the other process: selects the device; returns the tables of tasks and optimizers, and all cells.

        Raises:
          UsageError: as `bench.run.suite.plan_suite`.
        """
        from bench.cells.plan import plan
        from bench.device import select_device
        from bench.entries.plugins import build_registry
        from bench.suites.suite import Suite

        select_device(self.device)
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.suite.items()}
        folders = {key: Path(value) for key, value in self.folders.items()}
        registry = build_registry(self.plugins, *(folders[name] for name in ("data_dir", "cache_dir", "weights_dir")))
        registry.broken.update(self.broken)
        return registry, plan(Suite(**fields), registry, folders["tuned_dir"], folders["targets_dir"])


def probe(plugins: Sequence[str], patterns: Sequence[str], time_limit_sec: float) -> dict[str, tuple[str, str]]:
    """Imports plug-ins and builds their tasks in child processes, before this process does.

    Args:
      plugins: paths of plug-in files.
      patterns: names or patterns of tasks; those of plug-ins are built.
      time_limit_sec: limit of importing, and of building a task; at most `PROBE_LIMIT_SEC`.

    Returns:
      Tasks whose building crashes or hangs: name -> (status, reason). Tasks that raise an exception are not among them:
      they raise it in this process too.

    Raises:
      UsageError: a file is no plug-in, or importing it crashes or hangs.
    """
    broken: dict[str, tuple[str, str]] = {}
    files = ", ".join(plugins)
    while True:
        current, problem = None, None
        what = {"plugins": list(plugins), "probe": list(patterns), "broken": list(broken)}
        for message in converse("bench.run.isolate", what, min(time_limit_sec, PROBE_LIMIT_SEC)):
            if "error" in message:
                raise UsageError(message["error"])
            current = message.get("begins", current)
            problem = message if "ended" in message else None
        if problem is None:
            return broken
        if current is None:
            raise UsageError(f"plug-in {files} cannot be imported: its process {problem['ended']}")
        status = "time_limit" if problem["late"] else "crashed"
        broken[current] = (status, f"cannot be built: its process {problem['ended']}")


def _probe(plugins: Sequence[str], patterns: Sequence[str], broken: Sequence[str], say: Callable[..., None]) -> None:
    """What the child of `probe` runs."""
    from bench.entries.plugins import build_registry
    from bench.suites.choose import expand_tasks

    registry = build_registry(plugins)
    for name in expand_tasks(patterns, registry.task_names()):
        if name in registry.task_builders and name not in broken:
            say(begins=name)
            with contextlib.suppress(UsageError):
                registry.problem(name)


def run(
    work: Work,
    cells: Sequence[Cell],
    store: Store,
    *,
    log: Callable[[str], None] = lambda line: None,
    advance: Callable[[float], None] = lambda amount: None,
    grace_sec: float = GRACE_SEC,
) -> dict[str, int]:
    """Runs the cells of a suite in child processes.

    Args:
      work: what a child needs to know.
      cells: the cells of the suite, as planned in this process.
      store: where cells are stored.
      log: called with a line for every cell that ends.
      advance: called with fractions of cells that have been run.
      grace_sec: time beyond the time limit after which the child is killed.

    Returns:
      The number of cells by status.

    Raises:
      UsageError: a child ends before it starts a cell.
    """
    by_name = {cell.name: cell for cell in cells}
    begun: dict[str, str] = {}  # name of a cell that was started -> its status
    while True:
        current, share, problem, before = None, 0.0, None, len(begun)
        limit = work.time_limit_sec + grace_sec
        for message in converse("bench.run.isolate", dataclasses.asdict(work), limit):
            if "begins" in message:
                current, share = message["begins"], 0.0
                begun[current] = "error"  # until it ends
            elif "ended" in message:
                problem = message
            elif "error" in message:
                raise UsageError(message["error"])
            elif "status" in message:
                assert current is not None
                begun[current] = message["status"]
                current = None  # the cell is stored
            elif "log" in message:
                log(message["log"])
            elif "advance" in message:
                share += message["advance"]
                advance(message["advance"])
        if problem is None:
            return dict(Counter(begun.get(name, "stored") for name in by_name))
        if len(begun) == before:
            raise UsageError(f"the process that runs cells {problem['ended']}, before it began with one")
        work = dataclasses.replace(work, skip=tuple(begun))
        if current is None:
            continue  # the child died between two cells
        cell = by_name[current]
        begun[current] = status = "time_limit" if problem["late"] else "crashed"
        reason = f"its process {problem['ended']}"
        if problem["late"]:
            reason += f": the limit of {work.time_limit_sec:g} s, and {grace_sec:g} s to compile"
        store_failure(store, cell, status, reason)
        log(f"{cell.title}: {status} ({reason})")
        advance(max(1.0 - share, 0.0))


def store_failure(store: Store, cell: Cell, status: str, reason: str) -> None:
    """Stores the outcome of a cell whose process did not come to its end."""
    from bench.cells.base import Outcome
    from bench.run.runner import now, record_of
    from bench.store.record import Status

    outcome = Outcome(Status(status), reason=reason)
    store.put(record_of(cell, outcome, now(), {}), outcome.curve.assign(cell=cell.name))


def _work() -> None:
    """What the child runs: the work in its first message."""
    from bench.run.runner import run as run_cells
    from bench.store.store import Store

    what = first_message()
    if "probe" in what:
        with speaking() as say:
            try:
                _probe(what["plugins"], what["probe"], what["broken"], say)
            except UsageError as error:
                say(error=str(error))
        return
    work = Work(**what)
    with speaking() as say:
        try:
            registry, cells = work.plan()
            if work.shard:
                cells = Shard.parse(work.shard).part(cells)
            run_cells(
                cells,
                registry,
                Store(Path(work.folders["results_dir"]), work.suite["name"]),
                time_limit_sec=work.time_limit_sec,
                log=lambda line: say(log=line),
                advance=lambda share: say(advance=share),
                begins=lambda cell: say(begins=cell.name),
                waits=lambda cell: say(waits=cell.name),
                ends=lambda cell, status: say(status=status),
                begun=work.skip,
                since=work.since,
            )
        except UsageError as error:
            say(error=str(error))


if __name__ == "__main__":
    _work()
