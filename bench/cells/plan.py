"""The cells of a suite in the order in which they run."""

from collections.abc import Callable, Mapping
from pathlib import Path

from bench.cells import measure, race, time, train
from bench.cells.base import Cell, Lineup, TaskConfig
from bench.entries.plugins import BrokenTask, Registry
from bench.suites.choose import expand_tasks
from bench.suites.suite import Suite


def plan(
    suite: Suite, registry: Registry, tuned_dir: Path | None = None, targets_dir: Path | None = None
) -> list[Cell]:
    """The cells of a suite in the order in which they run. Loads no data onto a device.

    For each task: the training runs, then the clock's interleaved blocks, then a race.

    Args:
      suite: the suite.
      registry: tables of tasks and optimizers.
      tuned_dir: folder of the user's own tuned values.
      targets_dir: folder of the user's own frozen targets.

    Raises:
      UsageError: a task, optimizer or hyperparameter is unknown, or two optimizers have one name.
      tasks.data.MissingDataError: a task's data is neither cached nor found; its digest is part of a cell's identity.
    """
    return _PLANS[suite.kind](suite, registry, tuned_dir, targets_dir)


def _plan_tasks(suite: Suite, registry: Registry, tuned_dir: Path | None, targets_dir: Path | None) -> list[Cell]:
    cells: list[Cell] = []
    for name in expand_tasks(suite.tasks, registry.task_names()):
        try:
            task = TaskConfig.of(suite, registry, name)
        except BrokenTask as broken:
            cells += train.plan_broken(suite, registry, name, broken)
            continue
        lineup = Lineup.of(suite, registry, task, tuned_dir, targets_dir)
        cells += [*train.plan(lineup), *time.plan(lineup), *race.plan(lineup)]
    return cells


def _plan_measurement(suite: Suite, registry: Registry, tuned_dir: Path | None, targets_dir: Path | None) -> list[Cell]:
    del targets_dir
    return [*measure.plan(suite, registry, tuned_dir)]


# Kind of a suite -> its planner. A suite of kind "train" has cells of three kinds.
_PLANS: Mapping[str, Callable[[Suite, Registry, Path | None, Path | None], list[Cell]]] = {
    "train": _plan_tasks,
    "measure": _plan_measurement,
}
