"""Designs of learned optimizers: loss after a short outer-training against the cost of a training step."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.figures.axes import LOG_FROM_RANGE, SMALL, WIDTH, heading, legend_of
from bench.report.figures.drawing import Figure
from bench.report.figures.theme import COLORS, LEARNED_COLORS, MARKERS
from bench.store.rows import Frame

DESIGN_COLORS = (*COLORS[:5], *LEARNED_COLORS)


def loss_against_cost(table: Frame, panels: Mapping[str, str]) -> Figure:
    """A point for each design, with the interval of its cost, in a panel for each family; lower left is better.

    Args:
      table: rows of `bench.measure.designs.table` that have the costs and the losses.
      panels: family whose training steps are on the horizontal axis -> column of the loss on the vertical one.
    """
    points = []
    for _, row in table.iterrows():
        places = " and ".join(f"{row[f'step/{family}']:.3f}, loss {row[loss]:.4g}" for family, loss in panels.items())
        points.append(f"{row['design']} at {places}")
    return Figure(
        slug="design_loss_against_cost",
        alt="Scatter plot of outer-validation loss against the cost of a training step over Adam's, on "
        f"{' and on '.join(panels)}: {'; '.join(points)}.",
        caption="Lower left is better. Bars: interval of the cost over timing blocks.",
        draw=lambda: _draw(table, panels),
    )


def _draw(table: Frame, panels: Mapping[str, str]) -> Canvas:
    canvas = Canvas(figsize=(WIDTH, 4.4), layout="constrained")
    drawn = canvas.subplots(1, len(panels), squeeze=False).ravel()
    handles, names = [], []
    for i, (_, row) in enumerate(table.iterrows()):
        look = {"color": DESIGN_COLORS[i % len(DESIGN_COLORS)], "linewidth": 1.4}
        marked = {"marker": MARKERS[i % len(MARKERS)], "markersize": 7, "markerfacecolor": "none"}
        for axes, (family, loss) in zip(drawn, panels.items(), strict=True):
            cost, low, high = (row[f"step/{family}{end}"] for end in ("", "/low", "/high"))
            if not math.isnan(low + high):
                axes.plot([low, high], [row[loss]] * 2, **look)
            axes.plot([cost], [row[loss]], **look, **marked)
        handles.append(Line2D([], [], **look, **marked))
        names.append(str(row["design"]))
    for axes, family in zip(drawn, panels, strict=True):
        costs = table[f"step/{family}"]
        if costs.max() / costs.min() > LOG_FROM_RANGE:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.set_xlabel(f"step on {family},\nover Adam's", fontsize=SMALL)
    drawn[0].set_ylabel("outer-validation loss after")
    heading(canvas, "Loss after the same outer-training, and cost of a training step")
    legend_of(canvas, handles, names)
    return canvas
