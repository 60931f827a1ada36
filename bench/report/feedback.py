"""How much of the learned optimizer is a schedule, in words and numbers."""

from __future__ import annotations

import pandas as pd

from bench.measure.feedback import FAMILY, HORIZON, OPTIMIZER, WAYS
from bench.report.figures.differences import differences_figure
from bench.report.section import Section
from bench.report.table import (
    PERCENT,
    Column,
    Entry,
    Table,
    difference_word,
    format_interval,
    format_number,
    text_entry,
    whole_entry,
)
from bench.statistics import Interval
from bench.store.rows import Frame

NAMES = {"open": "mean schedule of other tasks", "swapped": "feedback of another run"}
assert tuple(NAMES) == WAYS[1:]


def sections(table: pd.DataFrame, cells: Frame, curves: Frame) -> list[Section]:
    """The page's section.

    Args:
      table: from `bench.measure.feedback.table`.
      cells: rows of the measurement.
      curves: their curves.
    """
    del cells, curves
    if table.empty:
        return []
    found = {
        (row["score"], row["way"]): Interval.read(row | {"estimate": row["difference"]})
        for row in table.to_dict("records")
    }
    panels: dict[str, dict[str, Interval]] = {}
    for (score, way), difference in found.items():
        panels.setdefault(score.replace("_", " "), {})[NAMES[way]] = difference
    words = [
        f"With the {NAMES[way]} the difference in {score.replace('_', ' ')} is "
        f"{format_interval(found[score, way], sign=True)}: {difference_word(found[score, way])}."
        for score, way in found
        if score.startswith("final")
    ]
    paragraphs = [
        f"The network of {OPTIMIZER} reads time and shapes, the same in every run, and what the run itself gives: its "
        "losses, weights and gradients. Here it trains tasks as it is; with its outputs replaced by the mean of those "
        "on other tasks, a schedule that was learned; and with what the run gives replaced by what another run gave. "
        "Momentum, orthogonalization and column norms use the run's own gradients in all three.",
        f"On {FAMILY}, {HORIZON:,} steps, {max(table['tasks'])} tasks. {' '.join(words)}",
    ]
    columns = (
        Column("score", "loss"),
        Column("way", "in place of feedback"),
        Column("tasks", "tasks", number=True),
        Column("closed", "as it is", number=True),
        Column("difference", "difference", interval=True),
    )
    rows = [
        (
            text_entry(row["score"].replace("_", " ")),
            text_entry(NAMES[row["way"]]),
            whole_entry(row["tasks"]),
            Entry(format_number(row["closed"]), row["closed"]),
            Entry(format_interval(found[row["score"], row["way"]]), found[row["score"], row["way"]]),
        )
        for row in table.to_dict("records")
    ]
    notes = (f"Differences from the optimizer as it is, paired by task; t {PERCENT} intervals over tasks.",)
    caption = (
        f"Bars: t {PERCENT} intervals over tasks. Right of zero the loss is higher than with the run's own feedback."
    )
    figure = differences_figure("feedback", panels, "Without the run's own feedback", "difference in loss", caption)
    shown = Table("feedback", "A schedule in place of feedback", columns, tuple(rows), notes)
    return [Section("differences", "Schedule and feedback", paragraphs, [figure], [shown])]
