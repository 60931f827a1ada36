"""The ablation of outer-training in words and numbers: the verdicts on the paper's claims, and what they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.measure.ablation import (
    BUDGET,
    CALLED,
    CLAIMED,
    CLAIMS,
    FAMILY,
    FOLLOWED,
    HORIZON,
    JUDGED,
    NUM_TASKS,
    OTHER_SEEDS,
    SEEDS,
    Verdict,
    adjusted,
    means,
    merge_weights,
    missing,
    raised,
    verdicts,
)
from bench.report.figures import ablation as drawn
from bench.report.figures.axes import listed
from bench.report.section import Section
from bench.report.table import (
    PERCENT,
    Column,
    Entry,
    Table,
    format_interval,
    format_number,
    plural,
    text_entry,
    whole_entry,
)
from bench.statistics import CONFIDENCE, MIN_SEEDS, geometric_mean, t_interval
from bench.store.rows import Frame
from learned.objective import LOSS_CLIP

NUM_BINS = 20  # of the inner steps: single outer steps scatter over decades
KEYS = ["design", "estimator", "unrolls"]
# What a verdict compares with, in words.
RIVALS = {
    "reparam": "backpropagation alone",
    "es": "ES alone",
    "short": "short unrolls",
    "long": "long unrolls",
}
LIMITS = (
    "Runs of one outer seed begin from the same theta and see the same tasks, whatever the estimator. All of a design "
    "have one outer rate, that of a recipe whose unrolls grow by stages; none was tuned for a pair. With equal inner "
    "steps the outer steps differ, from 40 with long unrolls to 1,600 with truncated backpropagation: a pair that lags "
    "may be short of updates."
)


def sections(table: pd.DataFrame, cells: Frame, curves: Frame) -> list[Section]:
    """The page's sections, of the parts that were run.

    Args:
      table: from `bench.measure.ablation.table`.
      cells: rows of the measurement.
      curves: their curves.
    """
    if table.empty:
        return []
    runs = binned(cells, curves)
    found = [_verdicts(table), _losses(table), _outer_losses(runs), _gradients(table, runs)]
    merged = runs.dropna(subset="merge_weight") if "merge_weight" in runs else runs.iloc[:0]
    return [*found, *([_merge_weights(merged)] if len(merged) else [])]


def binned(cells: Frame, curves: Frame) -> pd.DataFrame:
    """Every run along its outer-training, medians over `NUM_BINS` bins of inner steps.

    Returns:
      A row for each run and bin: `design`, `estimator`, `unrolls`, `seed`, `inner_steps` and `seconds` so far (the
      median over seeds, so that runs of one kind share them), and what is `FOLLOWED`, NaN where a bin has none of it.
    """
    ok = cells[cells["status"] == "ok"]
    parts = ok["task"].str.split("/", expand=True).iloc[:, 1:5].set_axis([*KEYS, "seed"], axis=1)
    parts = parts.assign(cell=ok["cell"], seed=parts["seed"].astype(int))
    along = curves[curves["metric"].isin([*FOLLOWED, "inner_steps", "seconds"])]
    wide = along.pivot_table(index=["cell", "step"], columns="metric", values="value").reset_index()
    wide["bin"] = np.ceil(wide["inner_steps"] * NUM_BINS / wide["inner_steps"].max())
    medians = wide.drop(columns="step").groupby(["cell", "bin"]).median().reset_index()
    runs = parts.merge(medians, on="cell")
    shared = runs.groupby([*KEYS, "bin"])[["inner_steps", "seconds"]].transform("median")
    return runs.assign(inner_steps=shared["inner_steps"], seconds=shared["seconds"])


def against(verdict: Verdict) -> str:
    """The ratios of a verdict, each with its rival."""
    ratios = {other: difference.exponential() for other, difference in verdict.differences.items()}
    return listed([f"{ratio.text(1.0)} times that with {RIVALS[other]}" for other, ratio in ratios.items()])


def kept(judged: Sequence[Verdict]) -> int:
    """How many of the verdicts that are shown remain so with Holm's correction for their number."""
    return sum(p < 1 - CONFIDENCE for p in adjusted(judged))


def beside_the_verdicts(table: Frame) -> list[str]:
    """What the verdicts do not say: runs that end above their beginning, their own objective, the merge weights."""
    found = [
        f"Outer-training is on train loss, and {above} of {plural(number, 'run')} of {CALLED[design]} end at a higher "
        "validation loss than before it: among those, lower means raised less. (Runs that begin with every net "
        "diverged do not count.)"
        for design, (above, number) in raised(table).items()
        if above
    ]
    if judged := verdicts(table):
        shown = adjusted(judged)
        text = f"{plural(len(shown), 'statement')} of {len(judged)} {'is' if len(shown) == 1 else 'are'} shown"
        least = f"; the least adjusted p is {format_number(min(shown), 2)}" if shown else ""
        found.append(f"{text} by the rule, and {kept(judged)} with Holm's correction for their number{least}.")
    by_train = verdicts(table, "outer_validation_loss")
    for verdict in by_train:
        claim = {"estimator": "merging", "unrolls": "growing unrolls"}[verdict.claim]
        found.append(
            f"By what outer-training minimizes, train loss, on outer-validation classes, {claim} with "
            f"{CALLED[verdict.design]} gives {against(verdict)}: by the same rule {verdict.status}."
        )
    if by_train:
        number = kept(by_train)
        found.append(
            f"These {len(by_train)} are no part of the rule: theta was chosen by that loss, and {number} "
            f"{'is' if number == 1 else 'are'} shown with Holm's correction for their number."
        )
    parts = [
        f"{weights[0]:.3f} to {weights[-1]:.3f} with {CALLED[design]} and {unrolls} unrolls"
        for (design, unrolls), weights in merge_weights(table).items()
    ]
    if parts:
        found.append(
            f"The mean weight of backpropagation in the merged gradient of a run is {listed(parts)}. Near 1 merging "
            "can hardly be told from backpropagation alone."
        )
    return found


