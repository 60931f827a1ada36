"""The ablation of outer-training in words and numbers: the verdicts on the paper's claims, and what they rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.measure.ablation import BUDGET, CLAIMS, FAMILY, FOLLOWED, HORIZON, NUM_TASKS, Verdict, verdicts
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
from bench.statistics import MIN_SEEDS, geometric_mean, t_interval
from bench.store.rows import Frame

NUM_BINS = 20  # of the inner steps: single outer steps scatter over decades
KEYS = ["design", "estimator", "unrolls"]
LIMITS = (
    "Runs of one outer seed begin from the same theta and see the same tasks, whatever the estimator. All of a design "
    "have one outer rate, which no pair was tuned for. With equal inner steps the outer steps differ, from 40 with "
    "long unrolls to 1,600 with truncated backpropagation: a pair that lags may be short of updates."
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
    found = [_verdicts(verdicts(table)), _losses(table), _outer_losses(runs), _gradients(table, runs)]
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


def _verdicts(found: list[Verdict]) -> Section:
    paragraphs = [
        "The paper (Metz et al., arXiv 1810.10180) claims that merging backpropagation with ES, and unrolls that "
        f"grow, are what makes outer-training work. Here every run takes {BUDGET:,} inner steps on {FAMILY}. A claim "
        "is shown where the interval of every ratio lies below 1, contradicted where one lies above."
    ]
    rows = []
    for verdict in found:
        ratios = {other: difference.exponential() for other, difference in verdict.differences.items()}
        against = listed([f"{format_interval(ratio)} times that of {other}" for other, ratio in ratios.items()])
        paragraphs.append(
            f"{verdict.status.capitalize()}, with the design {verdict.design}: {CLAIMS[verdict.claim]}. The loss is "
            f"{against}."
        )
        rows += [
            (
                *map(text_entry, (verdict.claim, verdict.design, other)),
                Entry(format_interval(ratio), ratio),
                text_entry(verdict.status),
            )
            for other, ratio in ratios.items()
        ]
    if not found:
        paragraphs.append("No claim can be judged yet: the parts of all seeds are needed.")
    paragraphs.append(LIMITS)
    names = {"claim": "claim", "design": "design", "other": "compared with"}
    columns = (*(Column(key, name) for key, name in names.items()), Column("ratio", "ratio of losses", interval=True))
    notes = (f"Ratio of final validation losses, paired by outer seed; t {PERCENT} intervals of its logarithm.",)
    table = Table("ablation_verdicts", "Verdicts", (*columns, Column("status", "verdict")), tuple(rows), notes)
    return Section("verdicts", "What was claimed, what was found", paragraphs, [], [table], unfolded=bool(found))


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
                _number(group["outer_validation_loss"].median()),
                _number(group["last_outer_validation_loss"].median()),
                _number(group["untrained"].median()),
                whole_entry(group["outer_steps"].median()),
                whole_entry(group["skipped"].sum()),
                _number(group["seconds"].median()),
            )
        )
    numbers = {
        "outer_validation_loss": "outer-validation loss, best",
        "last_outer_validation_loss": "outer-validation loss, last",
        "untrained": "final validation loss, untrained",
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
    untrained = {name: geometric_mean(rows["untrained"]) for name, rows in table.groupby("design", sort=False)}
    before = [f"{format_number(loss, 3)} ({name})" for name, loss in untrained.items()]
    means = {key: geometric_mean(group["final_validation_loss"]) for key, group in groups}
    design, estimator, unrolls = best = min(means, key=lambda key: means[key])
    paragraphs = [
        f"The best theta of each run, by outer-validation, trained {NUM_TASKS} networks on evaluation classes for "
        f"{HORIZON:,} steps, more than any unroll had. The lowest mean over seeds is "
        f"{format_number(means[best], 3)}: {design} with {estimator} and {unrolls} unrolls. Before outer-training, "
        f"which is on train loss, it is {listed(before)}."
    ]
    notes = (
        f"Geometric means over tasks and seeds with t {PERCENT} intervals of the logarithm, from {MIN_SEEDS} seeds on; "
        "the other columns are medians over seeds.",
    )
    shown = Table("ablation_losses", "Losses after outer-training", columns, tuple(rows), notes)
    return Section("losses", "Estimators and curricula", paragraphs, [drawn.heat_map_figure(table)], [shown])


def _outer_losses(runs: Frame) -> Section:
    caption = f"Outer-validation loss over {HORIZON:,} inner steps along outer-training, whatever its unrolls."
    figures = [
        drawn.runs_figure(runs, "outer_validation_loss", x, "outer-validation loss", caption)
        for x in ("inner_steps", "seconds")
    ]
    caption = "Outer-loss as the estimator has it, over unrolls of its own length: comparable within a panel only."
    figures.insert(1, drawn.runs_figure(runs, "outer_loss", "inner_steps", "outer-loss", caption))
    paragraphs = [
        "All runs take the same inner steps; their seconds differ with the estimator, since a backward pass costs more "
        "than a forward pass and truncation more outer steps. Seconds are processor time without compilation, "
        "outer-validation included."
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
    return Entry(format_number(float(value)), float(value))
