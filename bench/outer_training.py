"""`bench outer-train` and `bench time --outer`: runs of outer-training seen from outside.

What a run is lives in `learned`; here are its folder, the line that is printed while it goes, the figure of the run so
far, and what an inner step of it costs next to a training step with Adam.
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

import tasks
from bench.engine import compile_program
from bench.entrants import resolve
from bench.errors import UsageError, usage_errors
from bench.provenance import git_state, processor
from bench.statistics import Interval, median_interval, ratio_interval, t_interval
from bench.store import LOCAL, locked, published_label, safe_name
from bench.timing import chunk_steps, interleave, printed, training_region
from learned import outer_train as outer
from learned.config import OuterConfig, load_config
from tasks.files import write_atomically

FOLDER = "outer-train"  # of the results
FIGURE_FILE = "progress.png"
SIGNAL_TO_NOISE = "signal_to_noise/"
RERUN_TOLERANCE = 1e-3  # of metrics, relative, where a published run is taken again on another kind of device

StageEnd = tuple[Any, list[dict[str, float]], dict[str, Any]]  # best theta, metrics, facts


def read_config(name_or_path: str) -> OuterConfig:
    """A configuration.

    Raises:
      UsageError: what is wrong with it, in one line.
    """
    with usage_errors():
        return load_config(name_or_path)


def run(
    config: OuterConfig,
    family: tasks.TaskFamily,
    facts: dict[str, Any],
    results_dir: Path,
    *,
    resume: bool,
    num_devices: int,
    budget_seconds: float,
    log: Callable[[str], None],
    advance: Callable[..., None],
) -> tuple[Path, dict[str, Any]]:
    """Outer-trains; weights with their card, checkpoints, metrics and a figure of the run are on disk at any time.

    Args:
      config: what to run.
      family: its data.
      facts: name, version and digest of the data.
      results_dir: the run goes to `outer-train/local/NAME` in it.
      resume: whether to go on from the last checkpoint.
      num_devices: devices that samples are spread over.
      budget_seconds: wall-clock of this sitting.
      log: called with a line after every outer-validation.
      advance: called after every outer step with the share of steps done and a line on how it goes.

    Returns:
      The weights file and the facts of the run.

    Raises:
      UsageError: the folder has a run that is not resumed, or of another configuration, or another process outer-trains
        there; too few devices.
    """
    folder = run_folder(results_dir, config)
    path = folder / f"{config.name}.safetensors"
    extra = _provenance(facts)
    begin = time.monotonic()
    done = 0

    def on_step(progress: outer.Progress) -> None:
        nonlocal done
        line = progress_line(config, progress, begin + budget_seconds - time.monotonic())
        advance(progress.outer_step - done, line)
        done = progress.outer_step
        if "outer_validation_loss" in progress.metrics:
            log(line)

    with _alone(folder), usage_errors():
        if not resume:
            _refuse_a_run(folder)
        theta, _, summary = outer.outer_train(
            config,
            family,
            folder=folder,
            resume=resume,
            num_devices=num_devices,
            on_step=on_step,
            on_best=lambda theta, found: outer.save_best(path, config, theta, found | extra),
            on_damage=lambda path: log(f"damaged checkpoint set aside: {path}"),
            on_checkpoint=functools.partial(_draw, folder / FIGURE_FILE, config.name),
            budget_seconds=budget_seconds,
            provenance=extra,
        )
        outer.save_best(path, config, theta, summary | extra)  # now with what the whole run cost
    return path, summary


def run_folder(results_dir: Path, config: OuterConfig, label: str = LOCAL) -> Path:
    """Where a run of a configuration is kept: a user's own, or one published under a label."""
    return results_dir / FOLDER / safe_name("label", label) / safe_name("config", config.name)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with locked(folder.with_name(f".{folder.name}.lock")) as ours:
        if not ours:
            raise UsageError(f"another process outer-trains in {folder}: wait for it, or choose another --results-dir")
        yield


def _refuse_a_run(folder: Path) -> None:
    with usage_errors():
        reached = outer.outer_step_reached(folder)
    if reached is not None:
        raise UsageError(f"{folder} holds a run at outer step {reached}: go on with --resume, or delete the folder")


