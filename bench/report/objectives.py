"""The objective of outer-training alone swapped, in words and numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.measure.objectives import BEFORE, DESIGNS, FAMILY, HORIZON, LOSSES, NUM_TASKS, OUTER_STEPS, differences
from bench.report.figures.differences import differences_figure
from bench.report.section import Section
from bench.report.table import PERCENT, Column, Entry, Table, difference_word, format_interval, text_entry, whole_entry
from bench.statistics import t_interval
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
    found = differences(table)
    begun = "".join(
        f"All of {name} begin from the weights of {design.begin_from}, which were outer-trained on train loss. "
        for name, design in DESIGNS.items()
        if design.begin_from and name in set(table["design"])
    )
    words = [
        f"Outer-trained on validation loss, {DESIGNS[design].called} ({design}) ends at "
        f"{format_interval(difference.exponential())} times the test loss that it has after outer-training on train "
        f"loss: {difference_word(difference)}."
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
        panels = {"logarithm of the final test loss": found}
        caption = f"Paired by outer seed; bars: t {PERCENT} intervals. Left of zero the validation objective is better."
        what, x_label = "Outer-training on validation loss less on train loss", "difference of logarithms"
        figures = [differences_figure("objectives", panels, what, x_label, caption)]
    shown = Table("objectives", "Losses after outer-training", columns, tuple(rows), notes)
    return [Section("differences", "The objective swapped", paragraphs, figures, [shown])]
