"""The Dask cluster of a command: a local one, one that is there, or one that a queue gives jobs to.

A cluster file is TOML: the queue, the number of jobs, and options of `dask_jobqueue`'s cluster for that queue.

    queue_system = "slurm"  # or pbs, lsf, sge
    jobs = 50
    cores = 2
    processes = 1
    memory = "4GB"
    walltime = "01:00:00"
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, nearest

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SEC = 10.0  # for a scheduler to answer
QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
TEXT, WHOLE, TEXTS, SWITCH = str, int, list, bool
# Options of all queues, and of each: name -> type.
COMMON = {
    "cores": WHOLE,
    "processes": WHOLE,
    "memory": TEXT,
    "walltime": TEXT,
    "queue": TEXT,
    "project": TEXT,
    "name": TEXT,
    "job_name": TEXT,
    "interface": TEXT,
    "local_directory": TEXT,
    "log_directory": TEXT,
    "python": TEXT,
    "shebang": TEXT,
    "death_timeout": WHOLE,
    "worker_extra_args": TEXTS,
    "job_extra_directives": TEXTS,
    "job_directives_skip": TEXTS,
    "job_script_prologue": TEXTS,
}
OPTIONS = {
    "slurm": {"account": TEXT, "job_cpu": WHOLE, "job_mem": TEXT},
    "pbs": {"account": TEXT, "resource_spec": TEXT},
    "lsf": {"ncpus": WHOLE, "mem": WHOLE, "lsf_units": TEXT, "use_stdin": SWITCH},
    "sge": {"resource_spec": TEXT},
}
REQUIRED = {"cores": WHOLE, "memory": TEXT}
# Of schedulers and workers that are started here: a worker computes as a single process does, and is not sampled.
CONFIG = {
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 0,
}
DASHBOARD = "127.0.0.1:0"  # any port: two commands on one machine are not in each other's way
# A local worker that died is started again however long that takes; a queue's job that is lost is given anew instead.
PATIENT = {"distributed.deploy.lost-worker-timeout": "1 day"}
LOCAL: dict[str, Any] = {
    "threads_per_worker": 1,
    "processes": True,
    "memory_limit": 0,
    "host": "127.0.0.1",
    "dashboard_address": DASHBOARD,
    "silence_logs": logging.CRITICAL,
}
PROLOGUE = ["export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False"]


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where the workers of a command are.

    Attributes:
      scheduler: address of a Dask scheduler, such as tcp://node1:8786.
      file: cluster file, for a queue; without either, workers are processes of this machine.
      workers: number of those; by default one for each core of a CPU, and one for an accelerator.
      marks: whether workers of another version or processor are taken, with a line about each, or refused.
    """

    scheduler: str | None = None
    file: str | None = None
    workers: int | None = None
    marks: bool = False

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.scheduler, self.file, self.workers)) > 1:
            raise UsageError("expected one of --scheduler, --cluster and --workers")


@contextlib.contextmanager
def connected(cluster: Cluster, log: Callable[[str], None] = lambda line: None) -> Iterator[Client]:
    """A client of the cluster, which is started where it is not there, and ended again.

    Raises:
      UsageError: the extra `dask` is not installed, no scheduler answers, or the cluster file is wrong.
    """
    spec = read_cluster_file(cluster.file) if cluster.file is not None else None
    with _imported():
        import dask
        from distributed import Client, LocalCluster
    for name in list(logging.root.manager.loggerDict):  # what happens to workers is said by the engine
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    _allow_many_files()
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(CONFIG))
        address: Any = cluster.scheduler
        if spec is not None:
            address = stack.enter_context(_closed(spec.start()))
            log(f"{spec.jobs} jobs are given to the queue of {spec.queue_system}")
        elif address is None:
            number = cluster.workers or _num_workers()
            stack.enter_context(dask.config.set(PATIENT))
            address = stack.enter_context(_closed(LocalCluster(n_workers=number, **LOCAL)))
        try:
            client = Client(address, timeout=CONNECT_SEC, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"no Dask scheduler at {cluster.scheduler}: {reason}") from None
        stack.callback(_quietly, lambda: client.close(timeout=2))
        yield client


