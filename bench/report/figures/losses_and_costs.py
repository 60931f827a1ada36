"""Every seed's final test loss and every block's step cost, as dots around their summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.report.figures.axes import FAILED_COLOR, LOG_FROM_RANGE, SMALL, WIDTH, loss_axis, runs_of, short, title
from bench.report.figures.drawing import Figure, Style
from bench.report.summary import HEADLINE_LOSS, loss_summary, sorted_optimizers, step_cost
from bench.report.table import PERCENT, format_interval
from bench.statistics import MIN_SEEDS, Interval
from bench.store.rows import LEARNED, Rows

FEW_TIMES = 3.0  # one row whose values are that many times the others' leaves them no room on a linear axis


def final_loss_figure(rows: Rows, task: str, styles: Mapping[str, Style]) -> Figure | None:
    """Final test loss of every seed; None where no run has one."""
    order = [name for name in sorted_optimizers(rows, (task,)) if runs_of(rows, name, (task,))[0]]
    losses = {name: rows.losses(name, (task,), HEADLINE_LOSS)[task].to_numpy(dtype=float) for name in order}
    if not any(np.isfinite(values).any() for values in losses.values()):
        return None
    summaries = {name: loss_summary(rows, name, (task,), HEADLINE_LOSS) for name in order}
    failed = {name: int(np.isinf(values).sum()) for name, values in losses.items()}
    alts = [
        f"{name} {format_interval(summaries[name])}" + (f" ({failed[name]} failed)" if failed[name] else "")
        for name in order
    ]
    return Figure(
        slug=f"final_test_loss_{rows.slugs[task]}",
        alt=f"Dot plot of final test loss on task {task}, best first: {'; '.join(alts)}.",
        caption=f"Final test loss. Dots: seeds; line: mean; box: {PERCENT} interval over seeds and test images, from "
        f"{MIN_SEEDS} seeds on and only if no run failed.",
        draw=lambda: _draw_losses(rows, task, styles, losses, summaries),
    )


def step_cost_figure(rows: Rows, task: str, styles: Mapping[str, Style]) -> Figure | None:
    """Seconds per step of every timing block; None where nothing was timed."""
    costs = {name: step_cost(rows, name, task) for name in rows.optimizers}
    known = {name: cost for name, cost in costs.items() if cost is not None}
    if not known:
        return None
    order = sorted(known, key=lambda name: (known[name].estimate, name))
    costs_text = "; ".join(f"{name} {format_interval(known[name], scale=1e3)} ms" for name in order)
    return Figure(
        slug=f"step_cost_{rows.slugs[task]}",
        alt=f"Dot plot of seconds per training step on task {task}, cheapest first: {costs_text}.",
        caption=f"Cost of a training step. Dots: timing blocks; line: median; box: its distribution-free "
        f"{PERCENT} interval where the blocks suffice.",
        draw=lambda: _draw_costs(rows, task, styles, {name: known[name] for name in order}),
    )


def _draw_losses(
    rows: Rows, task: str, styles: Mapping[str, Style], losses: Mapping[str, np.ndarray],
    summaries: Mapping[str, Interval | None],
) -> Canvas:  # fmt: skip
    order = list(losses)
    canvas = Canvas(figsize=(WIDTH, 1.5 + 0.42 * len(order)), layout="constrained")
    axes = canvas.add_subplot()
    finite = np.concatenate([values[np.isfinite(values)] for values in losses.values()])
    ends = list(finite)
    for row, name in enumerate(order):
        _dots(axes, losses[name][np.isfinite(losses[name])], row, styles[name])
        summary = summaries[name]
        if summary is not None:
            _mean_mark(axes, summary, row, styles[name])
            ends += [x for x in (summary.low, summary.high) if x is not None]
    positive = [x for x in ends if x > 0] if finite.min() > 0 else ends
    _dot_axes(axes, rows, order, min(positive), max(ends))
    for row, name in enumerate(order):
        if failed := int(np.isinf(losses[name]).sum()):
            known = losses[name][np.isfinite(losses[name])]
            # Written on the side of the row that its dots leave free.
            places = axes.transAxes.inverted().transform(
                axes.transData.transform([(x, row) for x in known] or [(0, 0)])
            )
            right = not len(known) or places[:, 0].mean() < 0.5
            axes.text(
                0.99 if right else 0.01, row, f"{failed} of {len(losses[name])} failed", fontsize=SMALL,
                ha="right" if right else "left", va="center", color=FAILED_COLOR,
                transform=axes.get_yaxis_transform(),
            )  # fmt: skip
    scale = ", log scale" if axes.get_xscale() == "log" else ""
    axes.set_xlabel(f"final test loss{scale} (does not start at 0)")
    title(canvas, task, "final test loss, every seed")
    return canvas


def _draw_costs(rows: Rows, task: str, styles: Mapping[str, Style], costs: Mapping[str, Interval]) -> Canvas:
    order = list(costs)
    units = (("s", 1.0), ("ms", 1e3))
    unit, scale = next(((u, s) for u, s in units if costs[order[-1]].estimate * s >= 1), ("µs", 1e6))
    canvas = Canvas(figsize=(WIDTH, 1.5 + 0.42 * len(order)), layout="constrained")
    axes = canvas.add_subplot()
    smallest, largest = math.inf, 0.0
    for row, (name, cost) in enumerate(costs.items()):
        seconds = rows.blocks[task][name].dropna().to_numpy(dtype=float) * scale
        _dots(axes, seconds, row, styles[name])
        low, high = (x * scale if x is not None else None for x in (cost.low, cost.high))
        _mean_mark(axes, Interval(cost.estimate * scale, low, high, cost.n), row, styles[name])
        smallest, largest = min(smallest, seconds.min()), max(largest, seconds.max())
    logarithmic = smallest > 0 and largest / smallest > LOG_FROM_RANGE
    _dot_axes(axes, rows, order, smallest if logarithmic else 0.0, largest)
    if not logarithmic:
        axes.set_xlim(0, largest * 1.05)
    axes.set_xlabel(f"{unit} per step" + (", log scale" if logarithmic else ""))
    title(canvas, task, "cost of a step, every block")
    return canvas


def _dots(axes: Axes, values: np.ndarray, row: int, style: Style) -> None:
    offsets = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(len(values))
    look = {"s": 20, "marker": style.marker, "color": style.color, "alpha": 0.75, "linewidths": 0, "zorder": 4}
    axes.scatter(values, row + offsets, **look)


def _mean_mark(axes: Axes, interval: Interval, row: int, style: Style) -> None:
    ends = [row - 0.32, row + 0.32]
    axes.plot([interval.estimate] * 2, ends, color=style.color, linewidth=2.2, zorder=5)
    if interval.low is not None and interval.high is not None:
        axes.fill_betweenx(ends, interval.low, interval.high, color=style.color, alpha=0.16, linewidth=0, zorder=2)


def _dot_axes(axes: Axes, rows: Rows, order: Sequence[str], low: float, high: float) -> None:
    loss_axis(axes.set_xscale, axes.set_xlim, axes.xaxis, low, high, log_from=FEW_TIMES)
    axes.set_yticks(range(len(order)), [short(name) for name in order])
    for label, name in zip(axes.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if rows.role(name) == LEARNED else "normal")
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
