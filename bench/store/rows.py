"""The rows of a suite, checked and indexed: what scoring, tables and figures all read.

A run that failed (any status but "ok", or a non-finite loss) stays: its losses are infinite, its curve NaN from where
it ended (protocol rule 11).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

# A pandas DataFrame or Series. pandas ships without complete types, and half-known ones hide the real findings.
Frame: TypeAlias = Any

CELL_COLUMNS = (
    *("cell", "kind", "suite", "label", "task", "family", "optimizer", "role", "seed", "status", "reason"),
    *("first_bad_step", "horizon", "batch_size", "num_params", "chance_loss", "hyperparameters", "tuned_horizon"),
    *("final_train_loss", "final_validation_loss", "final_test_loss", "mean_train_loss", "best_validation_step"),
    *(
        "test_loss_at_best_validation",
        "train_wall_sec",
        "eval_wall_sec",
        "compile_sec",
        "started_at",
        "config",
        "provenance",
    ),
)
CURVE_COLUMNS = ("cell", "step", "metric", "value")

LEARNED, HAND_DESIGNED, CONTROL = "learned", "hand-designed", "control"
UNTRAINED = "untrained"  # the control that is a learned optimizer before its outer-training
LOSSES = {
    "mean_train_loss": "mean train loss",
    "final_train_loss": "final train loss",
    "final_validation_loss": "final validation loss",
    "final_test_loss": "final test loss",
    "test_loss_at_best_validation": "test loss at best validation step",
}


@dataclass(frozen=True, eq=False)  # compared and hashed by identity, so that what follows from it can be cached
class Rows:
    """The rows of one report, checked and indexed."""

    train: Frame  # cells of kind "train", with `finished`
    timing: Frame  # cells of kind "time"
    runs_by_optimizer: dict[str, Frame]
    loss_tables: dict[tuple[str, str], Frame]  # (optimizer, metric) -> (seed x task), infinite where the run failed
    series: dict[tuple[str, str, str], Frame]  # (task, optimizer, metric) -> (step x seed) values
    blocks: dict[str, Frame]  # task -> (block x optimizer) seconds per step
    races: dict[str, Frame]  # task -> (step x metric) of its race, metrics "train_loss/NAME", "wall_time_sec/NAME"
    compile_sec: dict[tuple[str, str], float]  # (task, optimizer) -> seconds
    step_bytes: dict[tuple[str, str], float]  # (task, optimizer) -> memory of a training step beside the data
    tasks: tuple[str, ...]  # in the order of the rows
    optimizers: tuple[str, ...]  # every name trained or timed, sorted
    roles: dict[str, str]
    slugs: dict[str, str]  # task -> file name part, distinct

    @property
    def trained(self) -> tuple[str, ...]:
        """Optimizers with training runs."""
        names = set(self.train["optimizer"])
        return tuple(name for name in self.optimizers if name in names)

    @property
    def contenders(self) -> tuple[str, ...]:
        """What is compared: every optimizer that is no control."""
        return tuple(name for name in self.optimizers if self.role(name) != CONTROL)

    @property
    def controls(self) -> dict[str, str]:
        """Control -> name of the hand-designed row that it varies (bench/entries/controls.py)."""
        return {control: base for control, base in self._varied() if control != UNTRAINED}

    @property
    def untrained(self) -> dict[str, str]:
        """Learned optimizer -> the control that is its beginning (bench/entries/controls.py)."""
        return {base: f"{base}_{control}" for control, base in self._varied() if control == UNTRAINED}

    def _varied(self) -> Iterator[tuple[str, str]]:
        for name in self.optimizers:
            base, _, control = name.rpartition("_")
            if self.role(name) == CONTROL and base in self.optimizers:
                yield control, base

    def role(self, optimizer: str) -> str:
        """`learned`, `hand-designed`, `control`, or `timed only` for a name without training runs."""
        return self.roles.get(optimizer, "timed only")

    def horizon(self, task: str) -> int:
        """Inner steps of the task's runs; its rows have one horizon, else the longest."""
        runs = self.train[self.train["task"] == task]
        return int((runs if len(runs) else self.timing[self.timing["task"] == task])["horizon"].max())

    def chance_loss(self, task: str) -> float:
        """The loss of a guess on the task; infinite where it is not known."""
        known = as_floats(self.train.loc[self.train["task"] == task, "chance_loss"]).dropna()
        return float(known.iloc[0]) if len(known) else math.inf

    def curve(self, task: str, optimizer: str, metric: str) -> Frame | None:
        """(step x seed) values of a metric, NaN from where a run ended; None without rows."""
        return self.series.get((task, optimizer, metric))

    def runs(self, optimizer: str, tasks: tuple[str, ...]) -> Frame:
        """The training cells of an optimizer on the tasks."""
        runs = self.runs_by_optimizer.get(optimizer)
        return self.train.iloc[:0] if runs is None else runs[runs["task"].isin(list(tasks))]

    def losses(self, optimizer: str, tasks: tuple[str, ...], metric: str) -> Frame:
        """(seed x task) losses: NaN where there is no cell, infinite where the run failed."""
        table = self.loss_tables.get((optimizer, metric), pd.DataFrame())
        return table.reindex(columns=list(tasks)).dropna(how="all")


