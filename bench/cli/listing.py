"""`bench list` and `bench info`: what there is."""

import json
from collections.abc import Sequence
from typing import Any

import click

from bench.cli.options import folder_options, json_option, plugin_option
from bench.cli.terminal import print_json, print_table
from bench.folders import Folders

COLUMNS = {  # of the table; --json has them all
    "tasks": ["name", "num_params", "horizon", "batch_size", "chance_loss", "data_set", "digest"],
    "optimizers": ["name", "role", "searched", "reference"],
    "suites": ["name", "kind", "seeds", "steps", "description"],
    "runs": ["suite", "label", "cells"],
}


@click.command("list")
@click.argument("what", type=click.Choice(list(COLUMNS)), default="tasks")
@json_option
@plugin_option
@folder_options
def list_command(what: str, as_json: bool, plugins: Sequence[str], folders: Folders) -> None:
    """List tasks, optimizers, suites or stored runs."""
    from bench.entries.listing import list_optimizers, list_tasks
    from bench.suites.listing import list_runs, list_suites

    rows = {
        "tasks": lambda: list_tasks(plugins),
        "optimizers": lambda: list_optimizers(plugins),
        "suites": list_suites,
        "runs": lambda: list_runs(folders),
    }[what]()
    if as_json:
        print_json(rows)
    elif rows:
        print_table(_one_row_a_family(rows) if what == "tasks" else rows, COLUMNS[what])
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


@click.command()
@click.argument("name")
@json_option
@plugin_option
def info(name: str, as_json: bool, plugins: Sequence[str]) -> None:
    """Show all about a task, family, optimizer or suite."""
    from bench.suites.listing import describe

    facts = describe(name, plugins)
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        shown = value if isinstance(value, str | int | float) or value is None else json.dumps(value)
        click.echo(f"{key.replace('_', ' ') + ':':<22} {shown}")