def publish(config: OuterConfig, results_dir: Path, label: str) -> Path:
    """Writes the end of the last whole stage of one's own run where it can be committed.

    Args:
      config: of the run.
      results_dir: the run is in `outer-train/local/NAME` in it, and goes to `outer-train/LABEL/NAME`: the end of a
        stage, from which `restore` goes on, with the best theta, its card, metrics and figure.
      label: name of the machine.

    Returns:
      The folder.

    Raises:
      UsageError: no whole stage is there, or a later one is published; a label that is `local` or not a plain name.
    """
    source, folder = run_folder(results_dir, config), run_folder(results_dir, config, published_label(label))
    with usage_errors():
        _, log, _ = end = outer.stage_end(source, config)
        published = outer.outer_step_reached(folder)
    if published is not None and published > len(log):
        raise UsageError(f"{folder} holds the run at outer step {published}, yours is at {len(log)}: delete the folder")
    _lay(source, folder, config, end)
    _draw(folder / FIGURE_FILE, config.name, pd.DataFrame(log))
    return folder


def restore(config: OuterConfig, results_dir: Path, label: str) -> None:
    """Lays what was published under a label where one's own run goes on from it with `resume`.

    Raises:
      UsageError: one's own run is there already; nothing readable is published there, or of another configuration.
    """
    folder, source = run_folder(results_dir, config), run_folder(results_dir, config, published_label(label))
    _refuse_a_run(folder)
    with usage_errors():
        end = outer.stage_end(source, config)
    _lay(source, folder, config, end)


@dataclasses.dataclass(frozen=True)
class Rerun:
    """The first outer steps of a published run, taken once more.

    Attributes:
      outer_steps: that were compared.
      bit_equal: whether every metric of every one is the same to the last bit.
      difference: the greatest relative difference of a metric, inf where one of the two is not finite.
      loss_change: mean over the outer steps with a finite outer-loss of this one minus the published one, with its
        interval as if steps were independent; None where there are none. Elsewhere single numbers may differ by much,
        for an unroll at the edge of stability makes as much of a rounding as of another seed; their mean should not.
      same_device: whether the published run is known to have been on this kind of device, and where that is a CPU on
        this processor with as many cores: how a matrix product is summed depends on both, and unrolls at the edge of
        stability make much of a rounding.
    """

    outer_steps: int
    bit_equal: bool
    difference: float
    loss_change: Interval | None
    same_device: bool

    @property
    def holds(self) -> bool:
        """Bit-equal on the kind of device that the run was on, to 1e-3 elsewhere."""
        return self.bit_equal or (not self.same_device and self.difference <= RERUN_TOLERANCE)


def rerun(
    config: OuterConfig,
    family: tasks.TaskFamily,
    folder: Path,
    *,
    outer_steps: int,
    num_devices: int,
    advance: Callable[..., None] = lambda share, line: None,
) -> Rerun:
    """Takes the first outer steps of a published run once more and compares every metric.

    Args:
      config: of the run.
      family: its data.
      folder: of the published run, see `publish`.
      outer_steps: how many; no more than the run has.
      num_devices: devices that samples are spread over; another number than the run's changes rounding.
      advance: called after every outer step with the share done and a line.

    Raises:
      UsageError: nothing readable is published there, or of another configuration, or devices that do not fit.
    """
    with usage_errors():
        _, published, summary = outer.stage_end(folder, config)
    published = published[:outer_steps]
    taken: list[dict[str, float]] = []

    class Enough(Exception):
        """Raised after the last outer step that is compared."""

    def on_step(progress: outer.Progress) -> None:
        taken.append(dict(progress.metrics))
        advance(1, progress_line(config, progress))
        if len(taken) == len(published):
            raise Enough

    with usage_errors(), contextlib.suppress(Enough):
        outer.outer_train(config, family, num_devices=num_devices, on_step=on_step)
    names = sorted({name for row in (*published, *taken) for name in row})
    a, b = (np.array([[row.get(name, np.nan) for name in names] for row in rows]) for rows in (published, taken))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(same, 0.0, np.abs(a - b) / np.maximum(np.abs(a), np.abs(b)))
        changes = (b - a)[:, names.index("outer_loss")]
    return Rerun(
        outer_steps=len(published),
        bit_equal=bool(same.all()),
        difference=float(np.nan_to_num(relative, nan=np.inf, posinf=np.inf).max()),
        loss_change=t_interval(changes[np.isfinite(changes)]) if np.isfinite(changes).any() else None,
        same_device=summary["device"] == jax.devices()[0].device_kind
        and (jax.default_backend() != "cpu" or summary.get("processor") == processor()),
    )


