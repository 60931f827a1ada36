"""The ablation of outer-training: the loss of each estimator with each curriculum, and how its runs went."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bench.measure.ablation import DESIGNS, ESTIMATORS, OTHER_SEEDS, UNROLLS
from bench.report.figures.axes import WIDTH, heading, legend_of, plain
from bench.report.figures.drawing import Figure, detached
from bench.report.figures.heat_maps import ASCENDING, heat_map
from bench.report.figures.theme import BAND, COLORS, DASHES, LEARNED_COLORS
from bench.statistics import three_digits
from bench.store.rows import Frame
from learned.objective import LOSS_CLIP

PALETTE: dict[str, Any] = dict(
    zip(ESTIMATORS, (*COLORS[:2], COLORS[4], COLORS[3], LEARNED_COLORS[0], LEARNED_COLORS[1]), strict=True)
)
LINES: dict[str, Any] = dict(zip(ESTIMATORS, (*DASHES[:4], "", DASHES[5]), strict=True))
X_LABELS = {"inner_steps": "inner steps of outer-training", "seconds": "seconds of outer-training"}


def heat_map_figure(means: dict[str, dict[tuple[str, str], float]]) -> Figure:
    """Final validation loss of the best theta, estimator x unrolls, a panel for each design.

    Args:
      means: from `bench.measure.ablation.means`.
    """
    estimators, unrolls = zip(*itertools.chain.from_iterable(means.values()), strict=True)
    order: dict[str, Any] = {"index": _known(ESTIMATORS, estimators), "columns": _known(UNROLLS, unrolls)}
    panels: dict[str, Frame] = {
        design: pd.Series(losses).unstack().reindex(**order) for design, losses in means.items()
    }
    empty = any(grid.isna().to_numpy().any() for grid in panels.values())
    parts = [
        f"{design}: " + ", ".join(f"{e} with {u} unrolls {three_digits(x)}" for (e, u), x in losses.items())
        for design, losses in means.items()
    ]
    return Figure(
        slug="ablation_heat_map",
        alt=f"Heat map of final validation loss, estimators by curricula. {'; '.join(parts)}.",
        caption="Final validation loss on evaluation classes of the best theta of each run; geometric mean over "
        f"evaluation tasks and outer seeds 0 to {OTHER_SEEDS - 1}, which every pair has; a net that diverges counts as "
        f"{LOSS_CLIP:g}. Darker is worse, on one logarithmic scale for all panels."
        + (" Empty: not run, or not with all of them." if empty else ""),
        draw=lambda: _draw_heat_maps(panels),
    )


def _known(order: Iterable[str], names: Iterable[str]) -> list[str]:
    return [name for name in order if name in set(names)]


def _draw_heat_maps(panels: dict[str, Frame]) -> Canvas:
    tallest = max(len(grid) for grid in panels.values())
    canvas = Canvas(figsize=(WIDTH, 1.4 + 0.42 * tallest), layout="constrained")
    values = np.concatenate([grid.to_numpy().ravel() for grid in panels.values()])
    norm = LogNorm(np.nanmin(values), max(np.nanmax(values), 1.01 * np.nanmin(values)))
    all_axes = canvas.subplots(1, len(panels), squeeze=False).flat
    for place, (axes, (design, grid)) in enumerate(zip(all_axes, panels.items(), strict=True)):
        texts = grid.map(lambda x: "" if np.isnan(x) else three_digits(x))
        heat_map(axes, grid, texts, norm, ASCENDING, labels=("unrolls", ""))
        axes.set_title(design, loc="left")
        if place:
            axes.set_yticklabels([])
    heading(canvas, "final validation loss after outer-training")
    return canvas


def runs_figure(runs: Frame, column: str, x: str, what: str, caption: str, *, log: bool = False) -> Figure:
    """A metric of all runs along outer-training, a panel for each design and curriculum.

    Args:
      runs: from `bench.report.ablation.binned`.
      column: of the metric.
      x: "inner_steps" or "seconds".
      what: the metric in words.
      caption: how to read it, beside what lines and bands are.
      log: whether its axis is logarithmic.
    """
    known = runs[np.isfinite(runs[column])]
    last: Frame = known.sort_values(x).groupby(["design", "unrolls", "estimator", "seed"])[column].last()
    ends = last.groupby(level=["design", "unrolls", "estimator"]).median()
    order = [key for key in itertools.product(DESIGNS, UNROLLS, ESTIMATORS) if key in ends.index]
    parts = [f"{d}, {u} unrolls, {e} {three_digits(ends[d, u, e])}" for d, u, e in order]
    return Figure(
        slug=f"ablation_{column}_{x}",
        alt=f"Line plots of {what} against {X_LABELS[x]}. Median over seeds at the end: {'; '.join(parts)}.",
        caption=f"{caption} Line: median over outer seeds; band: their range.",
        draw=lambda: _draw_runs(known, column, x, what, log),
        wide=True,
    )


def _draw_runs(known: Frame, column: str, x: str, what: str, log: bool) -> Canvas:
    names = _known(ESTIMATORS, known["estimator"])
    designs, unrolls = _known(DESIGNS, known["design"]), _known(UNROLLS, known["unrolls"])
    grid = sns.relplot(
        known, kind="line", x=x, y=column, hue="estimator", style="estimator", hue_order=names, style_order=names,
        palette={name: PALETTE[name] for name in names}, dashes={name: LINES[name] for name in names}, legend=False,
        row="design", row_order=designs, col="unrolls", col_order=unrolls, estimator="median",
        errorbar=("pi", 100), err_kws={"alpha": BAND, "linewidth": 0}, height=2.2, aspect=1.35,
        facet_kws={"sharex": x == "inner_steps", "sharey": "row", "margin_titles": False},
    )  # fmt: skip
    grid.set_titles("")
    grid.set_titles("{row_name}, {col_name} unrolls", loc="left")
    grid.set_axis_labels(X_LABELS[x], what)
    for axes in grid.axes.flat:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        if log:
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            if high < 100 * low:
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
        axes.label_outer()
        axes.tick_params(labelbottom=x != "inner_steps" or axes.get_subplotspec().is_last_row())  # axes of their own
    canvas = detached(grid.figure)
    handles = [Line2D([], [], color=PALETTE[n], linestyle=(0, LINES[n]) if LINES[n] else "-") for n in names]
    legend_of(canvas, handles, names)
    return canvas
