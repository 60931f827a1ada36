"""The command line: parse, build the frozen configuration, call one function that a notebook can also call.

Nothing heavy is imported before a command needs it, so that `bench --help` answers at once.
"""

import contextlib
import functools
import json
import math
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from bench.errors import (
    EXIT_CHECK_FAILED,
    EXIT_FAILED_CELLS,
    EXIT_HARNESS_ERROR,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    UsageError,
    nearest,
    usage_errors,
)
from bench.suites.suite import MOST

PROJECT_FILE = "bench.toml"
FOLDER_OPTIONS = {
    "results_dir": ("BENCH_RESULTS_DIR", "results", "Where results are kept."),
    "reports_dir": ("BENCH_REPORTS_DIR", "reports", "Where reports are written."),
    "cache_dir": ("BENCH_CACHE_DIR", None, "Where decoded data is kept.  [default: ~/.cache/lopt-bench]"),
    "data_dir": ("TFDS_DATA_DIR", None, "Where TFDS data lies.  [default: ~/tensorflow_datasets]"),
}


@dataclass(frozen=True)
class Folders:
    """Resolved folders: flag > environment > bench.toml > default."""

    results_dir: Path
    reports_dir: Path
    cache_dir: Path
    data_dir: Path

    @property
    def tuned_dir(self) -> Path:
        """A user's own tuned values."""
        return self.results_dir / "tuned"

    @property
    def targets_dir(self) -> Path:
        """A user's own frozen targets."""
        return self.results_dir / "targets"


def project_settings(folder: Path = Path()) -> dict[str, str]:
    """Settings of `bench.toml` in the working directory.

    Raises:
      UsageError: not TOML, an unknown key, or a value that is not text.
    """
    path = folder / PROJECT_FILE
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    known = [*FOLDER_OPTIONS, "device"]
    for key, value in table.items():
        if key not in known:
            raise nearest(f"key of {path}", key, known)
        if not isinstance(value, str):
            raise UsageError(f"{path}: expected {key} to be text, got {value!r}")
    return table


def folder_options(command: Callable) -> Callable:
    """Adds --results-dir, --reports-dir, --cache-dir and --data-dir; the command gets `folders`."""

    @functools.wraps(command)
    def wrapped(**kwargs):
        from tasks.data import default_cache_dir, default_data_dir

        settings = project_settings()
        chosen = {}
        for name, (_, default, _) in FOLDER_OPTIONS.items():
            value = kwargs.pop(name) or settings.get(name) or default
            if value is None:
                value = default_cache_dir() if name == "cache_dir" else default_data_dir()
            chosen[name] = Path(value)
        return command(folders=Folders(**chosen), **kwargs)

    for name, (variable, default, text) in reversed(FOLDER_OPTIONS.items()):
        shown = f"{text}  [default: ./{default}]" if default else text
        wrapped = click.option(f"--{name.replace('_', '-')}", envvar=variable, metavar="DIR", help=shown)(wrapped)
    return wrapped


class FiniteRange(click.FloatRange):
    """A float of a range, which "nan" is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, refused where it is not finite."""
        converted = super().convert(value, param, ctx)
        if not math.isfinite(converted):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return converted


STEPS = click.IntRange(min=1, max=MOST)
json_option = click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE", help="Python file that adds tasks or optimizers."
)
device_option = click.option("--device", envvar="BENCH_DEVICE", metavar="cpu|gpu[:i]", help="Where to run.")


