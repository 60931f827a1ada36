"""The rows of a suite, checked and indexed, which scores, tables and figures are computed from.

A failed run (any status but "ok", or a non-finite loss) is kept: its losses are infinite, and its curve is NaN from the
step at which it ended (protocol rule 11).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from bench.store.record import CURVE_COLUMNS

# A pandas DataFrame or Series. The types of pandas are incomplete, and partly known types cause false errors.
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

LEARNED, HAND_DESIGNED, CONTROL = "learned", "hand-designed", "control"
LONGEST_SLUG = 80
UNTRAINED = "untrained"  # the control that is a learned optimizer before outer-training
LOSSES = {
    "mean_train_loss": "mean train loss",
    "final_train_loss": "final train loss",
    "final_validation_loss": "final validation loss",
    "final_test_loss": "final test loss",
    "test_loss_at_best_validation": "test loss at best validation step",
}


@dataclass(frozen=True, eq=False)  # compared and hashed by identity, so that results computed from it can be cached
class Rows:
    """The rows of one report, checked and indexed."""

    train: Frame  # cells of kind "train", with `finished`
    timing: Frame  # cells of kind "time"
    runs_by_optimizer: dict[str, Frame]
    loss_tables: dict[tuple[str, str], Frame]  # (optimizer, metric) -> (seed x task), infinite where the run failed
    series: dict[tuple[str, str, str], Frame]  # (task, optimizer, metric) -> (step x seed) values
    blocks: dict[str, Frame]  # task -> (block x optimizer) seconds per step
    races: dict[str, Frame]  # task -> (step x metric) of its race, metrics "validation_loss/NAME", "wall_time_sec/NAME"
    compile_sec: dict[tuple[str, str], float]  # (task, optimizer) -> seconds
    step_bytes: dict[tuple[str, str], float]  # (task, optimizer) -> memory of a training step beside the data
    tasks: tuple[str, ...]  # in the order of the rows
    optimizers: tuple[str, ...]  # every name trained or timed, sorted
    roles: dict[str, str]
    slugs: dict[str, str]  # task -> file name part, distinct

    @functools.cached_property
    def trained(self) -> tuple[str, ...]:
        """Optimizers with training runs."""
        names = set(self.train["optimizer"])
        return tuple(name for name in self.optimizers if name in names)

    @property
    def compared(self) -> tuple[str, ...]:
        """The optimizers that are compared: all but the controls."""
        return tuple(name for name in self.optimizers if self.role(name) != CONTROL)

    def without_controls(self) -> Rows:
        """The rows without those of the controls, which have their own table.

        Raises:
          ValueError: there are only controls.
        """
        controls = set(self.optimizers) - set(self.compared)
        train = self.train[~self.train["optimizer"].isin(list(controls))]
        raced = {
            task: [name for name in table if name.partition("/")[2] not in controls]
            for task, table in self.races.items()
        }
        timed = {task: [name for name in table if name not in controls] for task, table in self.blocks.items()}
        present = {*train["task"], *self.timing["task"], *self.races}
        tasks = tuple(task for task in self.tasks if task in present)
        if not tasks:
            raise ValueError("There is no cell to report.")
        return dataclasses.replace(
            self,
            train=train,
            runs_by_optimizer={name: runs for name, runs in self.runs_by_optimizer.items() if name not in controls},
            loss_tables={(name, metric): t for (name, metric), t in self.loss_tables.items() if name not in controls},
            series={key: table for key, table in self.series.items() if key[1] not in controls},
            blocks={task: self.blocks[task][names] for task, names in timed.items() if names},
            races={task: self.races[task][names] for task, names in raced.items()},
            compile_sec={key: seconds for key, seconds in self.compile_sec.items() if key[1] not in controls},
            step_bytes={key: size for key, size in self.step_bytes.items() if key[1] not in controls},
            tasks=tasks,
            optimizers=self.compared,
            slugs=slugs(tasks),
        )

    @property
    def controls(self) -> dict[str, str]:
        """Control -> hand-designed optimizer that it is a variant of (bench/entries/controls.py)."""
        return {control: base for control, base in self._varied() if control != UNTRAINED}

    @property
    def untrained(self) -> dict[str, str]:
        """Learned optimizer -> control with its untrained theta (bench/entries/controls.py)."""
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
        """Inner steps of the task's runs; the longest if they differ."""
        return int(self._horizons.get(task, math.nan))

    @functools.cached_property
    def _horizons(self) -> dict[str, float]:
        frames = (self.timing, self.train)  # the later replaces the earlier
        return {str(task): end for each in frames for task, end in each.groupby("task")["horizon"].max().items()}

    def chance_loss(self, task: str) -> float:
        """The loss of chance on the task; infinite where it is not known."""
        return self._chance_losses.get(task, math.inf)

    @functools.cached_property
    def _chance_losses(self) -> dict[str, float]:
        known = as_floats(self.train["chance_loss"]).dropna()
        return {str(task): float(losses.iloc[0]) for task, losses in known.groupby(self.train["task"])}

    def curve(self, task: str, optimizer: str, metric: str) -> Frame | None:
        """(step x seed) values of a metric, NaN from where a run ended; None without rows."""
        return self.series.get((task, optimizer, metric))

    def runs(self, optimizer: str, tasks: tuple[str, ...]) -> Frame:
        """The training cells of an optimizer on the tasks."""
        found = self._runs.get((optimizer, tasks))
        if found is None:
            runs = self.runs_by_optimizer.get(optimizer)
            found = self.train.iloc[:0] if runs is None else runs[runs["task"].isin(list(tasks))]
            self._runs[optimizer, tasks] = found
        return found

    @functools.cached_property
    def _runs(self) -> dict[tuple[str, tuple[str, ...]], Frame]:
        return {}  # a cache: a report asks for the same runs and losses hundreds of times

    def losses(self, optimizer: str, tasks: tuple[str, ...], metric: str) -> Frame:
        """(seed x task) losses: NaN where there is no cell, infinite where the run failed."""
        found = self._losses.get((optimizer, tasks, metric))
        if found is None:
            found = _columns(self.loss_tables.get((optimizer, metric), pd.DataFrame()), tasks)
            self._losses[optimizer, tasks, metric] = found
        return found

    @functools.cached_property
    def _losses(self) -> dict[tuple[str, tuple[str, ...], str], Frame]:
        return {}


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

    ordered, by_cell = curves_by_cell(curves)
    series = _series(train, ordered, by_cell)

    runs_by_optimizer = {str(name): runs for name, runs in train.groupby("optimizer")}
    loss_tables = {}
    for name, runs in runs_by_optimizer.items():
        for metric in LOSSES:
            losses = as_floats(runs[metric])
            losses = losses.where(runs["finished"] & np.isfinite(losses), np.inf)
            loss_tables[name, metric] = _wide(seed=runs["seed"], task=runs["task"], value=losses)

    blocks: dict[str, Frame] = {}
    compile_sec: dict[tuple[str, str], float] = {}
    step_bytes: dict[tuple[str, str], float] = {}
    for (task, optimizer), runs in train[train["finished"]].groupby(["task", "optimizer"]):
        if len(seconds := as_floats(runs["compile_sec"]).dropna()):
            compile_sec[str(task), str(optimizer)] = float(seconds.median())
    for _, cell in timing.sort_values("started_at", kind="stable").iterrows():
        rows = ordered.iloc[by_cell.get(cell["cell"], slice(0))]
        metric = rows["metric"].astype(str)
        for prefix, found in (("compile_seconds/", compile_sec), ("step_bytes/", step_bytes)):
            for _, row in rows[metric.str.startswith(prefix)].iterrows():
                found[cell["task"], row["metric"].partition("/")[2]] = float(row["value"])
        seconds = rows[metric.str.startswith("seconds_per_step/")]
        if len(seconds):  # blocks are compared within one cell only; a later timing replaces an earlier one
            table = seconds.assign(optimizer=seconds["metric"].str.partition("/")[2])
            blocks[cell["task"]] = table.pivot(index="step", columns="optimizer", values="value").sort_index()

    races = {
        cell["task"]: ordered.iloc[by_cell.get(cell["cell"], slice(0))].pivot(
            index="step", columns="metric", values="value"
        )
        for _, cell in cells[(cells["kind"] == "race") & (cells["status"] == "ok")]
        .sort_values("started_at", kind="stable")
        .iterrows()
    }
    timed = [name for table in blocks.values() for name in table.columns]
    # The clock's controls have no training runs; their names are in the configuration of a timing cell.
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


