"""How long cells take, by what published cells of the same suite took."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.cells.base import Cell
from bench.store.published import LOCAL

COLUMNS = ["kind", "task", "optimizer", "horizon", "started_at", "total_wall_sec", "compile_sec"]


class Forecast(NamedTuple):
    """What cells are expected to take, and the label of the results by which."""

    seconds: float
    label: str


def forecast(cells: Sequence[Cell], results_dir: Path, suite: str) -> Forecast | None:
    """The seconds that cells take, from the first published set of their suite that has cells of all their tasks.

    A training run takes what the clock of runs of its optimizer says, else of all on the task, and each optimizer is
    compiled once for a task; horizons scale it. Other cells have no clock: they take what passed on the median until
    the next cell began.

    Returns:
      None where no set has their tasks.
    """
    for path in sorted(results_dir.glob(f"{suite}/*/cells.parquet")):
        if path.parent.name == LOCAL:
            continue
        try:
            rows = pd.read_parquet(path, columns=COLUMNS).sort_values("started_at", ignore_index=True)
        except (OSError, ValueError, KeyError):  # `bench verify` says what is wrong with it
            continue
        if (seconds := _seconds(cells, rows)) is not None:
            return Forecast(seconds, path.parent.name)
    return None


def _seconds(cells: Sequence[Cell], rows: pd.DataFrame) -> float | None:
    started = pd.to_datetime(rows["started_at"])
    rows = rows.assign(
        gap=-started.diff(-1).dt.total_seconds(),
        per_step=rows["total_wall_sec"] / rows["horizon"],
        optimizer=rows["optimizer"].fillna(""),
    )
    found: dict[str, dict[str, float]] = {}  # column -> "kind/task/optimizer", "kind/task" or "kind" -> seconds
    of_task = rows["kind"] + "/" + rows["task"]
    names = (rows["kind"], of_task, of_task + "/" + rows["optimizer"])
    for column, how in (("gap", "median"), ("per_step", "mean"), ("compile_sec", "mean")):
        found[column] = {}
        for name in names:
            known = rows[column].groupby(name).agg(how).dropna()
            found[column] |= dict(zip(map(str, known.index), map(float, known), strict=True))
    total, compiled = 0.0, set()
    for cell in cells:
        if cell.kind == "train":
            task, optimizer = f"train/{cell.config.task}", f"train/{cell.config.task}/{cell.config.optimizer}"
            seconds = _first(found["per_step"], optimizer, task)
            if seconds is None:
                return None
            total += seconds * cell.config.horizon
            program = (cell.config.family, cell.config.optimizer)
            if program not in compiled:
                compiled.add(program)
                total += _first(found["compile_sec"], optimizer, task) or 0.0
        else:
            seconds = _first(found["gap"], f"{cell.kind}/{getattr(cell.config, 'task', '')}", cell.kind)
            total += seconds or 0.0
    return total


def _first(values: dict[str, float], *keys: str) -> float | None:
    """What is known of the first of some keys."""
    return next((values[key] for key in keys if key in values), None)
