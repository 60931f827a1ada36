"""What a report draws, for people who look before they read.

    drawing           an image as PNG, WebP, SVG or PDF, made when asked for
    theme             the theme of all figures, and the looks of an optimizer, by its role
    axes              words, legends, labels and axes
    panels            losses of runs as lines with bands, drawn by seaborn
    curves            losses against steps and seconds: of the leaders, of a task, in small multiples
    losses_and_costs  final losses and step costs, every seed and every block
    heat_maps         a number for each pair, such as of task and optimizer
    time_to_target    the share of runs that have not reached a target, against time
    speedups          speed-ups and test losses of a learned optimizer, task by task
    profiles          Dolan-More performance profiles over tasks
    tuning            losses of the tuning trials, against the learning rate and against the number of trials
    outer_training    a run of outer-training so far
    designs           designs of learned optimizers, loss against cost
    pathologies       the pathologies of outer-training that the paper names
    ablation          estimators of the outer-gradient against curricula

Alt text and caption are computed at once, the image when its bytes are asked for: what is never shown is never drawn.
The page shows some of them (`shown`), so that it stays small; files have them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.report import tuning as tuning_records
from bench.report.figures import curves, heat_maps, losses_and_costs, profiles, speedups, time_to_target, tuning
from bench.report.figures.drawing import Figure
from bench.report.figures.theme import Style, optimizer_styles
from bench.store.rows import Rows
from bench.tuning.targets import Targets

__all__ = ["Figure", "Style", "optimizer_styles", "overview_figures", "shown", "task_figures", "tuning_figures"]

# Beginnings of slugs -> why the page does without; `bench report --figures` makes files of them.
LEFT_OUT = {
    "validation_loss_steps_": "the same lines as against seconds, each stretched by its step cost",
    "train_loss_steps_": "likewise",
    "step_cost_": "the tables have median and interval",
    "time_to_target_": "the levels in validation loss against seconds and the table of scores say who arrives when",
    "tuning_budget_": "the table beside has the best of 1, 2, 4 and more trials",
    "overview_": "every task has an image of its own",
}
LEADERS = "leaders_validation_loss_", "validation_loss_seconds_", "validation_loss_steps_"  # the first that there is
SPEEDUPS = "speedup_by_task"


def task_figures(rows: Rows, task: str, styles: Mapping[str, Style], targets: Mapping[str, Targets]) -> list[Figure]:
    """Losses against steps and seconds, final test losses, step costs, time to target: what of it the rows allow.

    Args:
      rows: of the suite, controls left out.
      task: name.
      styles: of every optimizer in the rows.
      targets: by task; without the task's there are no target lines and no time to target.
    """
    found = [
        *curves.curve_figures(rows, task, styles, targets),
        time_to_target.survival_figure(rows, task, styles, targets),
        losses_and_costs.final_loss_figure(rows, task, styles),
        losses_and_costs.step_cost_figure(rows, task, styles),
    ]
    return [figure for figure in found if figure is not None]


def shown(drawn: Sequence[Figure]) -> list[Figure]:
    """Those that the page shows: without `LEFT_OUT`, but losses against steps where there are none against seconds."""
    slugs = {figure.slug for figure in drawn}
    without_clock = {slug for slug in slugs if slug.replace("_loss_steps_", "_loss_seconds_") not in slugs}
    return [f for f in drawn if f.slug in without_clock or not f.slug.startswith(tuple(LEFT_OUT))]


def first(overview: Sequence[Figure], of_task: Sequence[Figure]) -> list[Figure]:
    """The figures of the first screen: validation losses of the leaders, of a lone task its own, and speed-ups."""
    candidates = [f for start in LEADERS for f in (*overview, *of_task) if f.slug.startswith(start)]
    return candidates[:1] + [f for f in overview if f.slug == SPEEDUPS]


def overview_figures(
    rows: Rows,
    styles: Mapping[str, Style],
    targets: Mapping[str, Targets],
    headline: str | None,
    marks: Mapping[str, Mapping[str, str]],
) -> list[Figure]:
    """The leaders, every learned optimizer by task, profiles, test losses, and small multiples of validation loss.

    Args:
      rows: of the suite, controls left out.
      styles: of every optimizer in the rows.
      targets: by task.
      headline: the learned optimizer that claims are judged on, None where there is none.
      marks: optimizer -> task -> what it is to it, one of `speedups.MARKS`.
    """
    found = [
        *curves.leader_figures(rows, styles, targets),
        *speedups.by_task_figures(rows, styles, targets, headline, marks),
        profiles.profile_figure(rows, styles, targets),
        heat_maps.test_loss_figure(rows),
        *curves.overview_figures(rows, styles),
    ]
    return [figure for figure in found if figure is not None]


def tuning_figures(rows: Rows) -> list[Figure]:
    """For each (family, horizon) that hand-designed rows were tuned on: loss against learning rate, and best of k."""
    styles = optimizer_styles(rows)
    return [figure for group in tuning_records.tuning_groups(rows) for figure in tuning.figures(group, rows, styles)]
