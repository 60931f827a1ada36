"""From rows to a page: tables, figures and one self-contained HTML file, all recomputed from the rows given.

`tables` holds what is computed, `figures` what is drawn, `page.html.jinja` how it reads. Nothing here trains or times.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

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
) -> Path:
    """Writes `report.html`, `figures/*.png`, `tables/*.csv` and `tables/*.md` under `out_dir`.

    The same rows give the same page. Figures and tables of an earlier report in the two folders are replaced.

    Args:
      cells: one row per cell; the columns needed are `tables.CELL_COLUMNS`.
      curves: long format, columns cell, step, metric, value.
      out_dir: made if missing.
      title: heading of the page.
      suite: name of the suite.
      label: label of the results, such as the machine.
      description: a paragraph under the heading.

    Returns:
      The path of `report.html`.

    Raises:
      ValueError: columns are missing, there is no row, or a task has two cells for one optimizer and seed.
    """
    from bench.report import figures, tables

    results = tables.read_results(cells, curves)
    out_dir = Path(out_dir)
    folders = {kind: out_dir / kind for kind in ("figures", "tables")}
    for folder, patterns in ((folders["figures"], ("*.png",)), (folders["tables"], ("*.csv", "*.md"))):
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in patterns:
            for stale in folder.glob(pattern):
                stale.unlink()

    page = _page(results, figures, tables)
    for table in page["all_tables"]:
        (folders["tables"] / f"{table.slug}.csv").write_text(table.csv(), encoding="utf-8")
        (folders["tables"] / f"{table.slug}.md").write_text(table.markdown(), encoding="utf-8")
    for figure in page["all_figures"]:
        (folders["figures"] / f"{figure.slug}.png").write_bytes(figure.png)

    path = out_dir / "report.html"
    path.write_text(
        _template().render(title=title, suite=suite, label=label, description=description, **page), encoding="utf-8"
    )
    return path


def terminal_tables(cells: pd.DataFrame, curves: pd.DataFrame) -> RenderableType:
    """One short table per task for the terminal, as a `rich` renderable."""
    from bench.report import tables

    return tables.terminal(tables.read_results(cells, curves))


def _page(results: Any, figures: Any, tables: Any) -> dict[str, Any]:
    """Everything the template shows, in the order of the page."""
    styles = figures.optimizer_styles(results)
    sections = []
    for task in results.tasks:
        sections.append(
            {
                "task": task,
                "anchor": f"task-{results.slugs[task]}",
                "summary": tables.summary_table(results, (task,)),
                "verdicts": tables.verdicts(results, (task,)),
                "comparisons": tables.comparison_tables(results, (task,)),
                "figures": figures.task_figures(results, task, styles),
                "validation_figures": figures.validation_figures(results, task, styles),
            }
        )
    overall = None
    if len(results.tasks) > 1:
        overall = {
            "summary": tables.summary_table(results, results.tasks),
            "verdicts": tables.verdicts(results, results.tasks),
            "comparisons": tables.comparison_tables(results, results.tasks),
            "figures": figures.overview_figures(results, styles),
        }
    closing = {
        "failures": tables.failures_table(results),
        "hyperparameters": tables.hyperparameters_table(results),
        "seeds": tables.seeds_table(results),
        "provenance": tables.provenance_table(results),
    }
    parts = sections + ([overall] if overall else [])
    return {
        "overall": overall,
        "sections": sections,
        "warnings": tables.page_warnings(results),
        "counts": tables.counts_sentence(results),
        "clock": tables.clock_paragraph(results),
        **closing,
        "all_tables": [
            table for part in parts for table in (part["summary"], *part["comparisons"]) if table is not None
        ]
        + [table for table in closing.values() if table is not None],
        "all_figures": [figure for part in parts for figure in (*part["figures"], *part.get("validation_figures", ()))],
    }


def _template() -> Any:
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    source = files("bench.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)
