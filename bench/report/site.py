"""The board: one static folder with an index of all published result sets, their reports, and the cards of weights.

It is built from what is published, and holds no number that a report or a card does not.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UsageError
from bench.folders import Folders
from bench.report.cards import path_of
from bench.report.claims import page as claims
from bench.report.first_screen import TARGETS, score_entry
from bench.report.page import template
from bench.report.table import NONE_TEXT, format_interval, plural
from bench.report.verify_report import published_reports
from bench.score.verdict import GROUP_NAMES
from bench.statistics import CONFIDENCE, Interval
from bench.store.files import locked
from bench.store.provenance import machine_of
from bench.suites.suite import load_suite, suite_names

INDEX = "index.html"
MARK = ".bench-site"  # tells a folder that may be replaced


@dataclass(frozen=True)
class ResultSet:
    """A published result set as the index shows it.

    Attributes:
      suite: name.
      label: machine that made it.
      page: its page, or its table where a measurement has no page, relative to the site.
      about: what the suite is.
      machine: processors or accelerators, the one of most cells first.
      date: day of the last cell, ISO 8601.
      cells: number of cells.
      optimizer: the learned optimizer that the verdict is about; "" without one.
      word: the verdict; "" of a measurement, which ranks nothing.
      verdict: the verdict as a sentence.
      speedups: (reference group, speed-up with its interval).
      test_loss: final test loss less the lowest of a hand-designed row, and which row that is.
      told_apart: from which rows the optimizer may be told apart by its final test loss.
    """

    suite: str
    label: str
    page: str
    about: str
    machine: str
    date: str
    cells: int
    optimizer: str = ""
    word: str = ""
    verdict: str = ""
    speedups: tuple[tuple[str, str], ...] = ()
    test_loss: str = ""
    told_apart: str = ""


def write_site(
    out: Path | str = "build/site", *, folders: Folders | None = None, documentation: str | None = None
) -> Path:
    """Builds the board of all published results.

    Args:
      out: folder to write; one that is there is replaced if it is a board.
      folders: where results and reports lie; those of the command line without it.
      documentation: where the documentation lies, relative to the index, which links it then.

    Returns:
      The path of its index. `reports` holds the reports as they are published, `weights` the cards, and
      `add_results.html` says how to add a result set.

    Raises:
      UsageError: nothing is published, a report or its results cannot be read, or the folder is something else or
        cannot be written.
    """
    folders, out = folders or Folders(), Path(out)
    if out.exists() and not (out / MARK).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} is there and is no board: name another folder, or remove it")
    published = published_reports(folders.reports_dir)
    if not published:
        raise UsageError(f"no published report in {folders.reports_dir}")
    try:
        with (
            locked(out.with_name(f"{out.name}.lock"), wait=True),
            tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as made,
        ):
            _write(Path(made) / "site", folders, published, documentation)
            if out.exists():
                shutil.rmtree(out)
            (Path(made) / "site").replace(out)
    except OSError as error:
        raise UsageError(f"cannot write the board in {out}: {error.strerror}; choose another --out") from None
    return out / INDEX


def _write(out: Path, folders: Folders, published: list[tuple[str, str]], documentation: str | None) -> None:
    from importlib.resources import files

    from learned.weights import shipped_names

    sets = []
    for suite, label in published:
        shutil.copytree(folders.reports_dir / suite / label, out / "reports" / suite / label)
        sets.append(_read_set(folders, suite, label))
    sets.sort(key=lambda found: (-found.cells, found.suite, found.label))
    pages = [f"{claims.FOLDER}/{label}/{claims.PAGE}" for label in claims.published_claims(folders.reports_dir)]
    for page in pages:
        (out / "reports" / page).parent.mkdir(parents=True)
        shutil.copy(folders.reports_dir / page, out / "reports" / page)
    render = template("site").render
    (out / "weights").mkdir()
    cards = {name: path_of(name).read_text(encoding="utf-8") for name in shipped_names()}
    for name, text in cards.items():
        (out / "weights" / f"{name}.html").write_text(
            render(title=name, root="../", body=_html(text)), encoding="utf-8"
        )
    about = files("bench").joinpath("ADD_RESULTS.md").read_text(encoding="utf-8")
    (out / "add_results.html").write_text(render(title="Add a result set", root="", body=_html(about)), "utf-8")
    (out / INDEX).write_text(
        render(
            title="Published results",
            root="",
            comparisons=[found for found in sets if found.word],
            measurements=[found for found in sets if not found.word],
            cards={name: dict(_facts(text)) for name, text in cards.items()},
            documentation=documentation,
            claims=f"reports/{pages[0]}" if pages else None,
        ),
        encoding="utf-8",
    )
    (out / MARK).write_text("`bench site` replaces this folder.\n", encoding="utf-8")


def _read_set(folders: Folders, suite: str, label: str) -> ResultSet:
    """A result set, from its rows and its report."""
    report, rows = folders.reports_dir / suite / label, folders.results_dir / suite / label / "cells.parquet"
    try:
        cells = pd.read_parquet(rows, columns=["started_at", "provenance"])
        screen = json.loads((report / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{suite}/{label} cannot be read: {str(error).splitlines()[0]}; bench verify it") from None
    found = partial(
        ResultSet,
        suite=suite,
        label=label,
        page=f"reports/{suite}/{label}/{'report.html' if (report / 'report.html').is_file() else 'table.csv'}",
        about=load_suite(suite).description.replace("`", "") if suite in suite_names() else "",
        machine=", ".join(name for name, _ in Counter(map(machine_of, cells["provenance"])).most_common()),
        date=str(cells["started_at"].max())[:10],
        cells=len(cells),
    )
    if isinstance(screen, list):  # a measurement
        return found()
    verdict, optimizer = screen["verdict"], screen["verdict"]["optimizer"] or ""
    against = {row["group"]: row["speedup"][TARGETS[0]] for row in verdict["against"]}
    test = (screen["headline"] or {}).get("test_loss")
    return found(
        optimizer=optimizer,
        word=verdict["word"],
        verdict=verdict["text"],
        speedups=tuple((name, _speedup(against[group])) for group, name in GROUP_NAMES.items() if group in against)
        if any(value["estimate"] is not None for value in against.values())
        else (),
        test_loss=f"{format_interval(Interval.read(test['difference']), sign=True)} ({test['reference']})"
        if test
        else NONE_TEXT,
        told_apart=_told_apart(report, optimizer),
    )


def _speedup(value: Mapping[str, Any]) -> str:
    """A speed-up of `report.json`, "<" before a bound."""
    return NONE_TEXT if value["estimate"] is None else score_entry(Interval.read(value), bound="bound" in value).text


def _told_apart(report: Path, optimizer: str) -> str:
    """From which rows an optimizer may be told apart (protocol rule 12), from the report's table of comparisons."""
    tables = sorted(report.glob(f"tables/comparison_*_{optimizer}.csv"))
    table = next((path for path in tables if path.name.startswith("comparison_overall_")), None)
    if table is None and len(tables) == 1:  # one task
        (table,) = tables
    if table is None:
        return NONE_TEXT
    with open(table, newline="", encoding="utf-8") as file:
        p_values = {row["baseline"]: row["holm_p"] for row in csv.DictReader(file)}
    if not any(p_values.values()):  # too few seeds
        return NONE_TEXT
    apart = [name for name, p in p_values.items() if p and float(p) < 1 - CONFIDENCE]
    rest = [name for name in p_values if name not in apart]
    text = f"from {len(apart)} of {plural(len(p_values), 'row')}"
    return text + (f"; not from {', '.join(rest)}" if apart and rest else "")


def _facts(card: str) -> Iterator[tuple[str, str]]:
    """The first table of a card: what it says of how the weights were made."""
    for line in card.split("\n\n", 2)[1].splitlines()[2:]:
        name, _, value = line.strip("| ").partition(" | ")
        yield name, value.replace("`", "")


def _html(markdown: str) -> Any:
    """A page of the project's own as HTML; raw HTML within it is shown as text."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    text = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return Markup(
        text.replace("<table>", '<div class="scroll" role="region" aria-label="table" tabindex="0"><table>').replace(
            "</table>", "</table></div>"
        )
    )