def _verdicts(table: Frame) -> Section:
    found = verdicts(table)
    paragraphs = [
        "The paper (Metz et al., arXiv 1810.10180) claims that merging backpropagation with ES, and unrolls that "
        f"grow, are what makes outer-training work. Here every run takes {BUDGET:,} inner steps on {FAMILY}. A claim "
        "is shown where the interval of every ratio lies below 1, contradicted where one lies above."
    ]
    rows = []
    for verdict in found:
        paragraphs.append(
            f"{verdict.status.capitalize()}, with {CALLED[verdict.design]}: {CLAIMS[verdict.claim]}. The loss is "
            f"{against(verdict)}."
        )
        for other, difference in verdict.differences.items():
            ratio = difference.exponential()
            rows.append(
                (
                    text_entry(f"{CALLED[verdict.design]}, over {RIVALS[other]}"),
                    Entry(ratio.text(1.0), ratio),
                    text_entry(verdict.status),
                    text_entry(verdict.claim),
                )
            )
    if not found:
        paragraphs.append("No claim can be judged yet: the parts of all seeds are needed.")
    paragraphs += [*beside_the_verdicts(table), LIMITS]
    columns = (
        Column("pair", "merged, with growing unrolls"),
        Column("ratio", "ratio of losses", interval=True),
        Column("status", "verdict"),
        Column("claim", "claim"),
    )
    notes = (
        f"Ratio of final validation losses, paired by outer seed; t {PERCENT} intervals of its logarithm. Verdicts are "
        "not corrected for their number.",
    )
    shown = Table("ablation_verdicts", "Verdicts", columns, tuple(rows), notes)
    return Section("verdicts", "What was claimed, what was found", paragraphs, [], [shown], unfolded=bool(found))


def _losses(table: Frame) -> Section:
    groups = list(table.groupby(KEYS, sort=False))
    rows = []
    for key, group in groups:
        logs = np.log(group["final_validation_loss"].to_numpy(np.float64))
        interval = t_interval(logs).exponential()
        rows.append(
            (
                *map(text_entry, key),
                whole_entry(len(group)),
                Entry(format_interval(interval), interval),
                whole_entry(group["diverged"].sum()),
                _number(group["outer_validation_loss"].median()),
                _number(group["last_outer_validation_loss"].median()),
                _number(group["merge_weight"].mean()),
                whole_entry(group["outer_steps"].median()),
                whole_entry(group["skipped"].sum()),
                _number(group["seconds"].median()),
            )
        )
    numbers = {
        "diverged": "nets that diverge",
        "outer_validation_loss": "outer-validation loss, best",
        "last_outer_validation_loss": "outer-validation loss, last",
        "merge_weight": "mean merge weight",
        "outer_steps": "outer steps",
        "skipped": "updates skipped, in all",
        "seconds": "seconds",
    }
    columns = (
        *(Column(key, key) for key in KEYS),
        Column("seeds", "seeds", number=True),
        Column("final_validation_loss", "final validation loss", interval=True),
        *(Column(key, name, number=True) for key, name in numbers.items()),
    )
    pairs = means(table)
    paragraphs = [
        f"The best theta of each run, by outer-validation, trained {NUM_TASKS} networks on evaluation classes for "
        f"{HORIZON:,} steps, more than any unroll had. {_before(table)}"
    ]
    for design, own in pairs.items():
        pair = min(own, key=lambda pair: own[pair])
        text = f"{format_number(own[pair], 3)}, of {pair[0]} with {pair[1]} unrolls"
        if pair != CLAIMED and CLAIMED in own:
            text += f"; {' with '.join(CLAIMED)} unrolls it is {format_number(own[CLAIMED], 3)}"
        paragraphs.append(
            f"With {CALLED[design]} the lowest mean over {OTHER_SEEDS} outer seeds is {text}. A verdict rests on "
            f"{SEEDS} seeds."
        )
    paragraphs += [not_run(design, pairs) for design, pairs in missing(table).items()]
    notes = (
        f"Geometric means over tasks and seeds with t {PERCENT} intervals of the logarithm, from {MIN_SEEDS} seeds on; "
        f"a net that diverges counts as {LOSS_CLIP:g}. Nets that diverge and updates skipped are sums over seeds, "
        "merge weights means, the other columns medians.",
    )
    figures = [drawn.heat_map_figure(pairs)] if pairs else []
    shown = Table("ablation_losses", "Losses after outer-training", columns, tuple(rows), notes)
    return Section("losses", "Estimators and curricula", paragraphs, figures, [shown])


