"""`bench run`, `report`, `compare` and `publish`: suites and what came of them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench.cli.options import FiniteRange, device_option, folder_options, json_option, plugin_option, subset_options
from bench.cli.terminal import print_json, print_table, progress_bar
from bench.errors import EXIT_CHECK_FAILED, EXIT_FAILED_CELLS, UsageError, nearest
from bench.folders import Folders
from bench.suites.choose import choose_suite


@click.command()
@click.argument("suite", default="quick")
@subset_options
@click.option(
    "--time-limit",
    type=FiniteRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Of one training run; of its process, where it has one, a minute more.",
)
@click.option(
    "--isolate/--no-isolate", default=None, help="Run cells in a process of their own.  [default: with --plugin]"
)
@click.option("--dry-run", is_flag=True, help="Print the cells that would run, and stop.")
@click.option(
    "--resume-from",
    metavar="[SUITE/]LABEL",
    help="Go on from the cells published under this label; of another suite, from those this one has too.",
)
@json_option
@plugin_option
@folder_options
@device_option
def run(
    suite: str,
    tasks_: Sequence[str],
    optimizers: Sequence[str],
    seeds: str | None,
    steps: int | None,
    settings: Sequence[str],
    time_limit: float | None,
    isolate: bool | None,
    dry_run: bool,
    resume_from: str | None,
    as_json: bool,
    plugins: Sequence[str],
    folders: Folders,
    device: str | None,
) -> None:
    """Run a suite (quick by default), skipping what is stored, and report.

    The last lines are a table and the path of the report.
    """
    from rich.console import Console

    from bench.device import select_device
    from bench.entries.plugins import build_registry
    from bench.run.isolate import Work
    from bench.run.isolate import run as run_isolated
    from bench.run.plan import plan
    from bench.run.runner import run as run_cells
    from bench.store.store import Store

    select_device(device)
    chosen = choose_suite(suite, tasks_, optimizers, seeds, steps, settings)
    limit, work = time_limit or float("inf"), None
    if isolate or (isolate is None and plugins):
        work = Work.of(chosen, plugins, folders, device, limit)
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    registry.broken.update(work.broken if work else {})
    cells = plan(chosen, registry, folders.tuned_dir, folders.targets_dir)
    store = Store(folders.results_dir, chosen.name)
    if resume_from:
        store.restore(folders.results_dir, resume_from, [cell.name for cell in cells])
    if dry_run:
        rows = [{"cell": c.name, "title": c.title, "stored": store.is_complete(c.name)} for c in cells]
        print_json(rows) if as_json else print_table(rows)
        return
    console = Console(stderr=as_json)
    with progress_bar(len(cells), f"bench run {chosen.name}", console) as (log, advance):
        if work:
            counts = run_isolated(work, cells, store, log=log, advance=advance)
        else:
            counts = run_cells(cells, registry, store, time_limit_sec=limit, log=log, advance=advance)
    results = store.read([cell.name for cell in cells])
    page = _report(results, folders, chosen.name, store.label, formats=("png",))
    if as_json:
        print_json({"suite": chosen.name, "cells": counts, "report": str(page)})
    else:
        _print_results(results, folders, console)
        console.print(f"cells: {', '.join(f'{n} {status}' for status, n in counts.items())}", highlight=False)
        console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    statuses = set(results.cells["status"]) - {"ok", "diverged"}
    if statuses:
        sys.exit(EXIT_FAILED_CELLS)


def _report(results, folders: Folders, suite: str, label: str, **drawing: Any) -> Path:
    from bench.report.verify import build_report
    from bench.store.files import locked

    folder = folders.reports_dir / suite / label
    try:
        with locked(folder / ".lock", wait=True):  # two runs that share cells end at the same time
            return build_report(results, folders.results_dir, folder, suite, label, **drawing)
    except OSError as error:
        raise UsageError(
            f"cannot write the report in {folders.reports_dir}: {error.strerror}; choose another --reports-dir"
        ) from None


def _print_results(results, folders: Folders, console) -> None:
    import learned
    from bench.measure import shown
    from bench.report import terminal_tables
    from bench.report.verify import targets_of

    if set(results.cells["kind"]) == {"measure"}:
        figures = shown(results.cells, results.curves)
        print_table(figures.round(3).to_dict("records"), list(figures.columns))
        return
    frozen = targets_of(results, folders.results_dir)
    console.print(terminal_tables(results.cells, results.curves, targets=frozen, headline=learned.HEADLINE))


@click.command()
@click.argument("suite", default="quick")
@click.option("--label", help="Published results; your own without it.")
@json_option
@folder_options
def report(suite: str, label: str | None, as_json: bool, folders: Folders) -> None:
    """Write the report of stored results again; --json prints what its first screen shows.

    Of your own runs it takes the latest of each (task, optimizer, seed).
    """
    from rich.console import Console

    from bench.store.published import LOCAL
    from bench.store.store import Store

    results = Store(folders.results_dir, suite, label or LOCAL).read()
    page = _report(results, folders, suite, label or LOCAL)
    if as_json:
        click.echo((page.parent / "report.json").read_text(), nl=False)
        return
    _print_results(results, folders, Console())
    click.echo(f"report: {page}")


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--metric", default="final_test_loss", show_default=True, help="A loss of the cells table.")
@click.option(
    "--fail-above", type=FiniteRange(min=0), metavar="SHARE", help="Exit 4 where B is worse by more, e.g. 0.05."
)
@json_option
@folder_options
def compare(a: str, b: str, metric: str, fail_above: float | None, as_json: bool, folders: Folders) -> None:
    """Compare two result sets, SUITE/LABEL or SUITE for your own, paired by task, optimizer and seed."""
    import dataclasses

    from bench.score.compare import compare as compare_sets
    from bench.score.compare import regressions
    from bench.store.record import RESULT_COLUMNS

    losses = [name for name in RESULT_COLUMNS if name != "best_validation_step"]
    if metric not in losses:
        raise nearest("metric", metric, losses)
    rows = compare_sets(folders.results_dir, a, b, metric)
    worse = regressions(rows, fail_above) if fail_above is not None else []
    if as_json:
        plain = [row | {"change": row["change"] and dataclasses.asdict(row["change"])} for row in rows]
        print_json({"a": a, "b": b, "metric": metric, "rows": plain, "regressions": len(worse)})
    else:
        print_table([_compared(row) for row in rows])
    if worse:
        first = f"{worse[0]['optimizer']} on {worse[0]['task']}"
        click.echo(
            f"bench: {len(worse)} of {len(rows)} rows are worse by more than {fail_above:.1%}: {first}", err=True
        )
        sys.exit(EXIT_CHECK_FAILED)


def _compared(row: dict[str, Any]) -> dict[str, Any]:
    change = row["change"]
    text = "no ratio: a run failed, or the mean of A is 0" if change is None else f"{change:+.2%}"
    shown = {name: None if row[name] is None else f"{row[name]:.4f}" for name in ("a", "b")}
    return {"task": row["task"], "optimizer": row["optimizer"], "pairs": row["pairs"], **shown, "change": text}


@click.command()
@click.argument("suite", required=False)
@click.option("--label", required=True, help="Name of the machine that made the results.")
@click.option("--outer", metavar="CONFIG", help="Publish a run of outer-training instead: its last whole stage.")
@subset_options
@plugin_option
@folder_options
@device_option
def publish(
    suite: str | None,
    label: str,
    outer: str | None,
    tasks_: Sequence[str],
    optimizers: Sequence[str],
    seeds: str | None,
    steps: int | None,
    settings: Sequence[str],
    plugins: Sequence[str],
    folders: Folders,
    device: str | None,
) -> None:
    """Pack your own runs of a suite into two files that can be committed, and write their report.

    Every cell of the suite, or of the part of it chosen as for `bench run`, has to be stored.

    With --outer, the end of the last whole stage of your own run of outer-training, with the best theta and its card.
    """
    if (suite is None) == (outer is None):
        raise UsageError("expected either a suite or --outer CONFIG")
    if outer is not None:
        from bench.outer import publish as publish_
        from bench.outer.folders import read_config

        if tasks_ or optimizers or seeds or steps or settings or plugins:
            raise UsageError("--outer publishes the run of a configuration: it takes no part of a suite")
        config = read_config(outer)
        click.echo(f"published: {publish_.publish(config, folders.results_dir, label)}")
        return
    assert suite is not None
    from bench.entries.plugins import build_registry
    from bench.run.plan import plan
    from bench.store.published import publish as pack
    from bench.store.published import published_label
    from bench.store.store import Store

    published_label(label)
    from bench.device import select_device

    select_device(device)
    chosen = choose_suite(suite, tasks_, optimizers, seeds, steps, settings)
    cells = plan(
        chosen,
        build_registry(plugins, folders.data_dir, folders.cache_dir),
        folders.tuned_dir,
        folders.targets_dir,
    )
    store = Store(folders.results_dir, chosen.name)
    missing = [cell.title for cell in cells if not store.is_complete(cell.name)]
    if missing:
        shown = "; ".join(missing[:3]) + ("; ..." if len(missing) > 3 else "")
        raise UsageError(
            f"{len(missing)} of {len(cells)} cells of {chosen.name} are not stored: {shown}; `bench run` them"
        )
    folder = pack(folders.results_dir, chosen.name, label, store.read([cell.name for cell in cells]))
    results = Store(folders.results_dir, chosen.name, label).read()
    page = _report(results, folders, chosen.name, label)
    click.echo(f"published: {folder}\nreport: {page}")
