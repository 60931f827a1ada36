"""Freezes targets: runs tuned hand-designed optimizers on tuning seeds (protocol rule 10); `bench freeze`."""

import dataclasses
import datetime
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.device import select_device
from bench.engines.cluster import Cluster
from bench.engines.shard import Shard
from bench.entries.entrants import Entrant
from bench.entries.plugin_files import failure
from bench.entries.plugins import Registry, build_registry
from bench.errors import UsageError
from bench.folders import Folders
from bench.statistics.crossing import SMOOTHING
from bench.store.provenance import git_state, versions
from bench.suites.members import suite_entrants, suite_tasks
from bench.suites.seeds import FIRST_TUNING_SEED
from bench.suites.suite import Suite, load_suite
from bench.time_limit import time_limit
from bench.training.programs import Program, chunk_lengths, compile_program, evaluation_grid, run_key, whole_loss
from bench.tuning.on_workers import check_of, share_out
from bench.tuning.targets import (
    CLAIMED,
    GROUPS,
    METRICS,
    NUM_SEEDS,
    SHARES,
    finite,
    levels_of,
    needed_steps,
    read_record,
    target_path,
    write,
)


@dataclasses.dataclass(frozen=True)
class Frozen:
    """The frozen targets of a task.

    Attributes:
      task: name.
      horizon: inner steps.
      path: path of the record.
      added: optimizers that were run for it; none where the targets were frozen before.
    """

    task: str
    horizon: int
    path: Path
    added: tuple[str, ...] = ()


def freeze_suite(
    suite: Suite | str,
    *,
    extend: bool = False,
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
) -> list[Frozen]:
    """Freezes the targets of a suite's tasks: losses of its tuned hand-designed optimizers on tuning seeds.

    Args:
      suite: from `choose_suite`, or its name.
      extend: whether to add optimizers to targets that are frozen already, whose losses stay as they are.
      output_dir: folder of targets; by default RESULTS/targets, where runs find them.
      folders: where tuned values, targets and data lie; by default those of the command line.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.
      shard: "K/N": the k-th of n parts of the tasks.
      time_limit_sec: time limit of the call, at which it raises `bench.errors.OutOfTime`; another call goes on.
      cluster: where targets are frozen, those of each task on a Dask worker; without it, here.
      log: called with a line for every task.
      advance: called with the fraction of all training runs that has been done since the last call.
      told: called with a line about workers, where there is a cluster.

    Returns:
      The targets of every task, in their order.

    Raises:
      UsageError: a task or optimizer is unknown, there is no hand-designed optimizer, targets cannot be extended, or
        the folder cannot be written.
      tasks.data.MissingDataError: a task's data is neither cached nor found.
    """
    select_device(device)
    suite = load_suite(suite) if isinstance(suite, str) else suite
    folders = folders or Folders()
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    named = suite_tasks(suite, registry)
    if shard:
        named = Shard.parse(shard).part(list(named))
    with time_limit(time_limit_sec) as raise_when_over:
        if cluster is not None:
            places = {"output_dir": (output_dir or folders.targets_dir).absolute(), "folders": folders}
            how = {"extend": extend, "device": device, "plugins": tuple(plugins), **places}
            one, names = functools.partial(_freeze_one, suite, how), [name for name, _ in named]
            check = check_of(names, folders, plugins, device)
            return share_out(cluster, names, one, check, log=log, advance=advance, told=told)

        def advance_runs(share: float) -> None:
            raise_when_over()
            advance(share)

        return _freeze_tasks(suite, named, registry, extend, output_dir, folders, log, advance_runs)


def _freeze_one(suite: Suite, how: Mapping[str, Any], name: str) -> tuple[Frozen, Path, str]:
    """On a worker: freezes the targets of a task; returns the outcome, and its record with its path."""
    (frozen,) = freeze_suite(dataclasses.replace(suite, tasks=(name,)), **how)
    return frozen, frozen.path, frozen.path.read_text()


def _freeze_tasks(
    suite: Suite,
    named: Sequence[tuple[str, int]],
    registry: Registry,
    extend: bool,
    output_dir: Path | None,
    folders: Folders,
    log: Callable[[str], None],
    advance: Callable[[float], None],
) -> list[Frozen]:
    """Freezes the targets of tasks (name, horizon), one after the other."""
    programs: dict[tuple[str, int], dict[str, Any]] = {}
    found = []
    for name, horizon in named:
        path = target_path(output_dir or folders.targets_dir, name, horizon)
        if path.exists() and not extend:
            log(f"{name}: frozen already, {path}")
            found.append(Frozen(name, horizon, path))
            advance(1 / len(named))
            continue
        problem = registry.problem(name)
        entrants = _hand_designed(suite, registry, problem.family, horizon, folders)
        facts = {
            "task_digest": registry.digest(name),
            "data_digest": registry.data_facts(name)["digest"],
            "commit": git_state()["commit"],
            "versions": versions(),
        }
        earlier = read_record(path, facts) if path.exists() else None
        left = tuple(entrant.name for entrant in entrants if known_row(earlier, entrant) is None)
        if not left:
            found.append(Frozen(name, horizon, path))
            log(f"{name}: nothing to add, {path}")
            advance(1 / len(named))
            continue
        share = 1 / (len(named) * len(left) * NUM_SEEDS)
        record = freeze(
            name,
            registry.load(name),
            entrants,
            horizon,
            programs.setdefault((problem.family, horizon), {}),
            facts,
            earlier=earlier,
            tick=lambda share=share: advance(share),
            failed=lambda entrant, error, name=name: log(f"{name}: without {entrant.name}: {failure(error)[1]}"),
        )
        write(path, record)
        found.append(Frozen(name, horizon, path, tuple(added for added in left if added in record["optimizers"])))
        best = record["references"]["all_hand_designed"]
        levels = record["optimizers"][best]["levels"][CLAIMED]
        shown = ", ".join(f"{target} {level:.4f}" for target, level in levels.items())
        log(f"{name}: reference {best}, validation loss {shown}; {path}")
    return found


