"""Searches and frozen targets on the workers of a Dask cluster: a search, or the targets of a task, is a job.

A worker calls the function that this process would call, for one optimizer or one task, and returns the file that it
wrote. On a shared folder that is the file itself, and a search whose worker died goes on where it was.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.device import select_device
from bench.engines.cluster import Cluster, connected
from bench.engines.origin import Origin, facts_of_worker
from bench.engines.workers import Duty, Facts, Job, run_jobs
from bench.entries.plugins import build_registry
from bench.errors import UsageError
from bench.folders import Folders
from bench.store.files import write_atomically


def share_out(
    cluster: Cluster,
    names: Sequence[str],
    perform: Callable[[str], tuple[Any, Path, str | None]],
    check: Callable[[], Facts],
    *,
    log: Callable[[str], None],
    advance: Callable[[float], None],
    told: Callable[[str], None],
) -> list[Any]:
    """Has workers do a job for each name.

    Args:
      cluster: where the workers are.
      names: names of the jobs.
      perform: on a worker: name -> (what the job came to, the file that it wrote, its text; None if it wrote none).
      check: on a worker: its facts.
      log: called with a line for every job that ends, and about workers.
      advance: called with the fraction of the jobs that has been done.
      told: called with a line about workers and jobs whenever something changes.

    Returns:
      What the jobs came to, in the order of the names.

    Raises:
      UsageError: as `run_jobs`, or a job's worker died three times; what the others came to is kept.
    """
    found: dict[str, Any] = {}
    failed: list[str] = []

    def ends(job: Job, result: tuple[Any, Path, str | None]) -> None:
        found[job.name], path, text = result
        if text is not None and (not path.exists() or path.read_text() != text):  # the folder is the worker's own
            write_atomically(path, text.encode())
        log(f"{job.title}: {path if text is not None else 'nothing is written'}")
        advance(1 / len(names))

    def fails(job: Job, status: str, reason: str) -> None:
        failed.append(f"{job.title}: {status} ({reason})")
        log(failed[-1])

    duty = Duty(check, perform, lambda job: contextlib.nullcontext(True), ends, fails)
    if names:
        with connected(cluster, log) as client:
            jobs = [Job(name, name) for name in names]
            run_jobs(client, jobs, duty, marks=cluster.marks, log=log, told=told)
    if failed:
        raise UsageError(f"{failed[0]}; {len(found)} of {len(names)} are done, the same command goes on")
    return [found[name] for name in names]


def check_data(
    expected: Origin, digests: Mapping[str, str], folders: Folders, plugins: Sequence[str], device: str | None
) -> Facts:
    """On a worker: whether it has the same tasks and data.

    Args:
      expected: what its versions are compared with.
      digests: task -> digests of its definition and its data.
      folders: where data lies.
      plugins: Python files that add tasks or optimizers.
      device: the device to compute on.
    """
    problem = None
    try:
        select_device(device)
        mine = digests_of(list(digests), folders, plugins)
        other = [task for task in digests if mine[task] != digests[task]]
        problem = f"its data or definition of {other[0]} is another" if other else None
    except Exception as error:  # missing data too, which is no error of this package's
        problem = str(error)
    return facts_of_worker(expected, problem)


def digests_of(names: Sequence[str], folders: Folders, plugins: Sequence[str]) -> dict[str, str]:
    """Task -> digests of its definition and its data.

    Raises:
      tasks.data.MissingDataError: data is neither cached nor found.
    """
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    return {name: f"{registry.digest(name)} {registry.data_facts(name)['digest']}" for name in names}


def check_of(tasks: Sequence[str], folders: Folders, plugins: Sequence[str], device: str | None) -> Callable[[], Facts]:
    """`check_data` against what this process has."""
    return functools.partial(
        check_data, Origin.here(), digests_of(tasks, folders, plugins), folders, tuple(plugins), device
    )
