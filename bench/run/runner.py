"""Runs the cells of a suite that are not stored yet, and stores each as it ends."""

import datetime
import math
from collections import Counter
from collections.abc import Callable, Container, Sequence

import pandas as pd

from bench.cells.base import Advance, Cell, Outcome, Session
from bench.entries.plugin_files import failure
from bench.entries.plugins import Registry
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
    begun: Container[str] = (),
    since: str = "",
) -> dict[str, int]:
    """Runs the cells that are not stored yet.

    A diverged run, an exception, a time limit or too little memory is stored as the cell's outcome, and the next cell
    runs. Cells that another process is running in the same folder are left to it.

    Args:
      cells: from `bench.cells.plan.plan`.
      registry: tables of tasks and optimizers.
      store: where cells are stored.
      time_limit_sec: time limit of one training cell.
      log: called with a line for every cell that ends and every damaged file that is set aside.
      advance: called with fractions of cells that have been run, for a progress bar.
      begins: called with each cell that is not stored, before it runs.
      ends: called with the cell and its status after it is stored.
      waits: called with a cell that another process is running, before waiting for it.
      since: ISO 8601, UTC: what was stored until then is run again; by default nothing is.
      begun: names of cells that an earlier process has begun with: they are left as it left them.

    Returns:
      Number of cells by status; cells that were stored before count as "stored".

    Raises:
      UsageError: data is missing, or the folder cannot be written.
      KeyboardInterrupt: after an interruption; all finished cells are stored.
    """
    counts: Counter[str] = Counter()
    session = Session(registry, time_limit_sec)

    def skips(cell: Cell) -> bool:
        if cell.name in begun:
            stored = store.get(cell.name)
            session.note(cell, stored is not None and stored[0].result is not None)
            return True
        record = record_to_keep(cell, store, since, log)
        if record is None:
            return False
        session.note(cell, record.result is not None)
        counts["stored"] += 1
        advance(1.0)
        return True

    def run_one(number: int, cell: Cell) -> None:
        begins(cell)
        record, curve = perform(cell, session, advance)
        store.put(record, curve)
        session.note(cell, record.result is not None)
        ends(cell, record.status)
        counts[record.status] += 1
        log(f"[{number}/{len(cells)}] {cell.title}: {outcome_line(record)}")

    elsewhere = []
    for number, cell in enumerate(cells, 1):
        if skips(cell):
            continue
        with store.claim(cell.name) as ours:
            if not ours:
                elsewhere.append((number, cell))
            elif not skips(cell):  # another process may just have stored it
                run_one(number, cell)
    for number, cell in elsewhere:
        log(f"[{number}/{len(cells)}] {cell.title}: another process is running it, waiting")
        waits(cell)
        with store.claim(cell.name, wait=True):
            if not skips(cell):  # the other process was interrupted
                run_one(number, cell)
    return {str(status): number for status, number in counts.items()}


def record_to_keep(cell: Cell, store: Store, since: str, log: Log) -> Record | None:
    """The record of a cell that is not run again: one with a result, stored after `since`. See `run`."""
    stored = store.get(cell.name)
    tell_damaged(store, log)
    return stored[0] if stored and stored[0].status.is_final and stored[0].started_at > since else None


def tell_damaged(store: Store, log: Log) -> None:
    """Tells the damaged files that were set aside since the last call; their cells are run again."""
    for path in store.set_aside:
        log(f"damaged file set aside: {path}")
    store.set_aside.clear()


def perform(cell: Cell, session: Session, advance: Advance = lambda share: None) -> tuple[Record, pd.DataFrame]:
    """Runs a cell; returns its record and its curve, with the cell's name in every row.

    Raises:
      UsageError: data is missing.
    """
    cell.prepare(session)
    started_at = now()
    outcome = _outcome(cell, session, advance)
    data = session.registry.data_facts(cell.data_of) if cell.data_of else {}
    return record_of(cell, outcome, started_at, data), outcome.curve.assign(cell=cell.name)


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def record_of(cell: Cell, outcome: Outcome, started_at: str, data: dict[str, str]) -> Record:
    """The record of a cell that has ended; `data` identifies the data set that it read."""
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
    """Runs one cell; an exception becomes its outcome."""
    done = 0.0

    def tick(share: float) -> None:
        nonlocal done
        done += share
        advance(share)

    try:
        return cell.failure or cell.execute(session, tick)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # any exception of a task or optimizer is its outcome
        status, reason = failure(error)
        return Outcome(Status(status), reason=reason)
    finally:
        advance(1.0 - done)


def outcome_line(record: Record) -> str:
    """How a cell ended: its losses, or what went wrong."""
    if record.status is not Status.OK:
        return f"{record.status} ({record.reason})"
    if record.result is None:
        return f"ok, {record.reason}" if record.reason else "ok"
    losses = {"train": record.result.final_train_loss, "test": record.result.final_test_loss}
    return "  ".join(f"{name} {'not finite' if loss is None else f'{loss:.4f}'}" for name, loss in losses.items())
