"""Runs the cells of a suite that are not stored yet, and stores each as it ends."""

import contextlib
import datetime
import math
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from bench.cells.base import Advance, Cell, Outcome, Session
from bench.entries.plugins import Registry, failure
from bench.errors import UsageError
from bench.store.provenance import provenance
from bench.store.record import Record, Status
from bench.store.store import Store

Log = Callable[[str], None]


def run(
    cells: Sequence[Cell],
    registry: Registry,
    store: Store,
    *,
    time_limit_sec: float = math.inf,
    log: Log = lambda line: None,
    advance: Callable[[float], None] = lambda amount: None,
    begins: Callable[[Cell], None] = lambda cell: None,
    ends: Callable[[Cell, str], None] = lambda cell, status: None,
    waits: Callable[[Cell], None] = lambda cell: None,
) -> dict[str, int]:
    """Runs the cells that are not stored yet.

    A diverged run, an exception, a time limit or too little memory is a stored row, and the others go on. What another
    run on the same folder has in hand is left to it.

    Args:
      cells: from `bench.run.plan.plan`.
      registry: where tasks come from.
      store: where cells go.
      time_limit_sec: of one training cell.
      log: called with a line for every cell that ends and every damaged file set aside.
      advance: called with shares of cells done, for a progress bar.
      begins: called with each cell that is not stored, before it runs.
      ends: called with it and its status when it is stored.
      waits: called with a cell that another run has in hand, before it is waited for.

    Returns:
      Number of cells by status, skipped ones under "stored".

    Raises:
      UsageError: missing data, an unwritable folder.
      KeyboardInterrupt: with every finished cell stored.
    """
    counts: Counter[str] = Counter()
    session = Session(registry, time_limit_sec)

    def skips(cell: Cell) -> bool:
        stored = store.get(cell.name)
        for path in store.set_aside:
            log(f"damaged file set aside: {path}")
        store.set_aside.clear()
        if stored is None or not stored[0].status.is_final:
            return False
        counts["stored"] += 1
        advance(1.0)
        return True

    def run_one(number: int, cell: Cell) -> None:
        begins(cell)
        cell.prepare(session)
        started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        outcome = cell.failure or _outcome(cell, session, advance)
        if cell.failure:
            advance(1.0)
        data = registry.data_facts(cell.data_of) if cell.data_of else {}
        store.put(record_of(cell, outcome, started_at, data), outcome.curve.assign(cell=cell.name))
        ends(cell, outcome.status)
        counts[outcome.status] += 1
        log(f"[{number}/{len(cells)}] {cell.title}: {_outcome_line(outcome)}")

    elsewhere = []
    for number, cell in enumerate(cells, 1):
        if skips(cell):
            continue
        with store.claim(cell.name) as ours:
            if not ours:
                elsewhere.append((number, cell))
            elif not skips(cell):  # by another run, a moment ago
                run_one(number, cell)
    for number, cell in elsewhere:
        log(f"[{number}/{len(cells)}] {cell.title}: another run has it in hand, waiting")
        waits(cell)
        with store.claim(cell.name, wait=True):
            if not skips(cell):  # the other run was ended
                run_one(number, cell)
    return {str(status): number for status, number in counts.items()}


def record_of(cell: Cell, outcome: Outcome, started_at: str, data: dict[str, str]) -> Record:
    """The record of a cell that has ended; `data` says which data set it read."""
    return Record(
        cell=cell.name,
        config=cell.identity,
        status=outcome.status,
        reason=outcome.reason,
        first_bad_step=outcome.first_bad_step,
        result=outcome.result,
        clock=outcome.clock,
        started_at=started_at,
        provenance=provenance(data),
    )


def _outcome(cell: Cell, session: Session, advance: Advance) -> Outcome:
    """Runs one cell; what goes wrong in it is its outcome."""
    done = 0.0

    def tick(share: float) -> None:
        nonlocal done
        done += share
        advance(share)

    try:
        return cell.execute(session, tick)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # whatever a task or optimizer raises is its result
        status, reason = failure(error)
        return Outcome(Status(status), reason=reason)
    finally:
        advance(1.0 - done)


def _outcome_line(outcome: Outcome) -> str:
    if outcome.status is not Status.OK:
        return f"{outcome.status} ({outcome.reason})"
    if outcome.result is None:
        return "ok"
    return f"train {outcome.result.final_train_loss:.4f}  test {outcome.result.final_test_loss:.4f}"


def select_device(name: str | None) -> None:
    """Makes `cpu`, `gpu` or `gpu:i` the default device.

    Raises:
      UsageError: no such device.
    """
    if not name:
        return
    platform, colon, index = name.partition(":")
    if platform not in ("cpu", "gpu") or (colon and not index.isdecimal()):
        raise UsageError(f"--device expects cpu, gpu or gpu:i, got {name!r}")
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        devices = jax.devices(platform)
    except RuntimeError:
        found = ", ".join(sorted({d.platform for d in jax.devices()}))
        raise UsageError(
            f"no device {name!r} here, found: {found}; `pip install 'lopt-bench[gpu]'` adds CUDA support"
        ) from None
    if int(index or 0) >= len(devices):
        raise UsageError(f"no device {name!r} here, found {len(devices)} of platform {platform}")
    jax.config.update("jax_default_device", devices[int(index or 0)])


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Sees to it that no Ctrl-C is lost.

    Python drops a KeyboardInterrupt that rises where nothing can be raised: in a finalizer, or in the callback that
    JAX has the garbage collector call. The next call of what this yields, or the end, raises it again, and what Python
    would print of the lost one is not printed.
    """
    pending = False
    tell = sys.unraisablehook

    def interrupt(signum: int, frame: Any) -> None:
        nonlocal pending
        pending = True
        raise KeyboardInterrupt

    def raise_pending() -> None:
        if pending:
            raise KeyboardInterrupt

    def tell_others(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            tell(lost)

    # A signal that is ignored (a shell's background job) or another's stays so; only the main thread may set one.
    unhandled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ours = unhandled and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = tell_others
    try:
        yield raise_pending
        raise_pending()
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = tell


@contextlib.contextmanager
def progress_bar(total: float, title: str, console: Any) -> Iterator[tuple[Log, Callable[..., None]]]:
    """A progress bar with time left on a terminal, plain lines elsewhere.

    Yields:
      (log, advance): log prints a line; advance moves the bar, and may tell a line that is shown beside it.

    Raises:
      KeyboardInterrupt: from `advance` at the latest, where one was lost.
    """
    with contextlib.ExitStack() as stack:
        raise_pending = stack.enter_context(_interruptible())
        bar = None
        if console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
            told = TextColumn("{task.fields[line]}", markup=False)
            columns += (TimeElapsedColumn(), TimeRemainingColumn(), told)
            bar = stack.enter_context(Progress(*columns, console=console, transient=True))
            bar.add_task(title, total=total, line="")

        def advance(amount: float, line: str = "") -> None:
            raise_pending()
            if bar is not None:
                bar.update(bar.task_ids[0], advance=amount, line=line)

        # While a bar is shown, its console prints lines above it.
        yield (lambda line: console.print(line, highlight=False, soft_wrap=True, markup=False)), advance
