"""What the engine costs beside the jobs, and a projection to many workers; `python -m bench.engines.overhead`.

The measurement is of real workers and of jobs that sleep, each with a record and a curve of common size that are stored
as they come. The projection simulates the queue of jobs before the process that gives and stores them: it is not a
measurement, and says nothing of a network or of a shared folder.
"""

import contextlib
import dataclasses
import heapq
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bench.engines.cluster import Cluster, connected
from bench.engines.workers import Duty, Facts, Job, run_jobs
from bench.store.published import parquet
from tasks.files import write_atomically

JOB_SEC = 2.0
NUM_JOBS = 60
NUM_WORKERS = 2
ROWS = 150  # of a curve: 21 evaluations of seven metrics
PROJECTED = (2, 10, 100, 1000)  # workers
JOBS_A_WORKER = 20


@dataclasses.dataclass(frozen=True)
class Overhead:
    """What the engine costs.

    Attributes:
      share: time from the first job to the end of the last beyond that of the jobs, as a share of it.
      main_sec: processor time of the process that gives and stores jobs, and of the scheduler within it, for each job.
      start_sec: from the beginning until the first job is given: starting the workers, and checking them.
    """

    share: float
    main_sec: float
    start_sec: float


def check() -> Facts:
    """On a worker: it is like any other."""
    return Facts("here", None, "", "cpu")


def sleep(name: str) -> tuple[str, pd.DataFrame]:
    """On a worker: sleeps, and returns a record and a curve of common size."""
    time.sleep(JOB_SEC)
    curve = pd.DataFrame({"step": range(ROWS), "metric": "train_loss", "value": np.linspace(2.3, 0.1, ROWS)})
    return json.dumps({"cell": name, "text": "x" * 4000}), curve


def measure(num_jobs: int = NUM_JOBS, num_workers: int = NUM_WORKERS) -> Overhead:
    """Measures with local workers."""
    begin, given, ended = time.monotonic(), [], []
    with tempfile.TemporaryDirectory() as folder, connected(Cluster(workers=num_workers)) as client:

        @contextlib.contextmanager
        def takes(job: Job):
            given.append((time.monotonic(), time.process_time()))
            yield True

        def ends(job: Job, result: tuple[str, pd.DataFrame]) -> None:
            text, curve = result
            write_atomically(Path(folder) / f"{job.name}.parquet", parquet(curve))
            write_atomically(Path(folder) / f"{job.name}.json", text.encode())
            ended.append((time.monotonic(), time.process_time()))

        def fails(job: Job, status: str, reason: str) -> None:
            raise RuntimeError(f"{job.name}: {status} ({reason})")

        run_jobs(client, [Job(str(i), str(i)) for i in range(num_jobs)], Duty(check, sleep, takes, ends, fails))
    wall, processor = (last - first for last, first in zip(ended[-1], given[0], strict=True))
    return Overhead(wall / (num_jobs * JOB_SEC / num_workers) - 1, processor / num_jobs, given[0][0] - begin)


def simulated_share(num_workers: int, job_sec: float, main_sec: float, jobs_a_worker: int = JOBS_A_WORKER) -> float:
    """Simulates the queue: the time beyond that of the jobs, as a share of it.

    Workers whose job has ended wait their turn, first come first served, for the one process that stores the result and
    gives the next job; that takes `main_sec` each. Jobs vary in length by a fifth (uniformly, from a fixed seed).

    Example:
      >>> round(simulated_share(10, 2.0, 1e-9), 2)  # workers that end early wait for the last
      0.03
      >>> round(simulated_share(1000, 1.0, 0.01, 5))  # the process does 100 jobs a second, of 1,000
      9
    """
    lengths = job_sec * np.random.default_rng(0).uniform(0.8, 1.2, num_workers * jobs_a_worker)
    free_at = 0.0  # of the process
    asking = [0.0] * num_workers  # when each worker asks for its next job
    ends = 0.0
    for length in lengths:
        free_at = max(free_at, heapq.heappop(asking)) + main_sec
        ends = max(ends, free_at + length)
        heapq.heappush(asking, free_at + length)
    return float(ends / (lengths.sum() / num_workers) - 1)


def main() -> None:
    """Prints what was measured, and what is projected from it, as JSON."""
    found = measure()
    projected = {
        f"{job_sec:g} s": {n: round(simulated_share(n, job_sec, found.main_sec), 3) for n in PROJECTED}
        for job_sec in (JOB_SEC, 30.0, 120.0)
    }
    print(json.dumps({"measured": dataclasses.asdict(found), "simulated": projected}, indent=1))


if __name__ == "__main__":
    main()
