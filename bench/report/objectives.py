"""The objective of outer-training alone swapped, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bench.measure.objectives import (
    BEFORE,
    DESIGNS,
    FAMILY,
    HORIZON,
    LOSSES,
    NUM_TASKS,
    OBJECTIVES,
    OUTER_STEPS,
    changes,
    differences,
)
from bench.report.figures.axes import listed
from bench.report.figures.differences import differences_figure
from bench.report.section import Section
from bench.report.table import PERCENT, Column, Entry, Table, difference_word, format_interval, text_entry, whole_entry
from bench.statistics import Interval, t_interval
from bench.store.rows import Frame

NAMES = {name: name.removeprefix("final_").replace("_", " ") for name in LOSSES} | {BEFORE: "test loss before"}


def sections(table: pd.DataFrame, cells: Frame, curves: Frame) -> list[Section]:
    """The page's section.

    Args:
      table: from `bench.measure.objectives.table`.
      cells: rows of the measurement.
      curves: their curves.
    """
    del cells, curves
    if table.empty:
        return []
    found, changed = differences(table), changes(table)
    begun = "".join(
        f"All of {name} begin from the weights of {design.begin_from}, which were outer-trained on train loss. "
        for name, design in DESIGNS.items()
        if design.begin_from and name in set(table["design"])
    )
    words = [
        f"Outer-trained on validation loss, {DESIGNS[design].called} ({design}) ends at "
        f"{difference.exponential().text(1.0)} times the test loss that it has after outer-training on train "
        f"loss: {difference_word(difference)}. {change_of_objectives(design, changed[design])}"
        for design, difference in found.items()
    ]
    paragraphs = [
        f"Runs of {OUTER_STEPS} outer steps on {FAMILY} that differ in the objective alone: both score a fresh batch "
        "after the step, of the training or of the validation images, and runs of one seed begin from the same theta "
        f"and see the same tasks. {begun}Each theta, chosen by its own objective, trains {NUM_TASKS} networks on "
        f"evaluation classes for {HORIZON:,} steps.",
        " ".join(words) or "No difference can be told yet: the runs of all outer seeds are needed.",
    ]
    rows = []
    for _, group in table.groupby(["design", "objective"], sort=False):
        first = group.iloc[0]
        means = [t_interval(np.log(group[name].to_numpy(np.float64))).exponential() for name in NAMES]
        entries = (Entry(format_interval(mean), mean) for mean in means)
        rows.append((text_entry(first["design"]), text_entry(first["objective"]), whole_entry(len(group)), *entries))
    columns = (
        Column("design", "design"),
        Column("objective", "outer-trained on"),
        Column("seeds", "outer seeds", number=True),
        *(Column(key, name, interval=True) for key, name in NAMES.items()),
    )
    notes = (f"Geometric means over tasks and outer seeds, with t {PERCENT} intervals of the logarithm.",)
    figures = []
    if found:
        over = {DESIGNS[design].called: difference.exponential() for design, difference in found.items()}
        before = {
            f"{DESIGNS[design].called}, {objective} loss": change.exponential()
            for design, by_objective in changed.items()
            for objective, change in by_objective.items()
        }
        panels = {"trained on validation loss, over on train loss": over, "over before either": before}
        caption = f"Paired by outer seed; bars: t {PERCENT} intervals. Left of 1 is better."
        what = "Final test loss after outer-training"
        figures = [differences_figure("objectives", panels, what, "ratio of test losses", caption, equal=1.0)]
    shown = Table("objectives", "Losses after outer-training", columns, tuple(rows), notes)
    return [Section("differences", "The objective swapped", paragraphs, figures, [shown])]


def change_of_objectives(design: str, changed: Mapping[str, Interval]) -> str:
    """What outer-training on each objective changes.

    Args:
      design: a name in `DESIGNS`.
      changed: objective -> difference of logarithms, from `bench.measure.objectives.changes`.
    """
    parts = listed([f"{changed[objective].exponential().text(1.0)} on {objective} loss" for objective in OBJECTIVES])
    return (
        f"Over that before either, the test loss of {DESIGNS[design].called} after {OUTER_STEPS} steps of "
        f"outer-training is {parts}."
    )