def subset_options(command: Callable) -> Callable:
    """Adds -t, -o, --seeds, --steps and --set, which choose a part of a suite or change it."""
    options = (
        click.option("-t", "--task", "tasks_", multiple=True, metavar="TASK", help="Only these tasks."),
        click.option("-o", "--optimizer", "optimizers", multiple=True, metavar="OPTIMIZER", help="Only these."),
        click.option("--seeds", metavar="0-9", help="Only these seeds."),
        click.option("--steps", type=STEPS, metavar="N", help="Another horizon."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="adam.learning_rate=1e-3, ..."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def use_device(name: str | None) -> None:
    """Selects the device named by flag, environment or bench.toml."""
    from bench.run.runner import select_device

    select_device(name or project_settings().get("device"))


DEVICES_HELP = "Devices that samples are spread over; on a CPU, host devices."


def use_devices(name: str | None, number: int) -> None:
    """Selects the device, and on a CPU makes it several."""
    import jax

    with contextlib.suppress(RuntimeError):  # jax runs already, as in a test: then there are as many as there are
        jax.config.update("jax_num_cpu_devices", number)
    use_device(name)


def print_table(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows as a table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    columns = columns or list(rows[0])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = all(isinstance(row[column], int | float) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns), style=None)
    # A pipe has no width: nothing there is worth folding for.
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


def print_json(value: Any) -> None:
    """A value as JSON on standard output."""
    click.echo(json.dumps(value, indent=1))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="lopt-bench", prog_name="bench")
def cli() -> None:
    """Does a learned optimizer beat hand-designed ones? Measure it: wall-clock and test loss."""


@cli.command("list")
@click.argument("what", type=click.Choice(["tasks", "optimizers", "suites", "runs"]), default="tasks")
@json_option
@plugin_option
@folder_options
def list_command(what: str, as_json: bool, plugins: Sequence[str], folders: Folders) -> None:
    """List tasks, optimizers, suites or stored runs."""
    if what == "tasks":
        rows = _task_rows(plugins)
        columns = ["name", "num_params", "horizon", "batch_size", "chance_loss", "data_set", "digest"]
    elif what == "optimizers":
        rows = _optimizer_rows(plugins)
        columns = ["name", "role", "searched", "reference"]
    elif what == "suites":
        from bench.suites.suite import load_suite, suite_names

        suites = [load_suite(name) for name in suite_names()]
        rows = [
            {"name": s.name, "kind": s.kind, "tasks": len(s.tasks), "optimizers": len(s.optimizers)}
            | {"seeds": len(s.seeds), "steps": s.steps, "description": s.description}
            for s in suites
        ]
        columns = ["name", "kind", "seeds", "steps", "description"]
    else:
        from bench.store.published import stored_runs

        rows, columns = stored_runs(folders.results_dir), ["suite", "label", "cells"]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(_one_row_a_family(rows) if what == "tasks" else rows, columns)
    else:
        click.echo(f"none in {folders.results_dir}; run: bench run")


def _one_row_a_family(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Task rows for the terminal: the numbered tasks of a family, which differ in name and digest alone, in one row."""
    shown: dict[str, dict[str, Any]] = {}
    for row in rows:
        stem, _, number = row["name"].rpartition("/")
        if not number.isdecimal():
            shown[row["name"]] = row
        elif stem not in shown:
            shown[stem] = row | {"name": f"{stem}/{number}"}
        else:
            first = shown[stem]["name"].split(" ")[0]
            shown[stem] |= {"name": f"{first} ... /{number}", "digest": "(--json)"}
    return list(shown.values())


def _task_rows(plugins: Sequence[str]) -> list[dict[str, Any]]:
    import tasks
    from bench.entries.plugins import build_registry
    from tasks.registry import describe_problem

    registry = build_registry(plugins)
    rows = [tasks.describe(name) for name in tasks.task_names()]
    rows += [
        describe_problem(name, registry.problem(name), "plug-in", "plug-in", registry.digest(name))
        for name in registry.task_builders
    ]
    return rows


def _optimizer_rows(plugins: Sequence[str]) -> list[dict[str, Any]]:
    import learned
    from baselines import BASELINES
    from bench.entries.plugins import build_registry
    from learned import weights

    registry = build_registry(plugins)
    rows = [_baseline_row(name, row) for name, row in {**BASELINES, **registry.baselines}.items()]
    rows += [_learned_row(name, "learned", row.reference) for name, row in registry.learned.items()]
    for name in weights.shipped_names():
        _, card = weights.read(name)
        alias = "".join(f" ({alias})" for alias, real in learned.ALIASES.items() if real == name)
        reference = f"{card.design}, outer-trained on {card.outer_training['family']}"
        rows.append(_learned_row(name, f"learned{alias}", reference))
    return rows


def _baseline_row(name: str, row: Any) -> dict[str, Any]:
    return {
        "name": name,
        "role": "hand-designed",
        "scheduled": row.scheduled,
        "searched": ", ".join(row.space),
        "space": {key: [rng.low, rng.high] for key, rng in row.space.items()},
        "default": dict(row.default),
        "reference": row.reference,
    }


def _learned_row(name: str, role: str, reference: str) -> dict[str, Any]:
    nothing = {"scheduled": False, "searched": "", "space": {}, "default": {}}
    return {"name": name, "role": role, **nothing, "reference": reference}


@cli.command()
@click.argument("name")
@json_option
@plugin_option
def info(name: str, as_json: bool, plugins: Sequence[str]) -> None:
    """Show all about a task, family, optimizer or suite."""
    facts = _find_info(name, plugins)
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        shown = value if isinstance(value, str | int | float) or value is None else json.dumps(value)
        click.echo(f"{key.replace('_', ' ') + ':':<22} {shown}")


def _find_info(name: str, plugins: Sequence[str]) -> dict[str, Any]:
    import dataclasses

    import learned
    import tasks
    from baselines import is_of_optax, of_optax
    from bench.entries.entrants import real_name
    from bench.suites.suite import load_suite, suite_names
    from learned import weights

    for row in _task_rows(plugins):
        if row["name"] == name:
            return row
    if name in tasks.FAMILIES:
        return tasks.describe(name) | {"tasks": tasks.family_row(name).task_names()}
    if name in suite_names():
        return dataclasses.asdict(load_suite(name))
    if real_name(name) in weights.shipped_names():
        theta, card = weights.read(real_name(name))
        return dataclasses.asdict(card) | {"num_weights": sum(array.size for array in theta.values())}
    optimizers = _optimizer_rows(plugins)
    for row in optimizers:
        if row["name"] == name:
            from baselines import SHIPPED_DIR, read_tuned

            paths = sorted(SHIPPED_DIR.glob(f"*/*/{name}.json"))
            tuned = {
                f"{p.parent.parent.name} at {p.parent.name} steps": read_tuned(p)["hyperparameters"] for p in paths
            }
            return row | {"tuned": tuned}
    if is_of_optax(name):
        with usage_errors():
            return _baseline_row(name, of_optax(name))
    names = [*tasks.FAMILIES, *tasks.task_names(), *(r["name"] for r in optimizers), *learned.ALIASES, *suite_names()]
    raise nearest("name", name, names)


@cli.command()
@json_option
@folder_options
@device_option
def doctor(as_json: bool, folders: Folders, device: str | None) -> None:
    """Check versions, devices, data and folders, and say what to do about what is wrong."""
    from bench.checks.installation import examine

    use_device(device)
    rows = examine(folders.results_dir, folders.reports_dir, folders.cache_dir, folders.data_dir)
    if as_json:
        print_json(rows)
    else:
        print_table(rows)
    if any(row["status"] == "problem" for row in rows):
        sys.exit(EXIT_CHECK_FAILED)


@cli.command()
@click.argument("names", nargs=-1, metavar="[DATA SET]...")
@click.option("--force", is_flag=True, help="Decode again even where a cached file exists.")
@folder_options
def prepare(names: Sequence[str], force: bool, folders: Folders) -> None:
    """Decode TFDS data once into cached array files, which also work where TFDS is not installed."""
    from rich.console import Console

    from bench.run.runner import progress_bar
    from tasks import data

    for name in names or [name for name, row in data.DATA_SETS.items() if row.builder is not None]:
        if name not in data.DATA_SETS:
            raise nearest("data set", name, list(data.DATA_SETS))
        with progress_bar(1.0, f"decoding {name}", Console()) as (log, advance):
            seen = 0.0

            def progress(done: int, total: int, advance=advance) -> None:
                nonlocal seen
                advance(done / max(total, 1) - seen)
                seen = done / max(total, 1)

            path = data.prepare(
                name, data_dir=folders.data_dir, cache_dir=folders.cache_dir, force=force, progress=progress
            )
            log(f"{name}: {path}")


@cli.command()
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

    from bench.entries.plugins import build_registry
    from bench.run.isolate import Work
    from bench.run.isolate import run as run_isolated
    from bench.run.plan import plan
    from bench.run.runner import progress_bar
    from bench.run.runner import run as run_cells
    from bench.store.store import Store

    use_device(device)
    chosen = _choose_suite(suite, tasks_, optimizers, seeds, steps, settings)
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


def _choose_suite(name, tasks_, optimizers, seeds, steps, settings):
    import dataclasses

    from bench.suites.choose import apply_settings
    from bench.suites.seeds import parse_seeds
    from bench.suites.suite import load_suite

    suite = load_suite(name)
    if tasks_:
        suite = dataclasses.replace(suite, tasks=tuple(dict.fromkeys(tasks_)))
    if optimizers:
        suite = dataclasses.replace(suite, optimizers=tuple(dict.fromkeys(optimizers)))
    if seeds:
        suite = dataclasses.replace(suite, seeds=parse_seeds(seeds))
    if steps:
        suite = dataclasses.replace(suite, steps=steps)
    return apply_settings(suite, settings)


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


@cli.command()
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


@cli.command()
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


@cli.command()
@click.argument("names", nargs=-1, metavar="[SUITE/LABEL]...")
@click.option(
    "--outer", metavar="CONFIG/LABEL", help="Take the first outer steps of a published run once more instead."
)
@click.option("--outer-steps", type=click.IntRange(min=1), default=100, show_default=True, help="With --outer.")
@click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help=DEVICES_HELP)
@folder_options
@device_option
def verify(
    names: Sequence[str], outer: str | None, outer_steps: int, devices: int, folders: Folders, device: str | None
) -> None:
    """Recompute every published number from committed rows and compare; names the first that differs.

    Without a name every published report, and the card of every shipped optimizer.

    With --outer, rerun the beginning of an outer-training run: every metric of its outer steps is the same to the last
    bit on the kind of device that the run was on, and to one in a thousand elsewhere.
    """
    from bench.score.compare import parse_set

    if outer:
        if names:
            raise UsageError("expected either reports or --outer, got both")
        use_devices(device, devices)
        _verify_outer(*parse_set(outer), outer_steps, devices, folders)
        return
    from bench.report import cards
    from bench.report.verify import published_reports
    from bench.report.verify import verify as verify_report
    from learned.weights import shipped_names

    reports = [parse_set(name) for name in names] or published_reports(folders.reports_dir)
    if not reports:
        raise UsageError(f"no published report in {folders.reports_dir}")
    for suite, label in reports:
        if not any((folder / suite / label).is_dir() for folder in (folders.results_dir, folders.reports_dir)):
            raise UsageError(f"no results and no report of {suite}/{label}: `bench list runs` shows what there is")
    failed = 0
    for suite, label in reports:
        problem = verify_report(folders.results_dir, folders.reports_dir, suite, label)
        click.echo(f"{suite}/{label}: {problem or 'every number follows from the rows'}")
        failed += problem is not None
    for name in () if names else shipped_names():
        if missing := cards.missing_results(name, folders.results_dir):
            click.echo(f"card of {name}: not checked, {', '.join(missing)} is not in {folders.results_dir}")
            continue
        problem = cards.verify(name, folders.results_dir)
        click.echo(f"card of {name}: {problem or 'follows from the weights and the rows'}")
        failed += problem is not None
    if failed:
        sys.exit(EXIT_CHECK_FAILED)


def _verify_outer(name: str, label: str, outer_steps: int, devices: int, folders: Folders) -> None:
    from rich.console import Console

    import tasks
    from bench.outer.folders import read_config, run_folder
    from bench.outer.rerun import rerun
    from bench.run.runner import progress_bar

    config = read_config(name)
    family = tasks.load_family(config.family, data_dir=folders.data_dir, cache_dir=folders.cache_dir)
    folder = run_folder(folders.results_dir, config, label)
    with progress_bar(outer_steps, f"outer-training {name} again", Console()) as (_, advance):
        found = rerun(config, family, folder, outer_steps=outer_steps, num_devices=devices, advance=advance)
    said = "the same to the last bit" if found.bit_equal else f"relative difference up to {found.difference:.2g}"
    if not found.bit_equal and found.loss_change is not None:
        said += f", outer-loss on average {found.loss_change:+.2g}"
    where = "the kind of device that the run was on" if found.same_device else "what may be another kind of device"
    click.echo(f"{name}/{label}: first {found.outer_steps} outer steps, on {where}: {said}")
    if not found.holds:
        sys.exit(EXIT_CHECK_FAILED)


@cli.command()
@click.argument("plugin", type=click.Path(dir_okay=False))
@click.option("--time-limit", type=FiniteRange(min=1), default=120, show_default=True, help="Seconds of a check.")
@json_option
def check(plugin: str, time_limit: float, as_json: bool) -> None:
    """Check that the tasks and optimizers of a plug-in file keep the contracts that results rely on.

    Each is checked in a process of its own: one that hangs or crashes is a verdict like any other.
    """
    import dataclasses

    from bench.checks.plugin import check_plugin

    def tell(verdict) -> None:
        if not as_json:
            outcome = "ok    " if verdict.passed else "BROKEN"
            click.echo(f"{outcome}  {verdict.kind} {verdict.name}: {verdict.check}: {verdict.detail}")

    verdicts = check_plugin(plugin, time_limit, tell)
    broken = [verdict for verdict in verdicts if not verdict.passed]
    if as_json:
        print_json([dataclasses.asdict(verdict) for verdict in verdicts])
    else:
        click.echo(f"{len(verdicts)} checks, {len(broken)} broken")
    if broken:
        sys.exit(EXIT_CHECK_FAILED)


@cli.command("cards")
@click.argument("names", nargs=-1, metavar="[OPTIMIZER]...")
@folder_options
def cards_command(names: Sequence[str], folders: Folders) -> None:
    """Write the cards of shipped learned optimizers again: how they were made, and their published results."""
    from bench.report import cards
    from learned.weights import shipped_names

    for name in names or shipped_names():
        if name not in shipped_names():
            raise nearest("learned optimizer", name, shipped_names())
        click.echo(f"card: {cards.write(name, folders.results_dir)}")


@cli.command()
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
    from bench.entries.plugins import build_registry
    from bench.run.plan import plan
    from bench.store.published import publish as pack
    from bench.store.published import published_label
    from bench.store.store import Store

    published_label(label)
    use_device(device)
    chosen = _choose_suite(suite, tasks_, optimizers, seeds, steps, settings)
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


@cli.command()
@click.argument("family")
@click.option("-o", "--optimizer", "optimizers", multiple=True, metavar="OPTIMIZER", help="Only these; all without it.")
@click.option("--steps", type=STEPS, metavar="N", help="Horizon; the family's own without it.")
@click.option(
    "--output", type=click.Path(file_okay=False), help="Folder of tuned values.  [default: RESULTS_DIR/tuned]"
)
@json_option
@plugin_option
@folder_options
@device_option
def tune(
    family: str,
    optimizers: Sequence[str],
    steps: int | None,
    output: str | None,
    as_json: bool,
    plugins: Sequence[str],
    folders: Folders,
    device: str | None,
) -> None:
    """Tune hand-designed optimizers on a task family: 32 Halton trials each, by validation loss.

    A search that is stopped or killed goes on where it was.
    """
    import jax
    from rich.console import Console

    from baselines import BASELINES, tuned_path
    from bench.entries.plugins import build_registry
    from bench.run.runner import progress_bar
    from bench.store.files import locked, write_atomically
    from bench.store.record import VERSION
    from bench.tuning import search as tuning

    use_device(device)
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    known = [name for name, row in (BASELINES | registry.baselines).items() if row.values_of is None]
    table = {}
    for name in optimizers or known:
        with usage_errors():
            row = registry.baseline(name)
        if row is None:
            raise nearest("hand-designed optimizer", name, known)
        if row.values_of is not None:
            raise UsageError(f"{name} has the values of another row: tune {row.values_of[1]} on {row.values_of[0]}")
        table[name] = row
    import tasks as task_tables

    if family not in task_tables.FAMILIES and family not in registry.task_builders:
        raise nearest("task family", family, [*task_tables.FAMILIES, *registry.task_builders])
    problem = registry.problem(family)
    horizon = steps or problem.horizon
    console, summary = Console(stderr=as_json), []
    for name in table:
        with (
            contextlib.ExitStack() as alone,
            progress_bar(tuning.num_runs(), f"tuning {name}", console) as (log, advance),
        ):
            path = tuned_path(Path(output) if output else folders.tuned_dir, problem.family, horizon, name)
            partial = path.with_suffix(".runs")  # of a search that has not ended
            if not alone.enter_context(locked(path.with_suffix(".lock"))):
                raise UsageError(f"another process makes {path}: wait for it, or choose another --output")
            identity = {
                "version": VERSION,
                "jax": jax.__version__,
                "horizon": horizon,
                "space": tuning.space_json(table[name].space),
                "tuned_by": table[name].tuned_by,
                "tasks": {task: registry.digest(task) for task in tuning.tuning_tasks(family)},
                "data": registry.data_facts(tuning.tuning_tasks(family)[0])["digest"],
            }
            known = tuning.read_known(partial, identity)
            if known:
                log(f"{name}: going on after {len(known)} runs")
            record = tuning.tune(
                name,
                table[name],
                family,
                horizon,
                registry.load,
                progress=lambda done, total, go=advance: go(1.0),
                known=known,
                on_run=lambda losses, p=partial, i=identity: write_atomically(p, tuning.dump_known(i, losses).encode()),
            )
            write_atomically(path, tuning.dump(record).encode())
            partial.unlink(missing_ok=True)
            values = {key: float(f"{value:.4g}") for key, value in record["hyperparameters"].items()}
            edge = "" if record["interior"] else f"  NOT INTERIOR: {record['on_edge']}"
            split = table[name].tuned_by
            log(f"{name}: {split} loss {record[f'{split}_loss']:.4f} at {values}{edge}")
        summary.append(
            {"optimizer": name, "hyperparameters": values, "interior": record["interior"], "path": str(path)}
        )
    if as_json:
        print_json(summary)


@cli.command()
@click.argument("suite", default="quick")
@subset_options
@click.option("--output", type=click.Path(file_okay=False), help="Folder of targets.  [default: RESULTS_DIR/targets]")
@click.option("--extend", is_flag=True, help="Add optimizers that frozen targets lack; what is frozen stays as it is.")
@plugin_option
@folder_options
@device_option
def freeze(
    suite: str,
    tasks_: Sequence[str],
    optimizers: Sequence[str],
    seeds: str | None,
    steps: int | None,
    settings: Sequence[str],
    output: str | None,
    extend: bool,
    plugins: Sequence[str],
    folders: Folders,
    device: str | None,
) -> None:
    """Freeze the targets of a suite's tasks: what the tuned hand-designed optimizers reach on tuning seeds."""
    from rich.console import Console

    from bench.entries.plugins import build_registry
    from bench.run.runner import progress_bar
    from bench.store.provenance import git_state, versions
    from bench.suites.expand import suite_entrants, suite_tasks
    from bench.tuning import freeze as freeze_
    from bench.tuning.freeze import known_row
    from bench.tuning.targets import NUM_SEEDS, read_record, target_path, write

    use_device(device)
    chosen = _choose_suite(suite, tasks_, optimizers, seeds, steps, settings)
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    programs: dict[tuple[str, int], dict[str, Any]] = {}
    for name, horizon in suite_tasks(chosen, registry):
        problem = registry.problem(name)
        path = target_path(Path(output) if output else folders.targets_dir, name, horizon)
        if path.exists() and not extend:
            click.echo(f"{name}: frozen already, {path}")
            continue
        entrants = [
            entrant
            for entrant in suite_entrants(chosen, registry, problem.family, horizon, folders.tuned_dir)
            if entrant.role == "hand-designed"
        ]
        if not entrants:
            raise UsageError(f"suite {chosen.name}: no hand-designed optimizer to take targets from")
        facts = {
            "task_digest": registry.digest(name),
            "data_digest": registry.data_facts(name)["digest"],
            "commit": git_state()["commit"],
            "versions": versions(),
        }
        earlier = read_record(path, facts) if path.exists() else None
        left = [entrant for entrant in entrants if known_row(earlier, entrant) is None]
        if earlier and not left:
            click.echo(f"{name}: nothing to add, {path}")
            continue
        total = NUM_SEEDS * len(left)
        with progress_bar(total, f"freezing {name}", Console()) as (log, advance):
            record = freeze_.freeze(
                name,
                registry.load(name),
                entrants,
                horizon,
                programs.setdefault((problem.family, horizon), {}),
                facts,
                earlier=earlier,
                tick=lambda go=advance: go(1.0),
            )
            write(path, record)
            best = record["references"]["all_hand_designed"]
            levels = record["optimizers"][best]["levels"]["train_loss"]
            shown = ", ".join(f"{target} {level:.4f}" for target, level in levels.items())
            log(f"{name}: reference {best}, train loss {shown}; {path}")


@cli.command("time")
@click.option("-t", "--task", "tasks_", multiple=True, metavar="TASK", help="Tasks; those of quick without it.")
@click.option("-o", "--optimizer", "optimizers", multiple=True, metavar="OPTIMIZER", help="The first is the reference.")
@click.option("--blocks", type=click.IntRange(min=6), default=20, show_default=True, help="Interleaved blocks.")
@click.option("--steps", type=STEPS, metavar="N", help="Horizon, for schedules.")
@click.option("--race", is_flag=True, help="Race the learned optimizer against the best hand-designed one to a target.")
@click.option("--outer", metavar="CONFIG", help="Time outer-training instead, against a training step with Adam.")
@click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help=DEVICES_HELP)
@json_option
@plugin_option
@folder_options
@device_option
def time_command(
    tasks_: Sequence[str],
    optimizers: Sequence[str],
    blocks: int,
    steps: int | None,
    race: bool,
    outer: str | None,
    devices: int,
    as_json: bool,
    plugins: Sequence[str],
    folders: Folders,
    device: str | None,
) -> None:
    """Time training steps in interleaved randomized blocks on one device.

    With --race, also the wall-clock to frozen targets: raced, and predicted from steps to target and seconds per step.
    With --outer, what an inner step of outer-training costs: time an outer step over its inner steps.
    """
    if outer:
        _time_outer(outer, tasks_, optimizers, blocks, devices, as_json, folders, device)
        return
    from bench.clock.timing import time_entrants
    from bench.entries.entrants import real_name, resolve
    from bench.entries.plugins import build_registry
    from bench.store.provenance import device as device_facts
    from bench.suites.choose import expand_tasks
    from bench.suites.suite import load_suite

    use_device(device)
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    quick = load_suite("quick")
    if race:
        rows = []
        for task in expand_tasks(tasks_ or quick.tasks, registry.task_names()):
            rows += _race(task, optimizers or ("learned",), blocks, steps, registry, folders)
        print_json({"device": device_facts(), "rows": rows}) if as_json else print_table(rows)
        return
    rows = []
    for task in expand_tasks(tasks_ or quick.tasks, registry.task_names()):
        problem = registry.problem(task)
        horizon = steps or problem.horizon
        entrants = [
            resolve(name, problem.family, horizon, tuned_dir=folders.tuned_dir, registry=registry)
            for name in dict.fromkeys(map(real_name, optimizers or quick.optimizers))
        ]
        timings = time_entrants(entrants, registry.load(task), horizon, num_blocks=blocks)
        rows += _timing_rows(task, [entrant.name for entrant in entrants], timings)
    if as_json:
        print_json({"device": device_facts(), "rows": rows})
        return
    shown = [
        {
            "task": row["task"],
            "optimizer": row["optimizer"],
            "ms_per_step": "{median:.3f} [{low:.3f}, {high:.3f}]".format(
                **{k: 1e3 * v for k, v in row["seconds_per_step"].items()}
            ),
            "cost_ratio_to_first": "{median:.3f} [{low:.3f}, {high:.3f}]".format(**row["cost_ratio_to_first"]),
            "compile_seconds": row["compile_seconds"],
        }
        for row in rows
    ]
    print_table(shown)


def _time_outer(
    config: str,
    tasks_: Sequence[str],
    optimizers: Sequence[str],
    blocks: int,
    devices: int,
    as_json: bool,
    folders: Folders,
    device: str | None,
) -> None:
    if tasks_ or optimizers:
        raise UsageError("--outer times what its configuration names: it takes neither -t nor -o")
    use_devices(device, devices)
    import functools

    import tasks
    from bench.outer.cost import measure
    from bench.outer.folders import read_config
    from bench.store.provenance import device as device_facts

    settings = read_config(config)
    where = {"data_dir": folders.data_dir, "cache_dir": folders.cache_dir}
    load = functools.partial(tasks.load_family, settings.family, **where)
    found = measure(settings, load, num_devices=devices, num_blocks=blocks, tuned_dir=folders.tuned_dir)
    if as_json:
        print_json({**found, "device": device_facts()})
        return
    shown = {
        name: "{median:.4g} [{low:.4g}, {high:.4g}]".format(**value) if isinstance(value, dict) else value
        for name, value in found.items()
    }
    print_table([{"measured": name, "value": value} for name, value in shown.items()])


def _timing_rows(task: str, names: Sequence[str], timings) -> list[dict[str, Any]]:
    from bench.clock.timing import printed
    from bench.statistics import median_interval, ratio_interval

    seconds = timings.seconds_per_step
    return [
        {
            "task": task,
            "optimizer": name,
            "seconds_per_step": printed(median_interval(seconds[:, i])),
            "cost_ratio_to_first": printed(ratio_interval(seconds[:, i], seconds[:, 0])),
            "compile_seconds": round(float(timings.compile_seconds[i]), 3),
        }
        for i, name in enumerate(names)
    ]


def _race(task: str, optimizers: Sequence[str], blocks: int, steps: int | None, registry, folders: Folders):
    """Rows of a race on a task: for every target that both reached, the speed-up as raced and as predicted."""
    import numpy as np

    from bench.clock.engine import run_key
    from bench.clock.race import race
    from bench.clock.timing import time_entrants
    from bench.entries.entrants import real_name, resolve
    from bench.score.races import race_result
    from bench.tuning import targets as targets_

    if len(optimizers) != 1:
        raise UsageError(f"--race takes one optimizer, to race against the reference; got {', '.join(optimizers)}")
    problem = registry.problem(task)
    horizon = steps or problem.horizon
    frozen = targets_.load(task, horizon, local_dir=folders.targets_dir)
    if frozen is None:
        raise UsageError(f"no frozen targets for {task} at {horizon} steps; make them with: bench freeze SUITE")
    contender, reference = real_name(optimizers[0]), frozen.references["all_hand_designed"]
    entrants = [
        resolve(name, problem.family, horizon, tuned_dir=folders.tuned_dir, registry=registry)
        for name in (contender, reference)
    ]
    loaded = registry.load(task)
    timings = time_entrants(entrants, loaded, horizon, num_blocks=blocks)
    levels = frozen.levels[reference]["train_loss"]
    table = race(entrants, loaded, run_key(task, 0), horizon, levels["hard"])
    table = table.pivot(index="step", columns="metric", values="value")
    cost_ratio = float(np.median(timings.seconds_per_step[:, 0] / timings.seconds_per_step[:, 1]))
    found = race_result(task, table, cost_ratio, contender, reference, levels)
    rows = [
        {
            "task": task,
            "target": item.target,
            "contender": contender,
            "reference": reference,
            "raced_speedup": float(f"{item.raced:.4g}"),
            "predicted_speedup": float(f"{item.predicted:.4g}"),
            "predicted_over_raced": float(f"{item.predicted / item.raced:.4g}"),
        }
        for item in found
        if item.raced is not None and item.predicted is not None
    ]
    return rows or [{"task": task, "target": None, "contender": contender, "reference": reference}]


@cli.command("outer-train")
@click.argument("config")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, if there is one.")
@click.option("--resume-from", metavar="LABEL", help="Go on from the stage published under this label.")
@click.option("--budget", metavar="2h|30m|90s", help="Stop after this time with the best theta so far.")
@click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help=DEVICES_HELP)
@json_option
@folder_options
@device_option
def outer_train_command(
    config: str,
    resume: bool,
    resume_from: str | None,
    budget: str | None,
    devices: int,
    as_json: bool,
    folders: Folders,
    device: str | None,
) -> None:
    """Outer-train a learned optimizer; the best theta by outer-validation is on disk at any time.

    Checkpoints are written every minute: a run that was stopped or killed goes on with --resume to the same theta.
    `bench publish --outer CONFIG` packs the last whole stage into files that can be committed; --resume-from takes up
    such a run on another machine.
    """
    use_devices(device, devices)
    from rich.console import Console

    import tasks
    from bench.outer import run as run_
    from bench.outer.folders import read_config
    from bench.outer.publish import restore
    from bench.run.runner import progress_bar

    settings, seconds = read_config(config), _duration(budget)
    if resume_from:
        restore(settings, folders.results_dir, resume_from)
    where = {"data_dir": folders.data_dir, "cache_dir": folders.cache_dir}
    family, facts = tasks.load_family(settings.family, **where), tasks.data_facts(settings.family, **where)
    console = Console(stderr=as_json)
    with progress_bar(settings.outer_steps, f"outer-training {settings.name}", console) as (log, advance):
        path, summary = run_.run(
            settings,
            family,
            facts,
            folders.results_dir,
            resume=resume or resume_from is not None,
            num_devices=devices,
            budget_seconds=seconds,
            log=log,
            advance=advance,
        )
    if as_json:
        print_json({"weights": str(path), **summary})
    else:
        click.echo(f"weights: {path}\nuse: bench run -o {path}, or learned.load({str(path)!r})")


