"""The pathologies of outer-training: gradients, slices, biases and variances against the length of the unroll."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from bench.measure.pathologies import influence, unrolls
from bench.measure.pathologies.inner import THETAS
from bench.measure.pathologies.summary import WINDOWS_OVER_WHOLE, or_infinite, parts_that_ran, wide
from bench.report.figures.axes import SMALL, WIDTH, heading, legend_of, plain
from bench.report.figures.drawing import Figure
from bench.report.figures.theme import COLORS, LEARNED_COLORS
from bench.store.rows import Frame

THETA_COLORS: Mapping[str, str] = {
    "initial": COLORS[0],
    "trained": LEARNED_COLORS[0],
    "overstepping": COLORS[2],
}
# Estimator -> how it reads, its colour, its dashes.
ESTIMATORS: Mapping[str, tuple[str, str, Any]] = {
    "reparam": ("reparameterization", COLORS[0], (0, (6, 1.5))),
    "es": ("ES", COLORS[2], (0, (6, 1.5))),
    "merged": ("merged, shared samples", LEARNED_COLORS[0], "-"),
    "merged_independent": ("merged, independent samples", "#000000", (0, (1, 1))),
    "merged_windows": ("merged, window by window", COLORS[6], "-"),
    "pes": ("PES, one window", COLORS[1], (0, (2.2, 0.9))),
    "nres": ("NRES, one window", COLORS[3], (0, (2.2, 0.9))),
    "tbptt": ("truncated backpropagation", COLORS[0], (0, (6, 1.5))),
    "truncated_es": ("truncated ES", COLORS[2], (0, (6, 1.5))),
}


def part_curves(cells: Frame, curves: Frame, pathology: str) -> dict[str, Frame]:
    """theta -> curve of the cells of a pathology that have one cell for each theta."""
    found = {
        config.get("theta", ""): curves[curves["cell"] == cell]
        for cell, config in parts_that_ran(cells)
        if config["pathology"] == pathology
    }
    return {theta: found[theta] for theta in (*THETAS, "") if theta in found}


def log_axes(axes: Axes, places: Sequence[float], *, y: bool = True, every: int = 1) -> None:
    """Logarithmic axes, x with ticks at measured places: `every` one, counted from the last; y only where told so."""
    places = places[::-every]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.tick_params(labelsize=SMALL)
    if y:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(plain))


def _band(axes: Axes, rows: Frame, color: str, dashes: Any = "-", width: float = 1.6) -> None:
    """Estimates joined by a line, their intervals as bars."""
    x, y, low, high = (rows[name].to_numpy(np.float64) for name in ("at", "estimate", "low", "high"))
    axes.plot(x, y, color=color, linestyle=dashes, linewidth=width, marker="o", markersize=3.2)
    axes.vlines(x, low, high, color=color, linewidth=1, alpha=0.7)


def _legend(canvas: Canvas, lines: Mapping[str, tuple[str, Any]]) -> None:
    """label -> (colour, dashes), below the image."""
    handles = [Line2D([], [], color=color, linestyle=dashes, linewidth=1.8) for color, dashes in lines.values()]
    legend_of(canvas, handles, list(lines))


def gradient_norm_figure(curves: Mapping[str, Frame], alt: str) -> Figure:
    """Norm of the gradient of each unroll, and the median, against the length."""

    def draw() -> Canvas:
        canvas = Canvas(figsize=(WIDTH, 3.8), layout="constrained")
        axes = canvas.add_subplot()
        for theta, curve in curves.items():
            color, shift = THETA_COLORS[theta], 0.92 + 0.08 * THETAS.index(theta)
            axes.plot(shift * curve["step"], curve["value"], ".", color=color, markersize=3, alpha=0.35)
            medians = curve.assign(value=or_infinite(curve["value"])).groupby("step")["value"].median()
            axes.plot(shift * medians.index.to_numpy(np.float64), medians, color=color, linewidth=1.8)
        log_axes(axes, unrolls.LENGTHS)
        axes.set_xlabel("length of the unroll, inner steps")
        axes.set_ylabel("gradient norm")
        heading(canvas, "Backpropagation through unrolls")
        _legend(canvas, {f"{theta} theta": (THETA_COLORS[theta], "-") for theta in curves})
        return canvas

    caption = (
        "Each dot is the backpropagated gradient of one unroll at theta, unsmoothed; lines: medians. A gradient that "
        "is not finite has no dot and counts as infinite: a line ends where the median is."
    )
    return Figure("gradient_norm", alt, caption, draw)


def slice_figure(curves: Mapping[str, Frame], alt: str) -> Figure:
    """The outer-loss along a line, raw and smoothed, for each theta and length."""

    def draw() -> Canvas:
        canvas = Canvas(figsize=(1.6 * WIDTH, 2.3 * len(curves) + 0.9), layout="constrained")
        panels = canvas.subplots(len(curves), len(unrolls.SLICED_LENGTHS), squeeze=False, sharex=True)
        for row, (theta, curve) in zip(panels, curves.items(), strict=True):
            columns = wide(curve)
            for axes, length in zip(row, unrolls.SLICED_LENGTHS, strict=True):
                raw_at, smoothed_at = columns["raw_at"], columns["smoothed_at"]
                axes.plot(raw_at, columns[f"raw/{length}"], color=COLORS[0], linewidth=0.8)
                axes.plot(smoothed_at, columns[f"smoothed/{length}"], color=LEARNED_COLORS[0], linewidth=2)
                axes.set_title(f"{theta} theta, {length:,} steps", loc="left", fontsize=SMALL)
                axes.tick_params(labelsize=SMALL)
            row[0].set_ylabel("outer-loss")
        for axes in panels[-1]:
            axes.set_xlabel("distance along a normal direction", fontsize=SMALL)
        heading(canvas, "The outer-loss along a line through theta")
        colors = (COLORS[0], LEARNED_COLORS[0])
        legend_of(canvas, [Line2D([], [], color=color) for color in colors], ["as it is", "smoothed"])
        return canvas

    caption = (
        "One unroll at theta + a z, z normal, a up to five sigma to either side. Smoothed: the mean over perturbations "
        "of all of theta, the same ones at each point. Every panel has its own vertical axis."
    )
    return Figure("slices", alt, caption, draw, wide=True)


def truncation_figure(table: Frame, alt: str) -> Figure:
    """Cosine with the whole gradient, and relative bias, against the window."""

    def draw() -> Canvas:
        canvas = Canvas(figsize=(WIDTH, 4.6), layout="constrained")
        cosine, bias = canvas.subplots(2, 1, sharex=True)
        known = table[np.isfinite(table["estimate"])]
        shown = [theta for theta in THETAS if (known["theta"] == theta).any()]
        for theta in shown:
            for axes, name in ((cosine, "cosine"), (bias, "relative bias")):
                _band(axes, known[(known["theta"] == theta) & (known["name"] == name)], THETA_COLORS[theta])
        log_axes(bias, sorted(set(table.loc[table["name"] == "cosine", "at"])), y=False)
        cosine.set_ylabel("cosine with the\nwhole gradient", fontsize=SMALL)
        cosine.axhline(1.0, color="#999999", linewidth=0.8)
        cosine.axhline(0.0, color="#999999", linewidth=0.8)
        cosine.set_ylim(min(-0.05, *cosine.get_ylim()), 1.05)
        bias.axhline(0.0, color="#999999", linewidth=0.8)
        bias.set_ylabel("bias over the norm\nof the whole gradient", fontsize=SMALL)
        bias.set_xlabel("window, inner steps")
        heading(canvas, "Truncated backpropagation")
        _legend(canvas, {f"{theta} theta": (THETA_COLORS[theta], "-") for theta in shown})
        return canvas

    caption = "Bars: 95 % jackknife intervals over replications. A bias of 1 is as long as the gradient itself."
    return Figure("truncation", alt, caption, draw)


def variance_figure(table: Frame, names: Sequence[str], alt: str) -> Figure:
    """Variance of every estimator against the length, a panel for each theta."""

    def draw() -> Canvas:
        shown = [theta for theta in THETAS if (table["theta"] == theta).any()]
        # Backpropagation through chaos is beyond all bounds; what it is compared to is to be seen.
        bounded = table["name"].isin([f"variance of {name}" for name in names if name != "reparam"])
        top = 30 * float(table.loc[bounded & np.isfinite(table["estimate"]), "estimate"].max())
        canvas = Canvas(figsize=(1.6 * WIDTH, 4.6), layout="constrained")
        panels = canvas.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        for axes, theta in zip(panels, shown, strict=True):
            here = table[table["theta"] == theta]
            # Merged ones lie on the better of their two: below it, and wider.
            widths = {"merged": 6.0, "merged_independent": 3.5}
            for name in sorted(names, key=lambda name: -widths.get(name, 0.0)):
                _, color, dashes = ESTIMATORS[name]
                rows = here[(here["name"] == f"variance of {name}") & np.isfinite(here["estimate"])]
                _band(axes, rows, color, dashes, width=widths.get(name, 1.6))
            signal = here[(here["name"] == "squared gradient") & (here["estimate"] > 0)]
            axes.plot(signal["at"], signal["estimate"], color="#999999", linewidth=1.2)
            log_axes(axes, sorted(set(here["at"])), every=2)
            axes.set_title(f"{theta} theta", loc="left", fontsize=SMALL)
            axes.set_ylim(top=top)
            axes.set_xlabel("length of the unroll, inner steps")
        panels[0].set_ylabel("variance, summed over theta")
        heading(canvas, "Variance of an estimate from 32 samples")
        handles = [Line2D([], [], color=ESTIMATORS[n][1], linestyle=ESTIMATORS[n][2], linewidth=1.8) for n in names]
        handles.append(Line2D([], [], color="#999999", linewidth=1.2))
        legend_of(canvas, handles, [*(ESTIMATORS[n][0] for n in names), "squared norm of the gradient"])
        return canvas

    caption = (
        "From independent replications, with 95 % jackknife intervals. PES and NRES take one window of inner steps of "
        "each unroll where the others take all of it. Grey: what is to be estimated; a point is missing where noise "
        "hides it. Reparameterization goes on above where it leaves a panel; the table has its numbers."
    )
    return Figure("variance", alt, caption, draw, wide=True)


def ratio_figure(table: Frame, names: Sequence[str], limits: Mapping[str, float], alt: str) -> Figure:
    """Variance of the merged estimator over the smaller of its two."""

    def draw() -> Canvas:
        canvas = Canvas(figsize=(WIDTH, 5.4), layout="constrained")
        axes = canvas.add_subplot()
        lines = {}
        for theta in THETAS:
            for name in names:
                rows = table[(table["theta"] == theta) & (table["name"] == f"variance of {name} over the better's")]
                if not len(rows):
                    continue
                dashes = "-" if name == "merged" else (0, (1, 1))
                _band(axes, rows, THETA_COLORS[theta], dashes)
                samples = "shared" if name == "merged" else "independent"
                lines[f"{theta} theta, {samples} samples"] = (THETA_COLORS[theta], dashes)
            rows = table[(table["theta"] == theta) & (table["name"] == WINDOWS_OVER_WHOLE)]
            if len(rows):
                dashes = (0, (6, 1.5, 1.5, 1.5))
                _band(axes, rows, THETA_COLORS[theta], dashes)
                lines[f"{theta} theta, window by window"] = (THETA_COLORS[theta], dashes)
        for limit in limits.values():
            axes.axhline(limit, color="#999999", linewidth=0.8, linestyle=(0, (4, 3)))
        axes.axhline(1.0, color="#999999", linewidth=0.8)
        log_axes(axes, sorted(set(table["at"])), y=False)
        axes.set_xlabel("length of the unroll, inner steps")
        axes.set_ylabel("variance over the better one", fontsize=SMALL)
        heading(canvas, "What merging costs and gains")
        _legend(canvas, lines)
        return canvas

    shown = " and ".join(f"{limit:g}" for limit in limits.values())
    caption = (
        f"Bars: 95 % jackknife intervals. Dashed grey: {shown}, the most that shared and independent samples may cost. "
        "Merged window by window: over merging whole unrolls."
    )
    return Figure("merged_variance", alt, caption, draw)


def heavy_tail_figure(table: Frame, alt: str) -> Figure:
    """Mean of merged estimates of 1 against the heaviness of one's tail."""

    def draw() -> Canvas:
        canvas = Canvas(figsize=(WIDTH, 3.8), layout="constrained")
        axes = canvas.add_subplot()
        names = list(dict.fromkeys(table["name"]))
        for color, name in zip(COLORS, names, strict=False):
            _band(axes, table[table["name"] == name], color)
        axes.axhline(1.0, color="#999999", linewidth=0.8)
        axes.set_ylim(0, None)
        axes.set_xlabel("standard deviation of the logarithm of a sample")
        axes.set_ylabel("mean of merged estimates of 1")
        axes.tick_params(labelsize=SMALL)
        heading(canvas, "Merging with a heavy-tailed estimate")
        labels = [name.removeprefix("mean of ").removesuffix(" merged") for name in names]
        _legend(canvas, {label: (color, "-") for label, color in zip(labels, COLORS, strict=False)})
        return canvas

    caption = "Lognormal samples of mean 1 merged with normal ones of the same mean and variance; unbiased would be 1."
    return Figure("merged_bias", alt, caption, draw)