def _series(train: Frame, curves: Frame, by_cell: dict[str, slice]) -> dict[tuple[str, str, str], Frame]:
    """(task, optimizer, metric) -> (step x seed) values of the training cells, not finite ones as NaN."""
    metrics, names = pd.factorize(curves["metric"])
    steps, values = curves["step"].to_numpy(), as_floats(curves["value"]).to_numpy()
    values = np.where(np.isfinite(values), values, np.nan)
    series = {}
    for (task, optimizer), runs in train.groupby(["task", "optimizer"], sort=False):
        parts = [
            (seed, by_cell[cell]) for cell, seed in zip(runs["cell"], runs["seed"], strict=True) if cell in by_cell
        ]
        if not parts:
            continue
        seeds = np.repeat([seed for seed, _ in parts], [where.stop - where.start for _, where in parts])
        own = np.concatenate([np.arange(where.start, where.stop) for _, where in parts])
        for metric in np.unique(metrics[own]):
            mine = metrics[own] == metric
            rows = own[mine]
            table = _wide(step=steps[rows], seed=seeds[mine], value=values[rows])
            series[str(task), str(optimizer), str(names[metric])] = table
    return series


def _wide(*, value: Frame, **axes: Frame) -> Frame:
    """A table of `value` with the two other arguments as rows and columns, named and sorted; NaN for missing values.

    Does the same as `DataFrame.pivot` in a tenth of the time; a report makes thousands of such tables.

    Raises:
      ValueError: two values for one place.
    """
    index, columns = axes
    rows, row = np.unique(np.asarray(axes[index]), return_inverse=True)
    names, column = np.unique(np.asarray(axes[columns]), return_inverse=True)
    values = np.full((len(rows), len(names)), np.nan)
    values[row, column] = np.asarray(value, dtype=float)
    if len(np.unique(row * len(names) + column)) < len(row):
        raise ValueError(f"Two values for one {index} and {columns}.")
    return pd.DataFrame(values, index=pd.Index(rows, name=index), columns=pd.Index(names, name=columns))


