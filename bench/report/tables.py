"""What a report says in numbers: rows in, tables and sentences out; nothing is drawn here.

A run that failed (any status but "ok", or a non-finite loss) is never dropped and never imputed (protocol rule 11).
Where one is among the runs behind a number, the number is a mean over the others, marked, sorted last, without an
interval; in a comparison the failed side loses the pair.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.rows import HAND_DESIGNED, LEARNED, LOSSES, Frame, as_floats
from bench.rows import Rows as Results
from bench.rows import slugs as slugs_of
from bench.statistics import (
    CONFIDENCE,
    MIN_SEEDS,
    Interval,
    median_interval,
    paired_difference,
    ratio_interval,
    t_interval,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADLINE_LOSS = "final_test_loss"
COMPARED_LOSSES = ("mean_train_loss", "final_train_loss", "final_test_loss")
STEP_COST_REFERENCE = "adam"
# A median ratio of step costs closer to 1 than this is called no difference while no A/A control has measured the floor
# below which the clock ranks nothing (protocol rule 8).
STEP_COST_FLOOR = 0.05

FAILED_MARK, STRETCHED_MARK, UNTUNED_MARK, NONE_TEXT = "†", "‡", "§", "–"
PERCENT = f"{CONFIDENCE:.0%}".replace("%", " %")


# ---------------------------------------------------------------------------------------------------------------------
# Tables as values
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One field of a table: how it reads and what it is."""

    text: str
    value: Any = None  # Interval, number, text or None: what the CSV file holds
    bold: bool = False


