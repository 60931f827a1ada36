"""What a report draws: losses against steps and against seconds, final losses and step costs as dots.

One panel per image, so that a page can set two side by side or, on a phone, one below the other. An optimizer keeps its
colour and line style over the whole report; learned ones are solid, thick and on top. The object-oriented matplotlib
interface leaves no figure open and no global state behind.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bench.report.summary import HEADLINE_LOSS, loss_summary, sorted_optimizers, step_cost
from bench.report.table import PERCENT, format_interval, format_number
from bench.rows import LEARNED, Frame, as_floats
from bench.rows import Rows as Results
from bench.statistics import MIN_SEEDS, Interval

# Okabe and Ito's colours, told apart by colour-blind readers (jfly.uni-koeln.de/color), yellow left out on white.
# Line styles repeat with another period, so that a pair of colour and style comes back only after 30 rows.
HAND_DESIGNED_COLORS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#777777")
HAND_DESIGNED_DASHES = ((0, (6, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1.2)), (0, (1.2, 1.2)), (0, (9, 1.5, 3, 1.5)))
LEARNED_COLORS = ("#D55E00", "#000000", "#882255")
MARKERS = ("o", "s", "^", "v", "P")

LOG_FROM_RANGE = 10.0  # an axis is logarithmic when its values span more than this factor
CURVE_NAMES = {"train_loss": "train loss", "validation_loss": "validation loss"}
OVERVIEW_MIN_TASKS = 3
STYLE: Any = {  # the type of the keys is private to matplotlib
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#666666",
    "text.parse_math": False,  # a name with a dollar sign is a name
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Figure:
    """An image with what a reader who cannot see it is told, and the caption below it."""

    slug: str
    png: bytes
    alt: str
    caption: str
    wide: bool = False

    @property
    def data_uri(self) -> str:
        """The image as text for the page."""
        import base64

        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Style:
    """How one optimizer looks in every figure."""

    color: str
    linestyle: Any
    linewidth: float
    zorder: float
    marker: str


def optimizer_styles(results: Results) -> dict[str, Style]:
    """Colour, line and marker of each optimizer, by its place among the sorted names."""
    styles = {}
    learned = [name for name in results.optimizers if results.role(name) == LEARNED]
    others = [name for name in results.optimizers if results.role(name) != LEARNED]
    for i, name in enumerate(learned):
        dashes = "-" if i < len(LEARNED_COLORS) else HAND_DESIGNED_DASHES[i % len(HAND_DESIGNED_DASHES)]
        styles[name] = Style(LEARNED_COLORS[i % len(LEARNED_COLORS)], dashes, 2.6, 5, "D")
    for i, name in enumerate(others):
        color = HAND_DESIGNED_COLORS[i % len(HAND_DESIGNED_COLORS)]
        dashes = HAND_DESIGNED_DASHES[i % len(HAND_DESIGNED_DASHES)]
        styles[name] = Style(color, dashes, 1.5, 3, MARKERS[i % len(MARKERS)])
    return styles


def task_figures(results: Results, task: str, styles: dict[str, Style]) -> list[Figure]:
    """Train and validation loss against steps and seconds, final test losses, step costs: what of it the rows allow."""
    return [
        *_curve_figures(results, task, styles, tuple(CURVE_NAMES)),
        *filter(None, (_final_loss_figure(results, task, styles), _step_cost_figure(results, task, styles))),
    ]


def overview_figures(results: Results, styles: dict[str, Style]) -> list[Figure]:
    """Train loss of every task in small multiples, against steps and against seconds; none for one or two tasks."""
    tasks = [task for task in results.tasks if _has_curves(results, task, "train_loss")]
    if len(tasks) < OVERVIEW_MIN_TASKS:
        return []
    figures = []
    for axis in ("steps", "seconds"):
        shown = [task for task in tasks if axis == "steps" or _seconds_source(results, task)]
        if not shown:
            continue
        num_columns = min(3, len(shown))
        num_rows = math.ceil(len(shown) / num_columns)
        with matplotlib.rc_context(STYLE):
            canvas = Canvas(figsize=(10.5, 2.5 * num_rows + 0.8), layout="constrained")
            names: list[str] = []
            for i, task in enumerate(shown):
                axes = canvas.add_subplot(num_rows, num_columns, i + 1)
                names += _draw_curves(axes, results, task, "train_loss", axis, styles)
                axes.set_title(_short(task, 40), fontsize=9.5, loc="left")
            order = [n for n in sorted_optimizers(results, results.tasks) if n in names]
            _legend(canvas, results, order, styles, results.tasks, num_columns=min(4, len(order)))
            png = _png(canvas)
        clock = "" if axis == "steps" else " Seconds: the axis of each panel says by which clock."
        figures.append(
            Figure(
                slug=f"overview_train_loss_{axis}",
                png=png,
                alt=f"Small multiples of train loss against {axis}, one panel for each of {len(shown)} tasks; the "
                "final values are in the summary tables.",
                caption=f"Train loss against {axis}, every task. Each panel has its own axes.{clock} "
                + _band_sentence(results, tuple(shown)),
                wide=True,
            )
        )
    return figures


def _curve_figures(results: Results, task: str, styles: dict[str, Style], metrics: Sequence[str]) -> list[Figure]:
    figures = []
    for axis in ("steps", "seconds"):
        if axis == "seconds" and not _seconds_source(results, task):
            continue
        for metric in metrics:
            if not _has_curves(results, task, metric):
                continue
            with matplotlib.rc_context(STYLE):
                canvas = Canvas(figsize=(5.6, 4.5), layout="constrained")
                axes = canvas.add_subplot()
                drawn = _draw_curves(axes, results, task, metric, axis, styles)
                _title(canvas, task, f"{CURVE_NAMES[metric]} against {axis}")
                order = [name for name in sorted_optimizers(results, (task,)) if name in drawn]
                _legend(canvas, results, order, styles, (task,), num_columns=min(3, len(order)))
                png = _png(canvas)
            ends = [f"{name} {_last_value(results, task, name, metric)}" for name in order]
            figures.append(
                Figure(
                    slug=f"{metric}_{axis}_{results.slugs[task]}",
                    png=png,
                    alt=f"Line plot of {CURVE_NAMES[metric]} against {axis} on task {task}. Last value of each line: "
                    f"{', '.join(ends)}.",
                    caption=f"{CURVE_NAMES[metric].capitalize()} against {axis}. "
                    + (_clock_sentence(results, task) if axis == "seconds" else "")
                    + _band_sentence(results, (task,)),
                )
            )
    return figures


# ---------------------------------------------------------------------------------------------------------------------
# Curves
# ---------------------------------------------------------------------------------------------------------------------


def _has_curves(results: Results, task: str, metric: str) -> bool:
    return any(
        frame is not None and np.isfinite(frame.to_numpy(dtype=float)).any()
        for frame in (results.series.get((task, name, metric)) for name in results.optimizers)
    )


def _seconds_source(results: Results, task: str) -> str:
    """One clock per task: the timing cell if it has every optimizer trained on it, else the runs' own, else none."""
    trained = [name for name in results.trained if len(results.runs(name, (task,)))]
    if trained and all(step_cost(results, name, task) for name in trained):
        return "timing cell"
    with_curves = [name for name in trained if (task, name, "train_loss") in results.series]
    if with_curves and all((task, name, "wall_time_sec") in results.series for name in with_curves):
        return "own clock"
    return ""


