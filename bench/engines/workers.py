"""Jobs on the workers of a Dask cluster: one job at a time on a worker, redone where the worker dies.

The process that calls `run_jobs` holds the list of jobs and gives each free worker one. A result comes back to it as
soon as a job is done. Nothing is kept on a worker, so a worker may die, come or go at any time.

A worker is admitted by a check that runs on it. Only then does it hold the resource (in Dask's sense) that every job
asks for, one of it: an unknown worker, and one that died and came again at its address, gets no job before it is
checked. A job that measures time waits until every worker of its device is free, and holds them all while it runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client, Future

MAX_REDONE = 2  # times that a job is done again whose worker died
POLL_SEC = 1.0  # between looks at which workers there are
FETCH_SEC = 60.0  # for a result to come from its worker


@dataclasses.dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes:
      name: unique among the jobs.
      title: text of a progress line.
      alone: whether it measures time: no other job runs on its device meanwhile.
    """

    name: str
    title: str
    alone: bool = False


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a worker.

    Attributes:
      device: name of the device that it computes on, and of the host; workers with one name share it.
      problem: why it cannot do the jobs; None if it can.
      difference: how it differs from this process, one line; empty if it does not.
      cpu: kind of processor.
    """

    device: str
    problem: str | None
    difference: str
    cpu: str


@dataclasses.dataclass(frozen=True, eq=False)
class Duty:
    """The functions of a list of jobs. The first two run on workers: functions of a module, with their arguments.

    Attributes:
      check: () -> `Facts` of the worker.
      perform: (name of a job) -> its result.
      takes: (job) -> a context that is left when the job ends; its value says whether the job is to be done.
      ends: called with a job and its result.
      fails: called with a job, "crashed" or "time_limit", and the reason.
    """

    check: Callable[[], Facts]
    perform: Callable[[str], Any]
    takes: Callable[[Job], contextlib.AbstractContextManager[bool]]
    ends: Callable[[Job, Any], None]
    fails: Callable[[Job, str, str], None]


class LostSchedulerError(UsageError):
    """The scheduler ended, or cannot be reached any more."""


def run_jobs(
    client: Client,
    jobs: Sequence[Job],
    duty: Duty,
    *,
    marks: bool = False,
    limit_sec: float = float("inf"),
    log: Callable[[str], None] = lambda line: None,
    told: Callable[[str], None] = lambda line: None,
) -> list[Job]:
    """Does the jobs on the workers of a cluster, in order as workers become free; those that measure time come last.

    Args:
      client: connected to the cluster's scheduler.
      jobs: the jobs.
      duty: what a job is.
      marks: whether workers that differ from this process are taken, with a line about each, or refused.
      limit_sec: time after which a running job ends as "time_limit", and its worker is restarted.
      log: called with a line about workers that are refused, marked, or lost.
      told: called with a line about workers and jobs whenever something changes.

    Returns:
      The jobs that `duty.takes` did not take.

    Raises:
      LostSchedulerError: the scheduler was lost; all that has ended is done.
      UsageError: no worker can do the jobs, or a job raised it.
    """
    crew = _Crew(client, duty.check, marks, log)
    waiting = deque([*(job for job in jobs if not job.alone), *(job for job in jobs if job.alone)])
    running: dict[str, _Running] = {}  # address of the worker -> what it does
    died: Counter[str] = Counter()
    left: list[Job] = []
    events: queue.Queue[Any] = queue.Queue()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [run.close() for run in running.values()])

        def give(job: Job, address: str) -> None:
            claim = contextlib.ExitStack()
            if not claim.enter_context(duty.takes(job)):
                claim.close()
                left.append(job)
                return
            future = client.submit(
                duty.perform,
                job.name,
                key=f"{job.name}-{uuid.uuid4().hex}",
                workers=[address],
                resources={crew.resource: 1},
                pure=False,
            )
            running[address] = _Running(job, future, claim, time.monotonic())
            future.add_done_callback(events.put)

        def end(address: str) -> None:
            """Takes the result of a job that ended."""
            run = running[address]
            try:
                result = run.future.result(timeout=FETCH_SEC)
            except UsageError:
                raise
            except Exception as error:
                if client.status != "running" or not _is_of_cluster(error):  # the scheduler was lost, not the worker
                    raise
                crew.forget(address)
                lose(address)
                return
            duty.ends(run.job, result)
            running.pop(address).close()

        def lose(address: str) -> None:
            """Has a job done again whose worker died, or stores that it crashed."""
            run = running.pop(address)
            died[run.job.name] += 1
            if died[run.job.name] <= MAX_REDONE:
                log(f"{run.job.title}: its worker died, it is done again")
                waiting.appendleft(run.job)
            else:
                duty.fails(run.job, "crashed", f"its worker died, {died[run.job.name]} times")
            run.close()

        while waiting or running:
            with _lost_scheduler(client):
                crew.look()
                for address in [address for address in running if address not in crew.admitted]:
                    lose(address)
                for address, run in list(running.items()):
                    if time.monotonic() - run.began > limit_sec and not run.future.done():
                        duty.fails(run.job, "time_limit", f"its worker was ended after {limit_sec:g} s")
                        running.pop(address).close()
                        crew.restart(address)
                while waiting and (address := crew.free(running, waiting[0].alone)):
                    give(waiting.popleft(), address)
                told(f"{len(crew.admitted)} workers, {len(running)} running, {len(waiting)} waiting")
                with contextlib.suppress(queue.Empty):
                    events.get(timeout=POLL_SEC)
                for address in [address for address, run in running.items() if run.future.done()]:
                    end(address)
    return left


@dataclasses.dataclass(frozen=True)
class _Running:
    """A job that a worker does.

    Attributes:
      job: the job.
      future: its result.
      claim: what `Duty.takes` opened.
      began: when it was given, by `time.monotonic`.
    """

    job: Job
    future: Future
    claim: contextlib.ExitStack
    began: float

    def close(self) -> None:
        """Forgets the result, and lets others take the job."""
        with contextlib.suppress(Exception):  # of a scheduler that is lost
            self.future.cancel()
        self.claim.close()


class _Crew:
    """The workers of a cluster.

    Attributes:
      admitted: address -> facts of the workers that passed the check and are alive.
      resource: what they hold one of, and each job asks for.
    """

    def __init__(self, client: Client, check: Callable[[], Facts], marks: bool, log: Callable[[str], None]):
        self.admitted: dict[str, Facts] = {}
        self.resource = f"lopt-bench-{uuid.uuid4().hex[:8]}"
        self._client, self._check, self._marks, self._log = client, check, marks, log
        self._checks: dict[str, Future] = {}
        self._refused: dict[str, str] = {}
        self._cpu: str | None = None
        self._said_none = False
        self._next_look = 0.0

    def look(self) -> None:
        """Drops workers that are gone and checks new ones; at most every `POLL_SEC`, or when a check ends.

        Raises:
          UsageError: every worker is refused.
        """
        ended = [address for address, future in self._checks.items() if future.done()]
        if time.monotonic() < self._next_look and not ended:
            return
        self._next_look = time.monotonic() + POLL_SEC
        there = self._client.scheduler_info(n_workers=-1)["workers"]
        holds = {address for address, info in there.items() if self.resource in info["resources"]}
        self.admitted = {address: facts for address, facts in self.admitted.items() if address in holds}
        self._refused = {address: reason for address, reason in self._refused.items() if address in there}
        for address in [address for address in self._checks if address not in there]:
            self._checks.pop(address).cancel()
        for address in ended:
            if address in self._checks:
                self._judge(address, self._checks.pop(address))
        for address in there:
            if address not in (*self.admitted, *self._checks, *self._refused):
                key = f"check-{uuid.uuid4().hex}"
                self._checks[address] = self._client.submit(self._check, key=key, workers=[address], pure=False)
        if self._refused and not (self.admitted or self._checks):
            raise UsageError(f"no worker can do the work: {next(iter(self._refused.values()))}")
        if not there and not self._said_none:
            self._log("waiting for a worker")
        self._said_none = not there

    def _judge(self, address: str, check: Future) -> None:
        """Admits a worker, or refuses it."""
        try:
            facts = check.result(timeout=FETCH_SEC)
        except Exception as error:
            if not _is_of_cluster(error):  # what the check raises is about the worker
                self._refuse(address, f"{type(error).__name__}: {error}")
            return
        difference = facts.difference
        if not difference and self._cpu not in (None, facts.cpu):
            difference = f"its processor is {facts.cpu}, that of the first worker {self._cpu}"
        if facts.problem:
            self._refuse(address, facts.problem)
        elif difference and not self._marks:
            self._refuse(address, f"{difference}; --unlike mark takes it")
        else:
            if difference:
                self._log(f"worker {address} is marked: {difference}")
            self._cpu = self._cpu or facts.cpu
            self._client.run(_hold, self.resource, workers=[address], on_error="ignore")
            self.admitted[address] = facts

    def _refuse(self, address: str, reason: str) -> None:
        self._refused[address] = line = f"worker {address}: {' '.join(reason.split())}"
        self._log(f"refused: {line}")

    def free(self, running: dict[str, _Running], alone: bool) -> str | None:
        """The address of a worker for a job; None if there is none now.

        Args:
          running: address -> what a worker does.
          alone: whether the job has to have the device to itself.
        """
        busy = {self.admitted[address].device for address in running if address in self.admitted}
        held = {self.admitted[address].device for address, run in running.items() if run.job.alone}
        for address, facts in self.admitted.items():
            if address not in running and facts.device not in (busy if alone else held):
                return address
        return None

    def forget(self, address: str) -> None:
        """Lets a worker be checked again before it is given another job."""
        self.admitted.pop(address, None)

    def restart(self, address: str) -> None:
        """Ends a worker whose job does not come to an end; the process that watches over it starts it again.

        A worker that does not answer is asked in vain: its check does not come to an end either, and it gets no job.
        """
        self.forget(address)
        self._client.run(_end, workers=[address], wait=False, on_error="ignore")


async def _end() -> None:
    """On a worker: ends its process, though one of its threads works. (Only what is asynchronous is not waited for.)"""
    os._exit(1)


async def _hold(resource: str, dask_worker: Any) -> None:
    """On a worker: declares that it has one of a resource."""
    await dask_worker.set_resources(**{resource: 1})


def _is_of_cluster(error: Exception) -> bool:
    """Whether an error is about workers and their connections, and not about the job."""
    from distributed import CancelledError, KilledWorker
    from distributed.client import FutureCancelledError

    return isinstance(error, KilledWorker | CancelledError | FutureCancelledError | TimeoutError | OSError)


@contextlib.contextmanager
def _lost_scheduler(client: Client) -> Iterator[None]:
    """Tells an error that comes of a lost scheduler as one."""
    address = f" at {client.scheduler.address}" if client.scheduler else ""
    lost = LostSchedulerError(f"the scheduler{address} is lost; what has ended is stored, the same command goes on")
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        if client.status == "running" and not isinstance(error, OSError):
            raise
        raise lost from None
    if client.status != "running":
        raise lost
