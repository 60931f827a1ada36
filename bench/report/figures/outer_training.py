"""An outer-training run so far: losses, lengths, gradient norm and signal-to-noise against outer steps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter

from bench.report.figures.axes import WIDTH, heading, plain, short
from bench.report.figures.drawing import Figure
from bench.report.figures.theme import COLORS, FAILED_COLOR, LEARNED_COLORS

SMOOTHED = 50  # outer steps at most, by a running median: single estimates scatter over decades


def outer_training_figure(name: str, metrics: pd.DataFrame) -> Figure:
    """Four panels over one axis of outer steps.

    Args:
      name: of the run.
      metrics: a row for each outer step, as `learned.outer` writes them.
    """
    last = metrics.iloc[-1]
    judged = metrics["outer_validation_loss"].dropna() if "outer_validation_loss" in metrics else pd.Series(dtype=float)
    best = f"; best outer-validation loss {judged.min():.4f}" if len(judged) else ""
    alt = f"Outer-training of {name} after {int(last['outer_step'])} outer steps: loss {last['outer_loss']:.4f}{best}."
    caption = f"Dots: every outer step. Lines: running median, over {SMOOTHED} at most. Red ticks: skipped updates."
    return Figure("outer_training", alt, caption, lambda: _draw(name, metrics), wide=True)


def _draw(name: str, metrics: pd.DataFrame) -> Canvas:
    canvas = Canvas(figsize=(1.5 * WIDTH, 1.6 * WIDTH), layout="constrained")
    loss, length, norm, noise = axes = canvas.subplots(4, 1, sharex=True, height_ratios=(2, 1, 1, 1))
    heading(canvas, f"{short(name)}: outer-training so far")
    columns = {str(name): values.to_numpy(np.float64) for name, values in metrics.items()}
    steps, windows = columns["outer_step"], columns["num_steps"]
    _scatter(loss, steps, columns["outer_loss"], COLORS[0], "outer-training classes")
    if "outer_validation_loss" in columns:
        judged = np.isfinite(columns["outer_validation_loss"])
        loss.plot(
            steps[judged],
            columns["outer_validation_loss"][judged],
            color=LEARNED_COLORS[0],
            linewidth=1.8,
            marker="o",
            markersize=3,
            label="outer-validation classes",
        )
    loss.set_ylabel("outer-loss")
    length.step(steps, columns["horizon"], where="post", color=COLORS[5], label="a whole unroll")
    if np.any(columns["horizon"] != windows):
        length.step(steps, windows, where="post", color=COLORS[4], label="a window")
    length.set_ylabel("inner steps")
    length.set_ylim(0, 1.7 * columns["horizon"].max())  # room for the legend
    _scatter(norm, steps, columns["gradient_norm"], COLORS[0], "mean of samples, clipped one by one")
    norm.set_ylabel("gradient norm")
    names = [name for name in columns if name.startswith("signal_to_noise/")]
    for color, column in zip((COLORS[1], *COLORS[2:]), names, strict=False):
        _scatter(noise, steps, columns[column], color, column.partition("/")[2])
    noise.axhline(1.0, color="#999999", linewidth=0.8)
    noise.set_ylabel("signal to noise\n(1: noise alone)")
    for axis in (norm, noise):
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
    for axis in axes:
        axis.yaxis.set_major_formatter(FuncFormatter(plain))
        skipped = steps[columns["skipped"] > 0]
        if len(skipped):
            axis.plot(skipped, np.zeros(len(skipped)), "|", color=FAILED_COLOR, transform=axis.get_xaxis_transform())
        axis.legend(loc="upper right", fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")
    axes[-1].set_xlabel("outer step")
    return canvas


def _scatter(axis: Axes, steps: np.ndarray, values: np.ndarray, color: str, label: str) -> None:
    axis.plot(steps, values, ".", color=color, markersize=2, alpha=0.35)
    window = max(min(SMOOTHED, len(values) // 10), 1)
    smooth = pd.Series(values).rolling(window, min_periods=1, center=True).median()
    axis.plot(steps, smooth, color=color, linewidth=1.3, label=label)
