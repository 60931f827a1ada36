"""Time to target: the share of runs that have not reached it yet, by Kaplan-Meier (protocol rule 11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from bench.report.figures.axes import (
    LOG_FROM_RANGE,
    SMALL,
    WIDTH,
    legend,
    optimizers_on,
    percent,
    short,
    time_axis,
    title,
)
from bench.report.figures.curves import REFERENCE_GROUP, target_levels
from bench.report.figures.drawing import Figure
from bench.report.figures.theme import Style
from bench.report.table import PERCENT, format_number
from bench.score.times_to_target import median_steps, survival
from bench.statistics import MIN_SEEDS, kaplan_meier
from bench.store.rows import LEARNED, Rows
from bench.tuning.targets import SHARES, Targets

# What `score.times_to_target.survival` gives: times and events (num_seeds,), budget.
Times: TypeAlias = tuple[NDArray, NDArray, float]


def survival_figure(
    rows: Rows, task: str, styles: Mapping[str, Style], targets: Mapping[str, Targets]
) -> Figure | None:
    """One panel for each target, hard first, on one time axis; None without targets or runs.

    Seconds by the timing cell; steps where it lacks an optimizer, since one axis has one clock.
    """
    levels = target_levels(targets, task)
    order = optimizers_on(rows, task)
    if not levels or not order:
        return None
    reference = targets[task].references[REFERENCE_GROUP]

    def times_of(seconds: bool) -> dict[str, dict[str, Times | None]]:
        return {
            target: {name: survival(rows, targets, task, name, reference, target, seconds=seconds) for name in order}
            for target in levels
        }

    found, axis = times_of(True), "seconds"
    if any(times is None for by_name in found.values() for times in by_name.values()):
        found, axis = times_of(False), "steps"
    known = {target: {n: t for n, t in by_name.items() if t is not None} for target, by_name in found.items()}
    bands = (
        f"; band: pointwise log-log {PERCENT} interval, for the learned rows and from {MIN_SEEDS} seeds on"
        if any(rows.role(name) == LEARNED for name in order)
        else ""
    )
    return Figure(
        slug=f"time_to_target_{rows.slugs[task]}",
        alt=f"Kaplan-Meier curves of {axis} to target on task {task}, runs that arrive and their median. "
        + " ".join(_target_alt(target, levels[target], known[target], axis) for target in levels),
        caption=f"Time to target: share of runs that have not yet reached the loss of {reference}, the best tuned "
        f"hand-designed optimizer on the tuning seeds, at a share of its horizon; down and left is faster{bands}. "
        "A bar at the end of a line: runs that never arrive, watched for the whole horizon (censored). Lines at "
        "100 % lie on each other.",
        draw=lambda: _draw(rows, task, styles, known, levels, reference, axis),
    )


def _target_alt(target: str, level: float, by_name: Mapping[str, Times], axis: str) -> str:
    parts = []
    for name, (times, events, _) in by_name.items():
        median = median_steps(np.where(events, times, np.inf))
        at = f" ({format_number(median, 3)} {'s' if axis == 'seconds' else 'steps'})" if np.isfinite(median) else ""
        parts.append(f"{name} {int(events.sum())} of {len(events)}{at}")
    return f"{target.capitalize()} target, validation loss {format_number(level, 3)}: {', '.join(parts)}."


def _draw(
    rows: Rows, task: str, styles: Mapping[str, Style], found: Mapping[str, Mapping[str, Times]],
    levels: Mapping[str, float], reference: str, axis: str,
) -> Canvas:  # fmt: skip
    canvas = Canvas(figsize=(WIDTH, 1.35 * len(levels) + 1.5), layout="constrained")
    panels = np.atleast_1d(canvas.subplots(len(levels), sharex=True))
    budgets = [budget for by_name in found.values() for *_, budget in by_name.values()]
    log = max(budgets) / min(budgets) > LOG_FROM_RANGE
    first = min(times.min() for by_name in found.values() for times, *_ in by_name.values())
    low = (first or 0.001 * min(budgets)) / 1.5 if log else 0.0  # the first arrival of the cheapest is on the axis
    for axes, target in zip(panels, levels, strict=True):
        whose = f"as {short(reference, 20)} at {percent(SHARES[target])} of the horizon"
        axes.set_title(
            f"{target}: validation loss {format_number(levels[target], 3)}, {whose}", fontsize=SMALL, loc="left"
        )
        for name, times in found[target].items():
            _draw_curve(axes, times, styles[name], low, band=rows.role(name) == LEARNED)
        axes.axhline(0.5, color="#bbbbbb", linewidth=0.8, zorder=1)
        axes.set_ylim(-0.06, 1.1)
        axes.set_yticks([0, 0.5, 1])
        axes.yaxis.set_major_formatter(FuncFormatter(percent))
    time_axis(panels[-1], low * 1.1, max(budgets), log=log)
    unit = "training seconds (steps × s/step)" if axis == "seconds" else "training steps"
    panels[-1].set_xlabel(unit + (", log scale" if log else ""))
    canvas.supylabel("runs not there yet", fontsize=9.5)
    title(canvas, task, "time to target")
    legend(canvas, rows, list(next(iter(found.values()))), styles, (task,))
    return canvas


def _draw_curve(axes: Axes, times: Times, style: Style, low: float, *, band: bool) -> None:
    at, events, budget = times
    curve = kaplan_meier(at, events)
    x, y = np.concatenate([[low], curve.times]), np.concatenate([[1.0], curve.survival])
    axes.step(
        x, y, where="post", color=style.color, linestyle=style.linestyle, linewidth=style.linewidth, zorder=style.zorder
    )
    if not events.all():
        axes.plot(budget, y[-1], marker="|", markersize=9, markeredgewidth=1.6, color=style.color, zorder=style.zorder)
    if band and len(at) >= MIN_SEEDS:
        lows, highs = np.concatenate([[1.0], curve.low]), np.concatenate([[1.0], curve.high])
        axes.fill_between(x, lows, highs, step="post", color=style.color, alpha=0.14, linewidth=0, zorder=2)
