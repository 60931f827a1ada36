"""What a step costs, and races to a target: `bench time` is these functions."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bench.clock.engine import run_key
from bench.clock.race import race as race_entrants
from bench.clock.timing import NUM_BLOCKS, time_entrants
from bench.device import select_device
from bench.entries.entrants import Entrant, real_name, resolve
from bench.entries.plugins import Registry, build_registry
from bench.errors import UsageError
from bench.folders import Folders
from bench.score.races import Race, race_result
from bench.statistics import Interval, median_interval, ratio_interval
from bench.suites.choose import expand_tasks
from bench.suites.suite import load_suite
from bench.tuning import targets

SUITE = "quick"  # whose tasks and optimizers are timed where none are named


@dataclasses.dataclass(frozen=True)
class StepTime:
    """What a training step with an optimizer costs on a task.

    Attributes:
      task: name.
      optimizer: name.
      seconds_per_step: median over interleaved blocks.
      cost_ratio_to_first: to the optimizer named first, median over blocks of the ratio within one.
      compile_seconds: of its program.
    """

    task: str
    optimizer: str
    seconds_per_step: Interval
    cost_ratio_to_first: Interval
    compile_seconds: float


def time_steps(
    tasks: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    *,
    steps: int | None = None,
    blocks: int = NUM_BLOCKS,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
) -> list[StepTime]:
    """Times training steps in interleaved randomized blocks on one device (protocol rule 7).

    Args:
      tasks: names or patterns; those of the suite `quick` without any.
      optimizers: names, the reference first; those of the suite `quick` without any.
      steps: horizon in inner steps, for schedules; each task's own without it.
      blocks: number of interleaved blocks, at least 6.
      folders: where tuned values and data lie; those of the command line without it.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1", from now on the default device of this process.

    Returns:
      A row for each task and optimizer, in their order.

    Raises:
      UsageError: an unknown task or optimizer, or no such device.
      tasks.data.MissingDataError: a task's data is neither cached nor found.
    """
    select_device(device)
    folders, quick = folders or Folders(), load_suite(SUITE)
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    found = []
    for task in expand_tasks(tasks or quick.tasks, registry.task_names()):
        horizon = steps or registry.problem(task).horizon
        names = list(dict.fromkeys(map(real_name, optimizers or quick.optimizers)))
        entrants = _entrants(names, task, horizon, registry, folders)
        timings = time_entrants(entrants, registry.load(task), horizon, num_blocks=blocks)
        seconds = timings.seconds_per_step
        found += [
            StepTime(
                task,
                entrant.name,
                median_interval(seconds[:, i]),
                ratio_interval(seconds[:, i], seconds[:, 0]),
                float(timings.compile_seconds[i]),
            )
            for i, entrant in enumerate(entrants)
        ]
    return found


def race(
    tasks: Sequence[str] = (),
    optimizer: str = "learned",
    *,
    steps: int | None = None,
    blocks: int = NUM_BLOCKS,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
) -> list[Race]:
    """Races an optimizer against the best hand-designed one to that one's frozen targets (protocol rule 9).

    Args:
      tasks: names or patterns; those of the suite `quick` without any.
      optimizer: name.
      steps: horizon in inner steps, which the targets are of; each task's own without it.
      blocks: number of interleaved blocks that steps are timed in, at least 6.
      folders: where tuned values, targets and data lie; those of the command line without it.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1", from now on the default device of this process.

    Returns:
      A row for each task and target: the speed-up as raced, and as predicted from steps to the target and seconds per
      step; None where one of the two does not arrive.

    Raises:
      UsageError: an unknown task or optimizer, a task without frozen targets, or no such device.
      tasks.data.MissingDataError: a task's data is neither cached nor found.
    """
    select_device(device)
    folders = folders or Folders()
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    found = []
    for task in expand_tasks(tasks or load_suite(SUITE).tasks, registry.task_names()):
        horizon = steps or registry.problem(task).horizon
        frozen = targets.load(task, horizon, local_dir=folders.targets_dir)
        if frozen is None:
            raise UsageError(f"no frozen targets for {task} at {horizon} steps; make them with: bench freeze SUITE")
        contender, reference = real_name(optimizer), frozen.references["all_hand_designed"]
        entrants = _entrants([contender, reference], task, horizon, registry, folders)
        loaded = registry.load(task)
        timings = time_entrants(entrants, loaded, horizon, num_blocks=blocks)
        levels = frozen.levels[reference]["train_loss"]
        curve = race_entrants(entrants, loaded, run_key(task, 0), horizon, levels["hard"])
        table = curve.pivot(index="step", columns="metric", values="value")
        cost_ratio = float(np.median(timings.seconds_per_step[:, 0] / timings.seconds_per_step[:, 1]))
        found += race_result(task, table, cost_ratio, contender, reference, levels)
    return found


def _entrants(names: Sequence[str], task: str, horizon: int, registry: Registry, folders: Folders) -> list[Entrant]:
    family = registry.problem(task).family
    return [resolve(name, family, horizon, tuned_dir=folders.tuned_dir, registry=registry) for name in names]
