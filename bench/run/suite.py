"""A suite, or a part of one: planned, run and published; `bench run` and `bench publish` are these functions."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.cells.base import Cell
from bench.device import select_device
from bench.entries.plugins import Registry, build_registry
from bench.errors import UsageError
from bench.folders import Folders
from bench.run import isolate as isolate_
from bench.run import runner
from bench.run.plan import plan as plan_cells
from bench.store import published
from bench.store.record import Results
from bench.store.store import Store
from bench.suites.suite import Suite, load_suite


@dataclasses.dataclass(frozen=True, eq=False)
class SuitePlan:
    """What a run of a suite would do.

    Attributes:
      suite: what was planned.
      cells: in the order in which they run; each has a `name`, its digest, and a `title`.
      store: where they go.
      registry: where their tasks come from.
      work: what a process of its own needs to know to run them; None where they run in this one.
    """

    suite: Suite
    cells: list[Cell]
    store: Store
    registry: Registry
    work: isolate_.Work | None = None

    def is_stored(self, cell: Cell) -> bool:
        """Whether a cell is stored and undamaged."""
        return self.store.is_complete(cell.name)


@dataclasses.dataclass(frozen=True, eq=False)
class SuiteRun:
    """A suite that has run.

    Attributes:
      suite: what ran.
      counts: number of cells by status; under "stored" those that were stored before.
      results: its cells, a row each, and their curves: what a report is made from.
      label: that results are stored under, a user's own.
    """

    suite: Suite
    counts: dict[str, int]
    results: Results
    label: str = published.LOCAL


def plan_suite(
    suite: Suite | str,
    *,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
    time_limit_sec: float = math.inf,
    isolate: bool | None = None,
    resume_from: str | None = None,
) -> SuitePlan:
    """The cells of a suite, and whether each is stored; nothing is trained.

    Args:
      suite: from `choose_suite`, or its name.
      folders: where results and data lie; those of the command line without it.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1", from now on the default device of this process.
      time_limit_sec: seconds of building a plug-in's task, and of a training run.
      isolate: whether cells run in a process of their own; None does so with plug-ins.
      resume_from: "LABEL", or "SUITE/LABEL" of another suite: published cells, which are copied to the user's own.

    Raises:
      UsageError: an unknown task, optimizer or hyperparameter; a plug-in that cannot be imported; no such device;
        nothing published to resume from.
      tasks.data.MissingDataError: a task's data is neither cached nor found.

    Example:
      >>> from bench.suites.choose import choose_suite
      >>> suite = choose_suite("quick", ["digits8_mlp"], ["adam"], "0-1", settings=["timing_blocks=0"])
      >>> [cell.title for cell in plan_suite(suite).cells if " adam " in cell.title]
      ['digits8_mlp adam seed 0', 'digits8_mlp adam seed 1']
    """
    select_device(device)
    suite = load_suite(suite) if isinstance(suite, str) else suite
    folders, work = folders or Folders(), None
    if isolate or (isolate is None and plugins):  # first: a plug-in may take down the process that imports it
        work = isolate_.Work.of(suite, plugins, folders, device, time_limit_sec)
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir)
    registry.broken.update(work.broken if work else {})
    cells = plan_cells(suite, registry, folders.tuned_dir, folders.targets_dir)
    store = Store(folders.results_dir, suite.name)
    if resume_from:
        store.restore(folders.results_dir, resume_from, [cell.name for cell in cells])
    return SuitePlan(suite, cells, store, registry, work)


def run_suite(
    suite: Suite | str,
    *,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
    time_limit_sec: float = math.inf,
    isolate: bool | None = None,
    resume_from: str | None = None,
    log: Callable[[str], None] = lambda line: None,
    advance: Callable[[float], None] = lambda share: None,
) -> SuiteRun:
    """Runs the cells of a suite that are not stored yet; each is stored as it ends.

    A diverged run, an exception, a time limit or too little memory is a stored row, and the others go on. What was
    finished before an interruption is kept: the same call goes on from it.

    Args:
      suite: from `choose_suite`, or its name.
      folders: where results and data lie; those of the command line without it.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1", from now on the default device of this process.
      time_limit_sec: seconds of one training run; of its process, where it has one, a minute more.
      isolate: whether cells run in a process of their own; None does so with plug-ins.
      resume_from: "LABEL", or "SUITE/LABEL" of another suite: published cells, which are not run again.
      log: called with a line for every cell that ends.
      advance: called with the share of the suite that is done since it was called last.

    Returns:
      What ran and what came of it; `bench.write_report` makes a page of it.

    Raises:
      UsageError: as `plan_suite`, or a folder that cannot be written.
      tasks.data.MissingDataError: a task's data is neither cached nor found.
    """
    plan = plan_suite(
        suite,
        folders=folders,
        plugins=plugins,
        device=device,
        time_limit_sec=time_limit_sec,
        isolate=isolate,
        resume_from=resume_from,
    )

    def advance_cells(amount: float) -> None:
        advance(amount / len(plan.cells))

    if plan.work:
        counts = isolate_.run(plan.work, plan.cells, plan.store, log=log, advance=advance_cells)
    else:
        counts = runner.run(
            plan.cells, plan.registry, plan.store, time_limit_sec=time_limit_sec, log=log, advance=advance_cells
        )
    return SuiteRun(plan.suite, counts, plan.store.read([cell.name for cell in plan.cells]), plan.store.label)


def publish_suite(
    suite: Suite | str,
    label: str,
    *,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
) -> Path:
    """Packs a user's own cells of a suite into two files that can be committed.

    Args:
      suite: from `choose_suite`, or its name; every cell of it has to be stored.
      label: name of the machine that made them.
      folders: where results and data lie; those of the command line without it.
      plugins: Python files that add tasks or optimizers.
      device: that the cells ran on: its kind is part of what identifies them.

    Returns:
      The folder RESULTS/SUITE/LABEL; `bench.write_report` makes a page of it.

    Raises:
      UsageError: cells that are not stored; a label that is "local" or not a plain name; as `plan_suite`.
    """
    published.published_label(label)
    folders = folders or Folders()
    plan = plan_suite(suite, folders=folders, plugins=plugins, device=device, isolate=False)
    missing = [cell.title for cell in plan.cells if not plan.is_stored(cell)]
    if missing:
        shown = "; ".join(missing[:3]) + ("; ..." if len(missing) > 3 else "")
        raise UsageError(
            f"{len(missing)} of {len(plan.cells)} cells of {plan.suite.name} are not stored: {shown}; `bench run` them"
        )
    results = plan.store.read([cell.name for cell in plan.cells])
    return published.publish(folders.results_dir, plan.suite.name, label, results)
