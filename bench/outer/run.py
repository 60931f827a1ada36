"""`bench outer-train`: outer-training with weights, card, checkpoints, metrics and a figure on disk at any time."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tasks
from bench.errors import usage_errors
from bench.outer.folders import FIGURE_FILE, alone, draw, refuse_a_run, run_folder
from bench.store.provenance import git_state, processor
from learned import outer_train as outer
from learned.config import OuterConfig

SIGNAL_TO_NOISE = "signal_to_noise/"


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

    with alone(folder), usage_errors():
        if not resume:
            refuse_a_run(folder)
        theta, _, summary = outer.outer_train(
            config,
            family,
            folder=folder,
            resume=resume,
            num_devices=num_devices,
            on_step=on_step,
            on_best=lambda theta, found: outer.save_best(path, config, theta, found | extra),
            on_damage=lambda path: log(f"damaged checkpoint set aside: {path}"),
            on_checkpoint=functools.partial(draw, folder / FIGURE_FILE, config.name),
            budget_seconds=budget_seconds,
            provenance=extra,
        )
        outer.save_best(path, config, theta, summary | extra)  # now with what the whole run cost
    return path, summary


def _provenance(facts: dict[str, Any]) -> dict[str, Any]:
    data = f"{facts['name']} {facts['version']} {facts['digest'][:16]}"
    return {"data": data, "commit": git_state()["commit"], "processor": processor()}


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
