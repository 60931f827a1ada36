"""Tuning trials of the hand-designed rows: how sensitive to the learning rate, and how good after k trials (rule 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from bench.report.figures.axes import (
    FAILED_COLOR,
    SMALL,
    WIDTH,
    ceiling_of,
    legend,
    legend_of,
    loss_axis,
    plain,
    short,
    title,
)
from bench.report.figures.drawing import Figure, Style
from bench.report.table import format_number, plural
from bench.report.tuning import NO_TRIALS, Tuning, TuningGroup
from bench.store.rows import Rows, as_floats

OFF_THE_AXIS = 1e6


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
    num_columns = 2 if len(shown) == 4 else min(3, len(shown))
    num_rows = math.ceil(len(shown) / num_columns)
    canvas = Canvas(figsize=(WIDTH, 1.5 * num_rows + 1.3), layout="constrained")
    panels = canvas.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
    finite = [loss for tuning in shown for loss in tuning.losses if math.isfinite(loss)]
    top = min(max(finite), ceiling)
    if not min(finite) < top:  # every trial blew up
        top = max(finite)
    loss_axis(panels[0].set_yscale, panels[0].set_ylim, panels[0].yaxis, min(finite), top)
    rates = [rate for tuning in shown for rate in tuning.learning_rates]
    panels[0].set_xscale("log")
    panels[0].set_xlim(min(rates) / 1.5, max(rates) * 1.5)
    panels[0].xaxis.set_major_locator(FixedLocator(_decades(min(rates), max(rates))))
    panels[0].xaxis.set_minor_locator(NullLocator())
    panels[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axes, tuning in zip(panels, shown, strict=False):
        _draw_trials(axes, tuning, top, styles[tuning.optimizer])
    for axes in panels[len(shown) :]:
        axes.remove()
    for i in range(max(len(shown) - num_columns, 0), len(shown)):  # the lowest panel of each column has the numbers
        panels[i].tick_params(axis="x", labelbottom=True)
        panels[i].set_xlabel("learning rate", fontsize=SMALL)
    scale = ", log scale" if panels[0].get_yscale() == "log" else ""
    canvas.supylabel(f"validation loss{scale}", fontsize=9.5)
    title(canvas, _name(group), "tuning trials")
    dot: Any = {"linestyle": "", "color": "#666666"}
    handles = [
        Line2D([], [], marker="o", markersize=4, **dot),
        Line2D([], [], marker="*", markersize=11, **dot),
        Line2D([], [], marker="x", markersize=6, linestyle="", color=FAILED_COLOR),
        Line2D([], [], marker="^", markersize=5, linestyle="", color=FAILED_COLOR),
    ]
    legend_of(canvas, handles, ["trial", "chosen", "diverged", "above"])
    return canvas


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between two learning rates, at most three of them: a panel is narrow."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    return [10.0**power for power in range(first, last + 1, max(math.ceil((last - first + 1) / 3), 1))]


def _draw_trials(axes: Axes, tuning: Tuning, top: float, style: Style) -> None:
    rates, losses = np.array(tuning.learning_rates), np.array(tuning.losses)
    inside = losses <= top
    axes.scatter(rates[inside], losses[inside], s=13, color=style.color, alpha=0.8, linewidths=0, zorder=3)
    edge = axes.get_ylim()[1]
    for which, marker, size in ((np.isinf(losses), "x", 22), (np.isfinite(losses) & ~inside, "^", 16)):
        look = {"marker": marker, "s": size, "color": FAILED_COLOR, "zorder": 5, "clip_on": False}
        axes.scatter(rates[which], np.full(int(which.sum()), edge), linewidths=1.1, **look)
    chosen = rates[tuning.chosen]
    axes.axvline(chosen, color=style.color, linewidth=1, zorder=2)
    axes.plot(
        chosen, min(losses[tuning.chosen], edge), marker="*", markersize=12, color=style.color,
        markeredgecolor="black", markeredgewidth=0.7, zorder=6,
    )  # fmt: skip
    axes.set_title(short(tuning.optimizer, 20), loc="left", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)


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
