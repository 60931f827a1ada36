"""`bench outer-train`: outer-training that keeps weights, card, checkpoints, metrics and a figure on disk."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

import tasks
from bench.device import use_devices
from bench.errors import UsageError, usage_errors
from bench.folders import Folders
from bench.outer import processes
from bench.outer.folders import FIGURE_FILE, alone, as_config, draw, refuse_a_run, run_folder
from bench.outer.publish import restore
from bench.store.provenance import git_state, processor
from learned import outer
from learned.config import OuterConfig
from learned.outer.processes import is_first, made_by_first

SIGNAL_TO_NOISE = "signal_to_noise/"


@dataclasses.dataclass(frozen=True)
class OuterRun:
    """The outcome of outer-training.

    Attributes:
      weights: file of the best theta so far, for `learned.load`.
      facts: facts of the run: outer step and cost of the best theta, curve of outer-validation losses.
      is_first: whether this process keeps the files; of several that outer-train together one does.
    """

    weights: Path
    facts: dict[str, Any]
    is_first: bool = True


def outer_train(
    config: OuterConfig | str,
    *,
    resume: bool = False,
    resume_from: str | None = None,
    budget_sec: float = float("inf"),
    num_devices: int = 1,
    num_processes: int = 1,
    device: str | None = None,
    folders: Folders | None = None,
    log: Callable[[str], None] = lambda line: None,
    advance: Callable[..., None] = lambda share, line: None,
) -> OuterRun:
    """Outer-trains a learned optimizer; the best theta by outer-validation is on disk at any time.

    Checkpoints are written every minute. An interrupted run continues with `resume` to the same theta.

    Args:
      config: a configuration, or its name or path.
      resume: whether to continue from the last checkpoint, if there is one.
      resume_from: label of a published run to continue.
      budget_sec: wall-clock limit of this call.
      num_devices: devices of each process that samples are spread over; on a CPU, host devices, if JAX is not
        initialized yet.
      num_processes: processes of this machine. Those that `srun` started take part without being told.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.
      folders: where results and data lie; by default those of the command line. The run goes to
        RESULTS/outer-train/local/NAME.
      log: called with a line after every outer-validation.
      advance: called after every outer step with the fraction of the run done since the last call, and a line of
        progress.

    Returns:
      The weights and the facts of the run.

    Raises:
      UsageError: there is no such configuration, the folder holds a run that is not resumed or has another
        configuration, nothing is published to resume from, another process outer-trains there, there are too few
        devices, or one of several processes died.
      tasks.data.MissingDataError: the family's data is neither cached nor found.
    """
    folders = folders or Folders()
    if processes.number_launched() > 1 and not jax.distributed.is_initialized():
        processes.join_launched(num_processes, num_devices, device)
    elif num_processes > 1:
        options = {"resume": resume, "resume_from": resume_from, "budget_sec": budget_sec, "num_devices": num_devices}
        done = processes.run_processes(
            config, num_processes, folders=folders, device=device, log=log, advance=advance, **options
        )
        return OuterRun(Path(done["weights"]), done["facts"])
    use_devices(device, num_devices)
    config = as_config(config)
    if resume_from and is_first():
        restore(config, folders.results_dir, resume_from)
    where = {"data_dir": folders.data_dir, "cache_dir": folders.cache_dir}
    path, facts = run(
        config,
        outer.load_families(config, **where),
        tasks.data_facts(config.family, **where),
        folders.results_dir,
        resume=resume or resume_from is not None,
        num_devices=num_devices * jax.process_count(),
        budget_sec=budget_sec,
        log=log,
        advance=lambda steps, line: advance(steps / config.outer_steps, line),
    )
    return OuterRun(path, facts, is_first())


def run(
    config: OuterConfig,
    families: tasks.TaskFamily | outer.Families,
    facts: dict[str, Any],
    results_dir: Path,
    *,
    resume: bool,
    num_devices: int,
    budget_sec: float,
    log: Callable[[str], None],
    advance: Callable[..., None],
) -> tuple[Path, dict[str, Any]]:
    """Outer-trains, keeping weights with their card, checkpoints, metrics and a figure of the run on disk.

    Args:
      config: configuration of outer-training.
      families: task families with their data.
      facts: name, version and digest of the data.
      results_dir: results folder; the run is kept in its `outer-train/local/NAME`.
      resume: whether to continue from the last checkpoint.
      num_devices: devices that samples are spread over.
      budget_sec: wall-clock limit of this call.
      log: called with a line after every outer-validation.
      advance: called after every outer step with the number of outer steps since the last call, and a line of progress.

    Returns:
      The weights file and the facts of the run.

    Raises:
      UsageError: the folder holds a run that is not resumed or has another configuration, another process outer-trains
        there, or there are too few devices.
    """
    folder = run_folder(results_dir, config)
    path = folder / f"{config.name}.safetensors"
    extra = _provenance(facts)
    begin = time.monotonic()
    done = 0

    def on_step(progress: outer.Progress) -> None:
        nonlocal done
        line = progress_line(config, progress, begin + budget_sec - time.monotonic())
        advance(progress.outer_step - done, line)
        done = progress.outer_step
        if "outer_validation_loss" in progress.metrics:
            log(line)

    callbacks = outer.Callbacks(
        on_step=on_step,
        on_best=lambda theta, found: outer.save_best(path, config, theta, found | extra),
        on_damage=lambda path: log(f"damaged checkpoint set aside: {path}"),
        on_resume=log,
        on_checkpoint=functools.partial(draw, folder / FIGURE_FILE, config.name),
    )

    with contextlib.ExitStack() as stack, usage_errors():
        made_by_first(functools.partial(_open, folder, resume, stack))
        theta, _, summary = outer.outer_train(
            outer.Engine(config, families, num_devices),
            outer.RunFolder(folder, resume=resume, provenance=extra),
            callbacks=callbacks if is_first() else outer.Callbacks(),
            budget_sec=budget_sec,
        )
        if is_first():
            outer.save_best(path, config, theta, summary | extra)  # now with the cost of the whole run
    return path, summary


def _open(folder: Path, resume: bool, stack: contextlib.ExitStack) -> None:
    """Has a folder to itself while the stack lasts.

    Raises:
      ValueError: another process outer-trains there, or it holds a run that is not resumed; one line, which of several
        processes all raise.
    """
    try:
        stack.enter_context(alone(folder))
        if not resume:
            refuse_a_run(folder)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _provenance(facts: dict[str, Any]) -> dict[str, Any]:
    data = f"{facts['name']} {facts['version']} {facts['digest'][:16]}"
    git = git_state()
    commit = f"{git['commit']} with changes" if git["dirty"] else git["commit"]
    return {"data": data, "commit": commit, "processor": processor()}


def progress_line(config: OuterConfig, progress: outer.Progress, budget_left: float = float("inf")) -> str:
    """One line of progress: outer step, length, losses, gradient, signal-to-noise, merge weight, speed, time left."""
    metrics = progress.metrics
    parts = [f"outer step {progress.outer_step}/{config.outer_steps}", f"length {metrics['horizon']:.0f}"]
    if "member" in metrics:
        parts += [tasks.MIXTURES[config.family][int(metrics["member"])]]
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
