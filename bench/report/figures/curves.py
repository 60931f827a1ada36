"""Losses of runs against steps and against seconds: of a task, of the leaders over all tasks, in small multiples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.figure import Figure as Canvas

from bench.report.figures import panels
from bench.report.figures.axes import heading, legend, percent, runs_of, title
from bench.report.figures.drawing import Figure
from bench.report.figures.panels import Panel
from bench.report.figures.theme import Style
from bench.report.first_screen import leaders
from bench.report.summary import sorted_optimizers, step_cost
from bench.report.table import format_number, plural
from bench.score.times_to_target import references
from bench.statistics import MIN_SEEDS, geometric_mean
from bench.store.rows import Rows
from bench.tuning.targets import CLAIMED, SHARES, Targets

CURVE_NAMES = {"validation_loss": "validation loss", "train_loss": "train loss"}
CLOCKS = {"timing cell": "training seconds (steps × s/step)", "own clock": "training seconds (own clock)"}
OVERVIEW_MIN_TASKS = 3
REFERENCE_GROUP = "all_hand_designed"  # whose best optimizer's losses are the targets drawn
EVERY = 4  # evaluations of which a small panel shows one
EVERY_OTHER = 2  # evaluation is drawn in the figures of one task
SIZE = {"height": 4.2, "aspect": 1.3}  # inches: a third of a wide page, the whole of a phone's
SMALL_SIZE = {"height": 2.5, "aspect": 1.4}


def curve_figures(rows: Rows, task: str, styles: Mapping[str, Style], targets: Mapping[str, Targets]) -> list[Figure]:
    """Train and validation loss of a task against steps and against seconds, target levels in those of train loss."""
    figures = []
    for axis in ("steps", "seconds"):
        for metric in CURVE_NAMES:
            if order := _with_points(rows, task, metric, axis):
                figures.append(_curve_figure(rows, task, metric, axis, order, styles, targets))
    return figures


# ---------------------------------------------------------------------------------------------------------------------
# Leaders
# ---------------------------------------------------------------------------------------------------------------------


def leader_figures(rows: Rows, styles: Mapping[str, Style], targets: Mapping[str, Targets]) -> list[Figure]:
    """Losses of the leaders over all tasks where one axis holds them; else validation losses on the first task.

    None for one task, whose own figures are the same.
    """
    if len([task for task in rows.tasks if any(_drawable(rows, task, metric) for metric in CURVE_NAMES)]) < 2:
        return []
    names, figures = leaders(rows, targets), []
    for metric in CURVE_NAMES:
        found = _shared_panel(rows, metric, names, targets)
        if found is None and metric == CLAIMED:
            found = _first_panel(rows, metric, names, targets)
        if found is None:
            continue
        several = len(found.tasks) > 1
        panel, order = found.panel, [name for name in names if name in found.panel.optimizers]
        ends = ", ".join(f"{name} {_end(panel, name)}" for name in order)
        what = f"{plural(len(found.tasks), 'task') if several else found.tasks[0]}: {CURVE_NAMES[metric]}"
        over = f"{plural(len(found.tasks), 'task')} and all seeds" if several else f"seeds, on {found.tasks[0]}"
        replicated = "tasks and seeds" if several else "seeds"
        figures.append(
            Figure(
                slug=f"leaders_{metric}_{found.axis}",
                alt=f"Line plot of {panel.y_label} against {panel.x_label}, over {over}. Last value of each line: "
                f"{ends}.{_levels_alt(panel.levels)}",
                caption=f"{panel.y_label.capitalize()} against {panel.x_label}: {found.how} "
                + _band_sentence(rows, found.tasks, order, metric, replicated),
                draw=lambda found=found, what=what, order=order: _draw_leaders(rows, found, what, order, styles),
                chart=lambda panel=panel, what=what, over=replicated: panel.chart(
                    styles, 51, title=what, over=over, bands=True
                ),
            )
        )
    return figures


@dataclass(frozen=True)
class _Leading:
    """The leaders' panel, the tasks whose runs it has, how these come to one axis, and what it is of."""

    panel: Panel
    tasks: tuple[str, ...]
    how: str
    axis: str = "seconds"


