"""Named measurements of the benchmark's own machinery: update costs, designs, outer-gradients, ablation, feedback.

Those in the table are run by suites of kind "measure" and are stored and published like other results.
`bench.measure.convolution` only prints its figures, since it needs a process pinned to one core.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.entries.entrants import Entrant
from bench.measure import ablation, designs, feedback, gradient_norms, objectives, pathologies, update_cost
from bench.statistics import significant

Tick = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A named measurement.

    Attributes:
      name: name of the measurement.
      parts: () -> {name: definition of the part, JSON-ready}; each part is a cell.
      horizon: inner steps, for schedules.
      measure: (part, entrants, repeats, tick) -> the cell's curve (step, metric, value); tick is called after every
        repeat.
      table: (cells, curves) -> table of figures computed from the rows.
      shown: columns of the table that fit a terminal; all columns if empty.
      timed: whether it times the optimizers of the suite, and repeats are interleaved blocks. Otherwise it has no
        optimizers, and repeats are independent replications.
      replicated: whether it has such repeats; without them a part is measured once.
    """

    name: str
    parts: Callable[[], Mapping[str, Mapping[str, Any]]]
    horizon: int
    measure: Callable[[str, Sequence[Entrant], int, Tick], pd.DataFrame]
    table: Callable[[Any, Any], pd.DataFrame]
    shown: tuple[str, ...] = ()
    timed: bool = True
    replicated: bool = True


_ROWS = (
    Measurement("update_cost", update_cost.parts, update_cost.HORIZON, update_cost.measure, update_cost.update_costs),
    Measurement("designs", designs.parts, designs.HORIZON, designs.measure, designs.table, designs.SHOWN),
    Measurement(
        "pathologies",
        pathologies.parts,
        pathologies.HORIZON,
        pathologies.measure,
        pathologies.table,
        timed=False,
    ),
    Measurement(
        "ablation",
        ablation.parts,
        ablation.HORIZON,
        ablation.measure,
        ablation.table,
        timed=False,
        replicated=False,
    ),
    Measurement(
        "objectives",
        objectives.parts,
        objectives.HORIZON,
        objectives.measure,
        objectives.table,
        timed=False,
        replicated=False,
    ),
    Measurement(
        "gradient_norms",
        gradient_norms.parts,
        gradient_norms.LENGTHS[-1],
        gradient_norms.measure,
        gradient_norms.table,
        timed=False,
    ),
    Measurement("feedback", feedback.parts, feedback.HORIZON, feedback.measure, feedback.table, timed=False),
)
MEASUREMENTS = {row.name: row for row in _ROWS}


def measurement_of(cells: pd.DataFrame) -> Measurement:
    """The measurement that the cells belong to."""
    (name,) = {json.loads(config)["measurement"] for config in cells["config"]}
    return MEASUREMENTS[name]


def shown(cells: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The figures of the cells' measurement, in the columns that fit a terminal."""
    measurement = measurement_of(cells)
    figures = measurement.table(cells, curves)
    return figures.loc[:, list(measurement.shown)] if measurement.shown else figures


def write_table(cells: pd.DataFrame, curves: pd.DataFrame, out_dir: Path) -> Path:
    """Writes the figures to `table.csv` and `report.json` in a folder; returns the path of the table."""
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / "table.csv"
    measurement_of(cells).table(cells, curves).to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    (out_dir / "report.json").write_text(table_json(cells, curves))
    return path


def table_json(cells: pd.DataFrame, curves: pd.DataFrame) -> str:
    """The figures as JSON, a record each, rounded as in `table.csv`."""
    figures = measurement_of(cells).table(cells, curves)
    # The last digits of a double differ between kinds of CPU.
    numbers = figures.select_dtypes("float").columns
    figures[numbers] = figures[numbers].map(significant)
    return f"{figures.to_json(orient='records', indent=1, double_precision=15)}\n"