def influence_figure(table: Frame, curve: Frame, alt: str) -> Figure:
    """Mean gradients against the window, and where descent leads."""

    def draw() -> Canvas:
        canvas = Canvas(figsize=(1.6 * WIDTH, 3.9), layout="constrained")
        gradient, path = canvas.subplots(1, 2)
        columns = wide(curve)
        for name in influence.NAMES:
            _, color, dashes = ESTIMATORS[name]
            _band(gradient, table[table["name"] == f"gradient of {name}"], color, dashes)
            path.plot(columns[f"loss/{name}"], color=color, linestyle=dashes, linewidth=1.8)
        exact = float(table.loc[table["name"] == "exact gradient", "estimate"].iloc[0])
        gradient.axhline(exact, color="#999999", linewidth=0.8)
        gradient.axhline(0.0, color="#444444", linewidth=0.8)
        log_axes(gradient, influence.WINDOWS, y=False)
        gradient.set_xlabel("window, inner steps")
        gradient.set_ylabel("mean gradient at theta = 0.5", fontsize=SMALL)
        path.set_yscale("log")
        path.yaxis.set_minor_formatter(NullFormatter())
        path.yaxis.set_major_formatter(FuncFormatter(plain))
        path.tick_params(labelsize=SMALL)
        path.set_xlabel(f"outer step, windows of {influence.PATH_WINDOW}")
        path.set_ylabel("loss of the whole unroll", fontsize=SMALL)
        heading(canvas, "Influence balancing")
        names = influence.NAMES
        handles = [Line2D([], [], color=ESTIMATORS[n][1], linestyle=ESTIMATORS[n][2], linewidth=1.8) for n in names]
        handles.append(Line2D([], [], color="#999999", linewidth=1))
        labels = [ESTIMATORS[n][0].removesuffix(", one window") for n in names]
        legend_of(canvas, handles, [*labels, "exact"])
        return canvas

    caption = "Left: mean gradients with 95 % intervals; below zero points the wrong way. Right: descent from 0.5."
    return Figure("influence_balancing", alt, caption, draw, wide=True)