def _lay(source: Path, folder: Path, config: OuterConfig, end: StageEnd) -> None:
    """Lays the end of a stage of one folder in another; last the file that makes it one."""
    theta, log, summary = end
    outer.write_metrics(folder, log)
    outer.save_best(folder / f"{config.name}.safetensors", config, theta, summary)
    write_atomically(folder / outer.STAGE_FILE, (source / outer.STAGE_FILE).read_bytes())


def _provenance(facts: dict[str, Any]) -> dict[str, Any]:
    data = f"{facts['name']} {facts['version']} {facts['digest'][:16]}"
    return {"data": data, "commit": git_state()["commit"], "processor": processor()}


def _draw(path: Path, name: str, metrics: pd.DataFrame) -> None:
    from bench.report.figures.outer_training import outer_training_figure

    write_atomically(path, outer_training_figure(name, metrics).png)


def progress_line(config: OuterConfig, progress: outer.Progress, budget_left: float = float("inf")) -> str:
    """One line on an outer step: place, length, losses, gradient, signal-to-noise, merge weight, speed, time left."""
    metrics = progress.metrics
    parts = [f"outer step {progress.outer_step}/{config.outer_steps}", f"length {metrics['horizon']:.0f}"]
    parts += [f"loss {metrics['outer_loss']:.4f}"]
    if "outer_validation_loss" in metrics:
        parts += [f"validation {metrics['outer_validation_loss']:.4f}"]
    parts += [f"gradient norm {metrics['gradient_norm']:.2g}"]
    noise = {name.removeprefix(SIGNAL_TO_NOISE): v for name, v in metrics.items() if name.startswith(SIGNAL_TO_NOISE)}
    parts += ["signal-to-noise " + ", ".join(f"{name} {value:.2g}" for name, value in noise.items())]
    if "merge_weight" in metrics:
        parts += [f"weight of {config.estimator[0]} {metrics['merge_weight']:.2f}"]
    if progress.skipped:
        parts += [f"{progress.skipped} skipped"]
    parts += [f"{progress.inner_steps / progress.seconds:,.0f} inner steps/s"]
    left = (config.outer_steps - progress.outer_step) * progress.seconds / progress.outer_step
    parts += [f"about {duration(min(left, max(budget_left, 0.0)))} left"]
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min, 2 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def measure(
    config: OuterConfig,
    load: Callable[[], tasks.TaskFamily],
    *,
    num_devices: int,
    num_blocks: int,
    tuned_dir: Path | None = None,
) -> dict[str, Any]:
    """What an inner step of outer-training costs, next to a training step with Adam on a task of the family.

    Outer steps and Adam's steps alternate in randomized blocks (protocol rule 7); ratios are taken within a block. Time
    an inner step is that of an outer step over its inner steps: one net, one step, both signs counted. With several
    devices the same outer step on one of them is in every block too, on a CPU in a process pinned to one core, which
    Linux can do.

    Args:
      config: whose first outer step, repeated, is timed.
      load: reads its data; a function that another process can be given.
      num_devices: devices that samples are spread over; Adam's steps run on the first.
      num_blocks: at least 6.
      tuned_dir: of a user's own tuned values, for Adam's.

    Raises:
      UsageError: too few devices, or samples that do not divide among them.
    """
    family = load()
    outer_step, compile_seconds = compiled_outer_step(config, family, num_devices)
    inner_steps = outer.inner_steps_of(config, config.lengths_at(0)[0])
    adam = resolve("adam", family.problem.family, family.problem.horizon, tuned_dir=tuned_dir)
    key = tasks.named_key("outer-train", "timing")
    task = family.task(family.sample(key, "outer_train"))
    length = chunk_steps(family.problem.horizon)
    program = compile_program(adam, task, family.problem.horizon, [length])
    alone = training_region(program, adam, task, key, length, 1)
    outer_step()
    alone()
    # Regions of about the same length, so that a disturbance falls on both alike.
    repeats = max(1, round(interleave([outer_step], 1).min() / interleave([alone], 3).min()))
    region = training_region(program, adam, task, key, length, repeats)
    region()
    regions = [outer_step, region]
    with contextlib.ExitStack() as stack:
        if beside_one := num_devices > 1 and (jax.default_backend() != "cpu" or hasattr(os, "sched_setaffinity")):
            regions.append(stack.enter_context(on_one_device(config, load)))
        seconds = interleave(regions, num_blocks)
    each = seconds[:, 0] / inner_steps
    adam_step = seconds[:, 1] / (repeats * length)
    found = {
        "config": config.name,
        "inner_steps_per_second": printed(median_interval(1 / each)),
        "adam_step_seconds": float(f"{np.median(adam_step):.5g}"),
        "cost_ratio_to_adam": printed(ratio_interval(each, adam_step)),
        "outer_step_seconds": float(f"{np.median(seconds[:, 0]):.5g}"),
        "compile_seconds": float(f"{compile_seconds:.4g}"),
        "peak_memory_bytes": peak_memory_bytes(),
        "devices": num_devices,
    }
    if beside_one:
        found["speedup_over_one_device"] = printed(ratio_interval(seconds[:, 2], seconds[:, 0]))
    return found


