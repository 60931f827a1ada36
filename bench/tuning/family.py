"""Tunes hand-designed optimizers on a task family and writes their values where runs find them: `bench tune`."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import baselines
import tasks
from baselines import BASELINES, Baseline, tuned_path
from bench.device import select_device
from bench.engines.cluster import Cluster
from bench.engines.shard import Shard
from bench.entries.plugin_files import failure
from bench.entries.plugins import Registry, build_registry
from bench.errors import UsageError, nearest, usage_errors
from bench.folders import Folders
from bench.statistics import significant
from bench.store.files import alone, write_atomically
from bench.store.provenance import versions
from bench.store.record import VERSION
from bench.store.settings import PACKAGES
from bench.time_limit import time_limit
from bench.tuning import search
from bench.tuning.on_workers import check_of, share_out
from tasks.data import CacheError, DamagedDataError, MissingDataError


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The outcome of a hyperparameter search.

    Attributes:
      optimizer: name.
      hyperparameters: name -> chosen value.
      loss: final loss with these values, mean over tasks and seeds.
      tuned_by: the split of that loss, "validation" or "train".
      on_edge: hyperparameters that were at the edge of their range after the last round: name -> "low" or "high".
      path: path of the record, which has every trial.
      failure: one line on why there are no values; then nothing was written, and what was there stays.
    """

    optimizer: str
    hyperparameters: Mapping[str, float]
    loss: float
    tuned_by: str
    on_edge: Mapping[str, str]
    path: Path
    failure: str | None = None

    @property
    def interior(self) -> bool:
        """Whether no chosen value is at the edge of its range."""
        return not self.on_edge


def tune_family(
    family: str,
    optimizers: Sequence[str] = (),
    *,
    steps: int | None = None,
    output_dir: Path | None = None,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
    shard: str | None = None,
    time_limit_sec: float = math.inf,
    cluster: Cluster | None = None,
    log: Callable[[str], None] = lambda line: None,
    advance: Callable[[float], None] = lambda share: None,
    told: Callable[[str], None] = lambda line: None,
) -> list[Tuned]:
    """Tunes hand-designed optimizers on a task family: Halton trials, by validation loss (protocol rule 1).

    An interrupted search is resumed, if nothing that its losses depend on has changed.

    Args:
      family: task family.
      optimizers: names; by default all hand-designed ones, except those that use another row's values.
      steps: horizon in inner steps; by default the family's own.
      output_dir: folder of tuned values; by default RESULTS/tuned, where runs find them.
      folders: where results and data lie; by default those of the command line.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.
      shard: "K/N": the k-th of n parts of the optimizers.
      time_limit_sec: time limit of the call, at which it raises `bench.errors.OutOfTime`; another call goes on.
      cluster: where optimizers are tuned, each on a Dask worker; without it they are tuned here one after the other.
      log: called with a line for every optimizer.
      advance: called with the fraction of all searches that has been done since the last call. Further rounds, in a
        widened space, are not counted.
      told: called with a line about workers, where there is a cluster.

    Returns:
      The outcome for each optimizer, in their order. One that raises, or no trial of which finishes, has a `failure`.

    Raises:
      UsageError: the family or an optimizer is unknown, an optimizer uses the values of another row, another process
        tunes the same, or the folder cannot be written.
      tasks.data.MissingDataError: the family's data is neither cached nor found.
    """
    select_device(device)
    folders = folders or Folders()
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    table = _rows(optimizers, registry)
    if shard:
        table = dict(Shard.parse(shard).part(list(table.items())))
    if family not in tasks.FAMILIES and family not in registry.task_builders:
        raise nearest("task family", family, [*tasks.FAMILIES, *registry.task_builders])
    problem = registry.problem(family)
    horizon = steps or problem.horizon
    output_dir = output_dir or folders.tuned_dir
    found = []
    with time_limit(time_limit_sec) as raise_when_over:
        if cluster is not None:
            how = {"steps": steps, "output_dir": output_dir.absolute(), "folders": folders, "device": device}
            one = functools.partial(_tune_one, family, how | {"plugins": tuple(plugins)})
            check = check_of(search.tuning_tasks(family), folders, plugins, device)
            return share_out(cluster, list(table), one, check, log=log, advance=advance, told=told)
        for name, row in table.items():
            path = tuned_path(output_dir, problem.family, horizon, name)

            def advance_search(share: float) -> None:
                raise_when_over()
                advance(share / len(table))

            busy = f"another process writes {path}: wait for it, or choose another --output"
            with alone(path.with_suffix(".lock"), busy):
                try:
                    found.append(_search(name, row, family, horizon, registry, path, log, advance_search))
                except search.NothingFinishes as error:
                    path.with_suffix(".runs").unlink(missing_ok=True)
                    found.append(Tuned(name, {}, math.inf, row.tuned_by, {}, path, str(error)))
                except (UsageError, MissingDataError, DamagedDataError, CacheError):
                    raise
                except (Exception, SystemExit) as error:  # whatever an optimizer raises; the others go on
                    found.append(Tuned(name, {}, math.inf, row.tuned_by, {}, path, failure(error)[1]))
            if found[-1].failure:
                log(f"{name}: not tuned, nothing written: {found[-1].failure}")
    return found


