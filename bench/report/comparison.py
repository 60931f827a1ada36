"""Learned against every other row, paired within a seed: tables of differences, and a sentence on each question.

In a comparison the side whose run failed loses the pair (protocol rule 11).
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bench.report.summary import (
    HEADLINE_LOSS,
    display_name,
    loss_summary,
    num_failed,
    sorted_optimizers,
    stretched,
)
from bench.report.table import (
    NONE_TEXT,
    PERCENT,
    Column,
    Entry,
    Table,
    format_interval,
    format_number,
    plural,
    text_entry,
)
from bench.score.losses import difference_of_test_loss
from bench.score.times_to_target import step_cost_ratio
from bench.score.verdict import beyond_floor
from bench.statistics import CONFIDENCE, MIN_SEEDS, Interval, holm, p_value, paired_difference
from bench.store.rows import HAND_DESIGNED, LEARNED, LOSSES
from bench.store.rows import Rows as Results
from bench.store.rows import slugs as slugs_of

COMPARED_LOSSES = ("mean_train_loss", "final_train_loss", "final_test_loss")
# A ratio of step costs closer to 1 than this is called no difference where no A/A control has measured the floor below
# which the clock ranks nothing (protocol rule 8).
STEP_COST_FLOOR = 0.05


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
    p_value: float | None  # of the t test behind the interval that the difference is zero; None where there is none


@lru_cache(maxsize=4096)
def compare(results: Results, a: str, b: str, tasks: tuple[str, ...], metric: str) -> Comparison:
    """Compares two optimizers within (seed, task), the seed being what is replicated (protocol rules 5, 11, 12)."""
    x, y = results.losses(a, tasks, metric), results.losses(b, tasks, metric)
    if not x.index.equals(y.index):
        x, y = x.align(y)
    x_values, y_values = x.to_numpy(dtype=float), y.to_numpy(dtype=float)
    paired = ~np.isnan(x_values) & ~np.isnan(y_values)
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
        withheld = f"{plural(difference.n, 'seed')}, {MIN_SEEDS} needed"
    if metric == HEADLINE_LOSS and not withheld and difference is not None:
        crossed = difference_of_test_loss(results, tasks, a, b, difference.estimate)
        difference = crossed if crossed is not None and crossed.low is not None else difference
    return Comparison(
        difference=difference,
        wins=int((x_values < y_values)[paired].sum()),
        losses=int((x_values > y_values)[paired].sum()),
        num_pairs=int(paired.sum()),
        num_pairs_used=int((finite & paired).sum()),
        failed_a=failed_a,
        failed_b=failed_b,
        withheld=withheld,
        p_value=p_value(difference) if difference else None,
    )


def comparison_tables(results: Results, tasks: tuple[str, ...], of: Container[str] | None = None) -> list[Table]:
    """One table per learned optimizer: its paired differences to each hand-designed row and each other learned one.

    Args:
      results: of one suite.
      tasks: over which runs are paired; several are averaged within a seed.
      of: learned optimizers that have a table; by default all.
    """
    tables = []
    scope = results.slugs[tasks[0]] if len(tasks) == 1 else "overall"
    order = sorted_optimizers(results, tasks)
    slugs = slugs_of(results.trained)
    for learned in [name for name in order if results.role(name) == LEARNED and (of is None or name in of)]:
        columns = [Column("baseline", "row"), Column("pairs_used", "pairs used / all", number=True)]
        for metric in COMPARED_LOSSES:
            columns.append(Column(f"{metric}_difference", f"{LOSSES[metric]}, difference", interval=True))
            columns.append(Column(f"{metric}_wins", "wins / pairs", number=True))
        columns.append(Column("holm_p", "p, Holm", number=True))
        rows = []
        baselines = [name for name in order if results.role(name) in (HAND_DESIGNED, LEARNED) and name != learned]
        by_baseline = {
            name: [compare(results, learned, name, tasks, metric) for metric in COMPARED_LOSSES] for name in baselines
        }
        withheld = {
            name: "; ".join(dict.fromkeys(c.withheld for c in compared if c.withheld))
            for name, compared in by_baseline.items()
        }
        if any(withheld.values()):
            columns.append(Column("withheld", "interval withheld"))
        adjusted = {
            metric: holm({name: compared[i].p_value for name, compared in by_baseline.items()})
            for i, metric in enumerate(COMPARED_LOSSES)
        }
        for baseline, compared in by_baseline.items():
            headline = compared[-1]
            row = [
                Entry(display_name(results, baseline, tasks), baseline),
                text_entry(f"{headline.num_pairs_used} / {headline.num_pairs}"),
            ]
            for metric, comparison in zip(COMPARED_LOSSES, compared, strict=True):
                difference, p = comparison.difference, adjusted[metric][baseline]
                bold = p is not None and p < 1 - CONFIDENCE  # then the interval excludes zero too
                row.append(Entry(format_interval(difference, sign=True), difference, bold))
                row.append(text_entry(f"{comparison.wins} / {comparison.num_pairs}"))
            headline_p = adjusted[HEADLINE_LOSS][baseline]
            row.append(Entry(_p_value(headline_p), headline_p))
            if any(withheld.values()):
                row.append(text_entry(withheld[baseline] or None))
            rows.append(tuple(row))
        if not rows:
            continue
        notes = [
            f"{learned} minus the row within a seed: negative means {learned} is lower, that is better. "
            + ("Tasks are averaged within each seed first. " if len(tasks) > 1 else "")
            + f"t {PERCENT} intervals over seeds, of the final test loss also over test images. p: the t test behind "
            f"the interval of the {LOSSES[HEADLINE_LOSS]}, Holm's adjustment for {plural(len(rows), 'row')}; bold, in "
            f"every column, only where the p adjusted so is below {1 - CONFIDENCE:.2g}.",
            f"A win is a pair in which {learned} has the lower loss. A failed run loses its pair; if both "
            "failed, neither wins. Differences are over the seeds both sides finished; if a run failed, they have no "
            "interval.",
        ]
        name = f"task {tasks[0]}" if len(tasks) == 1 else f"all {len(tasks)} tasks"
        tables.append(
            Table(
                slug=f"comparison_{scope}_{slugs[learned]}",
                caption=f"{learned} against each other row, {name}",
                columns=tuple(columns),
                rows=tuple(rows),
                notes=tuple(notes),
            )
        )
    return tables


def _p_value(p: float | None) -> str:
    if p is None:
        return NONE_TEXT
    return "<0.0001" if p < 1e-4 else f"{p:.2g}"


@dataclass(frozen=True)
class Verdict:
    """One sentence on one question, and the word that sums it up."""

    learned: str
    question: str
    word: str  # better, worse, the two "in every run", faster, slower, no difference shown, no claim
    text: str


def verdicts(results: Results, tasks: tuple[str, ...], floor: float | None = None) -> list[Verdict]:
    """Each learned optimizer minus the best baseline: one sentence per loss and one on the cost of a step.

    `floor` is the clock's, from the A/A control; `STEP_COST_FLOOR` without one.
    """
    found = []
    for learned in [name for name in sorted_optimizers(results, tasks) if results.role(name) == LEARNED]:
        for metric in reversed(COMPARED_LOSSES):
            found.append(_loss_verdict(results, learned, tasks, metric))
        found.append(_cost_verdict(results, learned, tasks, STEP_COST_FLOOR if floor is None else floor))
    return found


def best_baseline(results: Results, tasks: tuple[str, ...], metric: str) -> str | None:
    """The hand-designed row with the lowest mean among those whose runs all finished on all tasks."""
    means = {}
    for name in results.trained:
        if results.role(name) == HAND_DESIGNED and not num_failed(results, name, tasks):
            summary = loss_summary(results, name, tasks, metric)
            if summary is not None:
                means[name] = summary.estimate
    return min(means, key=lambda name: (means[name], name)) if means else None


def _best_baseline_phrase(results: Results, baseline: str, tasks: tuple[str, ...]) -> str:
    runs = results.runs(baseline, tasks)
    tuned = "tuned baseline" if runs["tuned_horizon"].notna().all() else "hand-designed row"
    note = ", its schedule stretched from another horizon" if stretched(runs).any() else ""
    return f"the best {tuned}, {baseline}{note}"


def _loss_verdict(results: Results, learned: str, tasks: tuple[str, ...], metric: str) -> Verdict:
    question = LOSSES[metric]
    baseline = best_baseline(results, tasks, metric)
    if baseline is None:
        return Verdict(
            learned, question, "no claim", "No hand-designed row finished all its runs: nothing to compare to."
        )
    comparison = compare(results, learned, baseline, tasks, metric)
    against = _best_baseline_phrase(results, baseline, tasks)
    wins = f"{learned} wins {comparison.wins} of {plural(comparison.num_pairs, 'pair')}"
    difference = comparison.difference
    if difference is None or comparison.failed_a:
        reason = comparison.withheld or "no pair"
        return Verdict(learned, question, "no claim", f"No interval against {against} ({reason}); {wins}.")
    size = f"{learned} minus {against}: {format_interval(difference, sign=True)}"
    if comparison.withheld:
        return Verdict(learned, question, "no claim", f"{size}; no interval ({comparison.withheld}); {wins}.")
    return Verdict(learned, question, _loss_word(comparison, difference), f"{size} (lower is better); {wins}.")


def _loss_word(comparison: Comparison, difference: Interval) -> str:
    """better or worse by the mean's interval, else by the sign test where all pairs agree.

    One run that all but diverges makes the interval of a mean as wide as its loss, and hides that every run is worse.
    """
    if difference.excludes(0.0):
        return "better" if difference.estimate < 0 else "worse"
    if 2.0 ** (1 - difference.n) < 1 - CONFIDENCE:  # exact, two-sided, over seeds that all point one way
        if comparison.losses == comparison.num_pairs:
            return "worse in every run"
        if comparison.wins == comparison.num_pairs:
            return "better in every run"
    return "no difference shown"


def _cost_verdict(results: Results, learned: str, tasks: tuple[str, ...], floor: float) -> Verdict:
    question = "seconds per step"
    baseline = best_baseline(results, tasks, HEADLINE_LOSS)
    if baseline is None:
        return Verdict(
            learned, question, "no claim", "No hand-designed row finished all its runs: nothing to compare to."
        )
    ratio = step_cost_ratio(results, tasks, learned, baseline)
    if ratio is None:
        return Verdict(learned, question, "no claim", f"Not timed against {baseline} on every task.")
    text = f"A step of {learned} costs {format_interval(ratio)} times a step of {baseline}"
    if len(tasks) > 1:
        each = [step_cost_ratio(results, (task,), learned, baseline) for task in tasks]
        estimates = [interval.estimate for interval in each if interval is not None]
        text += (
            f" (geometric mean over tasks; {format_number(min(estimates), 3)} to {format_number(max(estimates), 3)})"
        )
    if ratio.low is None:
        return Verdict(learned, question, "no claim", f"{text}; too few blocks for an interval.")
    if ratio.excludes(1.0) and beyond_floor(ratio.estimate, floor):
        return Verdict(learned, question, "slower" if ratio.estimate > 1 else "faster", f"{text}.")
    text += f"; a ratio within {floor:.1%} of 1 or with 1 inside its interval is not called a difference"
    return Verdict(learned, question, "no difference shown", f"{text}.")