def _num_workers() -> int:
    """Workers of this machine: one for each core of a CPU, one for an accelerator."""
    from bench.store.provenance import default_device, num_cores

    return (num_cores() or 1) if default_device().platform == "cpu" else 1


@contextlib.contextmanager
def _closed(cluster: Any) -> Iterator[Any]:
    """A cluster that is closed on leaving, also where its scheduler is lost."""
    try:
        yield cluster
    finally:
        _quietly(lambda: cluster.close(timeout=10))


def _quietly(close: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):
        close()


@contextlib.contextmanager
def _imported() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(f"--engine dask needs {error.name}: pip install 'lopt-bench[dask]'") from None


def _allow_many_files() -> None:
    """Raises the limit of open files to what is allowed: connections to workers, and a lock for each running cell."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@dataclasses.dataclass(frozen=True)
class QueueSpec:
    """What a cluster file says.

    Attributes:
      queue_system: a name in `QUEUES`.
      jobs: number of jobs.
      options: arguments of the cluster's class in `dask_jobqueue`.
    """

    queue_system: str
    jobs: int
    options: dict[str, Any]

    def make(self) -> Any:
        """The cluster, with a scheduler in this process and no job yet.

        Raises:
          UsageError: the extra `dask` is not installed, or the options do not go together.
        """
        with _imported():
            import dask_jobqueue
        prologue = [*PROLOGUE, *self.options.get("job_script_prologue", ())]
        try:
            return getattr(dask_jobqueue, QUEUES[self.queue_system])(
                **{"processes": 1, **self.options, "job_script_prologue": prologue},
                scheduler_options={"dashboard_address": DASHBOARD},
                silence_logs="critical",
            )
        except (ValueError, TypeError, OSError) as error:
            raise UsageError(f"cluster of {self.queue_system}: {' '.join(str(error).split())}") from None

    def start(self) -> Any:
        """The cluster, its jobs given to the queue.

        Raises:
          UsageError: as `make`, or the queue's command is not found or refuses a job.
        """
        import shutil

        cluster = self.make()
        command = str(cluster.job_cls.submit_command).split()[0]
        if shutil.which(command) is None:
            _quietly(cluster.close)
            raise UsageError(f"cluster of {self.queue_system}: its command {command!r} is not found on this machine")
        try:
            cluster.scale(jobs=self.jobs)
        except (RuntimeError, OSError) as error:
            _quietly(cluster.close)
            raise UsageError(f"cluster of {self.queue_system}: {' '.join(str(error).split())}") from None
        return cluster

    def script(self) -> str:
        """The script of a job, as the queue would get it."""
        cluster = self.make()
        try:
            return cluster.job_script()
        finally:
            cluster.close()


def read_cluster_file(path: str) -> QueueSpec:
    """What a cluster file says.

    Raises:
      UsageError: it cannot be read, is no TOML, or has an unknown key, a missing one or a value of another type.
    """
    try:
        table = tomllib.loads(Path(path).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cluster file {path} cannot be read: {' '.join(str(error).split())}") from None
    system = table.pop("queue_system", None)
    if system not in QUEUES:
        raise nearest(f"queue_system of {path}", str(system), list(QUEUES))
    known = {"jobs": WHOLE, **COMMON, **OPTIONS[system]}
    for key, value in table.items():
        if key not in known:
            raise nearest(f"key of {path}", key, ["queue_system", *known])
        kind = known[key]
        sound = type(value) is kind and (kind is not list or all(isinstance(part, str) for part in value))
        if not sound or (kind is int and value < 1):
            words = {str: "text", int: "a whole number from 1", list: "a list of texts", bool: "true or false"}
            raise UsageError(f"{path}: expected {key} to be {words[kind]}, got {value!r}")
    for key in REQUIRED:
        if key not in table:
            raise UsageError(f"{path}: expected a key {key!r}, as {key} = {2 if known[key] is int else '4GB'!r}")
    return QueueSpec(system, table.pop("jobs", 1), table)
