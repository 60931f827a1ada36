"""Losses against steps and against seconds: one task to an image, and train loss of every task in small multiples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.report.figures.axes import (
    LOG_FROM_RANGE,
    WIDTH,
    ceiling_of,
    label_levels,
    legend,
    loss_axis,
    note_above,
    percent,
    runs_of,
    short,
    time_axis,
    title,
)
from bench.report.figures.drawing import Figure, Style
from bench.report.summary import sorted_optimizers, step_cost
from bench.report.table import format_number
from bench.score.times_to_target import tuned_by_train
from bench.statistics import MIN_SEEDS
from bench.store.rows import LEARNED, Frame, Rows
from bench.tuning.targets import CLAIMED, SHARES, Targets

CURVE_NAMES = {"validation_loss": "validation loss", "train_loss": "train loss"}
CLOCKS = {"timing cell": "training seconds (steps × s/step)", "own clock": "training seconds (own clock)"}
OVERVIEW_MIN_TASKS = 3
LEADERS_LEAVE_OUT = 4  # with fewer left out, an image of the others is the same once more
REFERENCE_GROUP = "all_hand_designed"  # whose best optimizer's losses are the targets drawn


def curve_figures(rows: Rows, task: str, styles: Mapping[str, Style], targets: Mapping[str, Targets]) -> list[Figure]:
    """Train and validation loss of a task against steps and against seconds, target levels in those of train loss."""
    figures = []
    for axis in ("steps", "seconds"):
        if axis == "seconds" and not seconds_source(rows, task):
            continue
        for metric in CURVE_NAMES:
            if order := _drawable(rows, task, metric):
                slug = f"{metric}_{axis}_{rows.slugs[task]}"
                figures.append(_curve_figure(rows, task, metric, axis, order, styles, targets, slug))
    return figures


def leader_figures(rows: Rows, styles: Mapping[str, Style], targets: Mapping[str, Targets]) -> list[Figure]:
    """Losses against seconds on the first task, of the learned and of whom claims are about; none if few are left out.

    Those are the references of its targets, the best of every group, and hand-designed rows tuned by train loss.
    """
    task = rows.tasks[0]
    if task not in targets or not seconds_source(rows, task):
        return []
    leaders = {*targets[task].references.values(), *tuned_by_train(rows)}
    figures = []
    for metric in CURVE_NAMES:
        drawable = _drawable(rows, task, metric)
        order = [name for name in drawable if name in leaders or rows.role(name) == LEARNED]
        if len(drawable) - len(order) < LEADERS_LEAVE_OUT:
            continue
        slug = f"leaders_{metric}_seconds"
        figures.append(_curve_figure(rows, task, metric, "seconds", order, styles, targets, slug, shown=("hard",)))
    return figures


def overview_figures(rows: Rows, styles: Mapping[str, Style]) -> list[Figure]:
    """Validation loss of every task in small multiples, against steps and seconds; none for one or two tasks."""
    tasks = [task for task in rows.tasks if _drawable(rows, task, CLAIMED)]
    if len(tasks) < OVERVIEW_MIN_TASKS:
        return []
    figures = []
    for axis in ("steps", "seconds"):
        shown = [task for task in tasks if axis == "steps" or seconds_source(rows, task)]
        if not shown:
            continue
        clock = "" if axis == "steps" else " Seconds: the axis of each panel says by which clock."
        figures.append(
            Figure(
                slug=f"overview_{CLAIMED}_{axis}",
                alt=f"Small multiples of validation loss against {axis}, one panel for each of {len(shown)} tasks; the "
                "final values are in the summary tables.",
                caption=f"Validation loss against {axis}, every task. Each panel has its own axes.{clock} "
                + _band_sentence(rows, tuple(shown)),
                draw=lambda axis=axis, shown=shown: _draw_overview(rows, shown, axis, styles),
                wide=True,
            )
        )
    return figures


def target_levels(targets: Mapping[str, Targets], task: str) -> dict[str, float]:
    """Target -> the reference's frozen validation loss, the finite ones; empty where nothing is frozen."""
    frozen = targets.get(task)
    reference = frozen.references.get(REFERENCE_GROUP, "") if frozen else ""
    if not frozen or reference not in frozen.levels:
        return {}
    levels = frozen.levels[reference][CLAIMED]
    return {target: levels[target] for target in SHARES if math.isfinite(levels[target])}


def _curve_figure(
    rows: Rows, task: str, metric: str, axis: str, order: Sequence[str], styles: Mapping[str, Style],
    targets: Mapping[str, Targets], slug: str, shown: Sequence[str] = tuple(SHARES),
) -> Figure:  # fmt: skip
    """Levels of the targets shown are drawn with validation loss only: it is what they are of."""
    name, known = CURVE_NAMES[metric], target_levels(targets, task) if metric == CLAIMED else {}
    levels = {target: known[target] for target in shown if target in known}
    clock = _clock_sentence(rows, task) if axis == "seconds" else ""
    ends = ", ".join(f"{optimizer} {_last_value(rows, task, optimizer, metric)}" for optimizer in order)
    return Figure(
        slug=slug,
        alt=f"Line plot of {name} against {axis} on task {task}. Last value of each line: {ends}."
        + _levels_alt(levels),
        caption=f"{name.capitalize()} against {axis}. {clock}{_band_sentence(rows, (task,))}"
        + _levels_sentence(targets, task, levels),
        draw=lambda: _draw_figure(rows, task, metric, axis, order, styles, levels),
    )


