"""Designs of learned optimizers: loss after a short outer-training against the cost of a training step."""

from __future__ import annotations

import math

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.figures.drawing import HAND_DESIGNED_COLORS, LEARNED_COLORS, MARKERS, Figure
from bench.report.figures.parts import WIDTH, heading, legend_of
from bench.rows import Frame

COLORS = (*HAND_DESIGNED_COLORS[:5], *LEARNED_COLORS)


def loss_against_cost(table: Frame, family: str) -> Figure:
    """A point for each design, with the interval of its cost; lower left is better.

    Args:
      table: rows of `bench.measure.designs.table` of which both parts are finished.
      family: whose training step is on the horizontal axis.
    """
    points = "; ".join(
        f"{row['design']} at {row[f'step/{family}']:.3f} and {row['loss_after']:.4g}" for _, row in table.iterrows()
    )
    return Figure(
        slug="design_loss_against_cost",
        alt=f"Scatter plot of outer-validation loss against the cost of a training step over Adam's: {points}.",
        caption="Lower left is better. Bars: interval of the cost over timing blocks.",
        draw=lambda: _draw(table, family),
    )


def _draw(table: Frame, family: str) -> Canvas:
    canvas = Canvas(figsize=(WIDTH, 4.2), layout="constrained")
    axes = canvas.add_subplot()
    handles, names = [], []
    for i, (_, row) in enumerate(table.iterrows()):
        cost, low, high = (row[f"step/{family}{end}"] for end in ("", "/low", "/high"))
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        if not math.isnan(low + high):
            axes.plot([low, high], [row["loss_after"]] * 2, color=color, linewidth=1.4)
        axes.plot([cost], [row["loss_after"]], color=color, marker=marker, markersize=7)
        handles.append(Line2D([], [], color=color, marker=marker, markersize=7, linewidth=1.4))
        names.append(str(row["design"]))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel(f"training step on {family}, over Adam's")
    axes.set_ylabel("outer-validation loss after")
    heading(canvas, "Loss after the same outer-training, and cost")
    legend_of(canvas, handles, names)
    return canvas
