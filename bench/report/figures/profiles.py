"""Dolan-More performance profiles: how often an optimizer is within a factor of the best one (protocol rule 12)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from bench.report.figures.axes import WIDTH, heading, legend, listed, optimizers_on, percent, ratio_axis, runs_of
from bench.report.figures.curves import target_levels
from bench.report.figures.drawing import Figure
from bench.report.figures.theme import Style
from bench.report.summary import sorted_optimizers
from bench.report.table import PERCENT, plural
from bench.score.times_to_target import PAPER_TARGET, steps_to_target
from bench.statistics import lower_median, performance_profile, performance_profile_bands
from bench.store.rows import LEARNED, Rows
from bench.tuning.targets import Targets

ALT_RATIOS = (1.0, 2.0, 4.0)
NUM_RESAMPLES = 500  # of the bands: what a figure can show
MAX_RATIO = 100.0


@dataclass(frozen=True, eq=False)
class Profiled:
    """Times to the hard target, inf for a miss: (num_tasks, num_optimizers, num_seeds) in `unit`."""

    tasks: tuple[str, ...]
    optimizers: tuple[str, ...]
    left_out: tuple[str, ...]  # optimizers that some of the tasks lack
    times: NDArray[np.float64]
    unit: str  # "seconds" or "steps"


def profile_figure(rows: Rows, styles: Mapping[str, Style], targets: Mapping[str, Targets]) -> Figure | None:
    """Profiles of time to the reference's hard target; None where no run of any task reaches it."""
    found = profiled(rows, targets)
    if found is None:
        return None
    shares = performance_profile(found.times, ALT_RATIOS)
    ever = np.isfinite(found.times).mean(axis=(0, 2))
    alts = [
        f"{name} {', '.join(map(percent, row))}, ever {percent(reached)}"
        for name, row, reached in zip(found.optimizers, shares, ever, strict=True)
    ]
    none = [name for name, reached in zip(found.optimizers, ever, strict=True) if not reached]
    never = f" No run of {listed(none)} arrives." if none else ""
    largest = _largest_ratio(found.times)
    late = "never arrive" if largest < MAX_RATIO else f"never arrive, or later than {MAX_RATIO:g} times as long"
    ratios = ", ".join(f"{ratio:g}" for ratio in ALT_RATIOS)
    num_seeds = found.times.shape[2]
    learned = any(rows.role(name) == LEARNED for name in found.optimizers)
    band = f" Band: {PERCENT}, seeds resampled within tasks, for the learned rows." if learned else ""
    left_out = f" Not run on all of these tasks: {listed(found.left_out)}." if found.left_out else ""
    clock = " Steps, since no task has every optimizer in its timing cell." if found.unit == "steps" else ""
    return Figure(
        slug="performance_profile",
        alt=f"Performance profiles of {found.unit} to the hard target over {plural(len(found.tasks), 'task')}: share "
        f"of runs within {ratios} times the best median time, and ever. {'; '.join(alts)}.",
        caption=f"Performance profiles over {plural(len(found.tasks), 'task')} and {plural(num_seeds, 'seed')}: the "
        f"share of an optimizer's runs that reach the hard target within a multiple of the best optimizer's median "
        f"{found.unit} on the task. Up and left is better; a line that ends below 100 % has runs that {late}."
        f"{never}{clock}{band}{left_out}",
        draw=lambda: _draw(rows, styles, found),
    )


@functools.cache
def _common_seeds(rows: Rows, task: str, names: tuple[str, ...]) -> list[int]:
    return sorted(set.intersection(*(set(runs_of(rows, name, (task,))[0]) for name in names)))


def profiled(rows: Rows, targets: Mapping[str, Targets]) -> Profiled | None:
    """The optimizers run on every task with targets, on the seeds that all of them have, by one clock.

    Tasks whose timing cell lacks one of them are left out, unless all tasks do: then times are steps.
    """
    tasks = [t for t in rows.tasks if PAPER_TARGET in target_levels(targets, t) and optimizers_on(rows, t)]
    if not tasks:
        return None
    everyone = [
        name for name in sorted_optimizers(rows, rows.tasks) if any(name in optimizers_on(rows, t) for t in tasks)
    ]
    names = tuple(name for name in everyone if all(name in optimizers_on(rows, t) for t in tasks))
    if not names:
        return None
    timed = [t for t in tasks if t in rows.blocks and all(name in rows.blocks[t] for name in names)]
    shown = timed or tasks
    num_seeds = min(len(_common_seeds(rows, task, names)) for task in shown)
    if not num_seeds:
        return None
    times = np.array([[_times(rows, targets, t, n, names, num_seeds, bool(timed)) for n in names] for t in shown])
    if not np.isfinite(times).any():
        return None
    left_out = tuple(name for name in everyone if name not in names)
    return Profiled(tuple(shown), names, left_out, times, "seconds" if timed else "steps")


def _times(
    rows: Rows, targets: Mapping[str, Targets], task: str, name: str, names: tuple[str, ...], num_seeds: int,
    seconds: bool,
) -> NDArray[np.float64]:  # fmt: skip
    steps = steps_to_target(rows, task, name, target_levels(targets, task)[PAPER_TARGET])
    by_seed = dict(zip(runs_of(rows, name, (task,))[0], steps, strict=True))
    chosen = np.array([by_seed[seed] for seed in _common_seeds(rows, task, names)[:num_seeds]])
    # A run that begins below the target still takes a step.
    return np.maximum(chosen, 1.0) * (float(rows.blocks[task][name].median()) if seconds else 1.0)


def _largest_ratio(times: NDArray[np.float64]) -> float:
    medians = lower_median(times)
    best = medians.min(axis=1)[:, None, None]
    ratios = times[np.isfinite(times)] / np.broadcast_to(best, times.shape)[np.isfinite(times)]
    return float(min(max(ratios.max(), 2.0), MAX_RATIO))


def _draw(rows: Rows, styles: Mapping[str, Style], found: Profiled) -> Canvas:
    largest = _largest_ratio(found.times) * 1.1
    grid = np.geomspace(1.0, largest, 400)
    profiles = performance_profile(found.times, grid)
    bands = performance_profile_bands(found.times, grid, num_resamples=NUM_RESAMPLES)
    canvas = Canvas(figsize=(WIDTH, 4.5), layout="constrained")
    axes = canvas.add_subplot()
    for i, name in enumerate(found.optimizers):
        style = styles[name]
        look = {
            "color": style.color,
            "linestyle": style.linestyle,
            "linewidth": style.linewidth,
            "zorder": style.zorder,
        }
        axes.step(grid, profiles[i], where="post", **look)
        if bands is not None and rows.role(name) == LEARNED:
            axes.fill_between(grid, bands[0][i], bands[1][i], color=style.color, alpha=0.14, linewidth=0, zorder=2)
    ratio_axis(axes, 1.0, largest)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(FuncFormatter(percent))
    axes.set_xlabel(f"{found.unit} to the hard target / the best median of the task, log scale")
    axes.set_ylabel("share of runs there")
    heading(canvas, f"performance profile, {plural(len(found.tasks), 'task')}: time to the hard target")
    legend(canvas, rows, found.optimizers, styles, found.tasks)
    return canvas
