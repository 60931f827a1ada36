"""Plans, runs and publishes a suite, or a part of one: the functions behind `bench run` and `bench publish`."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.cells.base import Cell
from bench.cells.plan import plan as plan_cells
from bench.device import select_device
from bench.engines.cluster import Cluster
from bench.engines.shard import Shard
from bench.entries.plugins import Registry, build_registry
from bench.errors import OutOfTime, UsageError
from bench.folders import Folders
from bench.run import isolate as isolate_
from bench.run import runner
from bench.store import published
from bench.store.record import NO_RESULTS, Results
from bench.store.rows import Frame
from bench.store.store import Store
from bench.suites.suite import Suite, load_suite
from bench.time_limit import time_limit


@dataclasses.dataclass(frozen=True, eq=False)
class SuitePlan:
    """The plan of a suite.

    Attributes:
      suite: the suite.
      cells: the cells in the order in which they run; each has a `name`, its digest, and a `title`.
      store: where cells are stored.
      registry: tables of tasks and optimizers.
      planned: all cells of the suite; `cells` are those of the shard.
      work: what another process needs to run the cells; None where they run in this process.
    """

    suite: Suite
    cells: list[Cell]
    store: Store
    registry: Registry
    planned: list[Cell]
    work: isolate_.Work | None = None

    def is_stored(self, cell: Cell) -> bool:
        """Whether a cell is stored, undamaged and with a result: it is not run again."""
        stored = self.store.get(cell.name)
        return stored is not None and stored[0].status.is_final

    def results(self) -> Results:
        """The cells that have run, and their curves; no row where none has, as of an empty shard."""
        found = any(self.store.has_file(cell.name) for cell in self.cells)
        return self.store.read([cell.name for cell in self.cells]) if found else NO_RESULTS


@dataclasses.dataclass(frozen=True, eq=False)
class SuiteRun:
    """The outcome of running a suite.

    Attributes:
      suite: the suite.
      counts: number of cells by status; cells that were stored before count as "stored".
      results: the cells, one row each, and their curves, from which a report is made.
      label: the label under which the results are stored.
      report_label: the label of their report: another one where runs of other rows or seeds are stored beside these, so
        that the report of a part does not replace that of the whole.
      left: titles of the cells that are not stored, where the time was over.
    """

    suite: Suite
    counts: dict[str, int]
    results: Results
    label: str = published.LOCAL
    report_label: str = published.LOCAL
    left: tuple[str, ...] = ()


def plan_suite(
    suite: Suite | str,
    *,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
    cell_limit_sec: float = math.inf,
    isolate: bool | None = None,
    resume_from: str | None = None,
    shard: str | None = None,
) -> SuitePlan:
    """Plans the cells of a suite; nothing is trained.

    Args:
      suite: from `choose_suite`, or its name.
      folders: where results and data lie; by default those of the command line.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.
      cell_limit_sec: time limit of building a plug-in's task, and of a training run.
      isolate: whether cells run in a child process; by default they do if there are plug-ins.
      resume_from: "LABEL", or "SUITE/LABEL" of another suite: published cells to copy to the user's own.
      shard: "K/N": the k-th of n parts of the cells.

    Raises:
      UsageError: a task, optimizer or hyperparameter is unknown, a plug-in cannot be imported, there is no such device,
        or nothing is published to resume from.
      tasks.data.MissingDataError: a task's data is neither cached nor found.

    Example:
      >>> from bench.suites.choose import choose_suite
      >>> suite = choose_suite("quick", ["digits8_mlp"], ["adam"], "0-1", settings=["timing_blocks=0"])
      >>> [cell.title for cell in plan_suite(suite).cells if " adam " in cell.title]
      ['digits8_mlp adam seed 0', 'digits8_mlp adam seed 1']
    """
    part = Shard.parse(shard) if shard else None
    select_device(device)
    suite = load_suite(suite) if isinstance(suite, str) else suite
    folders, work = folders or Folders(), None
    if isolate or (isolate is None and plugins):  # first, since importing a plug-in may crash the process
        work = isolate_.Work.of(suite, plugins, folders, device, cell_limit_sec, shard)
    registry = build_registry(plugins, folders.data_dir, folders.cache_dir, folders.weights_dir)
    registry.broken.update(work.broken if work else {})
    planned = plan_cells(suite, registry, folders.tuned_dir, folders.targets_dir)
    cells = part.part(planned) if part else planned
    store = Store(folders.results_dir, suite.name)
    if resume_from:
        store.restore(folders.results_dir, resume_from, [cell.name for cell in cells])
    return SuitePlan(suite, cells, store, registry, planned, work)


def run_suite(
    suite: Suite | str,
    *,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
    cell_limit_sec: float = math.inf,
    isolate: bool | None = None,
    resume_from: str | None = None,
    planned: Callable[[SuitePlan], None] = lambda plan: None,
    again: bool = False,
    shard: str | None = None,
    time_limit_sec: float = math.inf,
    cluster: Cluster | None = None,
    log: Callable[[str], None] = lambda line: None,
    advance: Callable[[float], None] = lambda share: None,
    told: Callable[[str], None] = lambda line: None,
) -> SuiteRun:
    """Runs the cells of a suite that are not stored yet; each is stored as it ends.

    A diverged run, an exception, a time limit or too little memory is stored as the cell's outcome, and the next cell
    runs. After an interruption, the same call continues with the cells that are not stored.

    Args:
      suite: from `choose_suite`, or its name.
      folders: where results and data lie; by default those of the command line.
      plugins: Python files that add tasks or optimizers.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.
      cell_limit_sec: time limit of one training run; another process is killed a minute later.
      isolate: whether cells run in a child process; by default they do if there are plug-ins.
      resume_from: "LABEL", or "SUITE/LABEL" of another suite: published cells, which are not run again.
      planned: called with the plan, before the first cell runs.
      again: whether cells that are stored run again too, as after an update of a library; each replaces what is stored
        when it ends.
      shard: "K/N": the k-th of n parts of the cells. All parts, in one results folder, add up to the suite.
      time_limit_sec: time limit of the call. Cells that are running then are run again by the next call.
      cluster: where cells run, each on a Dask worker; without it they run on this machine one after the other.
      log: called with a line for every cell that ends.
      advance: called with the fraction of the cells that has been run since the last call.
      told: called with a line about workers and cells, where there is a cluster.

    Returns:
      The suite, its results and the number of cells by status; `bench.write_report` makes a page of the results.

    Raises:
      UsageError: as `plan_suite`; a folder cannot be written; or there is no such cluster, or none of its workers can
        run the cells.
      tasks.data.MissingDataError: a task's data is neither cached nor found.
    """
    with time_limit(time_limit_sec) as raise_when_over:
        plan = plan_suite(
            suite,
            folders=folders,
            plugins=plugins,
            device=device,
            cell_limit_sec=cell_limit_sec,
            isolate=True if cluster else isolate,
            resume_from=resume_from,
            shard=shard,
        )
        planned(plan)

        def advance_cells(amount: float) -> None:
            raise_when_over()
            advance(amount / len(plan.cells))

        counts, left, since = {}, (), runner.now() if again else ""
        try:
            if plan.work and (again or not all(map(plan.is_stored, plan.cells))):
                runner.tell_damaged(plan.store, log)
                plan.registry.forget()  # other processes hold the data
                work = dataclasses.replace(plan.work, since=since)
                if cluster:
                    from bench.run import on_workers

                    how = {"log": log, "advance": advance_cells, "told": told}
                    counts = on_workers.run(cluster, work, plan.cells, plan.planned, plan.store, **how)
                else:
                    counts = isolate_.run(work, plan.cells, plan.store, log=log, advance=advance_cells)
            else:
                how = {"time_limit_sec": cell_limit_sec, "since": since, "log": log, "advance": advance_cells}
                counts = runner.run(plan.cells, plan.registry, plan.store, **how)
        except OutOfTime:
            left = tuple(cell.title for cell in plan.cells if not plan.is_stored(cell))
            counts = {"stored": len(plan.cells) - len(left)}
            runner.tell_damaged(plan.store, log)
    others = plan.store.runs() - {(*cell.row, cell.config.seed) for cell in plan.planned if cell.row}
    label = plan.store.label
    return SuiteRun(plan.suite, counts, plan.results(), label, published.PART if others else label, left)


def publish_suite(
    suite: Suite | str,
    label: str,
    *,
    folders: Folders | None = None,
    plugins: Sequence[str] = (),
    device: str | None = None,
    force: bool = False,
) -> Path:
    """Packs the user's own cells of a suite into two files that can be committed.

    Args:
      suite: from `choose_suite`, or its name; all of its cells must be stored.
      label: name of the machine that made them.
      folders: where results and data lie; by default those of the command line.
      plugins: Python files that add tasks or optimizers.
      device: the device that the cells ran on; its kind is part of their identity.
      force: whether they may replace published cells that have runs which these lack.

    Returns:
      The folder RESULTS/SUITE/LABEL; `bench.write_report` makes a page of it.

    Raises:
      UsageError: as `plan_suite`; or cells are not stored, a row has runs of two settings, the label is "local" or not
        a plain name, or what is published under it has more runs.
    """
    published.published_label(label)
    folders = folders or Folders()
    plan = plan_suite(suite, folders=folders, plugins=plugins, device=device, isolate=False)
    missing = [cell.title for cell in plan.cells if not plan.store.is_complete(cell.name)]
    if missing:
        shown = "; ".join(missing[:3]) + ("; ..." if len(missing) > 3 else "")
        raise UsageError(
            f"{len(missing)} of {len(plan.cells)} cells of {plan.suite.name} are not stored: {shown}; `bench run` them"
        )
    results = plan.store.read([cell.name for cell in plan.cells])
    if results.left_out:
        raise UsageError(
            f"runs of two settings are no seeds of one row: {'; '.join(results.left_out)}; `bench run --again` them"
        )
    there = Store(folders.results_dir, plan.suite.name, label)
    if not force and (there.folder / "cells.parquet").exists():
        lost = _runs(there.read()) - _runs(results)
        if lost:
            shown = ", ".join(f"{task} {optimizer} seed {seed}" for task, optimizer, seed in sorted(lost)[:3])
            raise UsageError(
                f"{plan.suite.name}/{label} has {len(lost)} runs that these lack, such as {shown}: publish under "
                "another label, or replace them by --force"
            )
    return published.publish(folders.results_dir, plan.suite.name, label, results)


def _runs(results: Results) -> set[tuple[str, str, int]]:
    """(task, optimizer, seed) of training runs."""
    train: Frame = results.cells[results.cells["kind"] == "train"]
    return {(row["task"], row["optimizer"], int(row["seed"])) for row in train.to_dict("records")}
