"""`bench time`: what a step costs."""

from collections.abc import Sequence
from typing import Any

import click

from bench.cli.options import STEPS, device_option, devices_option, folder_options, json_option, plugin_option
from bench.cli.terminal import print_json, print_table
from bench.errors import UsageError
from bench.folders import Folders


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
        _time_outer(outer, tasks_, optimizers, blocks, devices, as_json, folders, device)
        return
    from bench.clock.timing import time_entrants
    from bench.device import select_device
    from bench.entries.entrants import real_name, resolve
    from bench.entries.plugins import build_registry
    from bench.store.provenance import device as device_facts
    from bench.suites.choose import expand_tasks
    from bench.suites.suite import load_suite

    select_device(device)
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
    from bench.device import use_devices

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
