"""Where runs of outer-training are kept, and what two processes or configurations may not do there."""

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

FOLDER = "outer-train"  # of the results
FIGURE_FILE = "progress.png"
StageEnd = tuple[Any, list[dict[str, float]], dict[str, Any]]  # best theta, metrics, facts


def read_config(name_or_path: str) -> OuterConfig:
    """A configuration.

    Raises:
      UsageError: what is wrong with it, in one line.
    """
    with usage_errors():
        return load_config(name_or_path)


def as_config(config: OuterConfig | str) -> OuterConfig:
    """A configuration that is one already, or is named.

    Raises:
      UsageError: as `read_config`.
    """
    return read_config(config) if isinstance(config, str) else config


def run_folder(results_dir: Path, config: OuterConfig, label: str = LOCAL) -> Path:
    """Where a run of a configuration is kept: a user's own, or one published under a label."""
    return results_dir / FOLDER / safe_name("label", label) / safe_name("config", config.name)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from outer-training in a folder while the context lasts.

    Raises:
      UsageError: another process does.
    """
    with locked(folder.with_name(f".{folder.name}.lock")) as ours:
        if not ours:
            raise UsageError(f"another process outer-trains in {folder}: wait for it, or choose another --results-dir")
        yield


def refuse_a_run(folder: Path) -> None:
    """Refuses a folder that holds a run already.

    Raises:
      UsageError: it does; the message says at which outer step.
    """
    with usage_errors():
        reached = outer.outer_step_reached(folder)
    if reached is not None:
        raise UsageError(f"{folder} holds a run at outer step {reached}: go on with --resume, or delete the folder")


def draw(path: Path, name: str, metrics: pd.DataFrame) -> None:
    """Draws the figure of a run so far, from its metrics."""
    from bench.report.figures.outer_training import outer_training_figure

    write_atomically(path, outer_training_figure(name, metrics).png)
