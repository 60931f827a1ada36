"""`bench verify`: recomputes every published number from committed rows and compares (protocol rule 15).

Three steps for each report: the rows are what was stored (checksums, digests, every column against its record); each
record's numbers follow from its curve; the tables, the first screen and the page's text follow from the rows. The first
difference is named.
"""

import csv
import importlib.metadata
import io
import itertools
import json
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UsageError
from bench.report.build import build_report
from bench.report.table import WRITTEN_DIGITS
from bench.store.published import LOCAL, PART
from bench.store.record import Results, curve_content
from bench.store.rows import Frame, curves_by_cell
from bench.store.store import Store
from bench.training.timed_run import summarize

SLACK = 1e-12  # of a number that is the difference of larger ones
_IMAGE_DATA = re.compile(r'src="data:[^"]*"')  # drawn with the fonts and libraries of a machine: no numbers in there


def published_reports(reports_dir: Path) -> list[tuple[str, str]]:
    """(suite, label) of every committed report."""
    found = [(page.parent.parent.name, page.parent.name) for page in sorted(reports_dir.glob("*/*/report.json"))]
    return [(suite, label) for suite, label in found if label not in (LOCAL, PART)]


def verify(results_dir: Path, reports_dir: Path, suite: str, label: str) -> str | None:
    """The first number of a published report that does not follow from its committed rows; None if all do."""
    try:
        results = Store(results_dir, suite, label).read()
    except UsageError as error:
        return str(error)
    problem = next(_records(results), None)
    try:
        return problem or next(_page(results, results_dir, reports_dir / suite / label, suite, label), None)
    except (UsageError, ValueError) as error:  # rows or targets that no report can be made from, a page that is no text
        return str(error)


def _records(results: Results) -> Iterator[str]:
    """Records whose numbers are not what their curve gives."""
    curves, by_cell = curves_by_cell(results.curves)
    steps, metrics, values = curve_content(curves)
    train: Frame = results.cells[results.cells["kind"] == "train"]
    for row in train.to_dict("records"):
        where = by_cell.get(str(row["cell"]))
        cell = f"cell {row['cell']} ({row['task']}, {row['optimizer']}, seed {row['seed']})"
        if where is None:
            if row["status"] not in ("error", "out_of_memory"):
                yield f"{cell}: its status is {row['status']} and it has no curve"
            continue
        curve = list(zip(steps[where], metrics[where], values[where], strict=True))
        try:
            expected = summarize(curve)
        except KeyError as error:
            yield f"{cell}: its curve has no {error.args[0]}"
            continue
        clock = [value for _, metric, value in curve if metric == "wall_time_sec" and not math.isnan(value)]
        expected["train_wall_sec"] = clock[-1] if clock else row["train_wall_sec"]
        for name, value in expected.items():
            if not _equal(row[name], value):
                yield f"{cell}: {name} is {row[name]}, its curve gives {value}"
        ended = "final_test_loss" in metrics[where]
        if ended != (row["status"] == "ok"):
            yield f"{cell}: its status is {row['status']}, its curve has {'a' if ended else 'no'} final test loss"


def _page(results: Results, results_dir: Path, folder: Path, suite: str, label: str) -> Iterator[str]:
    """Differences between the committed report and one made now from the rows, in the formats that lie there."""
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    tables = tuple({path.suffix[1:] for path in there if path.parts[0] == "tables"})
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        build_report(results, results_dir, fresh, suite, label, tables=tables, draw=False)
        files = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
        images = {path for path in there if path.parts[0] == "figures"}
        for path in sorted((files ^ there) - images):
            yield f"{folder / path}: {'missing' if path in files else 'not made from the rows'}"
        for path in sorted(files & there):
            old, new = ((root / path).read_text(encoding="utf-8") for root in (folder, fresh))
            if path.suffix == ".html":
                old, new = (_IMAGE_DATA.sub("", text) for text in (old, new))
            if old != new and (problem := first_difference(path, old, new)):
                yield f"{folder / path}: {problem} by {_libraries()}"


def _libraries() -> str:
    """The versions of what numbers are computed with: a difference may be theirs."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy", "pandas"))


def same_digits(published: str, computed: str) -> bool:
    """Whether two fields of a table are one number, up to one unit of the last of the digits that are written.

    A number that lies within rounding of a tie, as one in a million does, is written one unit higher or lower by
    another version of a library, whose results differ in the last bits of a double. Files of fewer digits are compared
    exactly: with six of them that befalls one in a thousand million.

    A bound of an interval may be the small difference of two larger numbers, and then has fewer digits in common: one
    of 9.2e-05 differed by 4e-13 between two versions of scipy, in the quantile that it holds. So `SLACK` is allowed
    where it is less than a millionth of the number.
    """
    if published == computed:
        return True
    try:
        a, b = float(published), float(computed)
    except ValueError:
        return False
    if a == b or not (math.isfinite(a) and math.isfinite(b)) or a * b <= 0:
        return a == b
    unit = 10.0 ** (math.floor(math.log10(max(abs(a), abs(b)))) + 1 - WRITTEN_DIGITS)
    return abs(a - b) < max(1.5 * unit, min(SLACK, 1e-6 * max(abs(a), abs(b))))


def first_difference(path: Path, old: str, new: str) -> str | None:
    """Where two files first differ, in the terms of the file: row and column of a table, key of a JSON file, line.

    None for tables whose numbers are the same (`same_digits`).
    """
    if path.suffix == ".csv":
        a, b = (list(csv.reader(io.StringIO(text))) for text in (old, new))
        for number, (x, y) in enumerate(zip(a, b, strict=False)):
            for column, (p, q) in enumerate(itertools.zip_longest(x, y)):
                if p is None or q is None or not same_digits(p, q):
                    header = a[0][column] if column < len(a[0]) else column
                    return f"row {number} ({(x or y)[0]}), column {header}: published {p!r}, the rows give {q!r}"
        if len(a) != len(b):
            return f"published {len(a)} lines, the rows give {len(b)}"
        return None if a != b else "formatted differently"
    if path.suffix == ".json":
        try:
            return _json_difference(json.loads(old), json.loads(new), "") or "formatted differently"
        except ValueError as error:
            return f"not JSON: {error}"
    for number, (p, q) in enumerate(zip(old.splitlines(), new.splitlines(), strict=False), 1):
        if p != q:
            return f"line {number}: published {p.strip()[:160]!r}, the rows give {q.strip()[:160]!r}"
    return "one is longer than the other"


def _json_difference(old: Any, new: Any, at: str) -> str | None:
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        found = (_json_difference(old[key], new[key], f"{at}.{key}") for key in old)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = (_json_difference(p, q, f"{at}[{i}]") for i, (p, q) in enumerate(zip(old, new, strict=True)))
    else:
        return None if old == new else f"{at.lstrip('.')}: published {old!r}, the rows give {new!r}"
    return next((difference for difference in found if difference), None)


def _equal(stored: Any, value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return bool(pd.isna(stored))
    return bool(stored == value)
