"""Times of training steps, and races to a target: the functions behind `bench time`."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from bench.device import select_device
from bench.entries.entrants import Entrant, real_name, resolve
from bench.entries.plugin_files import failure
from bench.entries.plugins import Registry, build_registry
from bench.errors import UsageError
from bench.folders import Folders
from bench.score.races import Race, race_result
from bench.statistics import Interval, median_interval, ratio_interval
from bench.suites.choose import expand_tasks
from bench.suites.suite import load_suite
from bench.training.programs import run_key
from bench.training.race import race as race_entrants
from bench.training.step_times import NUM_BLOCKS, time_entrants
from bench.tuning import targets

SUITE = "quick"  # whose tasks and optimizers are timed by default


@dataclasses.dataclass(frozen=True)
class StepTime:
    """The time of a training step with an optimizer on a task.

    Attributes:
      task: name.
      optimizer: name.
      seconds_per_step: median over interleaved blocks.
      cost_ratio_to_first: ratio to the optimizer named first, median over blocks of the ratio within a block.
      compile_sec: compile time of its program.
    """

    task: str
    optimizer: str
    seconds_per_step: Interval
    cost_ratio_to_first: Interval
    compile_sec: float


def time_steps(
    tasks: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    *,
    steps: int | None = None,
    blocks: int = NUM_BLOCKS,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[StepTime]:
    """Times training steps in interleaved randomized blocks on one device (protocol rule 7).

    Args:
      tasks: names or patterns; by default those of the suite `quick`.
      optimizers: names, the reference first; by default those of the suite `quick`.
      steps: horizon in inner steps, for schedules; by default each task's own.
      blocks: number of interleaved blocks, at least 6.
      folders: where tuned values and data lie; by default those of the command line.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.
      log: called with a line for every optimizer that cannot take a step.

    Returns:
      A row for each task and optimizer that can take a step, in their order.

    Raises:
      UsageError: a task or optimizer is unknown, there is no such device, or the reference cannot take a step.
      tasks.data.MissingDataError: a task's data is neither cached nor found.
    """
    select_device(device)
    folders, quick = folders or Folders(), load_suite(SUITE)
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir, folders.weights_dir)
    found = []
    for task in expand_tasks(tasks or quick.tasks, registry.task_names()):
        horizon = steps or registry.problem(task).horizon
        names = list(dict.fromkeys(map(real_name, optimizers or quick.optimizers)))
        entrants = _entrants(names, task, horizon, registry, folders)

        failures: dict[str, str] = {}
        timings = time_entrants(
            entrants,
            registry.load(task),
            horizon,
            num_blocks=blocks,
            failed=lambda entrant, error, of=failures: of.update({entrant.name: failure(error)[1]}),
        )
        for name, reason in failures.items():
            line = f"{task} {name} is not timed: {reason}"
            if name == entrants[0].name:
                raise UsageError(f"{line}; it is the reference")
            log(line)
        entrants = [entrant for entrant in entrants if entrant.name not in failures]
        seconds = timings.seconds_per_step
        found += [
            StepTime(
                task,
                entrant.name,
                median_interval(seconds[:, i]),
                ratio_interval(seconds[:, i], seconds[:, 0]),
                float(timings.compile_sec[i]),
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
    """Races an optimizer against the best hand-designed one to its frozen targets (protocol rule 9).

    Args:
      tasks: names or patterns; by default those of the suite `quick`.
      optimizer: name.
      steps: horizon of the targets in inner steps; by default each task's own.
      blocks: number of interleaved blocks in which steps are timed, at least 6.
      folders: where tuned values, targets and data lie; by default those of the command line.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.

    Returns:
      A row for each task and target: the speed-up measured in the race, and the one predicted from steps to the target
      and seconds per step; None where one of the two optimizers misses the target.

    Raises:
      UsageError: a task or optimizer is unknown, a task has no frozen targets, or there is no such device.
      tasks.data.MissingDataError: a task's data is neither cached nor found.
    """
    select_device(device)
    folders = folders or Folders()
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir, folders.weights_dir)
    found = []
    for task in expand_tasks(tasks or load_suite(SUITE).tasks, registry.task_names()):
        horizon = steps or registry.problem(task).horizon
        frozen = targets.load(task, horizon, local_dir=folders.targets_dir)
        if frozen is None:
            raise UsageError(f"no frozen targets for {task} at {horizon} steps; make them with: bench freeze SUITE")
        name, reference = real_name(optimizer), frozen.references.get("all_hand_designed")
        if reference is None:
            raise UsageError(
                f"no hand-designed optimizer finished when the targets of {task} were frozen: no reference"
            )
        entrants = _entrants([name, reference], task, horizon, registry, folders)
        loaded = registry.load(task)
        timings = time_entrants(entrants, loaded, horizon, num_blocks=blocks)
        levels = frozen.levels[reference][targets.CLAIMED]
        curve = race_entrants(entrants, loaded, run_key(task, 0), horizon, levels["hard"])
        table = curve.pivot(index="step", columns="metric", values="value")
        cost_ratio = float(np.median(timings.seconds_per_step[:, 0] / timings.seconds_per_step[:, 1]))
        found += race_result(task, table, cost_ratio, name, reference, levels)
    return found


def _entrants(names: Sequence[str], task: str, horizon: int, registry: Registry, folders: Folders) -> list[Entrant]:
    family = registry.problem(task).family
    return [resolve(name, family, horizon, tuned_dir=folders.tuned_dir, registry=registry) for name in names]