def _clock_sentence(results: Results, task: str) -> str:
    if _seconds_source(results, task) == "timing cell":
        return "Seconds: steps times the median seconds per step of the timing cell. "
    return "Seconds: each run's own training clock, averaged over seeds (not every row here has a timing cell). "


def _band_sentence(results: Results, tasks: tuple[str, ...]) -> str:
    sizes = {results.runs(name, (task,))["seed"].nunique() for task in tasks for name in results.trained} - {0}
    if max(sizes) < MIN_SEEDS:
        band = f"range over seeds (fewer than {MIN_SEEDS})" if max(sizes) > 1 else "none, one seed"
    elif min(sizes) < MIN_SEEDS:
        band = f"25th to 75th percentile over seeds, or their range below {MIN_SEEDS} seeds"
    else:
        band = "25th to 75th percentile over seeds"
    text = f"Line: mean over seeds; band: {band}."
    if any((results.runs(name, tasks)["status"] != "ok").any() for name in results.trained):
        text += (
            " A cross marks the step after which a run has failed; the thin line beyond it averages the others only."
        )
    return text


def _draw_curves(
    axes: Axes, results: Results, task: str, metric: str, axis: str, styles: dict[str, Style]
) -> list[str]:
    """Draws mean and band of every optimizer with rows; returns their names."""
    source = _seconds_source(results, task) if axis == "seconds" else ""
    drawn: list[tuple[str, np.ndarray, Frame]] = []
    for name in results.optimizers:
        frame = results.series.get((task, name, metric))
        if frame is None or not np.isfinite(frame.to_numpy(dtype=float)).any():
            continue
        x = frame.index.to_numpy(dtype=float)
        if source == "timing cell":
            cost = step_cost(results, name, task)
            assert cost is not None
            x = x * cost.estimate
        elif source == "own clock":
            clock = results.series[task, name, "wall_time_sec"].reindex(index=frame.index)
            x = clock.mean(axis=1).interpolate().to_numpy(dtype=float)
        drawn.append((name, x, frame))

    chance = as_floats(results.train.loc[results.train["task"] == task, "chance_loss"]).dropna()
    ceiling = _ceiling([frame for _, _, frame in drawn], float(chance.iloc[0]) if len(chance) else None)
    # The start counts for the range even where a logarithmic time axis cannot show it: one scale for both time axes.
    starts = [float(frame.iloc[0].max()) for _, _, frame in drawn]
    ends = [np.nanmax(x) for _, x, _ in drawn]
    log_x = axis == "seconds" and min(ends) > 0 and max(ends) / min(ends) > LOG_FROM_RANGE
    if log_x:  # step 0 has no place on a logarithmic axis: lines begin at the first evaluation after it
        drawn = [(name, x[x > 0], frame[x > 0]) for name, x, frame in drawn]

    tops, bottoms, leaving, crosses = [start for start in starts if np.isfinite(start)], [], [], []
    for name, x, frame in drawn:
        style = styles[name]
        values = frame.to_numpy(dtype=float)
        alive = np.isfinite(values)
        whole = alive.all(axis=1)
        num_whole = len(whole) if whole.all() else int(np.argmin(whole))
        mean = np.array([row[ok].mean() if ok.any() else np.nan for row, ok in zip(values, alive, strict=True)])
        line: dict[str, Any] = {"color": style.color, "zorder": style.zorder, "solid_capstyle": "round"}
        axes.plot(x[:num_whole], mean[:num_whole], linestyle=style.linestyle, linewidth=style.linewidth, **line)
        if num_whole < len(mean):
            axes.plot(x[num_whole:], mean[num_whole:], linestyle="-", linewidth=0.9, **line)
            if num_whole:
                crosses.append((x[num_whole - 1], mean[num_whole - 1], style))
        if values.shape[1] > 1 and num_whole:
            percentiles = (25, 75) if values.shape[1] >= MIN_SEEDS else (0, 100)
            low, high = np.percentile(values[:num_whole], percentiles, axis=1)
            axes.fill_between(x[:num_whole], low, high, color=style.color, alpha=0.14, linewidth=0, zorder=2)
            tops.append(high.max())
            bottoms.append(low.min())
        finite = mean[np.isfinite(mean)]
        tops.append(finite.max())
        bottoms.append(finite.min())
        if finite.max() > ceiling:
            leaving.append(name)

    top, bottom = min(max(tops), ceiling), min(bottoms)
    _set_loss_axis(axes.set_yscale, axes.set_ylim, axes.yaxis, bottom, top)
    for x_last, y_last, style in crosses:
        y_last = min(y_last, axes.get_ylim()[1])
        look = {"color": style.color, "markeredgecolor": "white", "markersize": 9, "zorder": 8}
        axes.plot(x_last, y_last, marker="X", clip_on=False, **look)
    if len(chance) and axes.get_ylim()[0] < chance.iloc[0] < axes.get_ylim()[1]:
        axes.axhline(float(chance.iloc[0]), color="#999999", linewidth=0.8, zorder=1)
        axes.annotate(
            "chance", (1, float(chance.iloc[0])), xycoords=("axes fraction", "data"), xytext=(0, 2),
            textcoords="offset points", ha="right", va="bottom", fontsize=8, color="#666666",
        )  # fmt: skip
    if leaving:
        axes.text(
            0.98, 0.98, f"leaves the top: {', '.join(leaving)}", transform=axes.transAxes, ha="right", va="top",
            fontsize=8, color="#444444", wrap=True, zorder=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip

    if log_x:
        axes.set_xscale("log")
        axes.set_xlim(min(x.min() for _, x, _ in drawn) / 1.1, max(ends) * 1.1)
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, max(ends) * 1.02 or 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    clock = {"timing cell": "training seconds (steps × s/step)", "own clock": "training seconds (own clock)"}
    axes.set_xlabel((clock[source] if source else "training steps") + (", log scale" if log_x else ""))
    axes.set_ylabel(CURVE_NAMES[metric] + (", log scale" if axes.get_yscale() == "log" else ""))
    return [name for name, _, _ in drawn]


def _ceiling(frames: Sequence[Frame], chance: float | None) -> float:
    """Losses far above the start say that a run blew up, not how the others compare: the axis stops there."""
    starts = [float(frame.iloc[0].max()) for frame in frames]
    known = [start for start in (*starts, chance) if start is not None and math.isfinite(start)]
    return 1.5 * max(known) if known and max(known) > 0 else math.inf


def _set_loss_axis(set_scale: Any, set_limits: Any, ticks: Any, low: float, high: float) -> None:
    if low > 0 and high / low > LOG_FROM_RANGE:
        set_scale("log")
        set_limits(low / 1.12, high * 1.12)
        few = high / low < 100
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=12))
        ticks.set_minor_formatter(NullFormatter())
    else:
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
        set_limits(low - margin, high + margin)
        ticks.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ticks.set_major_formatter(FuncFormatter(_plain))


