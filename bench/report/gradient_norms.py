"""Norms of the outer-gradient on a convolutional net, in words and numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.measure.gradient_norms import FAMILY, OPTIMIZERS, ended, growths, largest
from bench.measure.pathologies.summary import ENDED, EXPLODES, ended_text
from bench.report.figures.axes import listed, percent
from bench.report.figures.gradient_norms import norms_figure
from bench.report.section import Section
from bench.report.table import Column, Entry, Table, format_interval, format_number, text_entry
from bench.statistics import Interval, three_digits
from bench.store.rows import Frame


def sections(table: pd.DataFrame, cells: Frame, curves: Frame) -> list[Section]:
    """The page's section.

    Args:
      table: from `bench.measure.gradient_norms.table`.
      cells: rows of the measurement.
      curves: their curves.
    """
    del cells
    if table.empty:
        return []
    named = table["optimizer"] + ", " + table["theta"]
    grown = {", ".join(pair): found for pair, found in growths(table).items()}
    exploding = [name for name, found in grown.items() if found.explodes]
    paragraphs = [
        f"Each norm is of the backpropagated gradient of one unroll on {FAMILY}, at one theta, before outer-training "
        f"(initial) or after it (trained); {curves['metric'].nunique()} unrolls of each. "
        f"{' '.join(f'{name}: the median {found}.' for name, found in grown.items())}",
        f"By the ends of both intervals that are nearest to each other it grows by more than {EXPLODES:g} times of "
        f"{listed(exploding)}."
        if exploding
        else f"By the ends of both intervals that are nearest to each other, no median is known to grow by more than "
        f"{EXPLODES:g} times.",
        *(ended_text(f"Of {', '.join(part)}", length) for part, length in ended(table).items()),
        largest_norms(table),
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
                (ENDED, "share diverged"),
            )
        ),
    )
    shown = Table(
        "gradient_norms", "Norms of the outer-gradient", columns, tuple(map(_entries, table.to_dict("records")))
    )
    return [Section("gradient-norm", "Norms against the length of unrolls", paragraphs, [norms_figure(table)], [shown])]


def largest_norms(table: Frame) -> str:
    """Whether orthogonalized updates keep gradients tame, by the largest norm of each optimizer."""
    parts, by_theta = [], largest(table)
    for theta, when in (("initial", "Before outer-training"), ("trained", "After it")):
        norms = by_theta.get(theta, {})
        others = [norm for name, norm in norms.items() if name != OPTIMIZERS[0]]
        if OPTIMIZERS[0] in norms and others:
            do = "they do" if max(others) < norms[OPTIMIZERS[0]] else "they do not"
            each = listed([f"{_largest(norm)} of {name}" for name, norm in norms.items()])
            parts.append(f"{when} {do}: the largest norm of an unroll, at any length, is {each}.")
    return f"Do orthogonalized updates keep gradients tame? {' '.join(parts) or 'That was not measured.'}"


def _largest(norm: float) -> str:
    return three_digits(norm) if math.isfinite(norm) else "beyond the largest float32"


def _number(value: float) -> Entry:
    if math.isnan(value):
        return text_entry(None)
    return Entry(format_number(float(value)) if math.isfinite(value) else "not finite", float(value))


def _entries(row: Any) -> tuple[Entry, ...]:
    median = Interval.read(row | {"estimate": row["median"]})
    numbers = [row[name] for name in ("quarter", "three_quarters", "largest", "finite", ENDED)]
    return (
        text_entry(row["optimizer"]),
        text_entry(row["theta"]),
        Entry(f"{row['steps']:,.0f}", float(row["steps"])),
        Entry(format_interval(median), median),
        *map(_number, numbers),
    )
