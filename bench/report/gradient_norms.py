"""Norms of the outer-gradient on a convolutional net, in words and numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.measure.gradient_norms import FAMILY, growths
from bench.measure.pathologies.summary import EXPLODES
from bench.report.figures.axes import listed, percent
from bench.report.figures.gradient_norms import norms_figure
from bench.report.section import Section
from bench.report.table import Column, Entry, Table, format_interval, format_number, text_entry
from bench.statistics import Interval
from bench.store.rows import Frame


def sections(table: pd.DataFrame, cells: Frame, curves: Frame) -> list[Section]:
    """The page's section.

    Args:
      table: from `bench.measure.gradient_norms.table`.
      cells: rows of the measurement.
      curves: their curves.
    """
    del cells, curves
    if table.empty:
        return []
    named = table["optimizer"] + ", " + table["theta"]
    grown = {", ".join(pair): found for pair, found in growths(table).items()}
    exploding = [name for name, found in grown.items() if found.explodes]
    paragraphs = [
        f"Each norm is of the backpropagated gradient of one unroll on {FAMILY}, at one theta. "
        f"{' '.join(f'{name}: the median {found}.' for name, found in grown.items())}",
        f"It grows by more than {EXPLODES:g} times, by its intervals too, of {listed(exploding)}."
        if exploding
        else f"No median is known to grow by more than {EXPLODES:g} times.",
    ]
    shares = {str(name): float(np.min(rows["finite"])) for name, rows in table.groupby(named, sort=False)}
    paragraphs += [
        f"Of {name}, up to {percent(1 - share)} of the gradients of a length are not finite."
        for name, share in shares.items()
        if share < 1
    ]
    columns = (
        Column("optimizer", "optimizer"),
        Column("theta", "theta"),
        Column("steps", "inner steps", number=True),
        Column("median", "median norm", interval=True),
        *(
            Column(key, name, number=True)
            for key, name in (
                ("quarter", "quartile"),
                ("three_quarters", "third quartile"),
                ("largest", "largest"),
                ("finite", "share finite"),
            )
        ),
    )
    shown = Table(
        "gradient_norms", "Norms of the outer-gradient", columns, tuple(map(_entries, table.to_dict("records")))
    )
    return [Section("gradient-norm", "Norms against the length of unrolls", paragraphs, [norms_figure(table)], [shown])]


def _entries(row: Any) -> tuple[Entry, ...]:
    median = Interval.read(row | {"estimate": row["median"]})
    numbers = [row[name] for name in ("quarter", "three_quarters", "largest", "finite")]
    return (
        text_entry(row["optimizer"]),
        text_entry(row["theta"]),
        Entry(f"{row['steps']:,.0f}", float(row["steps"])),
        Entry(format_interval(median), median),
        *(Entry(format_number(float(x)) if math.isfinite(x) else "not finite", float(x)) for x in numbers),
    )
