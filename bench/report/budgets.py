"""Losses after equal steps and after equal seconds, side by side (protocol rule 13)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.report.summary import step_cost
from bench.report.table import Column, Entry, Table, format_interval, format_number, text_entry
from bench.score.times_to_target import block_ratio
from bench.statistics import Interval, t_interval
from bench.store.rows import CONTROL, Frame, Rows

LOSSES = {"train_loss": "train loss", "validation_loss": "validation loss"}  # that are known along the way


def budget_table(rows: Rows, tasks: tuple[str, ...], slug: str, floor: float | None = None) -> Table | None:
    """Train and validation loss at the horizon, and in the seconds that the cheapest row takes for it; None untimed.

    Args:
      rows: of the suite.
      tasks: losses are means over them within each seed; rows that lack one are left out.
      slug: of the table's files.
      floor: of the clock (rule 8): who is not dearer by more than that has time for all steps.
    """
    cheapest = {task: _cheapest(rows, task) for task in tasks}
    names = [name for name in rows.trained if rows.role(name) != CONTROL]
    table = []
    for name in names:
        shares = [_affordable(rows, task, name, cheapest[task], floor or 0.0) for task in tasks]
        curves = [rows.curve(task, name, metric) for task in tasks for metric in LOSSES]
        known = [share for share in shares if share is not None]
        if len(known) < len(shares) or any(curve is None for curve in curves):
            continue
        entries, worst = [], math.inf
        for metric in LOSSES:
            for within in ([1.0] * len(tasks), known):
                found, failed = _loss(rows, tasks, name, metric, within)
                text = format_interval(found) if not failed else f"{failed} failed"
                entries.append(Entry(text, found if not failed else None))
                if metric == "train_loss":
                    worst = found.estimate if found and not failed else math.inf
        mean = float(np.mean(known))
        table.append((worst, name, (text_entry(name), *entries, Entry(format_number(mean, 3), mean))))
    if not table:
        return None
    left_out = [name for name in names if name not in {name for _, name, _ in table}]
    columns = (
        Column("optimizer", "optimizer"),
        *(
            Column(f"{metric}_{budget}", f"{header}, equal {budget}", interval=True)
            for metric, header in LOSSES.items()
            for budget in ("steps", "seconds")
        ),
        Column("share_of_steps", "share of the steps in these seconds", number=True),
    )
    where = f"Task {tasks[0]}" if len(tasks) == 1 else f"All {len(tasks)} tasks"
    notes = (
        "Equal steps: all of the horizon. Equal seconds: those that the row with the cheapest step takes for the "
        "horizon; who is dearer by more than the floor of the clock is cut short at the last evaluation before, with a "
        "schedule that has not ended. Losses on the images that are evaluated along the way (rule 10), so neither of "
        "test nor of the whole splits. Lowest train loss after equal seconds first.",
    )
    if left_out:
        notes += (f"Without a clock or a curve on every task, and left out: {', '.join(left_out)}.",)
    caption = f"{where}: loss after equal steps and after equal seconds"
    return Table(slug, caption, columns, tuple(row for _, _, row in sorted(table, key=lambda each: each[:2])), notes)


def _cheapest(rows: Rows, task: str) -> str | None:
    """The row with the fewest seconds per step; None where nothing is timed."""
    costs = {name: step_cost(rows, name, task) for name in rows.compared}
    known = {name: cost.estimate for name, cost in costs.items() if cost is not None}
    return min(known, key=lambda name: known[name]) if known else None


def _affordable(rows: Rows, task: str, name: str, cheapest: str | None, floor: float) -> float | None:
    """Share of the horizon that a row has time for; None where it is not timed. Ratios within blocks (rule 7)."""
    ratios = block_ratio(rows, task, name, cheapest) if cheapest else None
    if ratios is None:
        return None
    cost = float(np.median(ratios))
    return 1.0 if cost <= 1 + floor else 1.0 / cost


def _loss(
    rows: Rows, tasks: Sequence[str], name: str, metric: str, within: Sequence[float]
) -> tuple[Interval | None, int]:
    """Mean over seeds of the loss after a share of each task's horizon, and how many runs have failed by then."""
    columns: dict[str, Frame] = {}
    for task, share in zip(tasks, within, strict=True):
        curve = rows.series[task, name, metric]
        columns[task] = curve.iloc[: np.searchsorted(curve.index, share * rows.horizon(task), side="right")].iloc[-1]
    first = columns[tasks[0]].index
    if all(column.index.equals(first) for column in columns.values()):
        values = np.stack([column.to_numpy(dtype=float) for column in columns.values()])
        finished = np.compress(~np.isnan(values).any(axis=0), values, axis=1)
        return (t_interval(finished.mean(axis=0)) if finished.size else None), int(np.isnan(values).sum())
    failed = sum(int(column.isna().sum()) for column in columns.values())
    whole: Frame = pd.DataFrame(columns).dropna()  # a seed that some task lacks is left out
    return (t_interval(whole.mean(axis=1).to_numpy()) if len(whole) else None), failed