def _shared_panel(rows: Rows, metric: str, names: Sequence[str], targets: Mapping[str, Targets]) -> _Leading | None:
    """The runs of all tasks together: of one family as they are, of several relative to each task's reference."""
    tasks = tuple(task for task in rows.tasks if _drawable(rows, task, metric))
    if len(tasks) < 2 or any(seconds_source(rows, task) != "timing cell" for task in tasks):
        return None
    names = [n for n in names if all(n in rows.blocks[t] and (t, n, metric) in rows.series for t in tasks)]
    lengths = {len(rows.series[task, name, metric]) for task in tasks for name in names}
    if not names or len(lengths) != 1:
        return None
    family = rows.train[rows.train["task"].isin(tasks)]
    reference = references(rows, targets, REFERENCE_GROUP)
    costs = {(task, name): _cost(rows, name, task) for task in tasks for name in names}
    if family["family"].nunique() == 1 and len({rows.horizon(task) for task in tasks}) == 1:
        parts = {
            name: [
                (
                    rows.series[task, name, metric].index.to_numpy(float)
                    * geometric_mean([costs[t, name] for t in tasks]),
                    rows.series[task, name, metric],
                )
                for task in tasks
            ]
            for name in names
        }
        levels = {"chance": rows.chance_loss(tasks[0])}
        if metric == CLAIMED and all(target_levels(targets, task).get("hard") for task in tasks):
            hard = [target_levels(targets, task)["hard"] for task in tasks]
            levels["hard"] = geometric_mean(hard)
        how = f"all runs of {plural(len(tasks), 'task')}, steps times the mean cost of a step over the tasks."
        if "hard" in levels:
            how += (
                " Hard: the frozen target, the loss that the best tuned hand-designed optimizer of a task ends at on "
                "the tuning seeds, mean over the tasks."
            )
        panel = Panel("", panels.long(parts, 2), levels, "training seconds", CURVE_NAMES[metric])
        return _Leading(panel, tasks, how)
    levels_of = {task: target_levels(targets, task).get("hard") for task in tasks}
    if metric != CLAIMED or not all(level and level > 0 for level in levels_of.values()):
        return None
    if any(step_cost(rows, reference[task], task) is None for task in tasks):
        return None
    parts = {}
    for name in names:
        ratio = geometric_mean([costs[task, name] / _cost(rows, reference[task], task) for task in tasks])
        tables = [(task, rows.series[task, name, metric]) for task in tasks]
        parts[name] = [
            (np.round(table.index.to_numpy(float) / rows.horizon(task), 2) * ratio, table / float(levels_of[task] or 1))
            for task, table in tables
        ]
    how = (
        f"all runs of {plural(len(tasks), 'task')} of several families on one axis. Both are relative to each task's "
        "best tuned hand-designed optimizer: time to what the whole run of that takes, loss to the one that it ends at "
        "on the tuning seeds."
    )
    labels = "time ÷ its whole run", f"{CURVE_NAMES[metric]} ÷ final loss of the best hand-designed"
    return _Leading(Panel("", panels.long(parts, 2), {"hard": 1.0}, *labels), tasks, how)


def _first_panel(rows: Rows, metric: str, names: Sequence[str], targets: Mapping[str, Targets]) -> _Leading | None:
    for task, axis in itertools.product(rows.tasks, ("seconds", "steps")):
        if not (drawable := _with_points(rows, task, metric, axis)):
            continue
        shown = [name for name in drawable if name in names] or drawable
        levels = target_levels(targets, task)
        panel = _panel(
            rows, task, metric, axis, shown, {name: level for name, level in levels.items() if name == "hard"}
        )
        clock = _clock_sentence(rows, task) if axis == "seconds" else ""
        return _Leading(panel, (task,), f"task {task}. {clock}".rstrip(), axis)
    return None


def _end(panel: Panel, name: str) -> str:
    line = panel.lines[panel.lines["optimizer"] == name]
    return format_number(float(line["median"].iloc[-1]), 3) if len(line) else "no finite value"


def _draw_leaders(rows: Rows, found: _Leading, what: str, order: Sequence[str], styles: Mapping[str, Style]) -> Canvas:
    canvas = panels.draw([found.panel], styles, order, **SIZE)
    heading(canvas, what)
    legend(canvas, rows, order, styles, found.tasks)
    return canvas


# ---------------------------------------------------------------------------------------------------------------------
# Tasks
# ---------------------------------------------------------------------------------------------------------------------


