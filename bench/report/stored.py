"""Reports of what is stored: where they go, one process at a time, and what is said where they cannot be written."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UsageError
from bench.folders import Folders
from bench.report.build import build_report, first_screen_json
from bench.report.page import delete_others
from bench.store.files import locked
from bench.store.published import LOCAL
from bench.store.record import Results
from bench.store.store import Store


def read_results(suite: str, label: str | None = None, *, folders: Folders | None = None) -> Results:
    """Stored cells, a row each, and their curves in long format: columns cell, step, metric, value.

    Args:
      suite: name of a suite that ran.
      label: of published results; without it one's own, the latest of each (task, optimizer, seed).
      folders: where results lie; those of the command line without it.

    Raises:
      UsageError: nothing is stored, or a stored file is damaged.
    """
    return Store((folders or Folders()).results_dir, suite, label or LOCAL).read()


def report_json(suite: str, label: str | None = None, *, folders: Folders | None = None) -> str:
    """The file `report.json` of a report, what its first screen shows, as text; nothing is drawn or written.

    Args:
      suite: name of a suite that ran.
      label: of published results; one's own without it.
      folders: where results lie; those of the command line without it.

    Raises:
      UsageError: nothing is stored, or a stored file is damaged.
    """
    folders, label = folders or Folders(), label or LOCAL
    results = read_results(suite, label, folders=folders)
    return first_screen_json(results, folders.results_dir, suite, label)


def write_report(
    suite: str,
    label: str | None = None,
    *,
    results: Results | None = None,
    folders: Folders | None = None,
    figures: Sequence[str] = (),
    tables: Sequence[str] = (),
    draw: bool = True,
) -> Path:
    """Writes the report of stored results of a suite: a page, tables as CSV and what its first screen shows as JSON.

    The page has its figures within it; files of them, and of tables in other formats, are made where asked for, or
    where an earlier report left some.

    Args:
      suite: name of a suite that ran.
      label: of published results; one's own without it.
      results: the cells and curves to report, such as `SuiteRun.results`; those of `read_results` without it.
      folders: where results lie and reports go; those of the command line without it.
      figures: formats that every figure is written in, also what the page leaves out: png, svg, pdf.
      tables: formats that tables are written in besides CSV: md, tex.
      draw: whether figures are drawn; without, the page has empty images and is otherwise the same.

    Returns:
      The path REPORTS/SUITE/LABEL/report.html; `report.json`, `tables` and, if asked for, `figures` lie beside it.

    Raises:
      UsageError: nothing is stored, a stored file is damaged, or the folder cannot be written.
    """
    folders, label = folders or Folders(), label or LOCAL
    if results is None:
        results = read_results(suite, label, folders=folders)
    folder = folders.reports_dir / suite / label
    try:
        with (
            locked(folder / ".lock", wait=True),  # two runs that share cells end at the same time
            tempfile.TemporaryDirectory(prefix=f".{label}-", dir=folder.parent) as made,
        ):
            drawing = {"figures": figures, "tables": tables, "earlier": folder, "draw": draw}
            page = build_report(results, folders.results_dir, Path(made), suite, label, **drawing)
            _move(Path(made), folder)
            return folder / page.name
    except OSError as error:
        raise UsageError(
            f"cannot write the report in {folders.reports_dir}: {error.strerror}; choose another --reports-dir"
        ) from None


def _move(made: Path, folder: Path) -> None:
    """Puts a whole report in the place of an earlier one, file by file: nobody reads half of a file."""
    files = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).replace(folder / path)
    delete_others(folder, files)


def last_report(name: str | None = None, *, folders: Folders | None = None) -> Path:
    """The page of the report that was written last.

    Args:
      name: "SUITE" or "SUITE/LABEL", to look among these alone.
      folders: where reports lie; those of the command line without it.

    Raises:
      UsageError: there is no such page.
    """
    folders = folders or Folders()
    suite, _, label = (name or "").partition("/")
    pages = [
        page
        for page in folders.reports_dir.glob("*/*/report.html")
        if suite in ("", page.parts[-3]) and label in ("", page.parts[-2])
    ]
    if not pages:
        of, run = (f" of {name}", "`bench list runs` shows what is stored") if name else ("", "run: bench run")
        raise UsageError(f"no report{of} in {folders.reports_dir}; {run}")
    return max(pages, key=lambda page: page.stat().st_mtime)
