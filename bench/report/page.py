"""The page of a suite that trains: tables, figures and one HTML file, all recomputed from the rows given.

The other modules hold what is computed, `figures` what is drawn, `page.html.jinja` how it reads; `measurement` makes
the pages of suites that train nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from bench.report.figures import Figure
    from bench.report.table import Table
    from bench.score.first_screen import Screen
    from bench.store.rows import Frame, Rows
    from bench.tuning.targets import Targets

__all__ = ["page_json", "terminal_tables", "write_page"]

LONG_TABLE = 12  # rows, beyond which a table is folded
FIGURE_FORMATS = ("png", "svg", "pdf")
TABLE_FORMATS = {"csv": "csv", "md": "markdown", "tex": "latex"}  # suffix -> method of `Table`; always the first


def write_page(
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
    costs: Frame | None = None,
    left_out: Sequence[str] = (),
    figures: Sequence[str] = (),
    tables: Sequence[str] = (),
    earlier: Path | None = None,
    draw: bool = True,
) -> Path:
    """Writes `report.html`, `report.json` and `tables/*.csv` under `out_dir`; more files if asked for.

    The same rows give the same page.

    Args:
      cells: one row per cell; the columns needed are `bench.store.rows.CELL_COLUMNS`.
      curves: long format, columns cell, step, metric, value.
      out_dir: made if missing.
      title: heading of the page.
      suite: name of the suite.
      label: label of the results, such as the machine.
      description: a paragraph under the heading.
      targets: frozen targets by task, for speed-ups; without them there is no verdict on the clock.
      headline: the learned optimizer that claims are judged on.
      costs: what an update costs, from `bench.measure.update_cost.update_costs`.
      left_out: lines on stored runs that are not among the rows, for `report.json`.
      figures: formats of `FIGURE_FORMATS` that every figure is written in, also what the page leaves out.
      tables: formats of `TABLE_FORMATS` that tables are written in besides CSV.
      earlier: folder of a report that this one is to replace, `out_dir` without it; files of figures and tables that
        it has are made anew, so that what lies beside a page is of the same rows.
      draw: whether figures are drawn; without, the page has empty images and is otherwise the same.

    Returns:
      The path of `report.html`.

    Raises:
      ValueError: columns are missing, there is no row, or a task has two cells for one optimizer and seed.
    """
    rows, screen = _indexed(cells, curves, suite, label, targets, headline)
    page = _page(rows.without_controls(), screen, targets or {}, costs)

    out_dir = Path(out_dir)
    write_files(out_dir, page["all_tables"], page["all_figures"] if draw else (), (*figures, *tables), earlier)
    (out_dir / "report.json").write_text(_as_json(screen, left_out), encoding="utf-8")

    path = out_dir / "report.html"
    head = {"title": title, "suite": suite, "label": label, "description": description}
    rules, departures = _protocol()
    text = template("page").render(**head, verdict=screen.scores, rules=rules, departures=departures, draw=draw, **page)
    path.write_text(text, encoding="utf-8")
    return path


def page_json(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    suite: str,
    label: str,
    targets: Mapping[str, Targets] | None = None,
    headline: str | None = None,
    left_out: Sequence[str] = (),
) -> str:
    """What `write_page` writes as `report.json`, the first screen; nothing is drawn or written."""
    return _as_json(_indexed(cells, curves, suite, label, targets, headline)[1], left_out)


def _indexed(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    suite: str,
    label: str,
    targets: Mapping[str, Targets] | None,
    headline: str | None,
) -> tuple[Rows, Screen]:
    """The rows of a report and its first screen."""
    from bench.score.first_screen import first_screen
    from bench.store.rows import read_rows

    rows = read_rows(cells, curves)
    devices = ", ".join(sorted(set(cells["config"].map(lambda text: str(json.loads(text or "{}").get("device_kind"))))))
    return rows, first_screen(rows, targets or {}, suite, label, devices, headline)


def _as_json(screen: Screen, left_out: Sequence[str]) -> str:
    from bench.score.first_screen import as_json

    found = as_json(screen) | ({"left_out": list(left_out)} if left_out else {})
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


def write_files(
    out_dir: Path, tables: Sequence[Table], figures: Sequence[Figure], formats: Sequence[str], earlier: Path | None
) -> None:
    """Writes tables as CSV, tables and figures in the other formats asked for, and again what an earlier report has.

    What an earlier report in the same folder has of tables and figures that are no more is deleted.
    """
    made: dict[Path, Callable[[], bytes]] = {}
    for table in tables:
        for suffix, method in TABLE_FORMATS.items():
            made[Path("tables", f"{table.slug}.{suffix}")] = partial(_encoded, getattr(table, method))
    for figure in figures:
        for suffix in FIGURE_FORMATS:
            made[Path("figures", f"{figure.slug}.{suffix}")] = partial(getattr, figure, suffix)
    delete_others(out_dir, made)
    for path, content in made.items():
        if path.suffix[1:] in ("csv", *formats) or ((earlier or out_dir) / path).exists():
            (out_dir / path).parent.mkdir(parents=True, exist_ok=True)
            (out_dir / path).write_bytes(content())


def delete_others(folder: Path, kept: Container[Path]) -> None:
    """Deletes the files of figures and tables under a folder that are not among those to keep, relative to it."""
    for kind, suffixes in (("figures", FIGURE_FORMATS), ("tables", TABLE_FORMATS)):
        for path in [path for suffix in suffixes for path in (folder / kind).glob(f"*.{suffix}")]:
            if path.relative_to(folder) not in kept:
                path.unlink(missing_ok=True)


def _encoded(text: Callable[[], str]) -> bytes:
    return text().encode()


def terminal_tables(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    targets: Mapping[str, Targets] | None = None,
    headline: str | None = None,
) -> RenderableType:
    """What `bench run` ends with: a table per task, the speed-ups, the controls and the verdict."""
    from rich.console import Group

    from bench.report import terminal

    rows, screen = _indexed(cells, curves, "", "", targets, headline)
    return Group(terminal.tasks(rows.without_controls()), terminal.scores(screen))


def _page(results: Rows, screen: Screen, targets: Mapping[str, Targets], costs: Frame | None) -> dict[str, Any]:
    """Everything the template shows, in the order of the page."""
    from bench.report import (
        aggregate,
        budgets,
        comparison,
        controls,
        figures,
        first_screen,
        provenance,
        summary,
        tuning,
    )
    from bench.report.fairness import card_tables
    from bench.report.not_shown import not_shown
    from bench.score import fairness
    from bench.score.times_to_target import ALL

    contender, floor = screen.scores.optimizer, screen.floor
    tested = screen.headline.test_loss.reference if screen.headline and screen.headline.test_loss else None
    cards = fairness.cards(results, targets)
    every_mark = {card.optimizer: {entry.task: entry.mark for entry in card.exposures} for card in cards}
    marks = every_mark.get(contender or "", {})
    styles = figures.optimizer_styles(results, contender)
    several = len(results.tasks) > 1
    scope = ALL if several else results.tasks[0]
    opening = {
        "leaders": first_screen.leaders_table(screen, results, first_screen.leaders(results, targets), scope),
        "controls": controls.controls_table(screen),
        "score": first_screen.score_table(screen, scope, first_screen.FIRST),
        "architectures": first_screen.architectures_table(screen),
    }
    drawn = figures.overview_figures(results, styles, targets, contender, every_mark)
    of_tasks = {task: figures.task_figures(results, task, styles, targets) for task in results.tasks}
    first = figures.first(drawn, of_tasks[results.tasks[0]])
    overall = {
        "verdicts": comparison.verdicts(results, results.tasks, floor),
        "tables": [
            first_screen.decomposition_table(screen, scope),
            first_screen.train_table(screen, scope),
            *filter(None, [aggregate.aggregate_table(results, targets, contender)]),
            *([summary.summary_table(results, results.tasks)] if several else []),
            *filter(None, [budgets.budget_table(results, results.tasks, "budgets", floor)] if several else []),
            *(comparison.comparison_tables(results, results.tasks) if several else []),
        ],
        "figures": [figure for figure in figures.shown(drawn) if figure not in first],
    }
    sections = []
    for task in results.tasks:
        slug = results.slugs[task]
        times = aggregate.time_table(results, targets, task, f"time_{slug}")
        drawn += of_tasks[task]
        sections.append(
            {
                "task": task,
                "anchor": f"task-{slug}",
                "horizon": results.horizon(task) if task in set(results.train["task"]) else None,
                "mark": marks.get(task, "unknown"),
                "figures": [figure for figure in figures.shown(of_tasks[task]) if figure not in first],
                "verdicts": comparison.verdicts(results, (task,), screen.floor_of(task)) if several else [],
                "tables": [
                    *([first_screen.score_table(screen, task, f"score_{slug}")] if several else []),
                    summary.summary_table(results, (task,)),
                    *filter(
                        None, [times, budgets.budget_table(results, (task,), f"budgets_{slug}", screen.floor_of(task))]
                    ),
                    # Of several tasks the other learned rows' stand over all: each of them is half a page of numbers.
                    *comparison.comparison_tables(results, (task,), {contender or ""} if several else None),
                ],
            }
        )
    fair = card_tables(cards, costs)
    of_tuning = figures.tuning_figures(results)
    tuned = {"tables": tuning.tuning_tables(results), "figures": figures.shown(of_tuning)}
    closing = {
        "races": controls.races_table(screen),
        "machines": provenance.machines_table(results, targets, contender, floor, tested),
        "failures": provenance.failures_table(results),
        "hyperparameters": provenance.hyperparameters_table(results),
        "seeds": provenance.seeds_table(results),
        "provenance": provenance.provenance_table(results.train, results.timing),
    }
    tables = [*opening.values(), *overall["tables"], *fair, *tuned["tables"], *closing.values()]
    tables += [table for section in sections for table in section["tables"]]
    drawn += of_tuning
    on_page = len(first) + sum(len(part["figures"]) for part in (overall, tuned, *sections))
    return {
        **opening,
        "lead": first_screen.lead_sentence(screen),
        "not_shown": not_shown(screen, results, opening["controls"]),
        "first": first,
        "held": controls.held_counts(opening["controls"]),
        "overall": overall,
        "sections": sections,
        "fairness": fair,
        "tuning": tuned,
        **closing,
        "warnings": provenance.page_warnings(results),
        "measured": provenance.measured_sentence(results),
        "counts": provenance.counts_sentence(results),
        "shared": provenance.shared_classes_sentence(results),
        "clock": provenance.clock_paragraph(results),
        "all_tables": [table for table in tables if table is not None],
        "all_figures": drawn,
        "left_out": len(drawn) - on_page,
    }


class Rule(NamedTuple):
    """A rule of the protocol; of texts every second part is code."""

    number: str
    title: str
    text: list[str]
    points: list[list[str]]  # what stands below it


def _protocol() -> tuple[list[Rule], list[list[str]]]:
    """The rules of the protocol, and where it was departed from, from the page that states them."""
    import re
    from importlib.resources import files

    def parts(text: str) -> list[str]:
        found = re.sub(r"\s+", " ", text.rstrip()).split("`")
        return [part if i % 2 else part.replace("*", "") for i, part in enumerate(found)]  # a star in code is its own

    text = files("bench").joinpath("PROTOCOL.md").read_text(encoding="utf-8")
    body, _, departures = text.partition("## Where this departs")
    rules = re.findall(r"^(\d+)\. \*\*(.+?)\*\*(.*(?:\n {4}.*)*)((?:\n {3}- .*)*)", body, flags=re.MULTILINE)
    # A blank before the rest is kept, and only there: what begins with a colon follows the title at once.
    return (
        [
            Rule(n, title, parts(rest), [parts(point) for point in points.split("\n   - ")[1:]])
            for n, title, rest, points in rules
        ],
        [parts(line) for line in re.findall(r"^- (.*)", departures, flags=re.MULTILINE)],
    )


def _breakable(text: str) -> Any:
    """A name that a narrow screen may break where a reader would, not in the middle of a word."""
    import re

    from markupsafe import Markup

    parts = re.split(r"(?<=[_./])(?=\w)", text)
    return Markup("<wbr>").join(parts)


def template(name: str) -> Any:
    """A page of this folder: "page" of a comparison, "measurement" of a measurement."""
    from importlib.resources import files

    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from bench.store.published import LOCAL

    script = files("bench.report").joinpath("page.js").read_text(encoding="utf-8")
    loader = PackageLoader("bench", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    environment.globals |= {"LOCAL": LOCAL, "LONG": LONG_TABLE, "script": Markup(script)}
    return environment.get_template(f"{name}.html.jinja")
