"""Folders of outer-training runs, and checks that protect a run from other processes and configurations."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UsageError, usage_errors
from bench.store.files import locked, safe_name
from bench.store.published import LOCAL
from learned import outer
from learned.config import OuterConfig, load_config
from tasks.files import write_atomically

FOLDER = "outer-train"  # in the results folder
FIGURE_FILE = "progress.png"
StageEnd = tuple[Any, list[dict[str, float]], dict[str, Any]]  # best theta, metrics, facts


def read_config(name_or_path: str) -> OuterConfig:
    """A configuration.

    Raises:
      UsageError: there is no such configuration, or it is invalid; one line.
    """
    with usage_errors():
        return load_config(name_or_path)


def as_config(config: OuterConfig | str) -> OuterConfig:
    """A configuration, given itself or by name or path.

    Raises:
      UsageError: as `read_config`.
    """
    return read_config(config) if isinstance(config, str) else config


def run_folder(results_dir: Path, config: OuterConfig, label: str = LOCAL) -> Path:
    """The folder of a configuration's run: the user's own run, or one published under a label."""
    return results_dir / FOLDER / safe_name("label", label) / safe_name("config", config.name)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from outer-training in a folder while the context lasts.

    Raises:
      UsageError: another process is outer-training there.
    """
    with locked(folder.with_name(f".{folder.name}.lock")) as ours:
        if not ours:
            raise UsageError(f"another process outer-trains in {folder}: wait for it, or choose another --results-dir")
        yield


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
