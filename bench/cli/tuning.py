"""`bench tune` and `bench freeze`: what a comparison needs before it runs."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench.cli.options import STEPS, device_option, folder_options, json_option, plugin_option, subset_options
from bench.cli.terminal import print_json, progress_bar
from bench.errors import UsageError, nearest, usage_errors
from bench.folders import Folders
from bench.suites.choose import choose_suite


@click.command()
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
    from bench.device import select_device
    from bench.entries.plugins import build_registry
    from bench.store.files import locked, write_atomically
    from bench.store.record import VERSION
    from bench.tuning import search as tuning

    select_device(device)
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


@click.command()
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

    from bench.device import select_device
    from bench.entries.plugins import build_registry
    from bench.store.provenance import git_state, versions
    from bench.suites.expand import suite_entrants, suite_tasks
    from bench.tuning import freeze as freeze_
    from bench.tuning.freeze import known_row
    from bench.tuning.targets import NUM_SEEDS, read_record, target_path, write

    select_device(device)
    chosen = choose_suite(suite, tasks_, optimizers, seeds, steps, settings)
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