def _plain(value: float, position: int | None = None) -> str:
    del position
    return f"{value:,.10g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"


def _last_value(results: Results, task: str, name: str, metric: str) -> str:
    frame = results.series[task, name, metric]
    last = frame.iloc[-1].to_numpy(dtype=float)
    failed = int((results.runs(name, (task,))["status"] != "ok").sum())
    finite = last[np.isfinite(last)]
    text = format_number(float(finite.mean()), 3) if len(finite) else "no finite value"
    return text + (f" ({failed} failed)" if failed else "")


def _legend(
    canvas: Canvas, results: Results, order: Sequence[str], styles: dict[str, Style], tasks: tuple[str, ...], *,
    num_columns: int,
) -> None:  # fmt: skip
    handles, labels = [], []
    for name in order:
        style = styles[name]
        handles.append(Line2D([], [], color=style.color, linestyle=style.linestyle, linewidth=style.linewidth))
        runs = results.runs(name, tasks)
        failed = int((runs["status"] != "ok").sum())
        label = _short(name) + (f" ({len(runs) - failed}/{len(runs)} ok)" if failed else "")
        labels.append(label if not label.startswith("_") else f" {label}")  # matplotlib hides labels that start with _
    if handles:
        canvas.legend(
            handles, labels, loc="outside lower center", ncols=max(num_columns, 1), frameon=False, handlelength=3.2,
            fontsize=9, columnspacing=1.4,
        )  # fmt: skip


