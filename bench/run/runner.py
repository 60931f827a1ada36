"""`bench run`: plans the cells of a suite, runs what is not stored yet, stores each as it ends."""

import contextlib
import dataclasses
import datetime
import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

import learned
import tasks
from bench.clock import timing as timing_
from bench.clock.engine import NUM_EVALUATIONS, Program, chunk_lengths, compile_program, run_key
from bench.clock.race import race
from bench.clock.timing import chunk_steps, time_entrants
from bench.clock.training import run_cell
from bench.entries import controls
from bench.entries.entrants import Entrant, real_name, resolve
from bench.entries.plugins import BrokenTask, Registry, failure
from bench.errors import UsageError
from bench.measure import MEASUREMENTS
from bench.store.provenance import default_device, provenance
from bench.store.record import Record, cell_id
from bench.store.store import Store
from bench.suites.choose import expand_tasks
from bench.suites.suite import Suite
from bench.tuning import targets

Log = Callable[[str], None]
VERSION = "0.2"  # Major.Minor: results compare within it (CHANGELOG)
FINAL = ("ok", "diverged")  # a cell that ended in error, out of memory or time is run again


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """A planned cell.

    Attributes:
      config: its resolved configuration, JSON-ready; its digest identifies the cell.
      entrants: the one that trains; of a cell of kind "time", "race" or "measure", all that are timed.
      failure: status and reason of a cell that has no task to run on.
    """

    config: dict[str, Any]
    entrants: tuple[Entrant, ...]
    failure: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """The cell's digest."""
        return cell_id(self.config)

    @property
    def title(self) -> str:
        """What a progress line says."""
        if self.config["kind"] in ("time", "race"):
            return f"{self.config['task']} {'timing' if self.config['kind'] == 'time' else 'race'}"
        if self.config["kind"] == "measure":
            return self.config["task"]
        return f"{self.config['task']} {self.config['optimizer']} seed {self.config['seed']}"


def suite_tasks(suite: Suite, registry: Registry) -> list[tuple[str, int]]:
    """The tasks of a suite with the horizon of each.

    Raises:
      UsageError: a name or pattern that fits no task, a suite that has none, or a task that cannot be built.
    """
    if suite.kind == "measure":
        raise UsageError(f"suite {suite.name} is a measurement and trains no task")
    return [(name, suite.steps or registry.problem(name).horizon) for name in _task_names(suite, registry)]


def _task_names(suite: Suite, registry: Registry) -> tuple[str, ...]:
    return expand_tasks(suite.tasks, registry.task_names())


def suite_entrants(
    suite: Suite, registry: Registry, family: str, horizon: int, tuned_dir: Path | None = None
) -> list[Entrant]:
    """The optimizers of a suite on a family at a horizon.

    Raises:
      UsageError: an unknown optimizer or hyperparameter, or two optimizers of one name.
    """
    entrants = []
    for name in dict.fromkeys(map(real_name, suite.optimizers)):
        aliases = [alias for alias in suite.optimizers if real_name(alias) == name]
        overrides = {k: v for alias in aliases for k, v in suite.overrides.get(alias, {}).items()}
        entrants.append(resolve(name, family, horizon, overrides=overrides, tuned_dir=tuned_dir, registry=registry))
    names = [entrant.name for entrant in entrants]
    if len(set(names)) < len(names):
        raise UsageError(f"two optimizers have the same name: {', '.join(sorted(names))}")
    return entrants


def plan(
    suite: Suite, registry: Registry, tuned_dir: Path | None = None, targets_dir: Path | None = None
) -> list[Cell]:
    """The cells of a suite in the order in which they run.

    For each task: seed by seed, every optimizer, and on the first seeds every control, once in random order (protocol
    rule 7), then the clock's interleaved blocks, then a race of the learned optimizer against the reference (protocol
    rule 9).

    Raises:
      UsageError: an unknown task, optimizer or hyperparameter, or two optimizers of one name.
      tasks.data.MissingDataError: a task's data is neither cached nor found; its digest is part of a cell's identity.
    """
    if suite.kind == "measure":
        return _plan_measurement(suite, registry, tuned_dir)
    cells = []
    device_kind = default_device().device_kind
    for task in _task_names(suite, registry):
        try:
            problem = registry.problem(task)
        except BrokenTask as broken:
            cells += _plan_broken(suite, registry, task, (broken.status, broken.reason))
            continue
        horizon = suite.steps or problem.horizon
        common = {
            "version": VERSION,
            "suite": suite.name,
            "task": task,
            "task_digest": registry.digest(task),
            "data_digest": registry.data_facts(task)["digest"],
            "family": problem.family,
            "horizon": horizon,
            "batch_size": problem.batch_size,
            "num_params": tasks.num_params(problem),
            "chance_loss": problem.chance_loss,
            "device_kind": device_kind,
        }
        entrants = suite_entrants(suite, registry, problem.family, horizon, tuned_dir)
        base = controls.base_of(entrants) if suite.controls else None
        trained = [*entrants, *(controls.trained_controls(base) if base else ())]
        trained += controls.untrained_controls(entrants) if suite.controls else ()
        timed = [*entrants, *(controls.timed_controls(base) if base else ())]
        for seed in suite.seeds:
            order = np.random.default_rng(seed).permutation(len(trained))
            for entrant in (trained[i] for i in order):
                if entrant.role == controls.ROLE and seed not in suite.seeds[: controls.NUM_TRAINED_SEEDS]:
                    continue
                cells.append(Cell(_train_config(common, entrant, seed), (entrant,)))
        if suite.timing_blocks:
            config = {
                "kind": "time",
                **common,
                "blocks": suite.timing_blocks,
                "chunk_steps": chunk_steps(horizon),
                "hyperparameters": {entrant.name: dict(entrant.identity) for entrant in timed},
                "controls": [entrant.name for entrant in timed if entrant.role == controls.ROLE],
            }
            cells.append(Cell(config, tuple(timed)))
            frozen = targets.load(task, horizon, local_dir=targets_dir)
            racers = _racers(entrants, frozen)
            if frozen and racers:
                config = {
                    "kind": "race",
                    **common,
                    "seed": suite.seeds[0],
                    "hyperparameters": {entrant.name: dict(entrant.identity) for entrant in racers},
                    "level": frozen.levels[racers[1].name]["train_loss"]["hard"],
                    "targets_digest": frozen.digest,
                }
                cells.append(Cell(config, racers))
    return cells


