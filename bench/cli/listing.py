"""`bench list` and `bench info`: what there is."""

import json
from collections.abc import Sequence
from typing import Any

import click

from bench.cli.options import folder_options, json_option, plugin_option
from bench.cli.terminal import print_json, print_table
from bench.errors import nearest, usage_errors
from bench.folders import Folders


@click.command("list")
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


@click.command()
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
