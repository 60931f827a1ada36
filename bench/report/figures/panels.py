"""Losses of runs as seaborn takes them: a panel of lines, each the median over runs with a band of percentiles."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.report.figures.axes import (
    LOG_FROM_RANGE,
    ceiling_of,
    label_levels,
    limits_of,
    loss_axis,
    note_above,
    short,
    time_axis,
)
from bench.report.figures.drawing import detached
from bench.report.figures.theme import BAND, Style, looks
from bench.statistics import MIN_SEEDS, significant
from bench.store.rows import Frame

CHART_DIGITS = 4
CEILING = 1.15  # times the start: what climbs above it has left the picture


@dataclass(frozen=True, eq=False)
class Panel:
    """Losses of some optimizers against one axis of time.

    Attributes:
      name: its title among others.
      data: a row for each run and evaluation, with columns `optimizer`, `run`, `x`, `loss` (NaN from the step at which
        the run has failed) and `whole`, whether every run of the optimizer is there up to this step.
      levels: names of horizontal lines -> their losses.
      x_label: of the axis of time.
      y_label: of the axis of losses.
      hidden: optimizers that the page's chart has, to be switched on, and the image has not.
    """

    name: str
    data: Frame
    levels: Mapping[str, float]
    x_label: str
    y_label: str
    hidden: frozenset[str] = frozenset()

    @functools.cached_property
    def optimizers(self) -> list[str]:
        """Those that have a line."""
        return list(dict.fromkeys(self.data["optimizer"]))

    @functools.cached_property
    def visible(self) -> Frame:
        """The rows of those that the image has."""
        return self.data[~self.data["optimizer"].isin(list(self.hidden))]

    @functools.cached_property
    def log_x(self) -> bool:
        """Whether time is on a logarithmic axis: where some lines are a tenth of others they would be a blot."""
        ends = self.visible.groupby("optimizer")["x"].max()
        return bool(ends.min() > 0 and ends.max() / ends.min() > LOG_FROM_RANGE)

    @functools.cached_property
    def shown(self) -> Frame:
        """The rows that the image has and that have a place: step 0 has none on a logarithmic axis."""
        return self._placed(self.visible)

    def _placed(self, data: Frame) -> Frame:
        return data[data["x"] > 0] if self.log_x else data

    @functools.cached_property
    def lines(self) -> Frame:
        """By optimizer and x: `median`, `low` and `high` of the runs that are there, and whether these are all."""
        return self._lines(self.shown)

    def _lines(self, data: Frame) -> Frame:
        width = band_width(self.visible)
        grouped = data.dropna(subset="loss").groupby(["optimizer", "x"], sort=True)["loss"]
        ends = {"low": (100 - width) / 200, "high": (100 + width) / 200}
        found = pd.DataFrame({"median": grouped.median(), **{name: grouped.quantile(q) for name, q in ends.items()}})
        return found.join(data.groupby(["optimizer", "x"])["whole"].all()).reset_index()

    @functools.cached_property
    def loss_limits(self) -> tuple[float, float]:
        """Lowest and highest loss that the axis has room for: what lies far above the start is a run that blew up."""
        start = self.visible[self.visible["x"] == self.visible["x"].min()].groupby("optimizer")["loss"].max()
        starts = [float(x) for x in start if math.isfinite(x)]
        banded = self.lines[self.lines["whole"]]
        ends = [*self.lines["median"], *banded["low"], *banded["high"]]
        top = min(max([*starts, *ends]), ceiling_of(starts, self.levels.get("chance"), CEILING))
        # A level that nobody is near is no reason to squeeze the lines.
        lows = [*ends, *(level for name, level in self.levels.items() if name != "chance")] or starts
        return min(lows), top

    @functools.cached_property
    def leaving(self) -> list[str]:
        """Optimizers whose median leaves the top."""
        highest = self.lines.groupby("optimizer")["median"].max()
        return [name for name in highest.index if highest[name] > self.loss_limits[1]]

    def chart(
        self, styles: Mapping[str, Style], num_points: int, *, title: str, over: str, bands: bool
    ) -> dict[str, Any]:
        """What the page's script draws: words, scales, and lines of `num_points` at most, `CHART_DIGITS` digits.

        Args:
          styles: of every optimizer.
          num_points: of a line, at most.
          title: stands above it.
          over: what median and band are over.
          bands: whether lines have one.
        """
        columns = ("x", "median", *(("low", "high") if bands else ()))
        found, lines = self._lines(self._placed(self.data)), []
        for name in self.optimizers:
            line = found[found["optimizer"] == name]
            line = line.iloc[np.unique(np.linspace(0, len(line) - 1, num_points).round().astype(int))]
            values = {column: [significant(value, CHART_DIGITS) for value in line[column]] for column in columns}
            style = styles[name]
            look = {"color": style.color, "dashes": list(style.dashes), "width": style.linewidth}
            lines.append({"name": name, "hidden": name in self.hidden, **look, **values})
        low, high, log = limits_of(*self.loss_limits)
        spread = "quartiles" if band_width(self.visible) == 50 else "range"
        return {
            "title": title,
            "values": f"median [{spread} over {over}]" if bands else f"median over {over}",
            "xLabel": self.x_label,
            "yLabel": self.y_label,
            "logX": self.log_x,
            "logY": log,
            "yLimits": [significant(low, CHART_DIGITS), significant(high, CHART_DIGITS)],
            "levels": {name: significant(level, CHART_DIGITS) for name, level in self.levels.items()},
            "lines": lines,
        }


def long(parts: Mapping[str, Sequence[tuple[Any, Frame]]], every: int = 1) -> Frame:
    """The data of a panel.

    Args:
      parts: optimizer -> (x, losses) of each of its tasks; x (num_points,), losses (num_points x num_seeds).
      every: evaluations to pass over, the last one kept: small panels need fewer.
    """
    frames = []
    for name, tables in parts.items():
        # Where tasks share their x, the runs of all are one sample; a run that failed ends the whole line.
        for number, (x, table) in enumerate(tables):
            kept = np.arange(len(table))[::-every][::-1]
            values = table.to_numpy(np.float64)
            values = np.where(np.isfinite(values), values, np.nan)
            whole = np.logical_and.accumulate(np.isfinite(values).all(axis=1))
            frame = pd.DataFrame(values[kept], columns=[f"{number}/{seed}" for seed in table.columns])
            frame = frame.assign(x=np.asarray(x, np.float64)[kept], whole=whole[kept])
            frames.append(frame.melt(["x", "whole"], var_name="run", value_name="loss").assign(optimizer=name))
    data = pd.concat(frames, ignore_index=True)
    data["whole"] = data.groupby(["optimizer", "x"])["whole"].transform("all").astype(bool)
    return data.dropna(subset="x")


def band_width(data: Frame) -> int:
    """Percent of the runs within the band: the middle half, of fewer than `MIN_SEEDS` all."""
    runs = data.groupby("optimizer")["run"].nunique()
    return 50 if runs.min() >= MIN_SEEDS else 100


def draw(
    panels: Sequence[Panel], styles: Mapping[str, Style], order: Sequence[str], *, height: float, aspect: float
) -> Canvas:
    """Lines and bands of every panel.

    Args:
      panels: at least one.
      styles: of every optimizer.
      order: the optimizers, the first drawn last, on top.
      height: of a panel, inches.
      aspect: its width over its height.
    """
    data: Frame = pd.concat([panel.shown.assign(panel=panel.name) for panel in panels])
    several = {"col": "panel", "col_wrap": min(3, len(panels))} if len(panels) > 1 else {}
    names = sorted(dict.fromkeys(data["optimizer"]), key=lambda name: -list(order).index(name))
    common: dict[str, Any] = {"x": "x", "y": "loss", "hue": "optimizer", "style": "optimizer", "legend": False}
    look = looks(styles, names)
    whole = data[data["whole"]] if data["whole"].any() else data  # no run has come to a second point
    grid = sns.relplot(
        whole, kind="line", size="optimizer", estimator="median", **common, **several, **look,
        errorbar=("pi", max(map(band_width, (panel.visible for panel in panels)))),
        err_kws={"alpha": BAND, "linewidth": 0}, height=height, aspect=aspect,
        facet_kws={"sharex": False, "sharey": False},
    )  # fmt: skip
    canvas = detached(grid.figure)
    thin = {name: value for name, value in look.items() if name not in ("sizes", "size_order")}
    for panel, axes in zip(panels, grid.axes.flat, strict=True):
        rest = panel.shown[~panel.shown["whole"]].dropna(subset="loss")
        if len(rest):
            sns.lineplot(rest, **common, **thin, ax=axes, estimator="median", errorbar=None, linewidth=0.9)
        _finish(axes, panel, styles, several=bool(several))
    return canvas


def _finish(axes: Axes, panel: Panel, styles: Mapping[str, Style], *, several: bool) -> None:
    """Scales, levels, labels and the crosses where runs failed."""
    loss_axis(axes.set_yscale, axes.set_ylim, axes.yaxis, *panel.loss_limits)
    x = panel.shown["x"]
    time_axis(axes, x.min(), x.max(), log=panel.log_x)
    for name in dict.fromkeys(panel.visible["optimizer"]):
        line = panel.lines[panel.lines["optimizer"] == name]
        whole = line[line["whole"]]
        if len(whole) and not panel.data.loc[panel.data["optimizer"] == name, "whole"].all():
            place = float(whole["x"].iloc[-1]), min(float(whole["median"].iloc[-1]), axes.get_ylim()[1])
            look: dict[str, Any] = {"color": styles[name].color, "markeredgecolor": "white", "markersize": 9}
            axes.plot(*place, marker="X", clip_on=False, zorder=8, **look)
    label_levels(axes, panel.levels)
    axes.set_xlabel(panel.x_label + (", log scale" if panel.log_x else ""))
    axes.set_ylabel(textwrap.fill(panel.y_label + (", log scale" if axes.get_yscale() == "log" else ""), 40))
    if several:
        axes.set_title(short(panel.name, 40), loc="left")
    elif panel.leaving:
        note_above(axes, f"Leaves the top: {', '.join(map(short, panel.leaving))}")
