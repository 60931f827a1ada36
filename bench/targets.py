"""Targets: the losses that a run has to reach, frozen before contenders run (protocol rule 10).

A hand-designed optimizer's targets on a task are its own smoothed losses, tuned, at 100, 50 and 25 % of the horizon
("hard", "medium", "easy"): medians over tuning seeds. The best of a group of optimizers, by validation loss on the same
runs, is the group's reference. `bench freeze` writes them, dated and with a digest, to

    bench/frozen/TASK/HORIZON.json      shipped
    RESULTS/targets/TASK/HORIZON.json   a user's own
"""

import dataclasses
import datetime
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.errors import UsageError

SHIPPED_DIR = Path(__file__).parent / "frozen"
SHARES = {"hard": 1.0, "medium": 0.5, "easy": 0.25}  # of the horizon
METRICS = ("train_loss", "validation_loss")  # train loss carries claims of speed, its validation twin stands beside it
SMOOTHING = 5  # points of the evaluation grid
NUM_SEEDS = 3
GROUPS: dict[str, tuple[str, ...] | None] = {
    "paper_constant": ("sgd_momentum", "rmsprop", "adam"),
    "paper_scheduled": ("sgd_momentum_cosine", "rmsprop_cosine", "adam_cosine"),
    "all_hand_designed": None,  # whoever is in the table
}


@dataclasses.dataclass(frozen=True)
class Targets:
    """The frozen targets of a task at a horizon.

    Attributes:
      task: name.
      horizon: inner steps.
      levels: optimizer -> metric -> "hard", "medium", "easy" -> loss.
      references: group -> its best optimizer on the tuning seeds.
      made_at: when they were frozen, or extended last, ISO 8601, UTC.
      frozen_at: optimizer -> when its losses were frozen at the latest.
      digest: of all of the record's content.
      identities: optimizer -> the hyperparameters that ran.
    """

    task: str
    horizon: int
    levels: Mapping[str, Mapping[str, Mapping[str, float]]]
    references: Mapping[str, str]
    made_at: str
    digest: str
    identities: Mapping[str, Mapping[str, Any]]
    frozen_at: Mapping[str, str] = dataclasses.field(default_factory=dict)


def smooth(losses: ArrayLike) -> NDArray[np.float64]:
    """Running median over `SMOOTHING` points of the grid, the window symmetric and narrower towards both ends.

    A median, since it removes a spike and leaves every monotone curve as it is: smoothing moves no crossing of those.

    Args:
      losses: (num_points,) or (num_points, num_seeds); NaN, where a run has ended, counts as infinite.
    """
    x = np.asarray(losses, np.float64)
    x = np.where(np.isfinite(x), x, np.inf)
    out, half = x.copy(), SMOOTHING // 2
    for reach in range(1, half + 1):  # wider windows overwrite narrower ones, further from the ends
        if len(x) > 2 * reach:
            windows = np.lib.stride_tricks.sliding_window_view(x, 2 * reach + 1, axis=0)
            out[reach:-reach] = np.sort(windows, axis=-1)[..., reach]  # np.median would make inf - inf a NaN
    return out


def steps_to(level: float, steps: ArrayLike, losses: ArrayLike) -> float:
    """The inner step at which a smoothed curve first reaches a level, inf if it never does.

    Between two points of the grid the loss is taken as linear.

    Args:
      level: loss.
      steps: (num_points,) ascending.
      losses: (num_points,) unsmoothed.

    Example:
      >>> steps_to(1.5, [0, 10, 20], [3.0, 2.0, 1.0])
      15.0
    """
    return first_crossing(level, np.asarray(steps, np.float64), smooth(losses))


def first_crossing(level: float, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """`steps_to` on a curve that is smoothed already."""
    reached = np.flatnonzero(y <= level)
    if not len(reached) or not math.isfinite(level):  # the level of a run that diverged is no target
        return math.inf
    i = int(reached[0])
    if i == 0 or not math.isfinite(y[i - 1]):
        return float(x[i])
    return float(x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i]))