@dataclass(frozen=True)
class Column:
    """A column; an interval takes four columns of the CSV file: key, key_low, key_high, key_n."""

    key: str
    header: str
    interval: bool = False
    number: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption, its notes and the name of its files."""

    slug: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...] = ()

    def csv(self) -> str:
        """Comma-separated, full precision, intervals spread over four columns."""
        header: list[str] = []
        for column in self.columns:
            header += [column.key + part for part in (("", "_low", "_high", "_n") if column.interval else ("",))]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        for row in self.rows:
            fields: list[Any] = []
            for column, entry in zip(self.columns, row, strict=True):
                if not column.interval:
                    fields.append(entry.value)
                elif isinstance(entry.value, Interval):
                    fields += [entry.value.estimate, entry.value.low, entry.value.high, entry.value.n]
                else:
                    fields += [None] * 4
            writer.writerow(fields)
        return out.getvalue()

    def markdown(self) -> str:
        """GitHub-flavoured Markdown, as the page shows it."""
        lines = [f"**{_markdown(self.caption)}**", ""]
        lines.append("| " + " | ".join(_markdown(column.header) for column in self.columns) + " |")
        lines.append("|" + "|".join(" ---: " if c.number or c.interval else " --- " for c in self.columns) + "|")
        for row in self.rows:
            texts = [f"**{_markdown(e.text)}**" if e.bold else _markdown(e.text) for e in row]
            lines.append("| " + " | ".join(texts) + " |")
        lines += [""] + [f"- {_markdown(note)}" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"


def _markdown(text: str) -> str:
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("_", "\\_"), ("\n", " ")):
        text = text.replace(character, escaped)
    return text


def format_number(value: float | None, digits: int = 4) -> str:
    """Four significant digits, or a dash."""
    if value is None or not math.isfinite(value):
        return NONE_TEXT
    return f"{value:.{digits}g}" if value == 0 or 1e-4 <= abs(value) < 1e5 else f"{value:.{digits - 2}e}"


def format_interval(interval: Interval | None, *, scale: float = 1.0, sign: bool = False) -> str:
    """Estimate and [low, high], with as many decimals as two digits of the half-width carry."""
    if interval is None:
        return NONE_TEXT
    flag = "+" if sign else ""
    if interval.low is None or interval.high is None:
        text = format_number(interval.estimate * scale)
        return f"+{text}" if sign and interval.estimate > 0 else text
    low, estimate, high = (scale * x for x in (interval.low, interval.estimate, interval.high))
    half = (high - low) / 2
    if max(abs(low), abs(high)) >= 1e5:
        return f"{estimate:{flag}.3g} [{low:{flag}.3g}, {high:{flag}.3g}]"
    decimals = 4 if half == 0 else min(max(1 - math.floor(math.log10(half)), 0), 6)
    return f"{estimate:{flag}.{decimals}f} [{low:{flag}.{decimals}f}, {high:{flag}.{decimals}f}]"


def format_half_width(interval: Interval | None) -> str:
    """Estimate and half-width of a t interval, which is symmetric: short enough for a terminal."""
    if interval is None or interval.low is None or interval.high is None:
        return format_interval(interval)
    text, _, bounds = format_interval(interval).partition(" [")
    if "e" in text + bounds:
        return text
    decimals = len(text.partition(".")[2])
    return f"{text} ±{(interval.high - interval.low) / 2:.{decimals}f}"


def _text(text: Any, bold: bool = False) -> Entry:
    missing = text is None or text is pd.NA or (isinstance(text, float) and math.isnan(text))
    return Entry(NONE_TEXT if missing else str(text), None if missing else text, bold)


def _whole(value: Any) -> Entry:
    """A count that a column with missing values may have turned into a float."""
    return _text(None) if pd.isna(value) else Entry(f"{int(value):,}", int(value))


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


# ---------------------------------------------------------------------------------------------------------------------
# Summary: one row per optimizer
# ---------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def loss_summary(results: Results, optimizer: str, tasks: tuple[str, ...], metric: str) -> Interval | None:
    """Mean over seeds, tasks averaged within each seed first; the interval is withheld when a run failed.

    None where no seed finished all tasks, or the optimizer was not run on every task.
    """
    losses = results.losses(optimizer, tasks, metric)
    if losses.empty or losses.isna().all().any():
        return None
    usable = np.isfinite(losses).all(axis=1)
    if not usable.any():
        return None
    interval = t_interval(losses[usable].mean(axis=1).to_numpy())
    return interval.without_bounds() if np.isinf(losses).any(axis=None) else interval


def step_cost(results: Results, optimizer: str, task: str) -> Interval | None:
    """Median seconds per step over the timing blocks, or None if not timed."""
    table = results.blocks.get(task)
    if table is None or optimizer not in table:
        return None
    seconds = table[optimizer].dropna().to_numpy()
    return median_interval(seconds) if len(seconds) and np.isfinite(seconds).all() else None


def step_cost_ratio(results: Results, optimizer: str, reference: str, task: str) -> Interval | None:
    """Median within-block ratio of seconds per step, over the blocks that timed both, or None."""
    table = results.blocks.get(task)
    if table is None or optimizer not in table or reference not in table:
        return None
    both = np.isfinite(table[optimizer]) & np.isfinite(table[reference]) & (table[reference] > 0)
    both &= table[optimizer] > 0
    return ratio_interval(table[optimizer][both], table[reference][both]) if both.any() else None


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
        return int(_num_failed(results, optimizer, tasks) > 0), summary.estimate, optimizer

    timed = {name for task in tasks if task in results.blocks for name in results.blocks[task].columns}
    present = set(results.train[results.train["task"].isin(list(tasks))]["optimizer"]) | timed
    return tuple(sorted(present, key=key))


def display_name(results: Results, optimizer: str, tasks: tuple[str, ...]) -> str:
    """The name with the marks its row carries."""
    marks = FAILED_MARK * (_num_failed(results, optimizer, tasks) > 0)
    marks += STRETCHED_MARK * bool(_stretched(results.runs(optimizer, tasks)).any())
    marks += UNTUNED_MARK * bool(_untuned(results.runs(optimizer, tasks)).any())
    return f"{optimizer} {marks}".rstrip()


def summary_table(results: Results, tasks: tuple[str, ...]) -> Table:
    """Losses, step costs and compile seconds of every optimizer on one task, or averaged over several."""
    single = tasks[0] if len(tasks) == 1 else None
    reference = step_cost_reference(results, tasks)
    columns = [Column("optimizer", "optimizer"), Column("role", "role"), Column("runs_ok", "runs ok / all")]
    columns += [Column(key, header, interval=True) for key, header in LOSSES.items()]
    if single is not None:
        columns.append(Column("seconds_per_step", "step time, ms", interval=True))
    ratio_header = f"step cost / {reference}" if reference else "step cost ratio"
    columns.append(Column("step_cost_ratio", ratio_header, interval=True))
    if single is not None:
        columns.append(Column("compile_seconds", "compile, s", number=True))

    order = sorted_optimizers(results, tasks)
    rows = []
    for optimizer in order:
        runs = results.runs(optimizer, tasks)
        row = [
            Entry(display_name(results, optimizer, tasks), optimizer),
            _text(results.role(optimizer)),
            _text(f"{len(runs) - _num_failed(results, optimizer, tasks)} / {len(runs)}" if len(runs) else None),
        ]
        for metric in LOSSES:
            interval = loss_summary(results, optimizer, tasks, metric)
            row.append(Entry(format_interval(interval), interval))
        if single is not None:
            cost = step_cost(results, optimizer, single)
            row.append(Entry(format_interval(cost, scale=1e3), cost))
        ratio = _ratio_over_tasks(results, optimizer, reference, tasks) if reference else None
        row.append(Entry("1 (reference)" if optimizer == reference and ratio else format_interval(ratio), ratio))
        if single is not None:
            seconds = results.compile_sec.get((single, optimizer))
            row.append(Entry(format_number(seconds, 3), seconds))
        rows.append(tuple(row))

    name = f"Task {single}" if single is not None else f"All {len(tasks)} tasks"
    return Table(
        slug=f"summary_{results.slugs[single]}" if single is not None else "overall_summary",
        caption=f"{name}: every optimizer, sorted by final test loss (lower is better)",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=tuple(_summary_notes(results, tasks, order, reference)),
    )


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
    if any(_num_failed(results, optimizer, tasks) for optimizer in trained):
        notes.append(
            f"{FAILED_MARK} Some runs failed (see Failures): the mean is over the others only, which flatters it, so "
            "it has no interval and the row is sorted after those whose runs all finished."
        )
    if _stretched(runs).any():
        notes.append(f"{STRETCHED_MARK} Tuned at another horizon; the schedule was stretched to this one.")
    if _untuned(runs).any():
        notes.append(f"{UNTUNED_MARK} Never tuned on this task family: default hyperparameters.")
    timed = [task for task in tasks if task in results.blocks]
    if not timed:
        notes.append("Step costs: no timing cell for these rows.")
    elif len(tasks) > 1:
        notes.append(
            f"Step cost: geometric mean over tasks of the median ratio to {reference}, without an interval; "
            "the intervals stand in the table of each task."
        )
    else:
        num_blocks = len(results.blocks[timed[0]])
        bounds = "" if median_interval(np.ones(num_blocks)).low is not None else " (too few blocks for an interval)"
        notes.append(
            f"Step time: median over {_plural(num_blocks, 'interleaved block')} with a distribution-free {PERCENT} "
            f"interval{bounds}; step cost: median of the ratios to {reference} within a block, likewise."
        )
    return notes


def _ratio_over_tasks(results: Results, optimizer: str, reference: str, tasks: tuple[str, ...]) -> Interval | None:
    ratios = [step_cost_ratio(results, optimizer, reference, task) for task in tasks]
    known = [ratio for ratio in ratios if ratio is not None]
    if len(known) < len(tasks):
        return None
    if len(known) == 1:
        return known[0]
    return Interval(float(np.exp(np.mean([np.log(ratio.estimate) for ratio in known]))), None, None, len(known))


@lru_cache(maxsize=4096)
def _num_failed(results: Results, optimizer: str, tasks: tuple[str, ...]) -> int:
    """Runs with a status other than ok or a final test loss that is not finite."""
    return int(np.isinf(results.losses(optimizer, tasks, HEADLINE_LOSS).to_numpy(dtype=float)).sum())


def _untuned(runs: Frame) -> Frame:
    return runs["tuned_horizon"].isna() & (runs["role"] == "hand-designed")


def _stretched(runs: Frame) -> Frame:
    return (runs["tuned_horizon"].notna() & (runs["tuned_horizon"] != runs["horizon"])).fillna(False).astype(bool)


# ---------------------------------------------------------------------------------------------------------------------
# Comparison: learned against each hand-designed row, paired by seed
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """a minus b on one loss; a pair is a (seed, task) with a cell on both sides."""

    difference: Interval | None  # over the seeds whose pairs all finished; bounds withheld if a run failed
    wins: int  # pairs in which a is lower, or only b failed
    losses: int  # pairs in which b is lower, or only a failed
    num_pairs: int
    num_pairs_used: int  # pairs in which both sides finished
    failed_a: int
    failed_b: int
    withheld: str  # why there is no interval, empty if there is one


def compare(results: Results, a: str, b: str, tasks: tuple[str, ...], metric: str) -> Comparison:
    """Compares two optimizers within (seed, task), the seed being what is replicated (protocol rules 5, 11, 12)."""
    x, y = results.losses(a, tasks, metric).align(results.losses(b, tasks, metric))
    paired = (x.notna() & y.notna()).to_numpy()
    x_values, y_values = x.to_numpy(dtype=float), y.to_numpy(dtype=float)
    finite = np.isfinite(x_values) & np.isfinite(y_values)
    failed_a, failed_b = (int((np.isinf(values) & paired).sum()) for values in (x_values, y_values))

    whole_seeds = finite.all(axis=1)
    difference = paired_difference(x_values[whole_seeds], y_values[whole_seeds]) if whole_seeds.any() else None
    withheld = ""
    if not paired.any():
        withheld = "no seed was run by both"
    elif failed_a or failed_b:
        failed = [f"{count} of {name}" for name, count in ((a, failed_a), (b, failed_b)) if count]
        withheld = f"failed runs: {', '.join(failed)}"
        difference = difference and difference.without_bounds()
    elif difference is None:
        withheld = "no seed was run on every task by both"
    elif difference.low is None:
        withheld = f"{_plural(difference.n, 'seed')}, {MIN_SEEDS} needed"
    return Comparison(
        difference=difference,
        wins=int((x_values < y_values)[paired].sum()),
        losses=int((x_values > y_values)[paired].sum()),
        num_pairs=int(paired.sum()),
        num_pairs_used=int((finite & paired).sum()),
        failed_a=failed_a,
        failed_b=failed_b,
        withheld=withheld,
    )


def comparison_tables(results: Results, tasks: tuple[str, ...]) -> list[Table]:
    """One table per learned optimizer: its paired differences to each hand-designed row."""
    tables = []
    scope = results.slugs[tasks[0]] if len(tasks) == 1 else "overall"
    order = sorted_optimizers(results, tasks)
    slugs = slugs_of(results.trained)
    for learned in [name for name in order if results.role(name) == LEARNED]:
        columns = [Column("baseline", "baseline"), Column("pairs_used", "pairs used / all")]
        for metric in COMPARED_LOSSES:
            columns.append(Column(f"{metric}_difference", f"{LOSSES[metric]}, difference", interval=True))
            columns.append(Column(f"{metric}_wins", "wins / pairs"))
        columns.append(Column("withheld", "interval withheld"))
        rows = []
        for baseline in [name for name in order if results.role(name) == HAND_DESIGNED]:
            compared = [compare(results, learned, baseline, tasks, metric) for metric in COMPARED_LOSSES]
            headline = compared[-1]
            row = [
                Entry(display_name(results, baseline, tasks), baseline),
                _text(f"{headline.num_pairs_used} / {headline.num_pairs}"),
            ]
            for comparison in compared:
                difference = comparison.difference
                bold = difference is not None and difference.excludes(0.0)
                row.append(Entry(format_interval(difference, sign=True), difference, bold))
                row.append(_text(f"{comparison.wins} / {comparison.num_pairs}"))
            row.append(_text("; ".join(dict.fromkeys(c.withheld for c in compared if c.withheld)) or None))
            rows.append(tuple(row))
        if not rows:
            continue
        notes = [
            f"{learned} minus the baseline within a seed: negative means {learned} is lower, that is better. "
            + ("Tasks are averaged within each seed first. " if len(tasks) > 1 else "")
            + f"t {PERCENT} intervals over seeds; bold only where the interval excludes zero. "
            "Not corrected for the number of comparisons.",
            "A win is a pair in which the learned optimizer has the lower loss. A failed run loses its pair; if both "
            "failed, neither wins. Differences are over the seeds both sides finished; if a run failed, they have no "
            "interval.",
        ]
        name = f"task {tasks[0]}" if len(tasks) == 1 else f"all {len(tasks)} tasks"
        tables.append(
            Table(
                slug=f"comparison_{scope}_{slugs[learned]}",
                caption=f"{learned} against each hand-designed row, {name}",
                columns=tuple(columns),
                rows=tuple(rows),
                notes=tuple(notes),
            )
        )
    return tables


@dataclass(frozen=True)
class Verdict:
    """One sentence on one question, and the word that sums it up."""

    learned: str
    question: str
    word: str  # better, worse, faster, slower, no difference shown, no claim
    text: str


def verdicts(results: Results, tasks: tuple[str, ...]) -> list[Verdict]:
    """Each learned optimizer minus the best baseline: one sentence per loss and one on the cost of a step."""
    found = []
    for learned in [name for name in sorted_optimizers(results, tasks) if results.role(name) == LEARNED]:
        for metric in reversed(COMPARED_LOSSES):
            found.append(_loss_verdict(results, learned, tasks, metric))
        found.append(_cost_verdict(results, learned, tasks))
    return found


def best_baseline(results: Results, tasks: tuple[str, ...], metric: str) -> str | None:
    """The hand-designed row with the lowest mean among those whose runs all finished on all tasks."""
    means = {}
    for name in results.trained:
        if results.role(name) == HAND_DESIGNED and not _num_failed(results, name, tasks):
            summary = loss_summary(results, name, tasks, metric)
            if summary is not None:
                means[name] = summary.estimate
    return min(means, key=lambda name: (means[name], name)) if means else None


def _best_baseline_phrase(results: Results, baseline: str, tasks: tuple[str, ...]) -> str:
    runs = results.runs(baseline, tasks)
    tuned = "tuned baseline" if runs["tuned_horizon"].notna().all() else "hand-designed row"
    stretched = ", its schedule stretched from another horizon" if _stretched(runs).any() else ""
    return f"the best {tuned}, {baseline}{stretched}"


def _loss_verdict(results: Results, learned: str, tasks: tuple[str, ...], metric: str) -> Verdict:
    question = LOSSES[metric]
    baseline = best_baseline(results, tasks, metric)
    if baseline is None:
        return Verdict(
            learned, question, "no claim", "No hand-designed row finished all its runs: nothing to compare to."
        )
    comparison = compare(results, learned, baseline, tasks, metric)
    against = _best_baseline_phrase(results, baseline, tasks)
    wins = f"{learned} wins {comparison.wins} of {_plural(comparison.num_pairs, 'pair')}"
    difference = comparison.difference
    if difference is None or comparison.failed_a:
        reason = comparison.withheld or "no pair"
        return Verdict(learned, question, "no claim", f"No interval against {against} ({reason}); {wins}.")
    size = f"{learned} minus {against}: {format_interval(difference, sign=True)}"
    if comparison.withheld:
        return Verdict(learned, question, "no claim", f"{size}; no interval ({comparison.withheld}); {wins}.")
    direction = "better" if difference.estimate < 0 else "worse"
    word = direction if difference.excludes(0.0) else "no difference shown"
    return Verdict(learned, question, word, f"{size} (lower is better); {wins}.")


def _cost_verdict(results: Results, learned: str, tasks: tuple[str, ...]) -> Verdict:
    question = "seconds per step"
    baseline = best_baseline(results, tasks, HEADLINE_LOSS)
    if baseline is None:
        return Verdict(
            learned, question, "no claim", "No hand-designed row finished all its runs: nothing to compare to."
        )
    ratio = _ratio_over_tasks(results, learned, baseline, tasks)
    if ratio is None:
        return Verdict(learned, question, "no claim", f"Not timed against {baseline} on every task.")
    shown = format_number(ratio.estimate, 3) if len(tasks) > 1 else format_interval(ratio)
    text = f"A step of {learned} costs {shown} times a step of {baseline}"
    if len(tasks) > 1:
        each = [step_cost_ratio(results, learned, baseline, task) for task in tasks]
        known = [interval for interval in each if interval is not None]
        estimates = [interval.estimate for interval in known]
        text += (
            f" (geometric mean over tasks; {format_number(min(estimates), 3)} to {format_number(max(estimates), 3)})"
        )
    else:
        known = [ratio]
    if any(interval.low is None for interval in known):
        return Verdict(learned, question, "no claim", f"{text}; too few blocks for an interval.")
    if all(x.excludes(1.0) and x.estimate > 1 + STEP_COST_FLOOR for x in known):
        word = "slower"
    elif all(x.excludes(1.0) and x.estimate < 1 - STEP_COST_FLOOR for x in known):
        word = "faster"
    else:
        word = "no difference shown"
        text += f"; a ratio within {STEP_COST_FLOOR:.0%} of 1 or with 1 inside its interval is not called a difference"
    return Verdict(learned, question, word, f"{text}.")


# ---------------------------------------------------------------------------------------------------------------------
# Failures, hyperparameters, seeds, provenance
# ---------------------------------------------------------------------------------------------------------------------


def failures_table(results: Results) -> Table | None:
    """Every cell that is not ok, with its reason; None if there is none."""
    cells: Frame = pd.concat([frame for frame in (results.train, results.timing) if len(frame)])
    nonfinite = (cells["kind"] == "train") & ~np.isfinite(as_floats(cells[HEADLINE_LOSS]))
    failed = cells[(cells["status"] != "ok") | nonfinite]
    if failed.empty:
        return None
    rows = []
    for _, cell in failed.iterrows():
        reason = cell["reason"] if cell["status"] != "ok" else "status is ok, but the final test loss is not finite"
        name = cell["optimizer"] if cell["kind"] == "train" else None
        row = [_text(cell["task"]), _text(name), _whole(cell["seed"]), _text(cell["status"]), _text(reason)]
        rows.append((*row, _whole(cell["first_bad_step"]), _text(cell["cell"])))
    columns = (
        *(Column("task", "task"), Column("optimizer", "optimizer"), Column("seed", "seed", number=True)),
        *(Column("status", "status"), Column("reason", "reason")),
        *(Column("first_bad_step", "first bad step", number=True), Column("cell", "cell")),
    )
    return Table("failures", f"{_plural(len(rows), 'cell')} not ok", columns, tuple(rows))


def hyperparameters_table(results: Results) -> Table | None:
    """Hyperparameters of every row, the horizon they were tuned at and the one they ran at."""
    keys = ["optimizer", "hyperparameters", "tuned_horizon", "horizon", "batch_size", "family"]
    rows = []
    for values, runs in results.train.groupby(keys, dropna=False, sort=False):
        row = dict(zip(keys, values, strict=True))
        stretched = pd.notna(row["tuned_horizon"]) and row["tuned_horizon"] != row["horizon"]
        settings = _json_object(row["hyperparameters"])
        readable = ", ".join(f"{key} = {_setting(value)}" for key, value in settings.items()) or None
        entries = [
            Entry(f"{row['optimizer']} {STRETCHED_MARK * stretched}".rstrip(), row["optimizer"]),
            _text(row["family"]),
            _text(", ".join(dict.fromkeys(runs["task"]))),
            Entry(readable or NONE_TEXT, row["hyperparameters"]),
            *(_whole(row[key]) for key in ("tuned_horizon", "horizon", "batch_size")),
        ]
        rows.append(tuple(entries))
    if not rows:
        return None
    columns = (
        *(Column("optimizer", "optimizer"), Column("family", "task family"), Column("tasks", "tasks")),
        Column("hyperparameters", "hyperparameters"),
        *(Column("tuned_horizon", "tuned at horizon", number=True), Column("horizon", "run at horizon", number=True)),
        Column("batch_size", "batch size", number=True),
    )
    notes = (
        f"Tuned values belong to a task family and a horizon; {STRETCHED_MARK} marks rows run at another horizon, with "
        f"the schedule stretched. {NONE_TEXT} as tuned horizon: no tuning is recorded for the row.",
    )
    return Table("hyperparameters", "Hyperparameters, and where they were tuned", columns, tuple(rows), notes)


def seeds_table(results: Results) -> Table | None:
    """The tasks, and the reporting seeds behind each."""
    rows = []
    for task in results.tasks:
        runs = results.train[results.train["task"] == task]
        if runs.empty:
            continue
        per_optimizer = runs.groupby("optimizer")["seed"].apply(lambda seeds: _ranges(int(seed) for seed in seeds))
        common = per_optimizer.mode().iloc[0]
        others = [f"{name}: {seeds}" for name, seeds in per_optimizer.items() if seeds != common]
        first = runs.iloc[0]
        chance = float(as_floats(runs["chance_loss"]).iloc[0])
        rows.append(
            (
                *(
                    _text(task),
                    _text(first["family"]),
                    _text(", ".join(_whole(horizon).text for horizon in runs["horizon"].unique())),
                ),
                *(_whole(first["num_params"]), Entry(format_number(chance), chance)),
                *(_text(common), _text("; ".join(others) or None)),
            )
        )
    if not rows:
        return None
    columns = (
        *(Column("task", "task"), Column("family", "family"), Column("horizon", "horizon, steps", number=True)),
        *(Column("num_params", "parameters", number=True), Column("chance_loss", "loss of chance", number=True)),
        *(Column("seeds", "seeds"), Column("other_seeds", "optimizers with other seeds")),
    )
    notes = ("A seed fixes initialization and data order for all optimizers; tuning used other seeds.",)
    return Table("seeds", "Tasks and seeds", columns, tuple(rows), notes)


MAX_PROVENANCE_VALUES = 12


def provenance_table(results: Results) -> Table:
    """Every recorded field with its distinct values and the number of cells behind each."""
    fields: dict[str, dict[str, int]] = {}
    records = [_json_object(text) for frame in (results.train, results.timing) for text in frame["provenance"]]
    for record in records:
        for key, value in _flatten(record):
            counts = fields.setdefault(key, {})
            counts[value] = counts.get(value, 0) + 1
    rows = []
    for key, counts in fields.items():
        shown = list(counts.items())[:MAX_PROVENANCE_VALUES]
        rows += [(_text(key), _text(value), _text(count)) for value, count in shown]
        if rest := len(counts) - len(shown):
            rows.append((_text(key), _text(f"and {_plural(rest, 'other value')}"), _text(len(records))))
    columns = (Column("field", "field"), Column("value", "value"), Column("cells", "cells", number=True))
    return Table(
        "provenance", f"What the {_plural(len(records), 'cell')} record about themselves", columns, tuple(rows)
    )


def page_warnings(results: Results) -> list[str]:
    """What a reader must know before any number: accelerators, mixed devices, modified trees, uneven rows."""
    warnings = []
    devices: set[str] = set()
    accelerator = dirty = False
    for frame in (results.train, results.timing):
        for text, status in zip(frame["provenance"], frame["status"], strict=True):
            flat = dict(_flatten(_json_object(text)))
            named = {key: value for key, value in flat.items() if re.search(r"device|platform", key, re.IGNORECASE)}
            measured = status in ("ok", "diverged")
            accelerator |= measured and any(
                re.search(r"\b(gpu|tpu|cuda|rocm|nvidia)", value, re.IGNORECASE) for value in named.values()
            )
            devices |= {value for key, value in named.items() if key.endswith("kind")}
            dirty |= any(key.endswith("dirty") and value == "true" for key, value in flat.items())
    if not accelerator:
        warnings.append("accelerator: not yet measured. No row here comes from a GPU or TPU.")
    if len(devices) > 1:
        warnings.append(
            f"Rows come from several kinds of device ({', '.join(sorted(devices))}): seconds do not compare."
        )
    if dirty:
        warnings.append("Some rows were produced by a working tree with uncommitted changes.")
    for task, runs in results.train.groupby("task", sort=False):
        for column in ("horizon", "batch_size"):
            if runs[column].nunique() > 1:
                values = ", ".join(_whole(value).text for value in sorted(runs[column].dropna().unique()))
                warnings.append(
                    f"Task {task}: rows differ in {column.replace('_', ' ')} ({values}): they do not compare."
                )
        sets = runs.groupby("optimizer")["seed"].apply(frozenset)
        if sets.nunique() > 1:
            warnings.append(f"Task {task}: not every optimizer has every seed yet; see Tasks and seeds.")
    return warnings


def counts_sentence(results: Results) -> str:
    """How much is in the report."""
    failed = int((results.train["status"] != "ok").sum())
    seeds = _ranges(int(seed) for seed in results.train["seed"].dropna())
    parts = [
        _plural(len(results.tasks), "task"),
        _plural(len(results.optimizers), "optimizer"),
        f"{_plural(len(results.train), 'training run')} ({failed} not ok)",
        f"{_plural(len(results.blocks), 'timing cell')}",
    ]
    return ", ".join(parts) + (f", seeds {seeds}" if seeds else "") + "."


def clock_paragraph(results: Results) -> str:
    """How the seconds on the page were measured."""
    text = (
        "Every training program is compiled ahead of time, and compile seconds are reported apart. The clock runs "
        "over chunks of training steps with the data already on the device, waits once per chunk until the device "
        "has finished, and stops for evaluation. Step costs come from timing cells: in each block every optimizer "
        "runs once, in random order, on one device with nothing else timed beside it; ratios are taken within a "
        "block, so that a slow spell of the machine cancels. The time axis of a figure is steps times the median "
        "seconds per step of the timing cell; where an optimizer of the task has none, it is each run's own clock, "
        "and the axis says so."
    )
    missing = [task for task in results.tasks if task not in results.blocks]
    if missing and len(missing) == len(results.tasks):
        text += " No task here has a timing cell."
    elif missing:
        text += f" Without a timing cell: {', '.join(missing)}."
    return text


def _flatten(record: Any, prefix: str = "") -> list[tuple[str, str]]:
    """{"a": {"b": 1}} -> [("a.b", "1")]; lists become one text."""
    if isinstance(record, dict):
        return [pair for key, value in record.items() for pair in _flatten(value, f"{prefix}.{key}" if prefix else key)]
    if isinstance(record, list):
        return [(prefix, " ".join(item if isinstance(item, str) else json.dumps(item) for item in record))]
    return [(prefix, record if isinstance(record, str) else json.dumps(record))]


def _json_object(text: Any) -> dict[str, Any]:
    if not isinstance(text, str):
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {"unreadable": text}
    return value if isinstance(value, dict) else {"value": value}


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _ranges(numbers: Iterable[int]) -> str:
    """[0, 1, 2, 5] -> "0–2, 5"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


