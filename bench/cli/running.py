"""`bench run`, `report`, `compare` and `publish`: suites and what came of them."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import (
    FiniteRange,
    Formats,
    device_option,
    engine_options,
    folder_options,
    json_option,
    plugin_option,
    subset_options,
)
from bench.cli.terminal import duration_text, print_json, print_table, progress_bar
from bench.engines.cluster import Cluster, read_cluster_file
from bench.errors import EXIT_CHECK_FAILED, EXIT_FAILED_CELLS, UsageError
from bench.folders import Folders
from bench.report.page import FIGURE_FORMATS, TABLE_FORMATS
from bench.suites.choose import choose_suite

if TYPE_CHECKING:
    from rich.console import Console

    from bench.run.suite import SuitePlan, SuiteRun
    from bench.store.record import Results


@click.command()
@click.argument("suite", default="quick")
@subset_options
@click.option(
    "--cell-limit",
    type=FiniteRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Of one training run; of its process, where it has one, a minute more.",
)
@click.option(
    "--isolate/--no-isolate", default=None, help="Run cells in a process of their own.  [default: with --plugin]"
)
@click.option("--dry-run", is_flag=True, help="Print the cells that would run, and stop.")
@click.option("-q", "--quiet", is_flag=True, help="Print the path of the report only.")
@click.option(
    "--resume-from",
    metavar="[SUITE/]LABEL",
    help="Go on from the cells published under this label; of another suite, from those this one has too.",
)
@click.option("--again", is_flag=True, help="Run stored cells again too, as after an update of a library.")
@engine_options
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
    cell_limit: float | None,
    isolate: bool | None,
    dry_run: bool,
    quiet: bool,
    resume_from: str | None,
    again: bool,
    cluster: Cluster | None,
    shard: str | None,
    time_limit_sec: float,
    as_json: bool,
    plugins: Sequence[str],
    folders: Folders,
    device: str | None,
) -> None:
    """Run a suite (quick by default), skipping what is stored, and report.

    It says first what it will do and how long that took elsewhere, and ends with five lines and the path of the report.
    Where other runs of the suite are stored, the report of this part lies beside that of the whole, which
    `bench report` writes. A shard, or a run that its time limit ends, has none: a final `bench run` on the same folder
    runs what is left and reports.
    """
    from rich.console import Console

    from bench.report.build import closing_lines
    from bench.report.stored import write_report
    from bench.run.suite import plan_suite, run_suite

    chosen = choose_suite(suite, tasks_, optimizers, seeds, steps, settings)
    how: dict[str, Any] = {
        "folders": folders,
        "plugins": plugins,
        "device": device,
        "cell_limit_sec": cell_limit or float("inf"),
        "isolate": isolate,
        "resume_from": resume_from,
        "shard": shard,
    }
    if dry_run:
        plan = plan_suite(chosen, **how)
        if cluster and cluster.file and not as_json:
            click.echo(read_cluster_file(cluster.file).script())
        rows = [
            {"cell": cell.name, "title": cell.title, "stored": plan.is_stored(cell) and not again}
            for cell in plan.cells
        ]
        print_json(rows) if as_json else print_table(rows)
        return
    console = Console(stderr=as_json, quiet=quiet, highlight=False, markup=False)
    console.soft_wrap = not console.is_terminal  # a pipe has no width
    with progress_bar(1.0, f"bench run {chosen.name}", console) as (log, advance):
        planned = functools.partial(_announce, again=again, folders=folders, log=log)
        how |= {"again": again, "time_limit_sec": time_limit_sec, "cluster": cluster}
        done = run_suite(chosen, **how, planned=planned, log=log, advance=advance, told=lambda line: advance(0.0, line))
    if shard or done.left:
        _print_part(done, as_json, console)
        return
    if not (as_json or quiet):  # before the page: what came of the run is told even where no page can be written
        if set(done.results.cells["kind"]) == {"measure"}:
            _print_results(done.results, folders, console)
        else:
            console.print("\n".join(closing_lines(done.results, folders.results_dir)))
    page = write_report(chosen.name, done.report_label, results=done.results, folders=folders)
    if as_json:
        left_out = {"left_out": done.results.left_out} if done.results.left_out else {}
        print_json({"suite": chosen.name, "cells": done.counts, "report": str(page), **left_out})
    elif quiet:
        click.echo(page)
    else:
        console.print(
            f"{_counted(done)} (`bench open` opens the report, `bench report {chosen.name}` prints its tables)"
        )
        console.print(f"report: {page}", soft_wrap=True)  # in one piece, to be copied
    _exit_where_cells_failed(done)


def _print_part(done: SuiteRun, as_json: bool, console: Console) -> None:
    """Says what a shard, or a run whose time was over, has come to: exit code 0 where it goes on later."""
    if as_json:
        print_json({"suite": done.suite.name, "cells": done.counts, "left": len(done.left)})
    else:
        console.print(_counted(done), highlight=False)
    if done.left:
        shown = "; ".join(done.left[:3]) + ("; ..." if len(done.left) > 3 else "")
        click.echo(f"time is over, {len(done.left)} cells are left: {shown}; the same command goes on", err=True)
    else:
        _exit_where_cells_failed(done)


def _counted(done: SuiteRun) -> str:
    return f"cells: {', '.join(f'{n} {status}' for status, n in done.counts.items()) or 'none'}"


def _exit_where_cells_failed(done: SuiteRun) -> None:
    if set(done.results.cells["status"]) - {"ok", "diverged"}:
        sys.exit(EXIT_FAILED_CELLS)


def _announce(plan: SuitePlan, *, again: bool, folders: Folders, log: Callable[[str], None]) -> None:
    """What will be done, how long it took elsewhere, and where it goes."""
    from bench.report.table import plural
    from bench.run.forecast import forecast

    new = [cell for cell in plan.cells if again or not plan.is_stored(cell)]
    stored = f", {len(plan.cells) - len(new)} stored before" if len(new) < len(plan.cells) else ""
    tasks = {cell.config.task for cell in plan.cells if cell.kind != "measure"}
    seeds = {cell.config.seed for cell in plan.cells if cell.kind == "train"}
    of = f" ({plural(len(tasks), 'task')}, {plural(len(seeds), 'seed')})" if tasks else ""
    log(f"{plan.suite.name}: {plural(len(new), 'cell')} to run{stored}{of}")
    expected = forecast(new, folders.results_dir, plan.suite.name)
    if not new:
        log("time: nothing is left to run but the report")
    elif expected is None:
        log("time: not known, nothing of these tasks is published; the time left is shown as cells end")
    else:
        log(f"time: about {duration_text(expected.seconds)}, by what {plan.suite.name}/{expected.label} took")
    log(f"cells go to {plan.store.folder}; interrupted, the same command goes on")


def _print_results(results: Results, folders: Folders, console: Console) -> None:
    import learned
    from bench.measure import shown
    from bench.report.build import targets_of
    from bench.report.page import terminal_tables

    if set(results.cells["kind"]) == {"measure"}:
        figures = shown(results.cells, results.curves)
        print_table(figures.round(3).to_dict("records"), list(figures.columns))
        return
    frozen = targets_of(results, folders.results_dir)
    console.print(terminal_tables(results.cells, results.curves, targets=frozen, headline=learned.HEADLINE))
    for line in results.left_out:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@click.command()
@click.argument("suite", default="quick")
@click.option("--label", help="Published results; your own without it.")
@click.option(
    "--figures", type=Formats(FIGURE_FORMATS), default="", metavar="png,svg,pdf", help="Files of every figure, too."
)
@click.option(
    "--tables", type=Formats(TABLE_FORMATS), default="csv", metavar="csv,md,tex", help="Formats of tables, besides CSV."
)
@json_option
@folder_options
def report(
    suite: str, label: str | None, figures: Sequence[str], tables: Sequence[str], as_json: bool, folders: Folders
) -> None:
    """Write the report of stored results again; --json prints what its first screen shows and writes nothing.

    Of your own runs it takes those of each row's latest configuration, and says what it leaves out. It is a page with
    its figures within it, and every table as CSV beside it; files in other formats are made where asked for, and made
    anew where they are.
    """
    from rich.console import Console

    from bench.report.stored import read_results, report_json, write_report

    if as_json:
        print_json(report_json(suite, label, folders=folders))
        return
    results = read_results(suite, label, folders=folders)
    _print_results(results, folders, Console())
    page = write_report(suite, label, results=results, folders=folders, figures=figures, tables=tables)
    click.echo(f"report: {page}")


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--metric", default="final_test_loss", show_default=True, help="A loss of the cells table.")
@click.option(
    "--fail-above",
    type=FiniteRange(min=0),
    metavar="SHARE",
    help="Exit 4 where B is worse by more, e.g. 0.05, or lacks a row.",
)
@json_option
@folder_options
def compare(a: str, b: str, metric: str, fail_above: float | None, as_json: bool, folders: Folders) -> None:
    """Compare two result sets, SUITE/LABEL or SUITE for your own, paired by task, optimizer and seed."""
    from bench.score.compare import compare_results

    found = compare_results(a, b, metric=metric, folders=folders)
    worse = found.regressions(fail_above) if fail_above is not None else []
    vanished = found.vanished if fail_above is not None else []
    if as_json:
        only = [dataclasses.asdict(runs) for runs in found.only]
        plain = [row | {"change": row["change"] and dataclasses.asdict(row["change"])} for row in found.rows]
        failed = {"regressions": len(worse), "vanished": len(vanished)}
        left_out = {"left_out": dict(zip(("a", "b"), found.left_out, strict=True))} if any(found.left_out) else {}
        print_json({"a": a, "b": b, "metric": metric, "rows": plain, "only": only, **failed, **left_out})
    else:
        print_table([_compared(row) for row in found.rows])
        for runs in found.only:
            click.echo(str(runs))
        for side, lines in zip(("A", "B"), found.left_out, strict=True):
            for line in lines:
                click.echo(f"{side}: {line}")
    if vanished:
        click.echo(
            f"bench: {len(vanished)} rows of A are not in B: {vanished[0].optimizer} on {vanished[0].task}", err=True
        )
    if worse:
        first = f"{worse[0]['optimizer']} on {worse[0]['task']}"
        click.echo(
            f"bench: {len(worse)} of {len(found.rows)} rows are worse by more than {fail_above:.1%}: {first}", err=True
        )
    if worse or vanished:
        sys.exit(EXIT_CHECK_FAILED)


def _compared(row: dict[str, Any]) -> dict[str, Any]:
    change = row["change"]
    text = "no ratio: a run failed, or the mean of A is 0" if change is None else f"{change:+.2%}"
    shown = {name: None if row[name] is None else f"{row[name]:.4f}" for name in ("a", "b")}
    named = {"task": row["task"], "optimizer": row["optimizer"], "pairs": row["pairs"]}
    return named | shown | {"change": text, "settings": row["settings"]}


@click.command()
@click.argument("suite", required=False)
@click.option("--label", help="Name of the machine that made the results; not needed with --ship alone.")
@click.option("--outer", metavar="CONFIG", help="Publish a run of outer-training instead: its last whole stage.")
@click.option(
    "--ship", is_flag=True, help="With --outer: the best theta of a finished run becomes an optimizer that ships."
)
@click.option("--force", is_flag=True, help="Replace published runs that these lack; with --ship, other weights.")
@subset_options
@plugin_option
@folder_options
@device_option
def publish(
    suite: str | None,
    label: str | None,
    outer: str | None,
    ship: bool,
    force: bool,
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
    With --ship, the best theta of a run that has taken its last outer step goes to learned/weights, its card beside it:
    `bench run -o NAME` and learned.load("NAME") know it from then on.
    """
    if label is None and not ship:
        raise click.MissingParameter(param_type="option", param_hint="'--label'")
    if (suite is None) == (outer is None):
        raise UsageError("expected either a suite or --outer CONFIG")
    if outer is not None:
        if force and not ship:
            raise UsageError("--force replaces weights that ship: it goes with --ship")
        if tasks_ or optimizers or seeds or steps or settings or plugins:
            raise UsageError("--outer publishes the run of a configuration: it takes no part of a suite")
        _publish_outer(outer, label, ship, force, folders)
        return
    if ship:
        raise UsageError("--ship takes a run of outer-training: it goes with --outer CONFIG")
    from bench.report.stored import write_report
    from bench.run.suite import publish_suite

    assert suite is not None
    assert label is not None
    chosen = choose_suite(suite, tasks_, optimizers, seeds, steps, settings)
    folder = publish_suite(chosen, label, folders=folders, plugins=plugins, device=device, force=force)
    page = write_report(chosen.name, label, folders=folders)
    click.echo(f"published: {folder}\nreport: {page}")


def _publish_outer(config: str, label: str | None, ships: bool, force: bool, folders: Folders) -> None:
    from bench.outer.publish import publish_outer, ship

    if label is not None:
        click.echo(f"published: {publish_outer(config, label, folders=folders)}")
    if ships:
        path = ship(config, folders=folders, force=force)
        click.echo(f"shipped: {path}\nuse: bench run -o {path.stem}, or learned.load({path.stem!r})")