def levels_of(steps: ArrayLike, losses: ArrayLike, horizon: int) -> dict[str, float]:
    """The three targets from an optimizer's own curves: medians over seeds of the smoothed loss at its shares.

    Args:
      steps: (num_points,) of the grid.
      losses: (num_points, num_seeds).
      horizon: inner steps.
    """
    x, y = np.asarray(steps), smooth(losses)
    at = {name: int(np.argmin(np.abs(x - share * horizon))) for name, share in SHARES.items()}
    # The lower of two middle values for an even number: a median that is one of the runs, finite if half of them are.
    return {name: float(np.sort(y[i])[(y.shape[1] - 1) // 2]) for name, i in at.items()}


def needed_steps(grid: Sequence[int], horizon: int) -> list[int]:
    """The points of the evaluation grid that `levels_of` reads: each share of the horizon with its smoothing window."""
    half, needed = SMOOTHING // 2, set()
    for share in SHARES.values():
        i = int(np.argmin(np.abs(np.asarray(grid) - share * horizon)))
        reach = min(half, i, len(grid) - 1 - i)
        needed |= set(grid[i - reach : i + reach + 1])
    return sorted(needed)


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
) -> dict[str, Any]:
    """Runs hand-designed optimizers on the tuning seeds of a task and takes the targets from their curves.

    Args:
      task_name: of the registry.
      task: the loaded `tasks.Task`.
      entrants: tuned hand-designed rows.
      horizon: inner steps.
      programs: compiled programs by optimizer, shared between tasks of a family; added to.
      facts: stored with the record: task and data digests, versions.
      earlier: the record that this one extends, of the same task and data; its rows are taken over as they are, but for
        entrants that have other hyperparameters now.
      tick: called after every run.

    Returns:
      The record, JSON-ready, for `write`.
    """
    from bench import engine
    from bench.tune import FIRST_TUNING_SEED

    grid = engine.evaluation_grid(horizon)
    needed = needed_steps(grid, horizon)
    seeds = [FIRST_TUNING_SEED + k for k in range(NUM_SEEDS)]
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
        if entrant.name not in programs:
            programs[entrant.name] = engine.compile_program(entrant, task, horizon, engine.chunk_lengths(horizon))
        program = programs[entrant.name]
        curves = {metric: np.full((len(grid), NUM_SEEDS), np.nan) for metric in METRICS}
        finals = []
        for column, seed in enumerate(seeds):
            key = engine.run_key(task_name, seed)
            state = program.init(task, entrant, key)
            for i, (previous, step) in enumerate(itertools.pairwise(grid), 1):
                state, _ = program.chunks[step - previous](task, entrant.variables, state, key, 1)
                if step in needed:
                    for split, loss in program.evaluate.items():
                        curves[f"{split}_loss"][i, column] = loss(task, state.params)
            finals.append(engine.whole_loss(task, state.params, "validation"))
            tick()
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
    return {
        "task": task_name,
        "horizon": horizon,
        "seeds": seeds,
        "smoothing": SMOOTHING,
        "shares": SHARES,
        **facts,
        "optimizers": rows,
        "references": references,
        **({"extends": [*earlier.get("extends", ()), _version(earlier)]} if earlier else {}),
        "made_at": now,
    }


def known_row(earlier: Mapping[str, Any] | None, entrant: Any) -> dict[str, Any] | None:
    """What an earlier record holds of an entrant, if it ran with the same hyperparameters; else None."""
    row = (earlier or {}).get("optimizers", {}).get(entrant.name)
    return row if row and row["hyperparameters"] == _finite(dict(entrant.identity)) else None


def _version(record: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one version of a record from another."""
    return {key: record[key] for key in ("digest", "made_at", "commit")}


def target_path(directory: Path, task: str, horizon: int) -> Path:
    """Where the targets of a task at a horizon are kept."""
    return directory / task / f"{horizon}.json"


def write(path: Path, record: dict[str, Any]) -> None:
    """Writes a record with its digest; over another one only where it extends that one.

    Raises:
      UsageError: targets are frozen there already, or the folder cannot be written.
    """
    from bench.store import write_atomically

    if path.exists() and read(path).digest not in (version["digest"] for version in record.get("extends", ())):
        raise UsageError(f"targets are frozen in {path}; delete the file to freeze others, and say so")
    record = _finite(record)
    text = json.dumps({**record, "digest": _digest(record)}, indent=1, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def load(task: str, horizon: int, *, local_dir: Path | None = None) -> Targets | None:
    """The frozen targets of a task at a horizon, the shipped ones first; None if there are none.

    Raises:
      UsageError: an altered or foreign file.
    """
    for directory in (SHIPPED_DIR, local_dir):
        path = directory and target_path(directory, task, horizon)
        if path and path.is_file():
            return read(path)
    return None


def read(path: Path) -> Targets:
    """A file written by `write`.

    Raises:
      UsageError: not such a file, or altered since.
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
    """A whole record, for another one to extend.

    Args:
      path: of the file.
      facts: task and data digests that it has to be of.

    Raises:
      UsageError: as `read`, or of another task or other data.
    """
    read(path)
    record = json.loads(path.read_text())
    for key in ("task_digest", "data_digest"):
        if record.get(key) != facts[key]:
            raise UsageError(f"{path}: frozen with {key} {record.get(key)}, this is {facts[key]}: nothing to extend")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _finite(value: Any) -> Any:
    """JSON without infinities: a diverged run's loss is null."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