# ---------------------------------------------------------------------------------------------------------------------
# The first screen: what bench.scoring says, as tables
# ---------------------------------------------------------------------------------------------------------------------

CONTROLS = {  # key of the first screen -> what it is, what is expected
    "aa": ("the same optimizer entered twice: ratio of step costs", "1"),
    "double_step": ("every step performed twice: ratio of step costs", "2"),
    "adam_10x_minus_adam": ("Adam at ten times its tuned rate, final train loss minus Adam's", "above 0"),
}


def score_table(screen: dict[str, Any]) -> Table:
    """Speed-up to each target, step cost, final losses and success of every optimizer, as `report.json` has them."""
    keys = [f"{target}_speedup" for target in ("hard", "medium", "easy")]
    rows = []
    for row in screen["rows"]:
        found = [row["speedup"][key.removesuffix("_speedup")] for key in keys]
        found += [row[key] for key in SCORE_KEYS]
        entries = [_score_entry(value) for value in found]
        rows.append((_text(row["task"]), _text(row["optimizer"]), _text(row["role"]), *entries))
    headers = ("speed-up, hard", "speed-up, medium", "speed-up, easy")
    columns = (
        *(Column(name, name) for name in ("task", "optimizer", "role")),
        *(Column(key, header, True, True) for key, header in zip(keys, headers, strict=True)),
        *(Column(key, header, True, True) for key, header in zip(SCORE_KEYS, SCORE_HEADERS, strict=True)),
    )
    notes = (
        "Speed-up in wall-clock and ratio of step costs: the learned optimizer against the row's optimizer, towards "
        "that optimizer's own frozen losses at 100, 50 and 25 % of the horizon; in a learned row against the best "
        "hand-designed one of the task. Above 1 the learned one is faster; < marks a bound: half of the runs never "
        "arrive. Losses are final; success: share of the row's runs that reach the best hand-designed one's hard "
        "target.",
    )
    return Table("score", "Speed-up, cost, losses and success", columns, tuple(rows), notes)


