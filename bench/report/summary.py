"""Losses and step costs of every optimizer, on one task or over several.

A run that failed (any status but "ok", or a non-finite loss) is never dropped and never imputed (protocol rule 11).
Where one is among the runs behind a number, the number is a mean over the others, marked, sorted last, without an
interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bench.report.table import NONE_TEXT, PERCENT, Column, Entry, Table, format_interval, plural, text_entry
from bench.score.losses import loss
from bench.score.times_to_target import step_cost_ratio
from bench.statistics import MIN_SEEDS, Interval, median_interval, t_interval, three_digits
from bench.store.rows import LOSSES, Frame
from bench.store.rows import Rows as Results

HEADLINE_LOSS = "final_test_loss"
STEP_COST_REFERENCE = "adam"
FAILED_MARK, STRETCHED_MARK, UNTUNED_MARK, BY_HAND_MARK = "†", "‡", "§", "¶"


@lru_cache(maxsize=4096)
def loss_summary(results: Results, optimizer: str, tasks: tuple[str, ...], metric: str) -> Interval | None:
    """Mean over seeds, tasks averaged within each seed first; the interval is withheld when a run failed.

    None where no seed finished all tasks, or the optimizer was not run on every task. The interval of the final test
    loss lets the test images vary too (protocol rule 12).
    """
    losses = results.losses(optimizer, tasks, metric)
    values = losses.to_numpy(dtype=float)
    if not values.size or np.isnan(values).all(axis=0).any():
        return None
    usable = np.isfinite(values).all(axis=1)
    if not usable.any():
        return None
    if metric == HEADLINE_LOSS and usable.all():
        return loss(results, tasks, optimizer, metric)[0]
    interval = t_interval(losses[usable].mean(axis=1).to_numpy())
    return interval.without_bounds() if np.isinf(values).any() else interval


def step_cost(results: Results, optimizer: str, task: str) -> Interval | None:
    """Median seconds per step over the timing blocks, or None if not timed."""
    table = results.blocks.get(task)
    if table is None or optimizer not in table:
        return None
    seconds = table[optimizer].dropna().to_numpy()
    return median_interval(seconds) if len(seconds) and np.isfinite(seconds).all() else None


def step_cost_reference(results: Results, tasks: tuple[str, ...]) -> str | None:
    """The row step costs are divided by: `adam` if timed on all tasks, else the first name that is."""
    tables = [results.blocks[task] for task in tasks if task in results.blocks]
    if not tables:
        return None
    common = [name for name in tables[0].columns if all(name in table for table in tables)]
    return STEP_COST_REFERENCE if STEP_COST_REFERENCE in common else next(iter(common), None)


@lru_cache(maxsize=4096)
def sorted_optimizers(results: Results, tasks: tuple[str, ...]) -> tuple[str, ...]:
    """By final test loss; rows with failed runs after those without, rows without a loss last."""

    def key(optimizer: str) -> tuple[int, float, str]:
        summary = loss_summary(results, optimizer, tasks, HEADLINE_LOSS)
        if summary is None:
            return (2 if len(results.runs(optimizer, tasks)) else 3), 0.0, optimizer
        return int(num_failed(results, optimizer, tasks) > 0), summary.estimate, optimizer

    timed = {name for task in tasks if task in results.blocks for name in results.blocks[task].columns}
    present = set(results.train[results.train["task"].isin(list(tasks))]["optimizer"]) | timed
    return tuple(sorted(present, key=key))


@lru_cache(maxsize=4096)
def display_name(results: Results, optimizer: str, tasks: tuple[str, ...]) -> str:
    """The name with the marks its row carries."""
    marks = FAILED_MARK * (num_failed(results, optimizer, tasks) > 0)
    marks += STRETCHED_MARK * bool(stretched(results.runs(optimizer, tasks)).any())
    marks += UNTUNED_MARK * bool(untuned(results.runs(optimizer, tasks)).any())
    marks += BY_HAND_MARK * bool(by_hand(results.runs(optimizer, tasks)).any())
    return f"{optimizer} {marks}".rstrip()


def summary_table(results: Results, tasks: tuple[str, ...]) -> Table:
    """Losses, step costs and compile seconds of every optimizer on one task, or averaged over several."""
    single = tasks[0] if len(tasks) == 1 else None
    reference = step_cost_reference(results, tasks)
    columns = [Column("optimizer", "optimizer"), Column("role", "role")]
    columns.append(Column("runs_ok", "runs ok / all", number=True))
    columns += [Column(key, header, interval=True) for key, header in LOSSES.items()]
    if single is not None:
        columns.append(Column("seconds_per_step", "step time, ms", interval=True))
    ratio_header = f"step cost / {reference}" if reference else "step cost ratio"
    columns.append(Column("step_cost_ratio", ratio_header, interval=True))
    if single is not None:
        columns.append(Column("compile_seconds", "compile, s", number=True))
    base_memory = results.step_bytes.get((single, reference)) if single and reference else None
    if base_memory:
        columns.append(Column("memory_ratio", f"memory of a step / {reference}", number=True))

    order = sorted_optimizers(results, tasks)
    rows = []
    for optimizer in order:
        runs = results.runs(optimizer, tasks)
        row = [
            Entry(display_name(results, optimizer, tasks), optimizer),
            text_entry(results.role(optimizer)),
            text_entry(f"{len(runs) - num_failed(results, optimizer, tasks)} / {len(runs)}" if len(runs) else None),
        ]
        for metric in LOSSES:
            interval = loss_summary(results, optimizer, tasks, metric)
            row.append(Entry(format_interval(interval), interval))
        if single is not None:
            cost = step_cost(results, optimizer, single)
            row.append(Entry(format_interval(cost, scale=1e3), cost))
        ratio = step_cost_ratio(results, tasks, optimizer, reference) if reference else None
        row.append(Entry("1 (reference)" if optimizer == reference and ratio else format_interval(ratio), ratio))
        if single is not None:
            seconds = results.compile_sec.get((single, optimizer))
            row.append(_number_entry(seconds))
        if base_memory:
            known = results.step_bytes.get((str(single), optimizer))
            share = None if known is None else known / base_memory
            row.append(_number_entry(share))
        rows.append(tuple(row))

    name = f"Task {single}" if single is not None else f"All {len(tasks)} tasks"
    return Table(
        slug=f"summary_{results.slugs[single]}" if single is not None else "overall_summary",
        caption=f"{name}: every optimizer, sorted by final test loss (lower is better)",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=tuple(_summary_notes(results, tasks, order, reference)),
    )


def _number_entry(value: float | None) -> Entry:
    """Three digits in every row of a column."""
    return Entry(NONE_TEXT if value is None or not math.isfinite(value) else three_digits(value), value)


def _summary_notes(results: Results, tasks: tuple[str, ...], order: Sequence[str], reference: str | None) -> list[str]:
    runs = results.train[results.train["task"].isin(list(tasks))]
    trained = [optimizer for optimizer in order if len(results.runs(optimizer, tasks))]
    notes = []
    if trained:
        seeds = [results.runs(optimizer, tasks)["seed"].nunique() for optimizer in trained]
        over = "Losses are means over seeds" + (", tasks averaged within each seed first" if len(tasks) > 1 else "")
        if max(seeds) < MIN_SEEDS:
            notes.append(
                f"{over}, without intervals: they need {MIN_SEEDS} seeds, here there are at most {max(seeds)}."
            )
        else:
            some = "" if min(seeds) >= MIN_SEEDS else f" where a row has {MIN_SEEDS} seeds or more"
            notes.append(f"{over}, with t {PERCENT} intervals{some}.")
        notes.append(
            "Mean train loss averages the evaluation grid over the horizon, step 0 left out. Final test loss is the "
            "headline; test loss at the step with the best validation loss stands beside it."
        )
    if any(num_failed(results, optimizer, tasks) for optimizer in trained):
        notes.append(
            f"{FAILED_MARK} Some runs failed (see Failures): the mean is over the others only, which flatters it, so "
            "it has no interval and the row is sorted after those whose runs all finished."
        )
    if stretched(runs).any():
        notes.append(f"{STRETCHED_MARK} Tuned at another horizon; the schedule was stretched to this one.")
    if untuned(runs).any():
        notes.append(f"{UNTUNED_MARK} Never tuned on this task family: default hyperparameters.")
    if by_hand(runs).any():
        notes.append(f"{BY_HAND_MARK} With values set by hand.")
    timed = [task for task in tasks if task in results.blocks]
    if not timed:
        notes.append("Step costs: no timing cell for these rows.")
    elif len(tasks) > 1:
        notes.append(
            f"Step cost: geometric mean over tasks of the median ratio to {reference} within a block; {PERCENT} "
            "interval from resampling blocks within tasks."
        )
    else:
        num_blocks = len(results.blocks[timed[0]])
        bounds = "" if median_interval(np.ones(num_blocks)).low is not None else " (too few blocks for an interval)"
        notes.append(
            f"Step time: median over {plural(num_blocks, 'interleaved block')} with a distribution-free {PERCENT} "
            f"interval{bounds}; step cost: median of the ratios to {reference} within a block, likewise."
        )
        if (timed[0], reference) in results.step_bytes:
            notes.append("Memory of a step: what its program holds beside the data, parameters, state and temporaries.")
    return notes


@lru_cache(maxsize=4096)
def num_failed(results: Results, optimizer: str, tasks: tuple[str, ...]) -> int:
    """Runs with a status other than ok or a final test loss that is not finite."""
    return int(np.isinf(results.losses(optimizer, tasks, HEADLINE_LOSS).to_numpy(dtype=float)).sum())


def num_diverged(results: Results, optimizer: str, tasks: tuple[str, ...]) -> int:
    """Runs that failed, or whose last train loss is above that of chance: finite, and nothing learned."""
    losses = results.losses(optimizer, tasks, "final_train_loss")
    chance = [results.chance_loss(task) for task in losses.columns]
    return int((np.isinf(losses) | losses.gt(chance, axis="columns")).to_numpy().sum())


def untuned(runs: Frame) -> Frame:
    """Which runs are of a hand-designed row that was never tuned on its family, nor has values set by hand."""
    return runs["tuned_horizon"].isna() & (runs["role"] == "hand-designed") & ~by_hand(runs)


def stretched(runs: Frame) -> Frame:
    """Which runs are at another horizon than the one their values were tuned at, none of them set by hand."""
    elsewhere = (runs["tuned_horizon"].notna() & (runs["tuned_horizon"] != runs["horizon"])).fillna(False).astype(bool)
    return elsewhere & ~by_hand(runs)


def by_hand(runs: Frame) -> Frame:
    """Which runs have hyperparameters that were set by hand."""
    return runs["hyperparameters"].fillna("").str.contains('"set_by_hand"', regex=False).astype(bool)
