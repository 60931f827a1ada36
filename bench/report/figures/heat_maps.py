"""Heat maps: a number for each pair, such as of task and optimizer, its colour how far it is from a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas

from bench.report.figures.axes import SMALL, heading, short
from bench.report.figures.drawing import Figure
from bench.report.summary import HEADLINE_LOSS, sorted_optimizers
from bench.report.table import plural
from bench.statistics import three_digits
from bench.store.rows import HAND_DESIGNED, LEARNED, Frame, Rows

AROUND_ONE = "vlag"  # blue below, red above: told apart by colour-blind readers, and by lightness from the middle
ASCENDING = "mako_r"
FEW_TASKS = 4  # fit half a page
FAR = 2.0  # a ratio from which on all are of one colour


def test_loss_figure(rows: Rows) -> Figure | None:
    """Mean final test loss of every optimizer on every task; None on one task, or where none finished."""
    if len(rows.tasks) < 2:
        return None
    order = [name for name in sorted_optimizers(rows, rows.tasks) if name in rows.trained]
    means, failed = (pd.DataFrame(math.nan, index=order, columns=list(rows.tasks)) for _ in range(2))
    for name in order:
        losses = rows.losses(name, rows.tasks, HEADLINE_LOSS).replace([math.inf], math.nan)
        means.loc[name] = losses.mean().reindex(rows.tasks)
        failed.loc[name] = np.isinf(rows.losses(name, rows.tasks, HEADLINE_LOSS)).sum().reindex(rows.tasks)
    best = means.loc[[name for name in order if rows.role(name) == HAND_DESIGNED]].min()
    if not (best > 0).all():
        return None
    ratios = means / best
    texts = means.map(lambda x: "–" if math.isnan(x) else three_digits(x)) + failed.map(lambda n: "†" if n else "")
    worst = [f"{name} {ratios.loc[name].min():.3g} to {ratios.loc[name].max():.3g}" for name in order]
    return Figure(
        slug="final_test_loss_heat_map",
        alt=f"Heat map of mean final test loss, {plural(len(order), 'optimizer')} on {plural(len(rows.tasks), 'task')}"
        f". Over the lowest hand-designed mean of the task, by task: {'; '.join(worst)}.",
        caption="Mean final test loss, the best optimizer on top. Colour: its ratio to the lowest hand-designed mean "
        f"of the task, blue below 1, red above, of one colour from {FAR:g} times on."
        + (" †: some runs failed, in no mean." if failed.to_numpy().any() else ""),
        draw=lambda: _draw_losses(rows, ratios, texts),
        wide=len(rows.tasks) > FEW_TASKS,
    )


def _draw_losses(rows: Rows, ratios: Frame, texts: Frame) -> Canvas:
    logs: Frame = np.log2(ratios).clip(-math.log2(FAR), math.log2(FAR))
    canvas = Canvas(figsize=(2.6 + 0.72 * logs.shape[1], 1.5 + 0.28 * len(logs)), layout="constrained")
    axes = canvas.add_subplot()
    heat_map(axes, logs, texts, Normalize(-math.log2(FAR), math.log2(FAR)), AROUND_ONE)
    for label, name in zip(axes.get_yticklabels(), logs.index, strict=True):
        label.set_fontweight("bold" if rows.role(str(name)) == LEARNED else "normal")
    heading(canvas, "mean final test loss")
    return canvas


def heat_map(
    axes: Axes, values: Frame, texts: Frame, norm: Normalize, cmap: str, *, labels: Sequence[str] = ()
) -> None:
    """A cell for each value, with its text.

    Args:
      axes: to draw on.
      values: of the colours, NaN for an empty cell; index and columns are the labels.
      texts: of the cells, of the same shape.
      norm: from values to colours.
      cmap: name of the colours.
      labels: of the two axes, x first.
    """
    sns.heatmap(
        values.astype(float), annot=texts.to_numpy(), fmt="", norm=norm, cmap=cmap, cbar=False, ax=axes, linewidths=1,
        linecolor="white", annot_kws={"fontsize": SMALL},
    )  # fmt: skip
    # A slanted label ends below its own column.
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    look: dict[str, Any] = slanted if values.shape[1] > 4 else {"rotation": 0}
    axes.set_xticks(np.arange(values.shape[1]) + 0.5, [short(str(name), 22) for name in values.columns], **look)
    axes.set_yticks(np.arange(len(values)) + 0.5, [short(str(name)) for name in values.index], rotation=0)
    axes.tick_params(length=0)
    for set_label, label in zip((axes.set_xlabel, axes.set_ylabel), [*labels, "", ""], strict=False):
        set_label(label)
    axes.grid(visible=False)