def _tune_one(family: str, how: Mapping[str, Any], name: str) -> tuple[Tuned, Path, str | None]:
    """On a worker: tunes an optimizer; returns the outcome, and its record with its path."""
    (tuned,) = tune_family(family, [name], **how)
    return tuned, tuned.path, None if tuned.failure else tuned.path.read_text()


def _rows(optimizers: Sequence[str], registry: Registry) -> dict[str, Baseline]:
    """Name -> row of the optimizers to tune."""
    known = [name for name, row in (BASELINES | registry.baselines).items() if row.values_of is None]
    table = {}
    for name in optimizers or known:
        with usage_errors():
            row = registry.baseline(name)
        if row is None:
            raise nearest("hand-designed optimizer", name, known)
        if row.values_of is not None:
            raise UsageError(f"{name} uses the values of another row: tune {row.values_of[1]} on {row.values_of[0]}")
        table[name] = row
    return table


def _search(
    name: str,
    row: Baseline,
    family: str,
    horizon: int,
    registry: Registry,
    path: Path,
    log: Callable[[str], None],
    advance: Callable[[float], None],
) -> Tuned:
    """One search, which resumes an interrupted one and writes its record."""
    if set(row.space) != set(row.default):  # a record of other values than the row has would be refused by `bench run`
        raise ValueError(f"the search space has {sorted(row.space)}, and the default {sorted(row.default)}")
    partial = path.with_suffix(".runs")  # losses of an unfinished search
    identity = _identity(name, row, family, horizon, registry)
    known = search.read_known(partial, identity)
    if known:
        log(f"{name}: resuming after {len(known)} runs")
    most = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal most
        if done / total > most:  # a further round starts at run 1
            advance(done / total - most)
            most = done / total

    def keep(losses: Mapping[str, float]) -> None:
        write_atomically(partial, search.dump_known(identity, losses).encode())

    record = search.tune(name, row, family, horizon, registry.load, progress=progress, known=known, on_run=keep)
    write_atomically(path, search.dump(record).encode())
    partial.unlink(missing_ok=True)
    loss, on_edge = record[f"{row.tuned_by}_loss"], record["on_edge"]
    values = {key: significant(value, 4) for key, value in record["hyperparameters"].items()}
    log(f"{name}: {row.tuned_by} loss {loss:.4f} at {values}" + (f"  NOT INTERIOR: {on_edge}" if on_edge else ""))
    return Tuned(name, record["hyperparameters"], loss, row.tuned_by, on_edge, path)


def _identity(name: str, row: Baseline, family: str, horizon: int, registry: Registry) -> dict[str, Any]:
    """All that the losses of a search depend on; losses of a search with another identity are not reused."""
    names = search.tuning_tasks(family)
    return {
        "version": VERSION,
        "packages": {package: versions()[package] for package in PACKAGES},
        "horizon": horizon,
        "space": search.space_json(row.space),
        "tuned_by": row.tuned_by,
        "source": registry.sources.get(name) or _source_of_baselines(),  # it may be edited in between
        "tasks": {task: registry.digest(task) for task in names},
        "data": registry.data_facts(names[0])["digest"],
    }


def _source_of_baselines() -> str:
    """A digest of the hand-designed rows as they are written."""
    digest = hashlib.sha256()
    for path in sorted(Path(baselines.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
