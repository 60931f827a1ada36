"""`bench time`: what a step costs, of training and of outer-training, and races."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import STEPS, device_option, devices_option, folder_options, json_option, plugin_option
from bench.cli.terminal import print_json, print_table
from bench.errors import EXIT_FAILED_CELLS, UsageError
from bench.folders import Folders

if TYPE_CHECKING:
    from bench.run.time_and_race import StepTime
    from bench.score.races import Race


@click.command("time")
@click.option("-t", "--task", "tasks_", multiple=True, metavar="TASK", help="Tasks; those of quick without it.")
@click.option("-o", "--optimizer", "optimizers", multiple=True, metavar="OPTIMIZER", help="The first is the reference.")
@click.option("--blocks", type=click.IntRange(min=6), default=20, show_default=True, help="Interleaved blocks.")
@click.option("--steps", type=STEPS, metavar="N", help="Horizon, for schedules.")
@click.option("--race", is_flag=True, help="Race the learned optimizer against the best hand-designed one to a target.")
@click.option("--outer", metavar="CONFIG", help="Time outer-training instead, against a training step with Adam.")
@devices_option
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
        if tasks_ or optimizers:
            raise UsageError("--outer times what its configuration names: it takes neither -t nor -o")
        _time_outer(outer, blocks, devices, as_json, folders, device)
        return
    from bench.run.time_and_race import race as race_to_targets
    from bench.run.time_and_race import time_steps
    from bench.store.provenance import device as device_facts

    where = {"folders": folders, "plugins": plugins, "device": device}
    if race:
        if len(optimizers) > 1:
            raise UsageError(f"--race takes one optimizer, to race against the reference; got {', '.join(optimizers)}")
        (optimizer,) = optimizers or ("learned",)
        rows = _race_rows(race_to_targets(tasks_, optimizer, steps=steps, blocks=blocks, **where))
        print_json({"device": device_facts(), "rows": rows}) if as_json else print_table(rows)
        return
    failed: list[str] = []
    found = time_steps(tasks_, optimizers, steps=steps, blocks=blocks, **where, log=failed.append)
    if as_json:
        print_json({"device": device_facts(), "rows": _json_rows(found)})
    else:
        print_table(_shown_rows(found))
    if failed:
        click.echo("\n".join(failed), err=True)
        sys.exit(EXIT_FAILED_CELLS)


def _json_rows(found: Sequence[StepTime]) -> list[dict[str, Any]]:
    from bench.training.step_times import printed

    return [
        {
            "task": row.task,
            "optimizer": row.optimizer,
            "seconds_per_step": printed(row.seconds_per_step),
            "cost_ratio_to_first": printed(row.cost_ratio_to_first),
            "compile_seconds": round(row.compile_sec, 3),
        }
        for row in found
    ]


def _shown_rows(found: Sequence[StepTime]) -> list[dict[str, Any]]:
    interval = "{median:.3f} [{low:.3f}, {high:.3f}]"
    return [
        {
            "task": row["task"],
            "optimizer": row["optimizer"],
            "ms_per_step": interval.format(**{end: 1e3 * value for end, value in row["seconds_per_step"].items()}),
            "cost_ratio_to_first": interval.format(**row["cost_ratio_to_first"]),
            "compile_seconds": row["compile_seconds"],
        }
        for row in _json_rows(found)
    ]


def _race_rows(races: Sequence[Race]) -> list[dict[str, Any]]:
    """A row for each target that both reached; for a task where there is none, one without a target."""
    rows = []
    for task in dict.fromkeys(item.task for item in races):
        of_task = [item for item in races if item.task == task]
        reached = [item for item in of_task if item.raced is not None]
        rows += [_race_row(item) for item in reached] or [_race_row(of_task[0]) | {"target": None}]
    return rows


def _race_row(race: Race) -> dict[str, Any]:
    row: dict[str, Any] = {
        "task": race.task,
        "target": race.target,
        "contender": race.optimizer,
        "reference": race.reference,
        "raced_speedup": None,
        "predicted_speedup": None,
        "predicted_over_raced": None,
    }
    if race.raced is not None and race.predicted is not None:
        row["raced_speedup"] = float(f"{race.raced:.4g}")
        row["predicted_speedup"] = float(f"{race.predicted:.4g}")
        row["predicted_over_raced"] = float(f"{race.predicted / race.raced:.4g}")
    return row


def _time_outer(config: str, blocks: int, devices: int, as_json: bool, folders: Folders, device: str | None) -> None:
    from bench.outer.cost import time_outer
    from bench.store.provenance import device as device_facts

    found = time_outer(config, blocks=blocks, num_devices=devices, device=device, folders=folders)
    if as_json:
        print_json({**found, "device": device_facts()})
        return
    shown = {
        name: "{median:.4g} [{low:.4g}, {high:.4g}]".format(**value) if isinstance(value, dict) else value
        for name, value in found.items()
    }
    print_table([{"measured": name, "value": value} for name, value in shown.items()])
