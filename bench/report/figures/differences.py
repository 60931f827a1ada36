"""Differences with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure as Canvas

from bench.report.figures.axes import SMALL, WIDTH, heading
from bench.report.figures.drawing import Figure
from bench.report.figures.theme import COLORS, LEARNED_COLORS
from bench.statistics import Interval, estimate_text


def differences_figure(
    slug: str,
    panels: Mapping[str, Mapping[str, Interval]],
    what: str,
    x_label: str,
    caption: str,
    *,
    equal: float = 0.0,
) -> Figure:
    """A point with its interval for each difference, beside the line of no difference, in a panel for each group.

    Args:
      slug: names the files.
      panels: group -> label -> difference, or ratio.
      what: the heading.
      x_label: of the axis of differences.
      caption: how to read it.
      equal: where the line of no difference lies: at 1 for ratios.
    """
    parts = [
        f"{group}, {label}: {estimate_text(d.estimate, d.low, d.high)}"
        for group, found in panels.items()
        for label, d in found.items()
    ]
    return Figure(slug, f"{what}. {'; '.join(parts)}.", caption, lambda: _draw(panels, what, x_label, equal))


def _draw(panels: Mapping[str, Mapping[str, Interval]], what: str, x_label: str, equal: float) -> Canvas:
    heights = [len(found) for found in panels.values()]
    canvas = Canvas(figsize=(WIDTH, 1.1 + 0.45 * sum(heights) + 0.35 * len(heights)), layout="constrained")
    drawn = canvas.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (group, found) in zip(drawn, panels.items(), strict=True):
        for place, difference in enumerate(found.values()):
            color = (LEARNED_COLORS[0], COLORS[0])[place % 2]
            if difference.low is not None and difference.high is not None:
                axes.plot([difference.low, difference.high], [place, place], color=color, linewidth=2)
            axes.plot([difference.estimate], [place], "D", color=color, markersize=6)
        axes.axvline(equal, color="#444444", linewidth=1)
        axes.set_yticks(range(len(found)), list(found), fontsize=SMALL)
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_title(group, loc="left", fontsize=SMALL)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="x", labelsize=SMALL)
    drawn[-1].set_xlabel(x_label, fontsize=SMALL)
    heading(canvas, what)
    return canvas
