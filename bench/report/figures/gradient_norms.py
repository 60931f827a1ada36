"""Norms of the outer-gradient against the length of unrolls, of several learned optimizers."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from bench.report.figures.axes import SMALL, WIDTH, heading, legend_of
from bench.report.figures.drawing import Figure
from bench.report.figures.pathologies import log_axes
from bench.report.figures.theme import BAND, COLORS, LEARNED_COLORS
from bench.statistics import three_digits
from bench.store.rows import Frame

THETA_COLORS = {"initial": COLORS[0], "trained": LEARNED_COLORS[0]}


def norms_figure(table: Frame) -> Figure:
    """The median with the quartiles and the largest, a panel for each learned optimizer.

    Args:
      table: from `bench.measure.gradient_norms.table`.
    """
    ends = table[table["steps"] == table["steps"].max()]
    parts = [f"{row['optimizer']}, {row['theta']} {three_digits(row['median'])}" for _, row in ends.iterrows()]
    return Figure(
        slug="gradient_norms",
        alt="Line plots of the norm of the outer-gradient against the length of the unroll. Median at "
        f"{int(table['steps'].max()):,} steps: {'; '.join(parts)}.",
        caption="Line: median over unrolls at one theta, unsmoothed; band: quartiles; dots: the largest, where it is "
        "finite. A line ends where its median is not finite.",
        draw=lambda: _draw(table),
        wide=True,
    )


def _draw(table: Frame) -> Canvas:
    names = list(dict.fromkeys(table["optimizer"]))
    canvas = Canvas(figsize=(1.6 * WIDTH, 3.6), layout="constrained")
    panels = canvas.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        for theta, color in THETA_COLORS.items():
            rows = table[(table["optimizer"] == name) & (table["theta"] == theta)]
            x, median, low, high, largest = (
                rows[column].where(np.isfinite(rows[column])).to_numpy(np.float64)
                for column in ("steps", "median", "quarter", "three_quarters", "largest")
            )
            axes.plot(x, median, color=color, linewidth=1.8)
            axes.fill_between(x, low, high, color=color, alpha=BAND, linewidth=0)
            axes.plot(x, largest, ".", color=color, markersize=4)
        log_axes(axes, sorted(set(table["steps"])), every=2)
        axes.set_title(name, loc="left", fontsize=SMALL)
        axes.set_xlabel("length of the unroll, inner steps")
    panels[0].set_ylabel("gradient norm")
    heading(canvas, "Backpropagation through unrolls on the 16x16 CNN")
    legend_of(canvas, [Line2D([], [], color=color) for color in THETA_COLORS.values()], list(THETA_COLORS))
    return canvas
