"""A learned optimizer on every task, from in-distribution to out-of-distribution: speed-up and test loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.report.comparison import Comparison, compare
from bench.report.figures.axes import SMALL, WIDTH, legend_of, ratio_axis, runs_of, short, title
from bench.report.figures.curves import REFERENCE_GROUP, target_levels
from bench.report.figures.drawing import Figure
from bench.report.figures.theme import FAILED_COLOR, Style
from bench.report.summary import HEADLINE_LOSS
from bench.report.table import PERCENT, format_interval
from bench.score.speedup import Speedup, format_speedup, speedup
from bench.score.times_to_target import reference_text, references
from bench.statistics import MIN_SEEDS
from bench.store.rows import LEARNED, Rows
from bench.store.rows import slugs as slugs_of
from bench.tuning.targets import SHARES, Targets

MARKS = {
    "in-distribution": "shares images with outer-training",
    "used for choosing": "shares images with what chose the weights",
    "held-out": "new images for the data set and architecture of outer-training",
    "out-of-distribution": "another data set or architecture",
    "unknown": "what was outer-trained on is not known",
}
MEAN, MEAN_DIFFERENCE = "geometric mean", "mean"
LINEAR_UP_TO = 20.0  # a difference in loss that only divergence makes, and that would hide the others
TARGET_LOOKS = {"hard": ("D", None, 6.5), "medium": ("s", "#555555", 5), "easy": ("^", "#999999", 5.5)}


@dataclass(frozen=True)
class Line:
    """A line of a figure: a heading that names a mark, a task, or the mean over tasks."""

    kind: str  # "mark", "task" or "mean"
    name: str


def lines_of(tasks: Sequence[str], marks: Mapping[str, str], mean: str = "") -> list[Line]:
    """Tasks under the headings of their marks, in the order of `MARKS`, within a mark as given; then the mean, named.

    Without a known mark there are no headings.
    """
    groups = {mark: [task for task in tasks if _mark(task, marks) == mark] for mark in MARKS}
    known = any(groups[mark] for mark in MARKS if mark != "unknown")
    lines = []
    for mark, members in groups.items():
        lines += [Line("mark", mark)] if members and known else []
        lines += [Line("task", task) for task in members]
    return lines + ([Line("mean", mean)] if mean else [])


def by_task_figures(
    rows: Rows,
    styles: Mapping[str, Style],
    targets: Mapping[str, Targets],
    headline: str | None,
    marks: Mapping[str, Mapping[str, str]],
) -> list[Figure]:
    """Speed-ups to the three targets, and differences in final test loss, of every learned optimizer, headline first.

    Args:
      rows: of the suite.
      styles: of every optimizer in the rows.
      targets: by task; nothing is drawn without.
      headline: the learned optimizer that claims are judged on, whose figures have no name in their slugs.
      marks: optimizer -> task -> what it is to it, one of `MARKS`.
    """
    learned = [name for name in rows.trained if rows.role(name) == LEARNED]
    slugs = slugs_of(learned)
    reference = references(rows, targets, REFERENCE_GROUP)
    found = []
    for name in sorted(learned, key=lambda name: name != headline):
        tasks = [task for task in rows.tasks if runs_of(rows, name, (task,))[0]]
        end = "" if name == headline else f"_{slugs[name]}"
        found += [
            _speedup_figure(rows, styles, targets, name, marks.get(name, {}), tasks, reference, end),
            _loss_figure(rows, styles, name, marks.get(name, {}), tasks, reference, end),
        ]
    return [figure for figure in found if figure is not None]


# ---------------------------------------------------------------------------------------------------------------------
# Speed-ups
# ---------------------------------------------------------------------------------------------------------------------


def _speedup_figure(
    rows: Rows, styles: Mapping[str, Style], targets: Mapping[str, Targets], contender: str, marks: Mapping[str, str],
    tasks: Sequence[str], reference: Mapping[str, str], end: str,
) -> Figure | None:  # fmt: skip
    found: dict[str, dict[str, Speedup | None]] = {
        task: {target: speedup(rows, targets, [task], contender, reference, target) for target in SHARES}
        for task in tasks
    }
    known = [task for task in tasks if any(found[task].values())]
    if not known:
        return None
    whole = [task for task in known if all(found[task].values())]
    if len(whole) > 1:
        found[MEAN] = {target: speedup(rows, targets, whole, contender, reference, target) for target in SHARES}
    lines = lines_of(tasks, marks, MEAN if len(whole) > 1 else "")
    reasons = {t: "no clock" if target_levels(targets, t) else "no target" for t in tasks if t not in known}
    over = f"over the {len(whole)} tasks that have one" if len(whole) < len(tasks) else "over the tasks"
    mean = f" Last row: geometric mean {over}." if len(whole) > 1 else ""
    alts = []
    for line in lines:
        if line.kind != "mark":
            values = ", ".join(f"{target} {format_speedup(x)}" for target, x in found[line.name].items())
            alts.append(f"{_alt_name(line, marks)}: {reasons.get(line.name, values)}")
    return Figure(
        slug=f"speedup_by_task{end}",
        alt=f"Dot plot of the wall-clock speed-up of {contender} over the best hand-designed optimizer, above 1 is "
        f"faster. {'; '.join(alts)}.",
        caption=f"Wall-clock speed-up of {contender} over the best tuned hand-designed optimizer of each task "
        f"({reference_text(reference)}) to its loss at 100 % (hard), 50 % (medium) and 25 % (easy) of the horizon. "
        f"Right of 1 is faster. Bars: {PERCENT} intervals, from {MIN_SEEDS} seeds on. {_arrows_sentence(found)}The "
        f"number is for the hard target.{mean}{_marks_sentence(lines, contender)}",
        draw=lambda: _draw_speedups(styles[contender], contender, lines, found, reasons),
    )


def _arrows_sentence(found: Mapping[str, Mapping[str, Speedup | None]]) -> str:
    """What the arrows mean that the figure has."""
    shown = [value for by_target in found.values() for value in by_target.values() if value is not None]
    text = ""
    if any(value.bound for value in shown):
        text += "Arrow with cap: half of the runs never reach the loss; the cap is the most that the speed-up can be. "
    if any(value.low == 0 and not value.bound for value in shown):
        text += "Arrow from a marker: the interval has no lower end. "
    return text


def _draw_speedups(
    style: Style, contender: str, lines: Sequence[Line], found: Mapping[str, Mapping[str, Speedup | None]],
    reasons: Mapping[str, str],
) -> Canvas:  # fmt: skip
    values = [x for by_target in found.values() for x in by_target.values() if x is not None]
    ends = [1.0, *(x.estimate for x in values)]
    ends += [end for x in values for end in (x.low, x.high) if end and math.isfinite(end)]
    low, high = min(ends) / 1.35, max(ends) * 1.2
    canvas, axes, heights = _canvas_of(lines, row_height=0.4)
    ratio_axis(axes, low, high)
    axes.text(
        1.02, 1.0, "hard", transform=axes.transAxes, va="top", fontsize=SMALL, color="#666666", fontstyle="italic"
    )
    axes.axvline(1.0, color="#444444", linewidth=1.1, zorder=1.6)
    for line, height in zip(lines, heights, strict=True):
        if line.kind == "mark":
            continue
        for i, (target, value) in enumerate(found[line.name].items()):
            if value is not None:
                _draw_speedup(axes, value, height + 0.26 * (i - 1), target, style)
        hard = found[line.name]["hard"]
        text = reasons.get(line.name) or format_speedup(hard).partition(" [")[0]
        _margin_text(axes, height, text, bold=line.kind == "mean")
    axes.set_xlabel("speed-up, log scale:  slower  ←  1  →  faster")
    title(canvas, contender, "wall-clock speed-up over the best hand-designed")
    handles = [
        Line2D([], [], color=color or style.color, marker=marker, markersize=size, linewidth=1.6)
        for marker, color, size in TARGET_LOOKS.values()
    ]
    legend_of(canvas, handles, [f"{target} target" for target in TARGET_LOOKS])
    return canvas


def _draw_speedup(axes: Axes, value: Speedup, height: float, target: str, style: Style) -> None:
    marker, color, size = TARGET_LOOKS[target]
    color = color or style.color
    look: dict[str, Any] = {"color": color, "linewidth": 1.6, "zorder": 3, "solid_capstyle": "butt"}
    left = axes.get_xlim()[0]
    if value.high is not None:
        low = value.estimate if value.bound else max(value.low or 0.0, left)
        axes.plot([min(low, value.high), value.high], [height] * 2, **look)
    if value.bound or value.low == 0:  # anything below is possible
        start = value.estimate if value.bound else left
        axes.annotate(
            "", (start, height), xytext=(-17 if value.bound else -1, 0), textcoords="offset points",
            annotation_clip=False, zorder=3,
            arrowprops={"arrowstyle": "<|-", "color": color, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
    if value.bound:  # a cap: a marker would say that the speed-up is there
        marker, size = "|", 9.0
    axes.plot(value.estimate, height, marker=marker, markersize=size, markeredgewidth=1.6, color=color, zorder=4)


# ---------------------------------------------------------------------------------------------------------------------
# Test loss
# ---------------------------------------------------------------------------------------------------------------------


def _loss_figure(
    rows: Rows, styles: Mapping[str, Style], contender: str, marks: Mapping[str, str], tasks: Sequence[str],
    reference: Mapping[str, str], end: str,
) -> Figure | None:  # fmt: skip
    found: dict[str, Comparison] = {
        task: compare(rows, contender, reference[task], (task,), HEADLINE_LOSS)
        for task in tasks
        if task in reference and runs_of(rows, reference[task], (task,))[0]
    }
    if not found:
        return None
    texts = {task: _difference_text(found.get(task), task in reference) for task in tasks}
    alike = len(found) == len(tasks) > 1 and len({reference[task] for task in tasks}) == 1
    if alike:  # a mean over tasks whose losses have different references is no number of anything
        found[MEAN_DIFFERENCE] = compare(rows, contender, reference[tasks[0]], tuple(tasks), HEADLINE_LOSS)
        texts[MEAN_DIFFERENCE] = _difference_text(found[MEAN_DIFFERENCE], True)
    lines = lines_of(tasks, marks, MEAN_DIFFERENCE if alike else "")
    alts = [
        f"{_alt_name(line, marks)}: {_difference_alt(found.get(line.name), texts[line.name])}"
        for line in lines
        if line.kind != "mark"
    ]
    mean = " Last row: mean over the tasks." if alike else ""
    failed = any(each.num_pairs_used < each.num_pairs for each in found.values())
    hollow = "; hollow, in red: a run failed, so that the mean is over the other pairs and has no interval"
    return Figure(
        slug=f"test_loss_by_task{end}",
        alt=f"Dot plot of final test loss of {contender} minus that of the best hand-designed optimizer, below 0 is "
        f"better. {'; '.join(alts)}.",
        caption=f"Final test loss of {contender} minus that of the best tuned hand-designed optimizer of each task "
        f"({reference_text(reference)}), paired within seeds. Left of 0 is better. Bars: t {PERCENT} intervals over "
        f"seeds and, where losses are stored by blocks of them, test images, from {MIN_SEEDS} seeds on"
        f"{hollow if failed else ''}.{mean}{_marks_sentence(lines, contender)}",
        draw=lambda: _draw_losses(styles[contender], contender, lines, found, texts),
    )


def _difference_text(found: Comparison | None, has_reference: bool) -> str:
    if found is None:
        return "reference not run" if has_reference else "no target"
    if failed := found.num_pairs - found.num_pairs_used:
        return f"{failed} of {found.num_pairs} failed"
    if found.difference is None:
        return "no pair"
    return (
        f"{found.difference.estimate:+#.3g}"
        if abs(found.difference.estimate) < 1000
        else f"{found.difference.estimate:+,.0f}"
    )


def _difference_alt(found: Comparison | None, text: str) -> str:
    if found is None or found.difference is None:
        return text + (f" ({found.withheld})" if found and found.withheld else "")
    return format_interval(found.difference, sign=True) + (f" ({found.withheld})" if found.withheld else "")


def _draw_losses(
    style: Style, contender: str, lines: Sequence[Line], found: Mapping[str, Comparison], texts: Mapping[str, str]
) -> Canvas:
    canvas, axes, heights = _canvas_of(lines, row_height=0.3)
    ends = [0.0]
    for line, height in zip(lines, heights, strict=True):
        if line.kind == "mark":
            continue
        comparison = found.get(line.name)
        failed = comparison is not None and comparison.num_pairs_used < comparison.num_pairs
        difference = comparison.difference if comparison else None
        if difference is not None:
            ends.append(difference.estimate)
            color = FAILED_COLOR if failed else style.color
            if difference.low is not None and difference.high is not None:
                axes.plot([difference.low, difference.high], [height] * 2, color=color, linewidth=2, zorder=3)
                ends += [difference.low, difference.high]
            face = "white" if failed else color
            axes.plot(difference.estimate, height, "D", markersize=6, color=color, markerfacecolor=face, zorder=4)
        color = FAILED_COLOR if failed else "#222222"
        _margin_text(axes, height, texts[line.name], bold=line.kind == "mean", color=color)
    _difference_axis(axes, min(ends), max(ends))
    title(canvas, contender, "final test loss minus the best hand-designed")
    return canvas


def _difference_axis(axes: Axes, low: float, high: float) -> None:
    """Linear, but for a divergent task beside others: then linear up to 1 on either side and logarithmic beyond."""
    label = "difference in final test loss:  better  ←  0  →  worse"
    if max(-low, high) > LINEAR_UP_TO:
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xlim(min(2 * low, -0.5), max(2 * high, 0.5))
        powers = [10.0**k for k in range(0, math.ceil(math.log10(max(-low, high))) + 1, 2)]
        axes.xaxis.set_major_locator(FixedLocator([*(-x for x in powers), 0.0, *powers]))
        axes.xaxis.set_minor_locator(NullLocator())
        label += "\n(log scale beyond 1)"
    else:
        margin = 0.08 * (high - low) or 0.05
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], min_n_ticks=4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+,.5g}" if value else "0"))
    axes.axvline(0.0, color="#444444", linewidth=1.1, zorder=1.6)
    axes.set_xlabel(label)


# ---------------------------------------------------------------------------------------------------------------------
# What both share
# ---------------------------------------------------------------------------------------------------------------------


def _mark(task: str, marks: Mapping[str, str]) -> str:
    return marks[task] if marks.get(task) in MARKS else "unknown"


def _alt_name(line: Line, marks: Mapping[str, str]) -> str:
    return line.name if line.kind == "mean" else f"{line.name} ({_mark(line.name, marks)})"


def _marks_sentence(lines: Sequence[Line], contender: str) -> str:
    """What the tasks are to the contender."""
    shown = [line.name for line in lines if line.kind == "mark"]
    if len(shown) == 1:
        return f" These tasks are {shown[0]} for {contender}: {MARKS[shown[0]]}."
    return f" For {contender}: {'; '.join(f'{name}, {MARKS[name]}' for name in shown)}." if shown else ""


def _canvas_of(lines: Sequence[Line], row_height: float) -> tuple[Canvas, Axes, list[float]]:
    """Canvas, axes and the height of each line; a heading takes less room than a task."""
    heights, at = [], 0.0
    for line in lines:
        at += 0.75 if line.kind == "mark" else 1.0
        heights.append(at)
    canvas = Canvas(figsize=(WIDTH, 1.25 + row_height * (at + 0.6)), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_ylim(at + 0.6, min(heights) - 0.6)
    axes.set_yticks(heights, [short(line.name, 24) for line in lines])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for label, line, height in zip(axes.get_yticklabels(), lines, heights, strict=True):
        if line.kind == "mark":
            label.set(fontstyle="italic", color="#666666", fontsize=SMALL)
        else:
            axes.axhspan(height - 0.46, height + 0.46, color="#f4f4f4", linewidth=0, zorder=0)
        if line.kind == "mean":
            label.set_fontweight("bold")
    return canvas, axes, heights


def _margin_text(axes: Axes, height: float, text: str, *, bold: bool = False, color: str = "#222222") -> None:
    axes.text(
        1.02, height, text, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, color=color,
        fontweight="bold" if bold else "normal",
    )  # fmt: skip
