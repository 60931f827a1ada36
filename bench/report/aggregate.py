"""Over tasks and to a target: one number an optimizer, with its interval (protocol rules 11 and 12)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bench.report.summary import HEADLINE_LOSS, num_failed, sorted_optimizers
from bench.report.table import PERCENT, Column, Entry, Table, format_interval, text_entry
from bench.score.times_to_target import PAPER_TARGET, TargetsByTask, references, success_rate, survival
from bench.statistics import (
    Interval,
    interquartile_mean,
    km_median,
    probability_of_improvement,
    restricted_mean,
    stratified_bootstrap,
)
from bench.store.rows import CONTROL, Rows
from bench.tuning.targets import CLAIMED, SHARES

ALL_HAND_DESIGNED = "all_hand_designed"
NUM_RESAMPLES = 1000  # of a Python function each: ends of intervals good to a tenth of their width, within a second


def aggregate_table(rows: Rows, targets: TargetsByTask, contender: str | None) -> Table | None:
    """Interquartile mean of the normalized test loss and probability of improvement; None without targets.

    A run's final test loss is divided by the mean, over seeds, of the task's reference. The probability of improvement
    is that a run of the contender has a lower final test loss than a run of the row on the same task.
    """
    reference = references(rows, targets, ALL_HAND_DESIGNED)
    tasks = tuple(task for task in rows.tasks if task in reference)
    if not tasks:
        return None
    names = [name for name in sorted_optimizers(rows, tasks) if name in rows.trained and rows.role(name) != CONTROL]
    table = []
    for name in names:
        normalized = _normalized_iqm(rows, tasks, name, reference)
        better = None if contender in (None, name) else _improvement(rows, tasks, str(contender), name)
        failed = num_failed(rows, name, tasks)
        table.append(
            (
                text_entry(name, bold=name == contender),
                Entry(f"{failed} failed" if failed and normalized is None else format_interval(normalized), normalized),
                Entry(_share(better), better, better is not None and better.excludes(0.5)),
            )
        )
    columns = (
        Column("optimizer", "optimizer"),
        Column("normalized_test_loss", "final test loss / reference's, interquartile mean", interval=True),
        Column("improvement", f"probability that {contender or 'the learned optimizer'} improves on it", interval=True),
    )
    notes = (
        "Final test loss over the mean of the task's reference, the best hand-designed optimizer on the tuning seeds; "
        "the mean of the middle half of all runs. Probability that a run has a lower final test loss than one of the "
        "row on the same task, ties counting half; bold where the interval excludes one half.",
        f"{PERCENT} intervals from resampling seeds within each task: for these tasks, not for others like them.",
    )
    return Table("aggregate", "Final test loss over all tasks and seeds", columns, tuple(table), notes)


def _share(found: Interval | None) -> str:
    """A probability; where every resample has the same, an interval of width zero would say too much."""
    if found is not None and found.low == found.high:
        return f"{found.estimate:.3g}"
    return format_interval(found)


def _losses(rows: Rows, tasks: tuple[str, ...], *names: str) -> list[NDArray[np.float64]] | None:
    """(num_seeds, num_tasks) final test losses of the seeds that all have, inf where a run failed."""
    tables = [rows.losses(name, tasks, HEADLINE_LOSS).dropna() for name in names]
    seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
    return [table.loc[seeds].to_numpy(dtype=float) for table in tables] if seeds else None


def _normalized_iqm(rows: Rows, tasks: tuple[str, ...], name: str, reference: Mapping[str, str]) -> Interval | None:
    columns = [_losses(rows, (task,), name, reference[task]) for task in tasks]
    if any(column is None for column in columns) or len({len(column[0]) for column in columns if column}) != 1:
        return None
    own, best = (np.concatenate([column[i] for column in columns if column], axis=1) for i in (0, 1))
    if not (np.isfinite(own).all() and np.isfinite(best).all()):
        return None
    return stratified_bootstrap(
        lambda x, y: interquartile_mean(x / y.mean(axis=0)), [own, best], num_resamples=NUM_RESAMPLES
    )


def _improvement(rows: Rows, tasks: tuple[str, ...], contender: str, name: str) -> Interval | None:
    pair = _losses(rows, tasks, contender, name)
    return stratified_bootstrap(probability_of_improvement, pair, num_resamples=NUM_RESAMPLES) if pair else None


def time_table(rows: Rows, targets: TargetsByTask, task: str, slug: str) -> Table | None:
    """Times to the reference's targets on a task: median, restricted mean, share that arrives; None without a clock.

    The mean is restricted to one time for all rows, the shortest of their budgets, beyond which nothing is known of
    whose steps are cheap. Who arrives most often stands first, of these who arrives earliest.
    """
    reference = references(rows, targets, ALL_HAND_DESIGNED)
    if task not in reference:
        return None
    found = {
        name: times
        for name in sorted_optimizers(rows, (task,))
        if rows.role(name) != CONTROL
        and (times := survival(rows, targets, task, name, reference[task], PAPER_TARGET)) is not None
    }
    if not found:
        return None
    tau = min(budget for _, _, budget in found.values())
    table = []
    for name, (times, events, budget) in found.items():
        median = km_median(times, events)
        mean = restricted_mean(np.minimum(times, tau), events & (times <= tau), tau)
        mean = mean if (events & (times < tau)).any() else mean.without_bounds()
        row = [text_entry(name)]
        if np.isfinite(median.estimate):
            shown = median if np.isfinite(median.high or np.inf) else median.without_bounds()
            row.append(Entry(format_interval(shown), shown))
        else:
            row.append(Entry(f">{budget:.4g}", Interval(budget, None, None, median.n)))
        row.append(Entry(format_interval(mean), mean))
        for target in SHARES:
            share = success_rate(rows, targets, (task,), name, reference, target)
            row.append(Entry(format_interval(share), share))
        table.append(((-float(events.mean()), median.estimate, mean.estimate), tuple(row)))
    columns = (
        Column("optimizer", "optimizer"),
        Column("median_seconds", f"median seconds to the {PAPER_TARGET} target", interval=True),
        Column("restricted_mean_seconds", f"mean seconds, of at most {tau:.3g}", interval=True),
        *(Column(f"success_{target}", f"success rate, {target}", interval=True) for target in SHARES),
    )
    levels = targets[task].levels[reference[task]][CLAIMED]
    losses = ", ".join(f"{target} {levels[target]:.4g}" for target in SHARES)
    notes = (
        f"Targets: validation loss of {reference[task]}, frozen on tuning seeds: {losses}. A run that misses is "
        "censored at the horizon; Kaplan-Meier median, without an interval where its upper end is never reached. "
        f"Restricted mean: of the time or {tau:.3g} s, the shortest time that a row's horizon takes, whichever is "
        f"less; without an interval where no run arrives by then. Wilson {PERCENT} intervals of the share of runs "
        "that arrive.",
    )
    ordered = tuple(row for _, row in sorted(table, key=lambda pair: pair[0]))
    return Table(slug, f"Time to target, task {task}", columns, ordered, notes)