def _title(canvas: Canvas, task: str, what: str) -> None:
    canvas.suptitle(f"{_short(task, 40)}: {what}", x=0.01, ha="left", fontsize=10.5)


def _short(name: str, length: int = 28) -> str:
    name = " ".join(name.split())
    return name if len(name) <= length else name[: length - 1] + "…"


# ---------------------------------------------------------------------------------------------------------------------
# Dots
# ---------------------------------------------------------------------------------------------------------------------


def _final_loss_figure(results: Results, task: str, styles: dict[str, Style]) -> Figure | None:
    order = [n for n in sorted_optimizers(results, (task,)) if len(results.runs(n, (task,)))]
    losses = {name: results.losses(name, (task,), HEADLINE_LOSS)[task].to_numpy(dtype=float) for name in order}
    finite = np.concatenate([values[np.isfinite(values)] for values in losses.values()] or [np.zeros(0)])
    if not len(finite):
        return None
    alts = []
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(5.6, 1.5 + 0.42 * len(order)), layout="constrained")
        axes = canvas.add_subplot()
        ends = list(finite)
        for row, name in enumerate(order):
            values = losses[name]
            known = values[np.isfinite(values)]
            _dots(axes, known, row, styles[name])
            summary = loss_summary(results, name, (task,), HEADLINE_LOSS)
            if summary is not None:
                _mean_mark(axes, summary, row, styles[name])
                ends += [x for x in (summary.low, summary.high) if x is not None]
            failed = int(np.isinf(values).sum())
            alts.append(f"{name} {format_interval(summary)}" + (f" ({failed} failed)" if failed else ""))
        positive = [x for x in ends if x > 0] if finite.min() > 0 else ends
        _dot_axes(axes, results, order, min(positive), max(ends))
        for row, name in enumerate(order):
            if failed := int(np.isinf(losses[name]).sum()):
                known = losses[name][np.isfinite(losses[name])]
                # Written on the side of the row that its dots leave free.
                places = axes.transAxes.inverted().transform(
                    axes.transData.transform([(x, row) for x in known] or [(0, 0)])
                )
                right = not len(known) or places[:, 0].mean() < 0.5
                axes.text(
                    0.99 if right else 0.01, row, f"{failed} of {len(losses[name])} failed", fontsize=8.5,
                    ha="right" if right else "left", va="center", color="#a00000",
                    transform=axes.get_yaxis_transform(),
                )  # fmt: skip
        scale = ", log scale" if axes.get_xscale() == "log" else ""
        axes.set_xlabel(f"final test loss{scale} (does not start at 0)")
        _title(canvas, task, "final test loss, every seed")
        png = _png(canvas)
    return Figure(
        slug=f"final_test_loss_{results.slugs[task]}",
        png=png,
        alt=f"Dot plot of final test loss on task {task}, best first: {'; '.join(alts)}.",
        caption=f"Final test loss. Dots: seeds; line: mean; box: t {PERCENT} interval, from {MIN_SEEDS} seeds "
        "on and only if no run failed.",
    )


