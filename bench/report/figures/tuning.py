"""Tuning trials of the hand-designed rows: how sensitive to the learning rate, and how good after k trials (rule 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from bench.report.figures.axes import (
    SMALL,
    WIDTH,
    ceiling_of,
    legend,
    legend_of,
    limits_of,
    loss_axis,
    plain,
    short,
    title,
)
from bench.report.figures.drawing import Figure, detached
from bench.report.figures.theme import FAILED_COLOR, Style
from bench.report.table import format_number, plural
from bench.report.tuning import NO_TRIALS, Tuning, TuningGroup
from bench.store.rows import Frame, Rows, as_floats

OFF_THE_AXIS = 1e6
KINDS = {"trial": ("o", 16), "chosen": ("*", 130), "diverged": ("X", 36), "above": ("^", 30)}  # marker, points squared
FAILED = ("diverged", "above")


def figures(group: TuningGroup, rows: Rows, styles: Mapping[str, Style]) -> list[Figure]:
    """Sensitivity to the learning rate, and the best of k trials, on one (family, horizon)."""
    found = (_sensitivity_figure(group, rows, styles), _budget_figure(group, rows, styles))
    return [figure for figure in found if figure is not None]


def _name(group: TuningGroup) -> str:
    return f"{group.family}, {plural(group.horizon, 'step')}"


def _ceiling(group: TuningGroup, rows: Rows) -> float:
    """Where the axis ends: losses above say that a trial blew up."""
    chance = as_floats(rows.train.loc[rows.train["family"] == group.family, "chance_loss"]).dropna()
    return ceiling_of([], float(chance.iloc[0]) if len(chance) else None)


# ---------------------------------------------------------------------------------------------------------------------
# Learning rate
# ---------------------------------------------------------------------------------------------------------------------


def _sensitivity_figure(group: TuningGroup, rows: Rows, styles: Mapping[str, Style]) -> Figure | None:
    shown = [t for t in group.tunings if t.learning_rates and any(map(math.isfinite, t.losses))]
    if not shown:
        return None
    parts = []
    for tuning in shown:
        diverged = sum(map(math.isinf, tuning.losses))
        parts.append(
            f"{tuning.optimizer} {format_number(tuning.learning_rate, 3)} "
            f"(loss {format_number(tuning.losses[tuning.chosen], 3)}" + (f", {diverged} diverged)" if diverged else ")")
        )
    return Figure(
        slug=f"learning_rate_{group.slug}",
        alt=f"Validation loss of every tuning trial against its learning rate on {_name(group)}, one panel for each of "
        f"{plural(len(shown), 'optimizer')}. Chosen learning rates: {'; '.join(parts)}.",
        caption="Sensitivity to the learning rate: every tuning trial's mean validation loss; the other hyperparameters"
        " vary with it. Star and line: the chosen trial, the best once the finalists had been rerun. At the top edge: "
        f"trials that diverged (cross) or ended above the axis (triangle). {NO_TRIALS}",
        draw=lambda: _draw_sensitivity(group, shown, _ceiling(group, rows), styles),
    )


def _draw_sensitivity(group: TuningGroup, shown: list[Tuning], ceiling: float, styles: Mapping[str, Style]) -> Canvas:
    finite = [loss for tuning in shown for loss in tuning.losses if math.isfinite(loss)]
    top = min(max(finite), ceiling)
    if not min(finite) < top:  # every trial blew up
        top = max(finite)
    edge = limits_of(min(finite), top)[1]
    data: Frame = pd.DataFrame(
        [
            (tuning.optimizer, rate, min(loss, edge), _kind(loss, top, i == tuning.chosen))
            for tuning in shown
            for i, (rate, loss) in enumerate(zip(tuning.learning_rates, tuning.losses, strict=True))
        ],
        columns=["optimizer", "rate", "loss", "kind"],
    )
    data["color"] = data["optimizer"].where(~data["kind"].isin(FAILED), "failed")
    palette = {tuning.optimizer: styles[tuning.optimizer].color for tuning in shown} | {"failed": FAILED_COLOR}
    num_columns = 2 if len(shown) == 4 else min(3, len(shown))
    height = 1.5
    grid = sns.FacetGrid(
        data, col="optimizer", col_wrap=num_columns, height=height, aspect=WIDTH / num_columns / height, despine=False
    )
    kinds: dict[str, Any] = {name: [look[i] for look in KINDS.values()] for i, name in enumerate(("markers", "sizes"))}
    grid.map_dataframe(
        sns.scatterplot, x="rate", y="loss", hue="color", palette=palette, style="kind", style_order=list(KINDS),
        size="kind", size_order=list(KINDS), markers=kinds["markers"], sizes=kinds["sizes"], edgecolor="white",
        linewidth=0.4, legend=False, clip_on=False, zorder=4,
    )  # fmt: skip
    grid.set_titles("")
    canvas, first = detached(grid.figure), grid.axes.flat[0]
    loss_axis(first.set_yscale, first.set_ylim, first.yaxis, min(finite), top)
    first.set_xscale("log")
    first.set_xlim(data["rate"].min() / 1.5, data["rate"].max() * 1.5)
    first.xaxis.set_major_locator(FixedLocator(_decades(data["rate"].min(), data["rate"].max())))
    first.xaxis.set_minor_locator(NullLocator())
    first.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axes, tuning in zip(grid.axes.flat, shown, strict=True):
        axes.axvline(tuning.learning_rate, color=palette[tuning.optimizer], linewidth=1, zorder=2)
        axes.set_title(short(tuning.optimizer, 20), loc="left", fontsize=SMALL)
        axes.tick_params(which="both", labelsize=SMALL)
        axes.label_outer(remove_inner_ticks=False)
    grid.set_axis_labels("learning rate", "", fontsize=SMALL)
    canvas.supylabel("validation loss" + (", log scale" if first.get_yscale() == "log" else ""), fontsize=9.5)
    title(canvas, _name(group), "tuning trials")
    handles = [
        Line2D([], [], linestyle="", marker=marker, markersize=1.1 * math.sqrt(size),
               color=FAILED_COLOR if kind in FAILED else "#666666", markeredgecolor="white")
        for kind, (marker, size) in KINDS.items()
    ]  # fmt: skip
    legend_of(canvas, handles, list(KINDS))
    return canvas


def _kind(loss: float, top: float, chosen: bool) -> str:
    if chosen:
        return "chosen"
    if math.isinf(loss):
        return "diverged"
    return "trial" if loss <= top else "above"


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between two learning rates, at most three of them: a panel is narrow."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    return [10.0**power for power in range(first, last + 1, max(math.ceil((last - first + 1) / 3), 1))]


# ---------------------------------------------------------------------------------------------------------------------
# Budget
# ---------------------------------------------------------------------------------------------------------------------


def _budget_figure(group: TuningGroup, rows: Rows, styles: Mapping[str, Style]) -> Figure | None:
    shown = [t for t in group.tunings if any(map(math.isfinite, t.losses)) and len(t.budgets()) > 1]
    if not shown:
        return None
    parts = []
    for tuning in shown:
        best = [tuning.best_of(k).estimate for k in (1, tuning.budgets()[-1])]
        first, last = (format_number(x, 3) if math.isfinite(x) else "diverged" for x in best)
        parts.append(f"{tuning.optimizer} {first}, {last}")
    largest = max(tuning.budgets()[-1] for tuning in shown)
    return Figure(
        slug=f"tuning_budget_{group.slug}",
        alt=f"Best validation loss against the number of tuning trials on {_name(group)}. With 1 trial and with "
        f"{largest}: {'; '.join(parts)}.",
        caption="Tuning budget: mean validation loss of the best among k trials. Line: median over which k trials were "
        f"drawn; band: quartiles, the spread of tuning luck, which may leave the top. {NO_TRIALS}",
        draw=lambda: _draw_budgets(group, shown, _ceiling(group, rows), rows, styles),
    )


def _draw_budgets(
    group: TuningGroup, shown: list[Tuning], ceiling: float, rows: Rows, styles: Mapping[str, Style]
) -> Canvas:
    canvas = Canvas(figsize=(WIDTH, 4.5), layout="constrained")
    axes = canvas.add_subplot()
    ends: list[float] = []
    for tuning in shown:
        style, budgets = styles[tuning.optimizer], tuning.budgets()
        found = [tuning.best_of(k) for k in budgets]
        bounds = np.array([[x.low, x.estimate, x.high] for x in found], np.float64)
        ends += [*bounds[:, :2].ravel()]
        # Where trials diverged, an end is infinite: drawn so far up that the line leaves the axis steeply.
        low, middle, high = np.where(np.isfinite(bounds), bounds, OFF_THE_AXIS).T
        axes.fill_between(budgets, low, high, color=style.color, alpha=0.08, linewidth=0, zorder=2)
        axes.plot(
            budgets, middle, color=style.color, linestyle=style.linestyle, linewidth=1.8, marker=style.marker,
            markersize=4.5, zorder=3,
        )  # fmt: skip
    finite = [x for x in ends if math.isfinite(x)]
    top = min(max(finite), ceiling)
    loss_axis(axes.set_yscale, axes.set_ylim, axes.yaxis, min(finite), top if top > min(finite) else max(finite))
    budgets = max((tuning.budgets() for tuning in shown), key=len)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(budgets))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("tuning trials, log scale")
    axes.set_ylabel("best validation loss" + (", log scale" if axes.get_yscale() == "log" else ""))
    title(canvas, _name(group), "best of k trials")
    legend(canvas, rows, [tuning.optimizer for tuning in shown], styles, ())
    return canvas