@cache  # rows are compared by identity
def seconds_source(rows: Rows, task: str) -> str:
    """One clock per task: the timing cell if it has every optimizer trained on it, else the runs' own, else none."""
    trained = [name for name in rows.trained if runs_of(rows, name, (task,))[0]]
    if trained and all(step_cost(rows, name, task) for name in trained):
        return "timing cell"
    with_curves = [name for name in trained if (task, name, "train_loss") in rows.series]
    if with_curves and all((task, name, "wall_time_sec") in rows.series for name in with_curves):
        return "own clock"
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------------------------------


def _drawable(rows: Rows, task: str, metric: str) -> list[str]:
    """Optimizers with a finite value, best final test loss first."""
    frames = {name: rows.curve(task, name, metric) for name in sorted_optimizers(rows, (task,))}
    return [n for n, frame in frames.items() if frame is not None and np.isfinite(frame.to_numpy(dtype=float)).any()]


def _clock_sentence(rows: Rows, task: str) -> str:
    if seconds_source(rows, task) == "timing cell":
        return "Seconds: steps times the median seconds per step of the timing cell. "
    return "Seconds: each run's own training clock, averaged over seeds (not every row here has a timing cell). "


def _band_sentence(rows: Rows, tasks: tuple[str, ...]) -> str:
    sizes = {len(runs_of(rows, name, (task,))[0]) for task in tasks for name in rows.trained} - {0}
    if max(sizes) < MIN_SEEDS:
        band = f"range over seeds (fewer than {MIN_SEEDS})" if max(sizes) > 1 else "none, one seed"
    elif min(sizes) < MIN_SEEDS:
        band = f"25th to 75th percentile over seeds, or their range below {MIN_SEEDS} seeds"
    else:
        band = "25th to 75th percentile over seeds"
    text = f"Line: median over seeds; band: {band}."
    if any(runs_of(rows, name, tasks)[1] for name in rows.trained):
        text += " A cross marks the step after which a run has failed; the thin line beyond it is of the others only."
    return text


def _levels_sentence(targets: Mapping[str, Targets], task: str, levels: Mapping[str, float]) -> str:
    if not levels:
        return ""
    shares = ", ".join(f"{percent(SHARES[target])} ({target})" for target in levels)
    return (
        f" Grey lines: frozen targets, the smoothed loss of {targets[task].references[REFERENCE_GROUP]}, the best "
        f"tuned hand-designed optimizer on the tuning seeds, at {shares} of the horizon."
    )


def _levels_alt(levels: Mapping[str, float]) -> str:
    if not levels:
        return ""
    return " Targets: " + ", ".join(f"{target} {format_number(level, 3)}" for target, level in levels.items()) + "."


def _last_value(rows: Rows, task: str, name: str, metric: str) -> str:
    last = rows.series[task, name, metric].iloc[-1].to_numpy(dtype=float)
    failed = runs_of(rows, name, (task,))[1]
    finite = last[np.isfinite(last)]
    text = format_number(float(np.median(finite)), 3) if len(finite) else "no finite value"
    return text + (f" ({failed} failed)" if failed else "")


# ---------------------------------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------------------------------


def _draw_figure(
    rows: Rows, task: str, metric: str, axis: str, order: Sequence[str], styles: Mapping[str, Style],
    levels: Mapping[str, float],
) -> Canvas:  # fmt: skip
    canvas = Canvas(figsize=(WIDTH, 4.5), layout="constrained")
    axes = canvas.add_subplot()
    leaving = _draw_curves(axes, rows, task, metric, axis, order, styles, levels)
    if leaving:
        note_above(axes, f"Leaves the top: {', '.join(map(short, leaving))}")
    title(canvas, task, f"{CURVE_NAMES[metric]} against {axis}")
    legend(canvas, rows, order, styles, (task,))
    return canvas


def _draw_overview(rows: Rows, tasks: Sequence[str], axis: str, styles: Mapping[str, Style]) -> Canvas:
    num_columns = min(3, len(tasks))
    num_rows = math.ceil(len(tasks) / num_columns)
    canvas = Canvas(figsize=(10.5, 2.5 * num_rows + 0.8), layout="constrained")
    names: set[str] = set()
    for i, task in enumerate(tasks):
        axes = canvas.add_subplot(num_rows, num_columns, i + 1)
        order = _drawable(rows, task, CLAIMED)
        _draw_curves(axes, rows, task, CLAIMED, axis, order, styles, {})
        axes.set_title(short(task, 40), fontsize=9.5, loc="left")
        names |= set(order)
    legend(canvas, rows, [n for n in sorted_optimizers(rows, rows.tasks) if n in names], styles, rows.tasks)
    return canvas