def _train_config(common: dict[str, Any], entrant: Entrant, seed: int) -> dict[str, Any]:
    """The configuration of a cell that trains, from what it shares with the others of its task."""
    return {
        "kind": "train",
        **common,
        "optimizer": entrant.name,
        "role": entrant.role,
        "hyperparameters": dict(entrant.identity),
        "tuned_horizon": entrant.tuned_horizon,
        "seed": seed,
        "num_evaluations": NUM_EVALUATIONS,
    }


def _plan_broken(suite: Suite, registry: Registry, task: str, failure: tuple[str, str]) -> list[Cell]:
    """The cells of a task that cannot be built: what is known of them without it, and why they fail."""
    common = {
        "version": VERSION,
        "suite": suite.name,
        "task": task,
        "task_digest": registry.sources.get(task, ""),
        "data_digest": "",
        "family": task,
        "horizon": suite.steps or 1,
        "batch_size": 1,
        "num_params": 1,
        "chance_loss": 1.0,
        "device_kind": default_device().device_kind,
    }
    entrants = suite_entrants(suite, registry, task, suite.steps or 1)
    return [
        Cell(_train_config(common, entrant, seed), (entrant,), failure) for seed in suite.seeds for entrant in entrants
    ]


def _plan_measurement(suite: Suite, registry: Registry, tuned_dir: Path | None) -> list[Cell]:
    """A cell for each part of a measurement, or for those that the suite's tasks name."""
    if suite.seeds or suite.steps:
        raise UsageError(f"suite {suite.name} is a measurement: it takes neither seeds nor steps")
    name = str(suite.measurement)
    measurement = MEASUREMENTS[name]
    parts = {f"{name}/{part}": facts for part, facts in measurement.parts().items()}
    common = {
        "kind": "measure",
        "version": VERSION,
        "suite": suite.name,
        "measurement": name,
        "family": name,
        "horizon": measurement.horizon,
    }
    timed: tuple[Entrant, ...] = ()
    if measurement.timed:
        entrants = suite_entrants(suite, registry, name, measurement.horizon, tuned_dir)
        base = controls.base_of(entrants) if suite.controls else None
        timed = (*entrants, *(controls.timed_controls(base) if base else ()))
        common |= {
            "blocks": suite.timing_blocks,
            "hyperparameters": {entrant.name: dict(entrant.identity) for entrant in timed},
            "roles": {entrant.name: entrant.role for entrant in timed},
        }
    else:
        common["replications"] = suite.replications
    common["device_kind"] = default_device().device_kind
    chosen = expand_tasks(suite.tasks, list(parts)) if suite.tasks else parts
    return [Cell({**common, "task": part, **parts[part]}, timed) for part in chosen]


def _racers(entrants: list[Entrant], frozen: targets.Targets | None) -> tuple[Entrant, ...]:
    """The headline learned optimizer, else the first learned one, and the best hand-designed one; or nobody."""
    learners = sorted((e for e in entrants if e.role == "learned"), key=lambda e: e.name != learned.HEADLINE)
    rival = frozen.references.get("all_hand_designed") if frozen else None
    rivals = [e for e in entrants if e.name == rival]
    return (learners[0], rivals[0]) if learners and rivals else ()