def overview_figures(rows: Rows, styles: Mapping[str, Style]) -> list[Figure]:
    """Validation loss of every task in small multiples, against steps and seconds; none for one or two tasks."""
    tasks = [task for task in rows.tasks if _drawable(rows, task, CLAIMED)]
    if len(tasks) < OVERVIEW_MIN_TASKS:
        return []
    figures = []
    for axis in ("steps", "seconds"):
        shown = [task for task in tasks if _with_points(rows, task, CLAIMED, axis, EVERY)]
        if not shown:
            continue
        clock = "" if axis == "steps" else " Seconds: the axis of each panel says by which clock."
        figures.append(
            Figure(
                slug=f"overview_{CLAIMED}_{axis}",
                alt=f"Small multiples of validation loss against {axis}, one panel for each of {len(shown)} tasks; the "
                "final values are in the summary tables.",
                caption=f"Validation loss against {axis}, every task. Each panel has its own axes.{clock} "
                + _band_sentence(rows, shown, rows.trained, CLAIMED),
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
    targets: Mapping[str, Targets],
) -> Figure:  # fmt: skip
    """Levels of the targets are drawn with validation loss only: it is what they are of."""
    name, levels = CURVE_NAMES[metric], target_levels(targets, task) if metric == CLAIMED else {}
    clock = _clock_sentence(rows, task) if axis == "seconds" else ""
    ends = ", ".join(f"{optimizer} {_last_value(rows, task, optimizer, metric)}" for optimizer in order)
    leading = set(leaders(rows, targets)) & set(order) or set(order)
    hidden = frozenset(order) - leading
    panel = cache(lambda: _panel(rows, task, metric, axis, order, levels, hidden))
    band = _band_sentence(rows, (task,), [name for name in order if name not in hidden], metric)
    return Figure(
        slug=f"{metric}_{axis}_{rows.slugs[task]}",
        alt=f"Line plot of {name} against {axis} on task {task}. Last value of each row: {ends}." + _levels_alt(levels),
        caption=f"{name.capitalize()} against {axis}. {clock}{band}" + _levels_sentence(targets, task, levels),
        draw=lambda: _draw_figure(rows, panel(), task, f"{name} against {axis}", order, styles),
        chart=lambda: panel().chart(styles, 26, title=f"{task}: {name} against {axis}", over="seeds", bands=False),
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


def _with_points(rows: Rows, task: str, metric: str, axis: str, every: int = EVERY_OTHER) -> list[str]:
    """Those of `_drawable` that have a point on an axis, where one evaluation of `every` is drawn."""
    source = seconds_source(rows, task) if axis == "seconds" else ""
    if axis == "seconds" and not source:
        return []
    return [n for n in _drawable(rows, task, metric) if _has_a_point(rows, task, n, metric, source, every)]


def _has_a_point(rows: Rows, task: str, name: str, metric: str, source: str, every: int) -> bool:
    """Whether some loss has its time: a run that ended at once has a loss before its clock began."""
    losses = rows.series[task, name, metric].to_numpy(dtype=float)
    times = _times(rows, task, name, metric, source)
    found = np.isfinite(losses).any(axis=1) & np.isfinite(times)
    return bool(found[::-every].any())


def _clock_sentence(rows: Rows, task: str) -> str:
    if seconds_source(rows, task) == "timing cell":
        return "Seconds: steps times the median seconds per step of the timing cell. "
    return "Seconds: each run's own training clock, averaged over seeds (not every row here has a timing cell). "


def _band_sentence(rows: Rows, tasks: Sequence[str], names: Sequence[str], metric: str, over: str = "seeds") -> str:
    """What line and band of these optimizers are, by the runs that each has a curve of, as `panels.band_width` has it.

    Runs of several tasks count together where they are drawn `over` "tasks and seeds".
    """
    found = [[len(rows.series[t, n, metric].columns) for t in tasks if (t, n, metric) in rows.series] for n in names]
    sizes = [sum(own) for own in found] if over != "seeds" else [size for own in found for size in own]
    band = f"25th to 75th percentile over {over}"
    if min(sizes) < MIN_SEEDS:
        band = f"range over {over} (fewer than {MIN_SEEDS})" if max(sizes) > 1 else "none, one seed"
    text = f"Line: median over {over}; band: {band}."
    if any(runs_of(rows, name, tuple(tasks))[1] for name in names):
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


def _panel(
    rows: Rows, task: str, metric: str, axis: str, order: Sequence[str], levels: Mapping[str, float],
    hidden: frozenset[str] = frozenset(), every: int = EVERY_OTHER,
) -> Panel:  # fmt: skip
    """Losses of a task, and a line at chance."""
    source = seconds_source(rows, task) if axis == "seconds" else ""
    parts = {name: [(_times(rows, task, name, metric, source), rows.series[task, name, metric])] for name in order}
    x_label = CLOCKS[source] if source else "training steps"
    chance = rows.chance_loss(task)
    shown = {**levels, **({"chance": chance} if math.isfinite(chance) else {})}
    return Panel(task, panels.long(parts, every), shown, x_label, CURVE_NAMES[metric], hidden)


def _cost(rows: Rows, name: str, task: str) -> float:
    cost = step_cost(rows, name, task)
    assert cost is not None
    return cost.estimate


def _times(rows: Rows, task: str, name: str, metric: str, source: str) -> np.ndarray:
    """Steps of the evaluations, or seconds by a clock."""
    frame = rows.series[task, name, metric]
    x = frame.index.to_numpy(dtype=float)
    if source == "timing cell":
        return x * _cost(rows, name, task)
    if source == "own clock":
        clock = rows.series[task, name, "wall_time_sec"].reindex(index=frame.index)
        return clock.mean(axis=1).interpolate().to_numpy(dtype=float)
    return x


def _draw_figure(
    rows: Rows, panel: Panel, task: str, what: str, order: Sequence[str], styles: Mapping[str, Style]
) -> Canvas:
    canvas = panels.draw([panel], styles, order, **SIZE)
    title(canvas, task, what)
    legend(canvas, rows, [name for name in order if name not in panel.hidden], styles, (task,))
    return canvas


def _draw_overview(rows: Rows, tasks: Sequence[str], axis: str, styles: Mapping[str, Style]) -> Canvas:
    names = {task: _with_points(rows, task, CLAIMED, axis, EVERY) for task in tasks}
    order = [name for name in sorted_optimizers(rows, rows.tasks) if any(name in found for found in names.values())]
    drawn = [_panel(rows, task, CLAIMED, axis, names[task], {}, every=EVERY) for task in tasks]
    canvas = panels.draw(drawn, styles, order, **SMALL_SIZE)
    legend(canvas, rows, order, styles, rows.tasks)
    return canvas
