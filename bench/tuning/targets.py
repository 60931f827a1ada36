"""Targets: the losses that a run has to reach, frozen before the comparison (protocol rule 10).

The targets of a tuned hand-designed optimizer on a task are its own smoothed losses at 100, 50 and 25 % of the horizon
("hard", "medium", "easy"), medians over tuning seeds. The optimizer of a group with the best validation loss on these
runs is the group's reference. `bench freeze` writes targets with date and digest to

    bench/targets/TASK/HORIZON.json      shipped
    RESULTS/targets/TASK/HORIZON.json   the user's own
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bench.errors import UsageError
from bench.statistics import lower_median, significant
from bench.statistics.crossing import SMOOTHING, smooth
from bench.store.files import write_atomically

SHIPPED_DIR = Path(__file__).parents[1] / "targets"
SHARES = {"hard": 1.0, "medium": 0.5, "easy": 0.25}  # of the horizon
CLAIMED = "validation_loss"  # the loss that claims of speed are about (protocol rule 3)
METRICS = (CLAIMED, "train_loss")
NUM_SEEDS = 3
GROUPS: dict[str, tuple[str, ...] | None] = {
    "paper_constant": ("sgd_momentum", "rmsprop", "adam"),
    "paper_scheduled": ("sgd_momentum_cosine", "rmsprop_cosine", "adam_cosine"),
    "all_hand_designed": None,  # all optimizers of the record
}


@dataclasses.dataclass(frozen=True)
class Targets:
    """The frozen targets of a task at a horizon.

    Attributes:
      task: name.
      horizon: inner steps.
      levels: optimizer -> metric -> "hard", "medium", "easy" -> loss.
      references: group -> its best optimizer on the tuning seeds.
      made_at: time of freezing, or of the last extension, ISO 8601, UTC.
      frozen_at: optimizer -> time by which its losses were frozen.
      digest: digest of the whole record.
      identities: optimizer -> hyperparameters of its runs.
    """

    task: str
    horizon: int
    levels: Mapping[str, Mapping[str, Mapping[str, float]]]
    references: Mapping[str, str]
    made_at: str
    digest: str
    identities: Mapping[str, Mapping[str, Any]]
    frozen_at: Mapping[str, str] = dataclasses.field(default_factory=dict)


def levels_of(steps: ArrayLike, losses: ArrayLike, horizon: int) -> dict[str, float]:
    """The three targets of an optimizer: medians over seeds of its smoothed loss at shares of the horizon.

    Args:
      steps: (num_points,), the evaluation grid.
      losses: (num_points, num_seeds).
      horizon: inner steps.
    """
    x, y = np.asarray(steps), smooth(losses)
    at = {name: int(np.argmin(np.abs(x - share * horizon))) for name, share in SHARES.items()}
    return {name: float(lower_median(y[i])) for name, i in at.items()}


def needed_steps(grid: Sequence[int], horizon: int) -> list[int]:
    """The points of the evaluation grid that `levels_of` reads: smoothing windows around shares of the horizon."""
    half, needed = SMOOTHING // 2, set()
    for share in SHARES.values():
        i = int(np.argmin(np.abs(np.asarray(grid) - share * horizon)))
        reach = min(half, i, len(grid) - 1 - i)
        needed |= set(grid[i - reach : i + reach + 1])
    return sorted(needed)


def target_path(directory: Path, task: str, horizon: int) -> Path:
    """Path of the targets of a task at a horizon."""
    return directory / task / f"{horizon}.json"


def write(path: Path, record: dict[str, Any]) -> None:
    """Writes a record with its digest. It replaces an existing record only if it extends that one.

    Raises:
      UsageError: other targets are frozen there, or the folder cannot be written.
    """
    if path.exists() and read(path).digest not in (version["digest"] for version in record.get("extends", ())):
        raise UsageError(f"targets are frozen in {path}; delete the file to freeze others, and say so")
    record = finite(record)
    text = json.dumps({**record, "digest": _digest(record)}, indent=1, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def load(task: str, horizon: int, *, local_dir: Path | None = None) -> Targets | None:
    """The frozen targets of a task at a horizon, the shipped ones first; None if there are none.

    Raises:
      UsageError: a file is altered or holds no targets.
    """
    for directory in (SHIPPED_DIR, local_dir):
        path = directory and target_path(directory, task, horizon)
        if path and path.is_file():
            return read(path)
    return None


def read(path: Path) -> Targets:
    """A file written by `write`.

    Raises:
      UsageError: the file holds no targets, or was altered.
    """
    try:
        record = json.loads(path.read_text())
        digest = record.pop("digest")
        if digest != _digest(record):
            raise UsageError(f"{path}: altered since it was frozen, its digest does not fit; restore it")
        optimizers = record["optimizers"]
        return Targets(
            task=record["task"],
            horizon=int(record["horizon"]),
            levels={
                name: {
                    metric: {target: math.inf if v is None else float(v) for target, v in by_target.items()}
                    for metric, by_target in row["levels"].items()
                }
                for name, row in optimizers.items()
            },
            references=dict(record["references"]),
            made_at=record["made_at"],
            digest=digest,
            identities={name: row["hyperparameters"] for name, row in optimizers.items()},
            frozen_at={name: row.get("made_at", record["made_at"]) for name, row in optimizers.items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}: expected targets written by `bench freeze`, got {error!r}") from None


def read_record(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A whole record, to be extended.

    Args:
      path: path of the file.
      facts: task and data digests that the record must have.

    Raises:
      UsageError: as `read`, or the record has another task or other data.
    """
    read(path)
    record = json.loads(path.read_text())
    for key in ("task_digest", "data_digest"):
        if record.get(key) != facts[key]:
            raise UsageError(f"{path}: frozen with {key} {record.get(key)}, this is {facts[key]}: nothing to extend")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def finite(value: Any) -> Any:
    """A JSON value without infinities, for losses of diverged runs; numbers are rounded to nine digits."""
    if isinstance(value, float):
        return significant(value, 9) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