SCORE_KEYS = ("step_cost_ratio", "train_loss", "validation_loss", "test_loss", "success_rate")
SCORE_HEADERS = ("step cost", "train loss", "validation loss", "test loss", "success rate")


def _score_entry(value: dict[str, Any]) -> Entry:
    if value["estimate"] is None:
        return Entry(NONE_TEXT)
    interval = Interval(value["estimate"], value["low"], value["high"], 0)
    if "bound" in value:
        return Entry(f"<{format_number(value['estimate'], 3)}", interval)
    return _interval_entry(interval)


def _interval_entry(interval: Interval) -> Entry:
    text = format_number(interval.estimate, 3)
    if interval.low is not None and interval.high is not None:
        text += f" [{format_number(interval.low, 3)}, {format_number(interval.high, 3)}]"
    return Entry(text, interval)


def controls_table(screen: dict[str, Any]) -> Table:
    """The controls of the suite: what is expected, what was measured (protocol rules 8 and 14)."""
    found = screen["controls"]
    rows = [(_text(text), _text(expected), _score_entry(found[key])) for key, (text, expected) in CONTROLS.items()]
    rank = found["frozen_rank"]
    measured = f"{rank['rank']} of {rank['of']}" if rank["rank"] else NONE_TEXT
    rows.append((_text("Adam at rate 0: rank by time to target"), _text("last"), Entry(measured)))
    for race in screen["races"]:
        text = f"race on {race['task']} to the {race['target']} target: predicted / raced speed-up"
        value = race["predicted_over_raced"]
        rows.append((_text(text), _text("0.9 to 1.1"), Entry(format_number(value, 3), Interval(value, None, None, 1))))
    columns = (Column("control", "control"), Column("expected", "expected"), Column("measured", "measured", True))
    return Table("controls", "Controls: rows whose outcome is known", columns, tuple(rows))


