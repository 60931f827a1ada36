"""Designs of learned optimizers: loss after a short outer-training against the cost of a training step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.figures.axes import SMALL, WIDTH, heading, legend_of
from bench.report.figures.drawing import HAND_DESIGNED_COLORS, LEARNED_COLORS, MARKERS, Figure
from bench.store.rows import Frame

COLORS = (*HAND_DESIGNED_COLORS[:5], *LEARNED_COLORS)


def loss_against_cost(table: Frame, families: Sequence[str]) -> Figure:
    """A point for each design, with the interval of its cost, in a panel for each family; lower left is better.

    Args:
      table: rows of `bench.measure.designs.table` of which both parts are finished.
      families: whose training steps are on the horizontal axes.
    """
    points = []
    for _, row in table.iterrows():
        costs = " and ".join(f"{row[f'step/{family}']:.3f}" for family in families)
        points.append(f"{row['design']} at {costs}, loss {row['loss_after']:.4g}")
    return Figure(
        slug="design_loss_against_cost",
        alt="Scatter plot of outer-validation loss against the cost of a training step over Adam's, on "
        f"{' and on '.join(families)}: {'; '.join(points)}.",
        caption="Lower left is better. Bars: interval of the cost over timing blocks. The loss is one in all panels.",
        draw=lambda: _draw(table, families),
    )


def _draw(table: Frame, families: Sequence[str]) -> Canvas:
    canvas = Canvas(figsize=(WIDTH, 4.4), layout="constrained")
    panels = canvas.subplots(1, len(families), sharey=True, squeeze=False).ravel()
    handles, names = [], []
    for i, (_, row) in enumerate(table.iterrows()):
        look = {"color": COLORS[i % len(COLORS)], "linewidth": 1.4}
        marked = {"marker": MARKERS[i % len(MARKERS)], "markersize": 7, "markerfacecolor": "none"}
        for axes, family in zip(panels, families, strict=True):
            cost, low, high = (row[f"step/{family}{end}"] for end in ("", "/low", "/high"))
            if not math.isnan(low + high):
                axes.plot([low, high], [row["loss_after"]] * 2, **look)
            axes.plot([cost], [row["loss_after"]], **look, **marked)
        handles.append(Line2D([], [], **look, **marked))
        names.append(str(row["design"]))
    for axes, family in zip(panels, families, strict=True):
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.set_xlabel(f"step on {family},\nover Adam's", fontsize=SMALL)
    panels[0].set_ylabel("outer-validation loss after")
    heading(canvas, "Loss after the same outer-training, and cost of a training step")
    legend_of(canvas, handles, names)
    return canvas
