"""Folders of outer-training runs, and checks that protect a run from other processes and configurations."""

from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd

from bench.errors import UsageError, usage_errors
from bench.store import files
from bench.store.files import safe_name
from bench.store.published import LOCAL
from learned import outer
from learned.config import OuterConfig, load_config
from tasks.files import write_atomically

FOLDER = "outer-train"  # in the results folder
FIGURE_FILE = "progress.png"


def as_config(config: OuterConfig | str) -> OuterConfig:
    """A configuration, given itself or by name or path.

    Raises:
      UsageError: there is no such configuration, or it is invalid; one line.
    """
    with usage_errors():
        return load_config(config) if isinstance(config, str) else config


def run_folder(results_dir: Path, config: OuterConfig, label: str = LOCAL) -> Path:
    """The folder of a configuration's run: the user's own run, or one published under a label."""
    return results_dir / FOLDER / safe_name("label", label) / safe_name("config", config.name)


def alone(folder: Path) -> AbstractContextManager[None]:
    """Keeps other processes from outer-training in a folder while the context lasts.

    Raises:
      UsageError: another process is outer-training there.
    """
    busy = f"another process outer-trains in {folder}: wait for it, or choose another --results-dir"
    return files.alone(folder.with_name(f".{folder.name}.lock"), busy)


def refuse_a_run(folder: Path) -> None:
    """Checks that a folder holds no run.

    Raises:
      UsageError: it holds one; the message says at which outer step.
    """
    with usage_errors():
        reached = outer.outer_step_reached(folder)
    if reached is not None:
        raise UsageError(f"{folder} holds a run at outer step {reached}: go on with --resume, or delete the folder")


def draw(path: Path, name: str, metrics: pd.DataFrame) -> None:
    """Draws the figure of a run from its metrics so far."""
    from bench.report.figures.outer_training import outer_training_figure

    write_atomically(path, outer_training_figure(name, metrics).png)