def compiled_outer_step(
    config: OuterConfig, family: tasks.TaskFamily, num_devices: int
) -> tuple[Callable[[], None], float]:
    """A region that takes one more outer step, all as long as the first, and the seconds that compiling it took.

    Raises:
      UsageError: too few devices, or samples that do not divide among them.
    """
    with usage_errors():
        engine = outer.Engine(config, family, num_devices)
    num_steps, horizon = config.lengths_at(0)
    state = jax.block_until_ready(engine.init())
    begin = time.perf_counter()
    step = engine.step.lower(state, engine.arrays, 0, num_steps=num_steps, horizon=horizon).compile()
    compile_seconds = time.perf_counter() - begin
    number = 0

    def outer_step() -> None:
        nonlocal state, number
        state, metrics = step(state, engine.arrays, number, horizon=horizon)
        jax.block_until_ready((state, metrics))
        number += 1

    return outer_step, compile_seconds


@contextlib.contextmanager
def on_one_device(config: OuterConfig, load: Callable[[], tasks.TaskFamily]) -> Iterator[Callable[[], None]]:
    """A region that takes an outer step on one device.

    On a CPU it is taken by another process on one core, which waits while it is not asked: in this process one device
    would have the threads of all cores.
    """
    if jax.default_backend() != "cpu":
        yield compiled_outer_step(config, load(), 1)[0]
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_on_one_core, args=(theirs, config, load), daemon=True)
    process.start()
    theirs.close()

    def outer_step() -> None:
        try:
            ours.send(True)
            ours.recv()
        except (EOFError, OSError):
            raise UsageError("the process that takes outer steps on one core has ended; see above for why") from None

    try:
        outer_step()  # compiles
        yield outer_step
    finally:
        ours.close()
        process.join(timeout=10)
        process.terminate()


def _serve_on_one_core(connection: Connection, config: OuterConfig, load: Callable[[], tasks.TaskFamily]) -> None:
    """Takes an outer step whenever it is told to, until nobody is there to tell."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before jax counts cores
    jax.config.update("jax_platforms", "cpu")
    outer_step, _ = compiled_outer_step(config, load(), 1)
    with contextlib.suppress(EOFError):
        while True:
            connection.recv()
            outer_step()
            connection.send(True)


def peak_memory_bytes() -> int:
    """The most memory so far: of the first device where it counts, else of this process."""
    counted = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in counted:
        return int(counted["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts kibibytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
