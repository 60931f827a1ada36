"""From rows to a page: tables, figures and one self-contained HTML file, all recomputed from the rows given.

The other modules hold what is computed, `figures` what is drawn, `page.html.jinja` how it reads. Nothing here trains
or times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from bench.rows import Frame
    from bench.targets import Targets

__all__ = ["terminal_tables", "write_report"]


def write_report(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    out_dir: Path,
    *,
    title: str,
    suite: str,
    label: str,
    description: str = "",
    targets: Mapping[str, Targets] | None = None,
    headline: str | None = None,
    draw: bool = True,
) -> Path:
    """Writes `report.html`, `report.json`, `figures/*.png`, `tables/*.csv` and `tables/*.md` under `out_dir`.

    The same rows give the same page. Figures and tables of an earlier report in the two folders are replaced.

    Args:
      cells: one row per cell; the columns needed are `bench.rows.CELL_COLUMNS`.
      curves: long format, columns cell, step, metric, value.
      out_dir: made if missing.
      title: heading of the page.
      suite: name of the suite.
      label: label of the results, such as the machine.
      description: a paragraph under the heading.
      targets: frozen targets by task, for speed-ups; without them there is no verdict on the clock.
      headline: the learned optimizer that claims are judged on.
      draw: whether figures are also written as files; the page is the same.

    Returns:
      The path of `report.html`.

    Raises:
      ValueError: columns are missing, there is no row, or a task has two cells for one optimizer and seed.
    """
    from bench.report.first_screen import controls_table, score_table
    from bench.rows import read_rows
    from bench.scoring import first_screen

    rows = read_rows(cells, curves)
    devices = ", ".join(sorted(set(cells["config"].map(lambda text: str(json.loads(text or "{}").get("device_kind"))))))
    screen = first_screen(rows, targets or {}, suite, label, devices, headline)
    results = read_rows(*without_controls(cells, curves, set(rows.optimizers) - set(rows.contenders)))
    out_dir = Path(out_dir)
    folders = {kind: out_dir / kind for kind in ("figures", "tables")}
    for folder, patterns in ((folders["figures"], ("*.png",)), (folders["tables"], ("*.csv", "*.md"))):
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in patterns:
            for stale in folder.glob(pattern):
                stale.unlink()

    page = _page(results)
    scores = {"score": score_table(screen), "controls": controls_table(screen)}
    for table in (*scores.values(), *page["all_tables"]):
        (folders["tables"] / f"{table.slug}.csv").write_text(table.csv(), encoding="utf-8")
        (folders["tables"] / f"{table.slug}.md").write_text(table.markdown(), encoding="utf-8")
    for figure in page["all_figures"] if draw else ():
        (folders["figures"] / f"{figure.slug}.png").write_bytes(figure.png)
    (out_dir / "report.json").write_text(json.dumps(screen, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    path = out_dir / "report.html"
    text = _template().render(
        title=title,
        suite=suite,
        label=label,
        description=description,
        judgement=screen["verdict"]["text"],
        **scores,
        **page,
    )
    path.write_text(text, encoding="utf-8")
    return path


def without_controls(
    cells: pd.DataFrame, curves: pd.DataFrame, controls: set[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of what is compared; the controls have a table of their own."""
    names = curves["metric"].map(lambda metric: str(metric).partition("/")[2])
    kept: tuple[Frame, Frame] = cells[~cells["optimizer"].isin(list(controls))], curves[~names.isin(list(controls))]
    return kept


def terminal_tables(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    targets: Mapping[str, Targets] | None = None,
    headline: str | None = None,
) -> RenderableType:
    """What `bench run` ends with: a table per task, the speed-ups, the controls and the verdict."""
    from rich.console import Group

    from bench.report import terminal
    from bench.rows import read_rows
    from bench.scoring import first_screen

    rows = read_rows(cells, curves)
    screen = first_screen(rows, targets or {}, "", "", "", headline)
    kept = without_controls(cells, curves, set(rows.optimizers) - set(rows.contenders))
    return Group(terminal.tasks(read_rows(*kept)), terminal.scores(screen))


def _page(results: Any) -> dict[str, Any]:
    """Everything the template shows, in the order of the page."""
    from bench.report import comparison, figures, provenance, summary

    styles = figures.optimizer_styles(results)
    sections = []
    for task in results.tasks:
        sections.append(
            {
                "task": task,
                "anchor": f"task-{results.slugs[task]}",
                "summary": summary.summary_table(results, (task,)),
                "verdicts": comparison.verdicts(results, (task,)),
                "comparisons": comparison.comparison_tables(results, (task,)),
                "figures": figures.task_figures(results, task, styles),
            }
        )
    overall = None
    if len(results.tasks) > 1:
        overall = {
            "summary": summary.summary_table(results, results.tasks),
            "verdicts": comparison.verdicts(results, results.tasks),
            "comparisons": comparison.comparison_tables(results, results.tasks),
            "figures": figures.overview_figures(results, styles),
        }
    closing = {
        "failures": provenance.failures_table(results),
        "hyperparameters": provenance.hyperparameters_table(results),
        "seeds": provenance.seeds_table(results),
        "provenance": provenance.provenance_table(results),
    }
    parts = sections + ([overall] if overall else [])
    return {
        "overall": overall,
        "sections": sections,
        "warnings": provenance.page_warnings(results),
        "counts": provenance.counts_sentence(results),
        "clock": provenance.clock_paragraph(results),
        **closing,
        "all_tables": [
            table for part in parts for table in (part["summary"], *part["comparisons"]) if table is not None
        ]
        + [table for table in closing.values() if table is not None],
        "all_figures": [figure for part in parts for figure in part["figures"]],
    }


def _template() -> Any:
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    source = files("bench.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)
