"""Runs cells on the workers of a Dask cluster; the store stays with the process that plans them.

A worker plans the suite itself, once, and then runs the cells that it is told the names of. A name is a digest of the
version, the task, its data and the hyperparameters: a worker with other data, plug-ins or tuned values has other names,
and is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import msgspec
import pandas as pd

from bench.cells.base import Cell, Session
from bench.engines.cluster import Cluster, connected
from bench.engines.origin import Origin, facts_of_worker
from bench.engines.workers import Duty, Facts, Job, run_jobs
from bench.run.isolate import GRACE_SEC, Work, store_failure
from bench.run.runner import outcome_line, perform, record_to_keep
from bench.store.provenance import argv
from bench.store.record import Record
from bench.store.store import Store


def digest_of(cells: Sequence[Cell]) -> str:
    """Digest of the names of all cells of a suite."""
    return hashlib.sha256("\n".join(cell.name for cell in cells).encode()).hexdigest()


def check(work: Work, expected: Origin, cells: str) -> Facts:
    """On a worker: whether it can run the cells of a suite.

    Args:
      work: what it needs to plan the suite.
      expected: what its versions are compared with.
      cells: `digest_of` the cells that it is to plan.
    """
    try:
        mine = digest_of(list(_planned(_text(work))[1].values()))
    except Exception as error:  # missing data too, which is no error of this package's
        return facts_of_worker(expected, str(error))
    facts = facts_of_worker(expected, None)
    if mine == cells:
        return facts
    reason = facts.difference or "its data, plug-ins or tuned values differ"
    return dataclasses.replace(facts, problem=f"it plans other cells: {reason}")


def run_cell(work: Work, name: str) -> tuple[Record, pd.DataFrame]:
    """On a worker: runs a cell, and returns what is stored of it.

    Raises:
      UsageError: data is missing.
    """
    session, cells = _planned(_text(work))
    return perform(cells[name], session)


def _text(work: Work) -> str:
    return json.dumps(dataclasses.asdict(work), sort_keys=True)


@functools.lru_cache(maxsize=1)
def _planned(text: str) -> tuple[Session, dict[str, Cell]]:
    """The session of a worker, with its compiled programs, and the cells of the suite by name."""
    work = Work(**json.loads(text))
    registry, cells = work.plan()
    return Session(registry, work.time_limit_sec), {cell.name: cell for cell in cells}


def run(
    cluster: Cluster,
    work: Work,
    cells: Sequence[Cell],
    planned: Sequence[Cell],
    store: Store,
    *,
    log: Callable[[str], None] = lambda line: None,
    advance: Callable[[float], None] = lambda amount: None,
    told: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Runs the cells that are not stored yet on the workers of a cluster.

    As `bench.run.runner.run`, but a cell whose worker dies is run again at most twice, and is then stored as "crashed".

    Args:
      cluster: where the workers are.
      work: what a worker needs to plan the suite.
      cells: the cells to run.
      planned: all cells of the suite, of which `cells` may be a shard.
      store: where cells are stored.
      log: called with a line for every cell that ends, and about workers.
      advance: called with the number of cells that have been run.
      told: called with a line about workers and cells whenever something changes.

    Returns:
      Number of cells by status; cells that were stored before count as "stored".

    Raises:
      UsageError: there is no scheduler, or it is lost; no worker can run the cells; the folder cannot be written.
    """
    counts: Counter[str] = Counter()
    by_name = {cell.name: cell for cell in cells}

    def is_stored(cell: Cell) -> bool:
        return record_to_keep(cell, store, work.since, log) is not None

    @contextlib.contextmanager
    def takes(job: Job) -> Iterator[bool]:
        with store.claim(job.name) as ours:
            yield ours and not is_stored(by_name[job.name])

    def ends(job: Job, result: tuple[Record, pd.DataFrame]) -> None:
        record, curve = result
        store.put(msgspec.structs.replace(record, provenance=record.provenance | {"argv": argv()}), curve)
        count(job, record.status, outcome_line(record))

    def fails(job: Job, status: str, reason: str) -> None:
        store_failure(store, by_name[job.name], status, reason)
        count(job, status, f"{status} ({reason})")

    def count(job: Job, status: str, line: str) -> None:
        counts[status] += 1
        log(f"[{counts.total()}/{len(cells)}] {job.title}: {line}")
        advance(1.0)

    def left_of(cells: Sequence[Cell]) -> list[Cell]:
        found = [cell for cell in cells if not is_stored(cell)]
        counts["stored"] += len(cells) - len(found)
        advance(float(len(cells) - len(found)))
        return found

    left = left_of(cells)
    if left:
        look = functools.partial(check, work, Origin.here(), digest_of(planned))
        duty = Duty(look, functools.partial(run_cell, work), takes, ends, fails)
        with connected(cluster, log) as client:
            while left:
                elsewhere = run_jobs(
                    client,
                    [Job(cell.name, cell.title, cell.is_timed) for cell in left],
                    duty,
                    marks=cluster.marks,
                    limit_sec=work.time_limit_sec + GRACE_SEC,
                    log=log,
                    told=told,
                )
                for job in elsewhere:
                    log(f"{job.title}: another process is running it, waiting")
                    with store.claim(job.name, wait=True):
                        pass
                left = left_of([by_name[job.name] for job in elsewhere])
    return {str(status): number for status, number in counts.items() if number}
