"""Every seed's final test loss and every block's step cost, as dots over their quartiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.report.figures.axes import LOG_FROM_RANGE, SMALL, WIDTH, loss_axis, runs_of, short, title
from bench.report.figures.drawing import Figure
from bench.report.figures.theme import FAILED_COLOR, Style
from bench.report.summary import HEADLINE_LOSS, loss_summary, sorted_optimizers, step_cost
from bench.report.table import format_interval
from bench.store.rows import LEARNED, Rows

FEW_TIMES = 3.0  # one row whose values are that many times the others' leaves them no room on a linear axis
BOXES = "Box: median and quartiles; whiskers: all."


def final_loss_figure(rows: Rows, task: str, styles: Mapping[str, Style]) -> Figure | None:
    """Final test loss of every seed; None where no run has one."""
    order = [name for name in sorted_optimizers(rows, (task,)) if runs_of(rows, name, (task,))[0]]
    losses = {name: rows.losses(name, (task,), HEADLINE_LOSS)[task].to_numpy(dtype=float) for name in order}
    if not any(np.isfinite(values).any() for values in losses.values()):
        return None
    failed = {name: int(np.isinf(values).sum()) for name, values in losses.items()}
    alts = [
        f"{name} {format_interval(loss_summary(rows, name, (task,), HEADLINE_LOSS))}"
        + (f" ({failed[name]} failed)" if failed[name] else "")
        for name in order
    ]
    return Figure(
        slug=f"final_test_loss_{rows.slugs[task]}",
        alt=f"Dot plot of final test loss on task {task}, best first, with its mean: {'; '.join(alts)}.",
        caption=f"Final test loss. Dots: seeds. {BOXES}",
        draw=lambda: _draw_losses(rows, task, styles, losses),
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
        caption=f"Cost of a training step. Dots: timing blocks. {BOXES}",
        draw=lambda: _draw_costs(
            rows, task, styles, {n: rows.blocks[task][n].dropna().to_numpy(dtype=float) for n in order}
        ),
    )


def _draw_losses(rows: Rows, task: str, styles: Mapping[str, Style], losses: Mapping[str, np.ndarray]) -> Canvas:
    finite = {name: values[np.isfinite(values)] for name, values in losses.items()}
    canvas, axes = _boxes(rows, styles, finite)
    known = np.concatenate(list(finite.values()))
    loss_axis(axes.set_xscale, axes.set_xlim, axes.xaxis, known.min(), known.max(), log_from=FEW_TIMES)
    for row, name in enumerate(losses):
        if failed := len(losses[name]) - len(finite[name]):
            # Written on the side of the row that its dots leave free.
            places = axes.transAxes.inverted().transform(
                axes.transData.transform([(x, row) for x in finite[name]] or [(known.min(), 0)])
            )
            right = places[:, 0].mean() < 0.5
            axes.text(
                0.99 if right else 0.01, row, f"{failed} of {len(losses[name])} failed", fontsize=SMALL,
                ha="right" if right else "left", va="center", color=FAILED_COLOR,
                transform=axes.get_yaxis_transform(),
            )  # fmt: skip
    scale = ", log scale" if axes.get_xscale() == "log" else ""
    axes.set_xlabel(f"final test loss{scale} (does not start at 0)")
    title(canvas, task, "final test loss, every seed")
    return canvas


def _draw_costs(rows: Rows, task: str, styles: Mapping[str, Style], seconds: Mapping[str, np.ndarray]) -> Canvas:
    longest = max(np.median(values) for values in seconds.values())
    unit, scale = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e3)) if longest * s >= 1), ("µs", 1e6))
    scaled = {name: values * scale for name, values in seconds.items()}
    canvas, axes = _boxes(rows, styles, scaled)
    smallest, largest = (end([end(values) for values in scaled.values()]) for end in (min, max))
    logarithmic = smallest > 0 and largest / smallest > LOG_FROM_RANGE
    loss_axis(axes.set_xscale, axes.set_xlim, axes.xaxis, smallest if logarithmic else 0.0, largest)
    if not logarithmic:
        axes.set_xlim(0, largest * 1.05)
    axes.set_xlabel(f"{unit} per step" + (", log scale" if logarithmic else ""))
    title(canvas, task, "cost of a step, every block")
    return canvas


def _boxes(rows: Rows, styles: Mapping[str, Style], values: Mapping[str, np.ndarray]) -> tuple[Canvas, Axes]:
    """A box for each optimizer with a dot for each of its values, the learned ones' names in bold."""
    order: Sequence[str] = list(values)
    data = pd.DataFrame([(name, value) for name in order for value in values[name]], columns=["optimizer", "value"])
    canvas = Canvas(figsize=(WIDTH, 1.4 + 0.34 * len(order)), layout="constrained")
    axes = canvas.add_subplot()
    common = {"x": "value", "y": "optimizer", "hue": "optimizer", "order": order, "hue_order": order, "legend": False}
    palette = {name: styles[name].color for name in order}
    sns.boxplot(
        data, **common, palette=palette, ax=axes, fill=False, width=0.65, linewidth=1, whis=(0, 100), orient="y"
    )
    # Without jitter, which seaborn draws from the global generator: the same rows give the same image.
    sns.stripplot(data, **common, palette=palette, ax=axes, jitter=False, size=4.5, alpha=0.7, linewidth=0, orient="y")
    axes.set_yticks(range(len(order)), [short(name) for name in order])
    for label, name in zip(axes.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if rows.role(name) == LEARNED else "normal")
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_ylabel("")
    axes.grid(visible=False, axis="y")
    return canvas, axes