def run(
    cells: list[Cell],
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
      cells: from `plan`.
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
    counts: dict[str, int] = {}
    programs: dict[str, Program] = {}
    loaded: dict[str, tasks.Task] = {}

    def skips(cell: Cell) -> bool:
        stored = store.get(cell.name)
        for path in store.set_aside:
            log(f"damaged file set aside: {path}")
        store.set_aside.clear()
        if stored is None or stored[0]["status"] not in FINAL:
            return False
        counts["stored"] = counts.get("stored", 0) + 1
        advance(1.0)
        return True

    def one(number: int, cell: Cell) -> None:
        nonlocal loaded
        begins(cell)
        name = cell.config["task"]
        if cell.config["kind"] != "measure" and not cell.failure and name not in loaded:
            if not any(registry.problem(other) == registry.problem(name) for other in loaded):
                programs.clear()
            loaded = {name: registry.load(name)}
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        if cell.failure:
            status, reason = cell.failure
            record, curve = {"status": status, "reason": reason}, pd.DataFrame(columns=["step", "metric", "value"])
            advance(1.0)
        else:
            record, curve = _run_one(cell, loaded.get(name), programs, time_limit_sec, advance)
        record |= {
            "cell": cell.name,
            "config": cell.config,
            "started_at": started,
            "provenance": provenance({} if cell.failure else _data_facts(cell, registry)),
        }
        store.put(record, curve.assign(cell=cell.name))
        ends(cell, record["status"])
        counts[record["status"]] = counts.get(record["status"], 0) + 1
        log(f"[{number}/{len(cells)}] {cell.title}: {_outcome_line(record)}")

    elsewhere = []
    for number, cell in enumerate(cells, 1):
        if skips(cell):
            continue
        with store.claim(cell.name) as ours:
            if not ours:
                elsewhere.append((number, cell))
            elif not skips(cell):  # by another run, a moment ago
                one(number, cell)
    for number, cell in elsewhere:
        log(f"[{number}/{len(cells)}] {cell.title}: another run has it in hand, waiting")
        waits(cell)
        with store.claim(cell.name, wait=True):
            if not skips(cell):  # the other run was ended
                one(number, cell)
    return counts


def _data_facts(cell: Cell, registry: Registry) -> dict[str, str]:
    """Facts of the data that a cell reads; a measurement may read none."""
    name = cell.config.get("inner_task") if cell.config["kind"] == "measure" else cell.config["task"]
    return registry.data_facts(name) if name else {}


def _run_one(
    cell: Cell,
    task: tasks.Task | None,
    programs: dict[str, Program],
    limit: float,
    advance: Callable[[float], None],
) -> tuple[Record, pd.DataFrame]:
    """One cell; what goes wrong in it is its outcome."""
    horizon = cell.config["horizon"]
    done = 0.0

    def tick(share: float) -> None:
        nonlocal done
        done += share
        advance(share)

    try:
        if cell.config["kind"] == "measure":
            repeats = cell.config.get("blocks") or cell.config["replications"]
            name, _, part = cell.config["task"].partition("/")
            return {"status": "ok"}, MEASUREMENTS[name].measure(part, cell.entrants, repeats, lambda: tick(1 / repeats))
        assert task is not None

        def program_of(entrant: Entrant) -> Program:
            key = json.dumps([entrant.program or entrant.name, horizon, cell.config["family"]])
            if key not in programs:
                programs[key] = compile_program(entrant, task, horizon, chunk_lengths(horizon))
            return programs[key]

        if cell.config["kind"] == "time":
            blocks = cell.config["blocks"]
            timings = time_entrants(
                cell.entrants,
                task,
                horizon,
                num_blocks=blocks,
                compile_for=program_of,
                tick=lambda: tick(1 / blocks),
            )
            curve = timing_.curve(timings, [entrant.name for entrant in cell.entrants])
            return {"status": "ok"}, curve
        if cell.config["kind"] == "race":
            key, share = run_key(cell.config["task"], cell.config["seed"]), 1 / NUM_EVALUATIONS
            curve = race(
                cell.entrants,
                task,
                key,
                horizon,
                cell.config["level"],
                compile_for=program_of,
                tick=lambda: tick(share),
            )
            return {"status": "ok"}, curve
        (entrant,) = cell.entrants
        before = len(programs)
        program = program_of(entrant)
        outcome = run_cell(
            program,
            entrant,
            task,
            run_key(cell.config["task"], cell.config["seed"]),
            horizon,
            time_limit_sec=limit,
            tick=lambda steps: tick(steps / horizon),
        )
        fresh = len(programs) > before
        clock = outcome.clock | {"compile_sec": sum(program.compile_sec.values()) if fresh else None}
        record = {
            "status": outcome.status,
            "reason": outcome.reason,
            "first_bad_step": outcome.first_bad_step,
            "result": outcome.result,
            "clock": clock,
        }
        return record, outcome.curve
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # whatever a task or optimizer raises is its result
        status, reason = failure(error)
        return {"status": status, "reason": reason}, pd.DataFrame(columns=["step", "metric", "value"])
    finally:
        advance(1.0 - done)


def _outcome_line(record: Record) -> str:
    if record["status"] != "ok":
        return f"{record['status']} ({record['reason']})"
    if record["config"]["kind"] != "train":
        return "ok"
    result = record["result"]
    return f"train {result['final_train_loss']:.4f}  test {result['final_test_loss']:.4f}"


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