def _hand_designed(suite: Suite, registry: Registry, family: str, horizon: int, folders: Folders) -> list[Entrant]:
    entrants = suite_entrants(suite, registry, family, horizon, folders.tuned_dir)
    found = [entrant for entrant in entrants if entrant.role == "hand-designed"]
    if not found:
        raise UsageError(f"suite {suite.name}: no hand-designed optimizer to take targets from")
    return found


def freeze(
    task_name: str,
    task: Any,
    entrants: Sequence[Any],
    horizon: int,
    programs: dict[str, Any],
    facts: Mapping[str, Any],
    *,
    earlier: Mapping[str, Any] | None = None,
    tick: Callable[[], None] = lambda: None,
    failed: Callable[[Entrant, BaseException], None] = lambda entrant, error: None,
) -> dict[str, Any]:
    """Runs hand-designed optimizers on tuning seeds of a task and computes targets from their curves.

    Args:
      task_name: name of the task.
      task: the loaded `tasks.Task`.
      entrants: tuned hand-designed optimizers.
      horizon: inner steps.
      programs: compiled programs by optimizer, shared between the tasks of a family; new programs are added.
      facts: facts to store in the record: task and data digests, versions.
      earlier: the record to extend, of the same task and data. Its optimizers are copied, except entrants whose
        hyperparameters have changed.
      tick: called after every run.
      failed: called with an entrant that cannot be compiled or run, and its exception; it is left out.

    Returns:
      The record, JSON-ready, for `write`.

    Raises:
      UsageError: no optimizer has finite losses on half of the seeds: there is no reference.
    """
    grid = evaluation_grid(horizon)
    rows, final_validation = {}, {}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    changed = {entrant.name: entrant for entrant in entrants if not known_row(earlier, entrant)}
    if earlier:
        for name, row in earlier["optimizers"].items():
            if name not in changed:
                rows[name] = {"made_at": earlier["made_at"], **row}
                finals = [math.inf if v is None else v for v in row["final_validation_losses"]]
                final_validation[name] = float(np.median(finals))
    for entrant in changed.values():
        try:
            if entrant.name not in programs:
                programs[entrant.name] = compile_program(entrant, task, horizon, chunk_lengths(horizon))
            curves, finals = _runs(programs[entrant.name], entrant, task, task_name, horizon, tick)
        except (Exception, SystemExit) as error:  # whatever an optimizer raises; the others go on
            failed(entrant, error)
            continue
        levels = {metric: levels_of(grid, values, horizon) for metric, values in curves.items()}
        final_validation[entrant.name] = float(np.median([v if math.isfinite(v) else math.inf for v in finals]))
        rows[entrant.name] = {
            "hyperparameters": dict(entrant.identity),
            "final_validation_losses": finals,
            "levels": levels,
            "made_at": now,
        }
    references = {}
    for group, members in GROUPS.items():
        there = [name for name in (members or tuple(rows)) if math.isfinite(final_validation.get(name, math.inf))]
        if there:
            references[group] = min(there, key=lambda name: final_validation[name])
    if "all_hand_designed" not in references:
        raise UsageError(f"{task_name}: no hand-designed optimizer finishes on half of the seeds: nothing to freeze")
    return {
        "task": task_name,
        "horizon": horizon,
        "seeds": _seeds(),
        "smoothing": SMOOTHING,
        "shares": SHARES,
        **facts,
        "optimizers": rows,
        "references": references,
        **({"extends": [*earlier.get("extends", ()), _version(earlier)]} if earlier else {}),
        "made_at": now,
    }


def _seeds() -> list[int]:
    return [FIRST_TUNING_SEED + k for k in range(NUM_SEEDS)]


def _runs(
    program: Program, entrant: Entrant, task: Any, task_name: str, horizon: int, tick: Callable[[], None]
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Runs an entrant on every tuning seed: metric -> losses (grid x seeds), and final validation losses (seeds).

    Losses are NaN where none is needed and from where a run has diverged, whose final loss is infinite.
    """
    grid = evaluation_grid(horizon)
    needed = needed_steps(grid, horizon)
    curves = {metric: np.full((len(grid), NUM_SEEDS), np.nan) for metric in METRICS}
    finals = []
    for column, seed in enumerate(_seeds()):
        key = run_key(task_name, seed)
        state, ended = program.init(task, entrant, key), False
        for i, (previous, step) in enumerate(itertools.pairwise(grid), 1):
            state, losses = program.chunks[step - previous](task, entrant.variables, state, key, 1)
            ended = ended or not np.isfinite(losses).all()  # diverged, as in `bench run`
            if step in needed and not ended:
                for split, loss in program.evaluate.items():
                    curves[f"{split}_loss"][i, column] = loss(task, state.eval_params)
        finals.append(math.inf if ended else whole_loss(task, state.eval_params, "validation"))
        tick()
    return curves, finals


def known_row(earlier: Mapping[str, Any] | None, entrant: Any) -> dict[str, Any] | None:
    """The entry of an entrant in an earlier record, if it ran with the same hyperparameters; else None."""
    row = (earlier or {}).get("optimizers", {}).get(entrant.name)
    return row if row and row["hyperparameters"] == finite(dict(entrant.identity)) else None


def _version(record: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a version of a record."""
    return {key: record[key] for key in ("digest", "made_at", "commit")}