def terminal_scores(screen: dict[str, Any]) -> RenderableType:
    """Verdict, speed-ups and controls for the terminal."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    scope = "all" if any(row["task"] == "all" for row in screen["rows"]) else None
    speeds = RichTable(title=Text("Learned against each optimizer: speed-up in wall-clock"), title_justify="left")
    speeds.add_column("against", overflow="fold")
    for target in ("hard", "medium", "easy"):
        speeds.add_column(target, justify="right")
    for row in screen["rows"]:
        if row["role"] == HAND_DESIGNED and scope in (None, row["task"]):
            entries = (_score_entry(row["speedup"][target]).text for target in ("hard", "medium", "easy"))
            speeds.add_row(Text(row["optimizer"]), *map(Text, entries))
    controls = RichTable(title=Text("Controls"), title_justify="left", show_header=False)
    for row in controls_table(screen).rows:
        controls.add_row(*(Text(entry.text) for entry in row))
    return Group(speeds, controls, Text(screen["verdict"]["text"], style="bold"))


# ---------------------------------------------------------------------------------------------------------------------
# Terminal
# ---------------------------------------------------------------------------------------------------------------------


def terminal(results: Results) -> RenderableType:
    """One table per task, narrow enough for 80 columns: the headline losses and the cost of a step."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    parts: list[RenderableType] = []
    for task in results.tasks:
        order = sorted_optimizers(results, (task,))
        reference = step_cost_reference(results, (task,))
        table = RichTable(title=Text(task), title_justify="left", caption_justify="left")
        table.add_column("optimizer", overflow="fold")
        for header in (
            "ok",
            "mean train\nloss",
            "final test\nloss",
            "ms per\nstep",
            f"step cost\n/ {reference or NONE_TEXT}",
        ):
            table.add_column(Text(header), justify="right", no_wrap=True)
        for optimizer in order:
            runs = results.runs(optimizer, (task,))
            ok = f"{len(runs) - _num_failed(results, optimizer, (task,))}/{len(runs)}" if len(runs) else NONE_TEXT
            mean_train = loss_summary(results, optimizer, (task,), "mean_train_loss")
            final_test = loss_summary(results, optimizer, (task,), HEADLINE_LOSS)
            cost = step_cost(results, optimizer, task)
            ratio = step_cost_ratio(results, optimizer, reference, task) if reference else None
            texts = [
                display_name(results, optimizer, (task,)),
                ok,
                format_half_width(mean_train),
                format_half_width(final_test),
                format_number(cost.estimate * 1e3, 3) if cost else NONE_TEXT,
                format_number(ratio.estimate, 3) if ratio else NONE_TEXT,
            ]
            style = "bold" if results.role(optimizer) == LEARNED else ""
            table.add_row(*(Text(text) for text in texts), style=style)
        notes = ["Bold: learned. Lower is better."]
        if any(len(results.runs(o, (task,))) and _num_failed(results, o, (task,)) for o in order):
            notes.append(f"{FAILED_MARK} mean over the runs that finished.")
        if _stretched(results.train[results.train["task"] == task]).any():
            notes.append(f"{STRETCHED_MARK} tuned at another horizon.")
        if _untuned(results.train[results.train["task"] == task]).any():
            notes.append(f"{UNTUNED_MARK} not tuned.")
        seeds = results.train[results.train["task"] == task].groupby("optimizer")["seed"].nunique()
        if len(seeds) and seeds.max() >= MIN_SEEDS:
            notes.append(f"±: t {PERCENT} interval over seeds.")
        elif len(seeds):
            notes.append(f"No intervals below {MIN_SEEDS} seeds.")
        table.caption = Text(" ".join(notes))
        parts.append(table)
    return Group(*parts)