@dataclass(frozen=True)
class _Line:
    name: str
    x: np.ndarray  # (num_points,)
    frame: Frame  # (num_points x num_seeds)


def _draw_curves(
    axes: Axes, rows: Rows, task: str, metric: str, axis: str, order: Sequence[str], styles: Mapping[str, Style],
    levels: Mapping[str, float],
) -> list[str]:  # fmt: skip
    """Draws median and band of every optimizer, and the levels; returns who leaves the top."""
    source = seconds_source(rows, task) if axis == "seconds" else ""
    drawn = [_line(rows, task, name, metric, source) for name in order]
    chance = rows.chance_loss(task)
    # The start counts for the range even where a logarithmic time axis cannot show it: one scale for both time axes.
    starts = [float(line.frame.iloc[0].max()) for line in drawn]
    ceiling = ceiling_of(starts, chance)
    ends = [np.nanmax(line.x) for line in drawn]
    log_x = axis == "seconds" and min(ends) > 0 and max(ends) / min(ends) > LOG_FROM_RANGE
    if log_x:  # step 0 has no place on a logarithmic axis: lines begin at the first evaluation after it
        drawn = [_Line(line.name, line.x[line.x > 0], line.frame[line.x > 0]) for line in drawn]

    tops, bottoms = [start for start in starts if np.isfinite(start)], list(levels.values())
    leaving, crosses = [], []
    for line in drawn:
        medians, bounds, cross = _draw_line(axes, line, styles[line.name])
        if not len(medians):
            continue
        tops += [medians.max(), *bounds]
        bottoms += [medians.min(), *bounds]
        crosses += [(*cross, styles[line.name])] if cross else []
        if medians.max() > ceiling:
            leaving.append(line.name)

    loss_axis(axes.set_yscale, axes.set_ylim, axes.yaxis, min(bottoms or tops), min(max(tops), ceiling))
    time_axis(axes, min(np.nanmin(line.x) for line in drawn), max(ends), log=log_x)
    for x_last, y_last, style in crosses:
        look = {"color": style.color, "markeredgecolor": "white", "markersize": 9, "zorder": 8}
        axes.plot(x_last, min(y_last, axes.get_ylim()[1]), marker="X", clip_on=False, **look)
    label_levels(axes, {**levels, "chance": chance})
    axes.set_xlabel((CLOCKS[source] if source else "training steps") + (", log scale" if log_x else ""))
    axes.set_ylabel(CURVE_NAMES[metric] + (", log scale" if axes.get_yscale() == "log" else ""))
    return leaving


def _line(rows: Rows, task: str, name: str, metric: str, source: str) -> _Line:
    frame = rows.series[task, name, metric]
    x = frame.index.to_numpy(dtype=float)
    if source == "timing cell":
        cost = step_cost(rows, name, task)
        assert cost is not None
        x = x * cost.estimate
    elif source == "own clock":
        clock = rows.series[task, name, "wall_time_sec"].reindex(index=frame.index)
        x = clock.mean(axis=1).interpolate().to_numpy(dtype=float)
    return _Line(name, x, frame)


def _draw_line(axes: Axes, line: _Line, style: Style) -> tuple[np.ndarray, list[float], tuple[float, float] | None]:
    """Draws median and band; returns the finite medians, the ends of the band, and where the first run has failed.

    A mean may lie outside the band: one late run lifts it, on a logarithmic axis far.
    """
    values = line.frame.to_numpy(dtype=float)
    alive = np.isfinite(values)
    whole = alive.all(axis=1)
    num_whole = len(whole) if whole.all() else int(np.argmin(whole))
    median = np.array([np.median(row[ok]) if ok.any() else np.nan for row, ok in zip(values, alive, strict=True)])
    look: dict[str, Any] = {"color": style.color, "zorder": style.zorder, "solid_capstyle": "round"}
    axes.plot(line.x[:num_whole], median[:num_whole], linestyle=style.linestyle, linewidth=style.linewidth, **look)
    cross, bounds = None, []
    if num_whole < len(median):
        axes.plot(line.x[num_whole:], median[num_whole:], linestyle="-", linewidth=0.9, **look)
        if num_whole:
            cross = (line.x[num_whole - 1], median[num_whole - 1])
    if values.shape[1] > 1 and num_whole:
        percentiles = (25, 75) if values.shape[1] >= MIN_SEEDS else (0, 100)
        low, high = np.percentile(values[:num_whole], percentiles, axis=1)
        axes.fill_between(line.x[:num_whole], low, high, color=style.color, alpha=0.14, linewidth=0, zorder=2)
        bounds = [float(low.min()), float(high.max())]
    return median[np.isfinite(median)], bounds, cross
