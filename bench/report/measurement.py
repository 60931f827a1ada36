"""The page of a measurement: sections of what was found, its figures and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.measure import measurement_of, write_table
from bench.report import ablation, designs, feedback, gradient_norms, objectives, pathologies
from bench.report.page import template, write_files
from bench.report.provenance import provenance_table
from bench.report.section import Section

# Measurements that have a page: name -> (their table, cells, curves) -> sections; others are a table.
PAGES: dict[str, Callable[[pd.DataFrame, Any, Any], Sequence[Section]]] = {
    "ablation": ablation.sections,
    "designs": designs.sections,
    "feedback": feedback.sections,
    "gradient_norms": gradient_norms.sections,
    "objectives": objectives.sections,
    "pathologies": pathologies.sections,
}


def write_measurement(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    out_dir: Path,
    *,
    figures: Sequence[str] = (),
    tables: Sequence[str] = (),
    earlier: Path | None = None,
    draw: bool = True,
    **head: str,
) -> Path:
    """Writes `table.csv` and `report.json`, and for a measurement that has one the page and its tables as CSV.

    Args:
      cells: rows of one measurement.
      curves: their curves.
      out_dir: made if missing.
      figures: formats of `bench.report.FIGURE_FORMATS` that every figure is written in.
      tables: formats of `bench.report.TABLE_FORMATS` that tables are written in besides CSV.
      earlier: folder of a report whose files of figures and tables are made anew, `out_dir` without it.
      draw: whether figures are drawn.
      head: title, suite, label and description, for the page.

    Returns:
      The path of `report.html`, or of `table.csv` where there is no page.
    """
    written, measurement = write_table(cells, curves, out_dir), measurement_of(cells)
    make = PAGES.get(measurement.name)
    if make is None:
        return written
    sections = make(measurement.table(cells, curves), cells, curves)
    provenance = provenance_table(cells)
    shown = [*(t for section in sections for t in section.tables), provenance]
    drawn = [f for section in sections for f in section.figures] if draw else ()
    write_files(out_dir, shown, drawn, (*figures, *tables), earlier)
    path = out_dir / "report.html"
    text = template("measurement").render(**head, sections=sections, provenance=provenance, draw=draw)
    path.write_text(text, encoding="utf-8")
    return path
