"""What the figures are put together from: words, legends, labels and axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bench.report.figures.theme import Style
from bench.report.summary import sorted_optimizers
from bench.store.rows import CONTROL, Rows

WIDTH = 5.6  # inches, of an image that a phone shows whole
NARROW = 3.4  # inches of a wide image that a narrow screen shows
SMALL = 8.6  # points; on a phone 400 pixels wide this is 8.5 pixels
LOG_FROM_RANGE = 10.0  # an axis is logarithmic when its values span more than this factor


@cache  # rows are compared by identity; figures count the same runs many times over
def runs_of(rows: Rows, optimizer: str, tasks: tuple[str, ...]) -> tuple[tuple[int, ...], int]:
    """Seed of each run of an optimizer on the tasks, sorted, and how many of the runs failed."""
    runs = rows.runs(optimizer, tasks)
    return tuple(sorted(int(seed) for seed in runs["seed"])), int((runs["status"] != "ok").sum())


@cache
def optimizers_on(rows: Rows, task: str) -> tuple[str, ...]:
    """What was trained on a task and is no control, best final test loss first."""
    order = sorted_optimizers(rows, (task,))
    return tuple(name for name in order if rows.role(name) != CONTROL and runs_of(rows, name, (task,))[0])


# ---------------------------------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------------------------------


def short(name: str, length: int = 28) -> str:
    """A name that fits: its middle left out, since long names often differ at their ends."""
    name = " ".join(name.split())
    if len(name) <= length:
        return name
    tail = length // 3
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def heading(canvas: Canvas, text: str) -> None:
    """Words above the image, at its left edge."""
    canvas.suptitle(text, x=0.01, ha="left", fontsize=10.5)


def title(canvas: Canvas, task: str, what: str) -> None:
    """Task and content above the image, the task's name cut to what the width leaves."""
    room = int(canvas.get_figwidth() * 11.5) - len(what)  # letters an inch at this size
    heading(canvas, f"{short(task, max(room, 14))}: {what}")


def plain(value: float, position: int | None = None) -> str:
    """A tick label: no powers of ten where digits do."""
    del position
    return f"{value:,.10g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"


def percent(value: float, position: int | None = None) -> str:
    """A share as a tick label, and in words."""
    del position
    return f"{value * 100:.0f} %"


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# ---------------------------------------------------------------------------------------------------------------------
# Legends and labels
# ---------------------------------------------------------------------------------------------------------------------


def legend(
    canvas: Canvas, rows: Rows, order: Sequence[str], styles: Mapping[str, Style], tasks: tuple[str, ...]
) -> None:
    """Names with their lines below the image, and how many runs are ok where some are not."""
    labels = {}
    for name in order:
        seeds, failed = runs_of(rows, name, tasks)
        labels[name] = short(name) + (f" ({len(seeds) - failed}/{len(seeds)} ok)" if failed else "")
    handles = [
        Line2D([], [], color=styles[n].color, linestyle=styles[n].linestyle, linewidth=styles[n].linewidth)
        for n in order
    ]
    legend_of(canvas, handles, list(labels.values()))


def legend_of(canvas: Canvas, handles: Sequence[Line2D], labels: Sequence[str]) -> None:
    """A legend below the image, never over data, in as many columns as its longest label allows.

    A narrow screen shows the left of a wide image, so there it is at the left, in as many as that part allows.
    """
    if not handles:
        return
    shown = [label if not label.startswith("_") else f" {label}" for label in labels]  # matplotlib hides _names
    wide = canvas.get_figwidth() > WIDTH
    room = (NARROW if wide else canvas.get_figwidth()) * 14  # letters a line
    columns = int(room / (max(map(len, shown)) + 8))
    canvas.legend(
        handles, shown, loc="outside lower left" if wide else "outside lower center",
        ncols=min(max(columns, 1), 4, len(shown)), frameon=False, handlelength=3.2, fontsize=9, columnspacing=1.4,
    )  # fmt: skip


def label_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Thin horizontal lines, named in the right margin, the names kept apart; call it once the limits are set."""
    bottom, top = sorted(axes.get_ylim())
    shown = sorted((level, name) for name, level in levels.items() if bottom <= level <= top)
    if not shown:
        return
    data = [(axes.get_xlim()[1], level) for level, _ in shown]
    heights = axes.transAxes.inverted().transform(axes.transData.transform(data))[:, 1]
    places = spread(heights, gap=0.075)
    for (level, name), height, place in zip(shown, heights, places, strict=True):
        axes.axhline(level, color="#8a8a8a", linewidth=0.8, zorder=1.5)
        axes.annotate(
            name, (1, height), xycoords="axes fraction", xytext=(1.03, place), textcoords="axes fraction",
            va="center", fontsize=SMALL, color="#444444", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#8a8a8a", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def spread(heights: Sequence[float] | np.ndarray, gap: float) -> list[float]:
    """Ascending heights moved apart to `gap` at least, by as little as one sweep up and one down need, below 1."""
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + gap) if places else float(height))
    ceiling = 1.0
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return places


def note_above(axes: Axes, text: str) -> None:
    """A remark between title and plot, where it hides no data."""
    width = int(axes.get_figure(root=True).get_figwidth() * 14)  # pyright: ignore[reportOptionalMemberAccess]
    axes.set_title("\n".join(textwrap.wrap(text, width)), loc="left", fontsize=SMALL, color="#444444")


# ---------------------------------------------------------------------------------------------------------------------
# Axes
# ---------------------------------------------------------------------------------------------------------------------


def limits_of(low: float, high: float, log_from: float = LOG_FROM_RANGE) -> tuple[float, float, bool]:
    """Ends of an axis of losses with a margin, and whether it is logarithmic: where they span more than `log_from`."""
    if low > 0 and high / low > log_from:
        return low / 1.12, high * 1.12, True
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin, False


def loss_axis(
    set_scale: Any, set_limits: Any, ticks: Any, low: float, high: float, *, log_from: float = LOG_FROM_RANGE
) -> None:
    """An axis of losses between the ends of `limits_of`."""
    bottom, top, log = limits_of(low, high, log_from)
    set_scale("log" if log else "linear")
    set_limits(bottom, top)
    if log:
        subs = (1, 1.5, 2, 3, 5, 7) if high / low < LOG_FROM_RANGE else (1, 2, 5) if high / low < 100 else (1,)
        ticks.set_major_locator(LogLocator(subs=subs, numticks=12))
        ticks.set_minor_formatter(NullFormatter())
    else:
        ticks.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ticks.set_major_formatter(FuncFormatter(plain))


def time_axis(axes: Axes, low: float, high: float, *, log: bool) -> None:
    """Steps or seconds from 0, or on a logarithmic axis from `low`."""
    if log:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.1, high * 1.1)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,), numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, high * 1.02 or 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(plain))


def ratio_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of ratios, with as many numbers as fit."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    subs = (1, 1.5, 2, 3, 5, 7) if high / low < 6 else (1, 2, 5) if high / low < 500 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.xaxis.set_minor_formatter(NullFormatter())


def ceiling_of(starts: Sequence[float], chance: float | None, factor: float = 1.5) -> float:
    """Losses far above the start say that a run blew up, not how the others compare: an axis stops there."""
    known = [start for start in (*starts, chance) if start is not None and math.isfinite(start)]
    return factor * max(known) if known and max(known) > 0 else math.inf