def _duration(text: str | None) -> float:
    if text is None:
        return float("inf")
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        value = float(text[:-1]) * (unit or float("nan"))
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UsageError(f"--budget expects a time like 2h, 30m or 90s, got {text!r}")
    return value


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point: every error one line, every exit code as designed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        cli.main(args=list(argv) if argv is not None else None, standalone_mode=False)
        sys.exit(0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not break what closes down
        click.echo(
            "interrupted; what was finished is kept; the command goes on from it (`bench outer-train` with --resume)",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        click.echo(f"bench: {' '.join(error.format_message().split())}", err=True)
        sys.exit(EXIT_USAGE)
    except UsageError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_HARNESS_ERROR)
    except Exception as error:
        if _is_input_error(error):
            click.echo(f"bench: {error}", err=True)
            sys.exit(EXIT_USAGE)
        if os.environ.get("BENCH_DEBUG"):
            raise
        text = (str(error).strip() or "no message").splitlines()[0]
        click.echo(f"bench: internal error: {type(error).__name__}: {text}; BENCH_DEBUG=1 shows where", err=True)
        sys.exit(EXIT_HARNESS_ERROR)


def _is_input_error(error: Exception) -> bool:
    """Whether an error of the lower packages, which cannot import `UsageError`, is about what the user gave."""
    from tasks import UnknownNameError
    from tasks.data import CacheError, DamagedDataError, MissingDataError

    return isinstance(error, UnknownNameError | CacheError | DamagedDataError | MissingDataError)


if __name__ == "__main__":
    main()