def not_run(design: str, pairs: Sequence[str]) -> str:
    """Which pairs of a design are missing."""
    return f"Not run, or not with all outer seeds, with {CALLED[design]}: {'; '.join(pairs)}."


def _before(table: Frame) -> str:
    """The loss before outer-training, of the nets that do not diverge."""
    parts = []
    for design, rows in table.groupby("design", sort=False):
        claimed = (rows["estimator"] == CLAIMED[0]) & (rows["unrolls"] == CLAIMED[1])
        begun: Frame = pd.concat([rows[claimed], rows]).drop_duplicates("seed")  # a seed has one beginning
        known = begun[begun["untrained_diverged"] == 0]["untrained"]
        loss = f"{format_number(geometric_mean(known), 3)}; " if len(known) else ""
        diverged = int(begun["untrained_diverged"].sum())
        some = f", with {plural(int((begun['untrained_diverged'] > 0).sum()), 'outer seed')}" if diverged else ""
        nets = f"{diverged} of {len(begun) * NUM_TASKS} nets diverge{some}"
        parts.append(f"with {CALLED[str(design)]} {loss}{nets}")
    chance = format_number(math.log(10), 3)
    text = f"Before outer-training, which is on train loss, their loss is {', '.join(parts)} (guessing gives {chance})."
    return f"{text}{_rounding(table)}"


def _rounding(table: Frame) -> str:
    """How far the losses before outer-training of runs that begin alike are apart; nothing where they are equal."""

    def apart(rows: Frame) -> float:
        losses = rows.groupby(["design", "seed"])["untrained"]
        return max(losses.max() / losses.min(), default=1.0) - 1

    if not apart(table):
        return ""
    of_verdicts = [pair in JUDGED for pair in zip(table["estimator"], table["unrolls"], strict=True)]
    return (
        " Runs that begin alike were evaluated by versions of the program that round differently, which training "
        f"amplifies: that loss differs by up to {apart(table):.2%} between them, by {apart(table[of_verdicts]):.2%} "
        "between those that a verdict compares."
    )


def _outer_losses(runs: Frame) -> Section:
    caption = (
        f"Outer-validation loss, the mean train loss over {HORIZON:,} steps on outer-validation classes, which theta "
        "is chosen by, along outer-training, whatever its unrolls."
    )
    figures = [
        drawn.runs_figure(runs, "outer_validation_loss", x, "outer-validation loss", caption, log=True)
        for x in ("inner_steps", "seconds")
    ]
    caption = "Outer-loss as the estimator has it, over unrolls of its own length: comparable within a panel only."
    figures.insert(1, drawn.runs_figure(runs, "outer_loss", "inner_steps", "outer-loss", caption, log=True))
    paragraphs = [
        "All runs take the same inner steps; their seconds differ with the estimator, since a backward pass costs more "
        "than a forward pass and truncation more outer steps. Seconds are processor time without compilation, "
        "outer-validation included, of runs on different days beside others: pairs that did not run together compare "
        "roughly."
    ]
    return Section("outer-loss", "Along outer-training", paragraphs, figures, [])


def _gradients(table: Frame, runs: Frame) -> Section:
    some = table[table["skipped"] > 0]
    paragraphs = ["No update was skipped: every gradient was finite."]
    if len(some):
        most = some.loc[some["skipped"].idxmax()]
        paragraphs = [
            f"{plural(len(some), 'run')} of {len(table)} skipped updates because the gradient was not finite, at most "
            f"{int(most['skipped'])}: {most['design']} with {most['estimator']} and {most['unrolls']} unrolls."
        ]
    caption = "Median over the samples of an outer step of the norm of their gradients, before each is clipped to 2."
    figure = drawn.runs_figure(runs, "sample_norm", "inner_steps", "gradient norm", caption, log=True)
    return Section("gradient-norm", "Gradients", paragraphs, [figure], [])


def _merge_weights(runs: Frame) -> Section:
    """How much of the merged gradient is of backpropagation."""
    ends = runs.groupby(KEYS, sort=False)["merge_weight"].median()
    lowest, highest = (
        f"{format_number(ends[key], 3)} ({', '.join(key)} unrolls)" for key in (ends.idxmin(), ends.idxmax())
    )
    paragraphs = [f"Median weight of the backpropagated gradient in the merged one: {lowest} to {highest}."]
    caption = "Weight of the backpropagated gradient in the merged one, by inverse variance; the rest is that of ES."
    figure = drawn.runs_figure(runs, "merge_weight", "inner_steps", "weight of backpropagation", caption)
    return Section("merge-weight", "Merge weights", paragraphs, [figure], [])


def _number(value: Any) -> Entry:
    return text_entry(None) if math.isnan(value) else Entry(format_number(float(value)), float(value))
