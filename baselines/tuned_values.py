"""Tuned hyperparameters as data: a JSON file for each (family, horizon, optimizer), with every trial that led to it."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

SHIPPED_DIR = Path(__file__).parent / "tuned"


class Tuned(NamedTuple):
    """Tuned values and their origin."""

    hyperparameters: dict[str, float]
    horizon: int  # that they were tuned at
    path: Path


def tuned_path(directory: Path, family: str, horizon: int, optimizer: str) -> Path:
    """Path of the values of (family, horizon, optimizer)."""
    return directory / family / str(horizon) / f"{optimizer}.json"


def find_tuned(family: str, horizon: int, optimizer: str, *, local_dir: Path | None = None) -> Tuned | None:
    """The values tuned at the horizon that is nearest in ratio.

    At equal distance, the user's own values (`local_dir`) take precedence over the shipped ones.

    Returns:
      None where the optimizer was never tuned on the family.

    Raises:
      ValueError: the file holds no tuning record; one line.
    """
    found: list[tuple[float, int, Path]] = []
    for rank, directory in enumerate((local_dir, SHIPPED_DIR)):
        if directory is None:
            continue
        for path in (directory / family).glob(f"*/{optimizer}.json"):
            if path.parent.name.isdecimal():
                tuned_horizon = int(path.parent.name)
                found.append((max(tuned_horizon / horizon, horizon / tuned_horizon), rank, path))
    if not found:
        return None
    _, _, path = min(found)
    return Tuned(read_tuned(path)["hyperparameters"], int(path.parent.name), path)


def read_tuned(path: Path) -> dict[str, Any]:
    """A tuning record: "hyperparameters", "space", "trials" and how it was made.

    Raises:
      ValueError: the file holds no such record; one line.
    """
    try:
        record = json.loads(path.read_text())
        record["hyperparameters"] = {name: float(value) for name, value in record["hyperparameters"].items()}
        if not all(map(math.isfinite, record["hyperparameters"].values())):
            raise ValueError("hyperparameters that are not finite")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: expected a record written by `bench tune`, got {error!r}") from None
    return record


def loss_keys(split: str) -> tuple[str, str]:
    """Keys of a trial's losses in a record, for the split that tuned it: of first runs, of reruns of finalists."""
    return f"{split}_losses", f"rerun_{split}_losses"


def tuned_by(record: dict[str, Any]) -> str:
    """The split whose loss selected a record's values; see `Baseline.tuned_by`."""
    return "validation" if "validation_loss" in record else "train"
