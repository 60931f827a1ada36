"""Cells in a process of their own, so that one that crashes or hangs is a row like any other failure.

The process runs the cells of a suite one after the other, as `bench.run.runner.run` does without it. Where it dies,
or a cell takes far too long, the cell in hand is recorded as "crashed" or "time_limit", and another process goes on
with the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.processes import converse, first_message, speaking

if TYPE_CHECKING:
    from bench.cells.base import Cell
    from bench.store.store import Store
    from bench.suites.suite import Suite

PROBE_LIMIT = 600.0  # seconds of importing plug-ins, and of building a task of theirs
GRACE = 60.0  # seconds beyond a cell's time limit: compiling, and the chunk in hand, do not look at the clock


@dataclasses.dataclass(frozen=True)
class Work:
    """What a process needs to know to run the cells of a suite; JSON-ready.

    Attributes:
      suite: fields of a `Suite`.
      plugins: files.
      folders: results_dir, tuned_dir, targets_dir, data_dir, cache_dir.
      device: as `--device` has it.
      time_limit_sec: of a training cell.
      skip: names of cells that an earlier process began with.
      broken: tasks that cannot be built, name -> (status, reason); see `probe`.
    """

    suite: dict[str, Any]
    plugins: tuple[str, ...]
    folders: dict[str, str]
    device: str | None
    time_limit_sec: float
    skip: tuple[str, ...] = ()
    broken: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, suite: Suite, plugins: Sequence[str], folders: Any, device: str | None, time_limit_sec: float) -> Work:
        """The work of a command; `folders` has the folders as attributes. What cannot be built is found out first.

        Raises:
          UsageError: see `probe`.
        """
        names = ("results_dir", "tuned_dir", "targets_dir", "data_dir", "cache_dir")
        places = {name: str(getattr(folders, name)) for name in names}
        broken = probe(plugins, suite.tasks, time_limit_sec) if plugins else {}
        return cls(dataclasses.asdict(suite), tuple(plugins), places, device, time_limit_sec, broken=broken)


def probe(plugins: Sequence[str], patterns: Sequence[str], time_limit_sec: float) -> dict[str, tuple[str, str]]:
    """Imports plug-ins and builds their tasks in other processes, before this one does.

    Args:
      plugins: files.
      patterns: names of tasks; those of plug-ins are built.
      time_limit_sec: of importing, and of building a task; at most `PROBE_LIMIT`.

    Returns:
      Tasks that take their process down or do not come to an end: name -> (status, reason). What raises is no matter:
      it will raise here.

    Raises:
      UsageError: files that are no plug-ins, take their process down or do not come to an end.
    """
    broken: dict[str, tuple[str, str]] = {}
    files = ", ".join(plugins)
    while True:
        current, problem = None, None
        what = {"plugins": list(plugins), "probe": list(patterns), "broken": list(broken)}
        for message in converse("bench.run.isolate", what, min(time_limit_sec, PROBE_LIMIT)):
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
    """What runs in the process of `probe`."""
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
    grace: float = GRACE,
) -> dict[str, int]:
    """Runs the cells of a suite in processes of their own; the number of cells by status.

    Args:
      work: what to run.
      cells: the same cells, as they were planned here.
      store: where they go.
      log: called with a line for every cell that ends.
      advance: called with shares of cells done.
      grace: seconds beyond the time limit, after which a cell is ended.

    Raises:
      UsageError: the process cannot begin with any cell.
    """
    by_name = {cell.name: cell for cell in cells}
    begun: dict[str, str] = {}  # name of a cell -> its status
    while True:
        current, share, problem, before = None, 0.0, None, len(begun)
        limit = work.time_limit_sec + grace
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
                current = None  # what is stored stays, whatever becomes of the process
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
            continue  # it died between two cells
        cell = by_name[current]
        begun[current] = status = "time_limit" if problem["late"] else "crashed"
        reason = f"its process {problem['ended']}"
        if problem["late"]:
            reason += f": the limit of {work.time_limit_sec:g} s, and {grace:g} s to compile"
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        _record(store, cell, status, reason, started)
        log(f"{cell.title}: {status} ({reason})")
        advance(max(1.0 - share, 0.0))


def _record(store: Store, cell: Cell, status: str, reason: str, started: str) -> None:
    from bench.cells.base import Outcome
    from bench.run.runner import record_of
    from bench.store.record import Status

    outcome = Outcome(Status(status), reason=reason)
    store.put(record_of(cell, outcome, started, {}), outcome.curve.assign(cell=cell.name))


def _work() -> None:
    """What runs in the process: the work that its standard input tells."""
    from bench.device import select_device
    from bench.entries.plugins import build_registry
    from bench.run.plan import plan
    from bench.run.runner import run as run_cells
    from bench.store.store import Store
    from bench.suites.suite import Suite

    what = first_message()
    if "probe" in what:
        with speaking() as say:
            try:
                _probe(what["plugins"], what["probe"], what["broken"], say)
            except UsageError as error:
                say(error=str(error))
        return
    work = Work(**what)
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in work.suite.items()}
    suite, folders = Suite(**fields), {key: Path(value) for key, value in work.folders.items()}
    with speaking() as say:
        try:
            select_device(work.device)
            registry = build_registry(work.plugins, folders["data_dir"], folders["cache_dir"])
            registry.broken.update(work.broken)
            cells = plan(suite, registry, folders["tuned_dir"], folders["targets_dir"])
            run_cells(
                [cell for cell in cells if cell.name not in work.skip],
                registry,
                Store(folders["results_dir"], suite.name),
                time_limit_sec=work.time_limit_sec,
                log=lambda line: say(log=line),
                advance=lambda share: say(advance=share),
                begins=lambda cell: say(begins=cell.name),
                waits=lambda cell: say(waits=cell.name),
                ends=lambda cell, status: say(status=status),
            )
        except UsageError as error:
            say(error=str(error))


if __name__ == "__main__":
    _work()
