"""The report of a result set: its rows with the targets, the headline and the description of its suite."""

from pathlib import Path
from typing import Any

from bench.measure import table_json
from bench.measure.update_cost import update_costs
from bench.report.page import page_json, write_page
from bench.store.record import Results
from bench.store.rows import Frame
from bench.store.store import Store
from bench.suites.suite import load_suite, suite_names
from bench.tuning import targets

UPDATE_COST = "update_cost"  # the suite that measures it


def build_report(results: Results, results_dir: Path, out_dir: Path, suite: str, label: str, **drawing: Any) -> Path:
    """The report of stored rows, with the targets, the headline and the suite's description as they are now.

    Of a measurement it is a table, or a page of its own: nothing was trained, so there is nothing to rank. `drawing` is
    `draw`, `figures` and `tables` of `bench.report.page.write_page`.

    Raises:
      OSError: the folder cannot be written.
    """
    import learned

    known = load_suite(suite) if suite in suite_names() else None
    head = {"title": f"{suite} ({label})", "suite": suite, "label": label}
    head["description"] = known.description if known else ""
    if results.left_out:
        head["description"] += f" Runs of other settings are left out: {'; '.join(results.left_out)}."
    if set(results.cells["kind"]) == {"measure"}:
        from bench.report.measurement import write_measurement  # imports matplotlib

        return write_measurement(results.cells, results.curves, out_dir, **head, **drawing)
    return write_page(
        results.cells,
        results.curves,
        out_dir,
        **head,
        targets=targets_of(results, results_dir),
        headline=learned.HEADLINE,
        costs=_update_costs(results_dir, label),
        left_out=results.left_out,
        **drawing,
    )


def first_screen_json(results: Results, results_dir: Path, suite: str, label: str) -> str:
    """What `build_report` writes as `report.json`, of a measurement its table; nothing is drawn or written."""
    import learned

    if set(results.cells["kind"]) == {"measure"}:
        return table_json(results.cells, results.curves)
    return page_json(
        results.cells,
        results.curves,
        suite=suite,
        label=label,
        targets=targets_of(results, results_dir),
        headline=learned.HEADLINE,
        left_out=results.left_out,
    )


def _update_costs(results_dir: Path, label: str) -> Frame | None:
    """What an update costs on the machine of these rows, where that was measured and published under the same label."""
    store = Store(results_dir, UPDATE_COST, label)
    if not store.folder.is_dir():
        return None
    measured = store.read()
    return update_costs(measured.cells, measured.curves)


def targets_of(results: Results, results_dir: Path) -> dict[str, targets.Targets]:
    """Frozen targets of the tasks and horizons of the rows, where there are any."""
    pairs = results.cells.loc[results.cells["kind"] != "measure", ["task", "horizon"]].dropna().drop_duplicates()
    found = {
        str(task): targets.load(str(task), int(horizon), local_dir=results_dir / "targets")
        for task, horizon in pairs.itertuples(index=False)
    }
    return {task: frozen for task, frozen in found.items() if frozen is not None}


def closing_lines(results: Results, results_dir: Path) -> list[str]:
    """What `bench run` ends with of rows that were trained: see `bench.report.terminal.closing`."""
    import learned
    from bench.report.terminal import closing
    from bench.score.first_screen import first_screen
    from bench.store.rows import read_rows

    rows = read_rows(results.cells, results.curves)
    return closing(first_screen(rows, targets_of(results, results_dir), "", "", "", learned.HEADLINE))