def _step_cost_figure(results: Results, task: str, styles: dict[str, Style]) -> Figure | None:
    costs = {name: step_cost(results, name, task) for name in results.optimizers}
    known = {name: cost for name, cost in costs.items() if cost is not None}
    if not known:
        return None
    order = sorted(known, key=lambda name: (known[name].estimate, name))
    table = results.blocks[task]
    unit, scale = next(
        ((unit, scale) for unit, scale in (("s", 1.0), ("ms", 1e3)) if known[order[-1]].estimate * scale >= 1),
        ("µs", 1e6),
    )
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(5.6, 1.5 + 0.42 * len(order)), layout="constrained")
        axes = canvas.add_subplot()
        smallest, largest = math.inf, 0.0
        for row, name in enumerate(order):
            seconds = table[name].dropna().to_numpy(dtype=float) * scale
            _dots(axes, seconds, row, styles[name])
            cost = known[name]
            bounds = [x * scale if x is not None else None for x in (cost.low, cost.high)]
            _mean_mark(axes, Interval(cost.estimate * scale, bounds[0], bounds[1], cost.n), row, styles[name])
            smallest, largest = min(smallest, seconds.min()), max(largest, seconds.max())
        logarithmic = smallest > 0 and largest / smallest > LOG_FROM_RANGE
        _dot_axes(axes, results, order, smallest if logarithmic else 0.0, largest)
        if not logarithmic:
            axes.set_xlim(0, largest * 1.05)
        axes.set_xlabel(f"{unit} per step" + (", log scale" if logarithmic else ""))
        _title(canvas, task, "cost of a step, every block")
        png = _png(canvas)
    costs_text = "; ".join(f"{name} {format_interval(known[name], scale=1e3)} ms" for name in order)
    return Figure(
        slug=f"step_cost_{results.slugs[task]}",
        png=png,
        alt=f"Dot plot of seconds per training step on task {task}, cheapest first: {costs_text}.",
        caption=f"Cost of a training step. Dots: timing blocks; line: median; box: its distribution-free "
        f"{PERCENT} interval where the blocks suffice.",
    )


def _dots(axes: Axes, values: np.ndarray, row: int, style: Style) -> None:
    offsets = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(len(values))
    axes.scatter(
        values, row + offsets, s=20, marker=style.marker, color=style.color, alpha=0.75, linewidths=0, zorder=4
    )


def _mean_mark(axes: Axes, interval: Interval, row: int, style: Style) -> None:
    axes.plot([interval.estimate] * 2, [row - 0.32, row + 0.32], color=style.color, linewidth=2.2, zorder=5)
    if interval.low is not None and interval.high is not None:
        axes.fill_betweenx(
            [row - 0.32, row + 0.32], interval.low, interval.high, color=style.color, alpha=0.16, linewidth=0, zorder=2
        )


def _dot_axes(axes: Axes, results: Results, order: Sequence[str], low: float, high: float) -> None:
    _set_loss_axis(axes.set_xscale, axes.set_xlim, axes.xaxis, low, high)
    axes.set_yticks(range(len(order)), [_short(name) for name in order])
    for label, name in zip(axes.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if results.role(name) == LEARNED else "normal")
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _png(canvas: Canvas) -> bytes:
    FigureCanvasAgg(canvas)
    out = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script the font lacks is drawn as boxes; the tables still spell it.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        canvas.savefig(out, format="png", dpi=125, metadata={"Software": None})
    return out.getvalue()