def curves_by_cell(curves: Frame) -> tuple[Frame, dict[str, slice]]:
    """Curves with the rows of each cell together, in their order, and the slice of each cell."""
    codes, names = pd.factorize(curves["cell"])
    known = np.flatnonzero(codes >= 0)  # rows without a cell are dropped
    if len(known) < len(codes) or (np.diff(codes) < 0).any():
        order = known[np.argsort(codes[known], kind="stable")]
        curves, codes = curves.iloc[order], codes[order]
    ends = np.searchsorted(codes, np.arange(len(names) + 1))
    return curves, {str(name): slice(a, b) for name, a, b in zip(names, ends[:-1], ends[1:], strict=True)}


def _columns(table: Frame, names: tuple[str, ...]) -> Frame:
    """`table.reindex(columns=names).dropna(how="all")` of numbers, at a fraction of the time."""
    columns = pd.Index(list(names), name=table.columns.name)
    values = np.full((len(names), len(table)), np.nan)
    places = table.columns.get_indexer(columns)
    values[places >= 0] = table.to_numpy(dtype=float).T[places[places >= 0]]
    kept = ~np.isnan(values).all(axis=0)
    return pd.DataFrame(np.compress(kept, values, axis=1).T, index=table.index[kept], columns=columns)


def as_floats(values: Frame) -> Frame:
    """A column as float64, missing values as NaN."""
    numbers: Any = pd.to_numeric(values, errors="coerce")
    return numbers.astype("float64")


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Name -> a distinct part of file names and anchors."""
    slugs: dict[str, str] = {}
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "task"
        if len(slug) > LONGEST_SLUG:  # file systems have names of at most 255 bytes
            slug = f"{slug[:LONGEST_SLUG]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        taken = {used.lower() for used in slugs.values()}  # some file systems ignore case
        candidate, number = slug, 2
        while candidate.lower() in taken:
            candidate, number = f"{slug}-{number}", number + 1
        slugs[name] = candidate
    return slugs