def read_rows(cells: Frame, curves: Frame) -> Rows:
    """Checks the rows and indexes them by task, optimizer and metric.

    Raises:
      ValueError: columns are missing, there is no row, or a task has two cells for one optimizer and seed.
    """
    for name, frame, needed in (("cells", cells, CELL_COLUMNS), ("curves", curves, CURVE_COLUMNS)):
        if missing := [column for column in needed if column not in frame.columns]:
            raise ValueError(f"`{name}` lacks the columns {missing}; it has {list(frame.columns)}.")
    if cells.empty:
        raise ValueError("There is no cell to report.")

    train = cells[cells["kind"] == "train"].copy()
    twice = train[train.duplicated(["task", "optimizer", "seed"], keep=False)]
    if len(twice):
        task, optimizer, seed = twice.iloc[0][["task", "optimizer", "seed"]]
        same = twice[(twice["task"] == task) & (twice["optimizer"] == optimizer) & (twice["seed"] == seed)]
        raise ValueError(
            f"{len(same)} cells for task {task!r}, optimizer {optimizer!r}, seed {seed}: {', '.join(same['cell'])}. "
            "They differ in hyperparameters, horizon or batch size: report one configuration at a time."
        )
    train["finished"] = train["status"] == "ok"
    timing = cells[cells["kind"] == "time"]
    tasks = tuple(dict.fromkeys(cells["task"]))

    values = curves.merge(train[["cell", "task", "optimizer", "seed"]], on="cell")
    values["value"] = as_floats(values["value"]).replace([np.inf, -np.inf], np.nan)
    series = {
        (str(task), str(optimizer), str(metric)): _wide(group, "step", "seed")
        for (task, optimizer, metric), group in values.groupby(["task", "optimizer", "metric"], sort=False)
    }

    runs_by_optimizer = {str(name): runs for name, runs in train.groupby("optimizer")}
    loss_tables = {}
    for name, runs in runs_by_optimizer.items():
        for metric in LOSSES:
            losses = as_floats(runs[metric])
            losses = runs.assign(value=losses.where(runs["finished"] & np.isfinite(losses), np.inf))
            loss_tables[name, metric] = _wide(losses, "seed", "task")

    blocks: dict[str, Frame] = {}
    compile_sec: dict[tuple[str, str], float] = {}
    step_bytes: dict[tuple[str, str], float] = {}
    for (task, optimizer), runs in train[train["finished"]].groupby(["task", "optimizer"]):
        if len(seconds := as_floats(runs["compile_sec"]).dropna()):
            compile_sec[str(task), str(optimizer)] = float(seconds.median())
    for _, cell in timing.sort_values("started_at").iterrows():
        rows = curves[curves["cell"] == cell["cell"]]
        metric = rows["metric"].astype(str)
        for prefix, found in (("compile_seconds/", compile_sec), ("step_bytes/", step_bytes)):
            for _, row in rows[metric.str.startswith(prefix)].iterrows():
                found[cell["task"], row["metric"].partition("/")[2]] = float(row["value"])
        seconds = rows[metric.str.startswith("seconds_per_step/")]
        if len(seconds):  # blocks are compared within one cell only; a later timing replaces an earlier one
            table = seconds.assign(optimizer=seconds["metric"].str.partition("/")[2])
            blocks[cell["task"]] = table.pivot(index="step", columns="optimizer", values="value").sort_index()

    races = {
        cell["task"]: curves[curves["cell"] == cell["cell"]].pivot(index="step", columns="metric", values="value")
        for _, cell in cells[(cells["kind"] == "race") & (cells["status"] == "ok")].sort_values("started_at").iterrows()
    }
    timed = [name for table in blocks.values() for name in table.columns]
    # The clock's controls train nothing: a timing cell's configuration says which of its rows they are.
    roles = {name: CONTROL for config in timing["config"] for name in json.loads(config or "{}").get("controls", ())}
    return Rows(
        train=train,
        timing=timing,
        runs_by_optimizer=runs_by_optimizer,
        loss_tables=loss_tables,
        series=series,
        blocks=blocks,
        races=races,
        compile_sec=compile_sec,
        step_bytes=step_bytes,
        tasks=tasks,
        optimizers=tuple(sorted({*train["optimizer"], *timed})),
        roles=roles | dict(zip(train["optimizer"], train["role"], strict=True)),
        slugs=slugs(tasks),
    )


def _wide(frame: Frame, index: str, columns: str) -> Frame:
    """`frame.pivot` of its column `value`, both axes sorted. A report makes hundreds; pandas takes ten times as long.

    Raises:
      ValueError: two values for one place.
    """
    rows, row = np.unique(frame[index].to_numpy(), return_inverse=True)
    names, column = np.unique(frame[columns].to_numpy(), return_inverse=True)
    values = np.full((len(rows), len(names)), np.nan)
    values[row, column] = frame["value"].to_numpy(dtype=float)
    if len(np.unique(row * len(names) + column)) < len(frame):
        raise ValueError(f"Two values for one {index} and {columns}.")
    return pd.DataFrame(values, index=pd.Index(rows, name=index), columns=pd.Index(names, name=columns))


def as_floats(values: Frame) -> Frame:
    """A column as float64, missing values as NaN."""
    numbers: Any = pd.to_numeric(values, errors="coerce")
    return numbers.astype("float64")


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Names as parts of file names and anchors, all different."""
    slugs: dict[str, str] = {}
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "task"
        taken = {used.lower() for used in slugs.values()}  # some file systems ignore case
        candidate, number = slug, 2
        while candidate.lower() in taken:
            candidate, number = f"{slug}-{number}", number + 1
        slugs[name] = candidate
    return slugs
