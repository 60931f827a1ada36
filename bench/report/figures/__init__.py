"""What a report draws, for people who look before they read; one panel per image unless panels share an axis.

    drawing           an image as PNG, SVG or PDF, made when asked for; the looks of an optimizer
    axes              words, legends, labels and axes
    curves            losses against steps and against seconds
    losses_and_costs  final losses and step costs, every seed and every block
    time_to_target    the share of runs that have not reached a target, against time
    speedups          speed-ups and test losses of a learned optimizer, task by task
    profiles          Dolan-More performance profiles over tasks
    outer_training    a run of outer-training so far
    designs           designs of learned optimizers, loss against cost
    pathologies       the pathologies of outer-training that the paper names
    tuning            losses of the tuning trials, against the learning rate and against the number of trials

Alt text and caption are computed at once, the image when its bytes are asked for: what is never shown is never drawn.
The page of many tasks shows some of them (`shown`), so that it stays small; files have them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from bench.report import tuning as tuning_records
from bench.report.figures import curves, losses_and_costs, profiles, speedups, time_to_target, tuning
from bench.report.figures.drawing import Figure, Style, optimizer_styles
from bench.store.rows import Rows
from bench.tuning.targets import Targets

__all__ = ["Figure", "Style", "optimizer_styles", "overview_figures", "shown", "task_figures", "tuning_figures"]

# Beginnings of slugs -> why the page of many tasks does without; `bench report --figures` makes files of them.
LEFT_OUT = {
    "validation_loss_steps_": "the small multiples show every task's",
    "train_loss_steps_": "the same lines as against seconds, each stretched by its step cost",
    "step_cost_": "the tables have median and interval",
    "time_to_target_": "the levels in validation loss against seconds and the table of scores say who arrives when",
    "tuning_budget_": "the table beside has the best of 1, 2, 4 and more trials",
    "overview_validation_loss_seconds": "every task has an image of its own",
}


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


def shown(drawn: Sequence[Figure], rows: Rows) -> list[Figure]:
    """Those that the page shows: all where tasks are few, else without `LEFT_OUT`.

    Losses against steps stay where there are none against seconds. Dots stand beside two images of curves.
    """
    if len(rows.tasks) < curves.OVERVIEW_MIN_TASKS:
        return list(drawn)
    slugs = {figure.slug for figure in drawn}
    without_clock = {slug for slug in slugs if slug.replace("_loss_steps_", "_loss_seconds_") not in slugs}
    kept = [f for f in drawn if f.slug in without_clock or not f.slug.startswith(tuple(LEFT_OUT))]
    if len(kept) == 3 and kept[-1].slug.startswith("final_test_loss_"):
        kept = [kept[0], dataclasses.replace(kept[2], tall=True), kept[1]]
    return kept


def overview_figures(
    rows: Rows,
    styles: Mapping[str, Style],
    targets: Mapping[str, Targets],
    headline: str | None,
    marks: Mapping[str, Mapping[str, str]],
) -> list[Figure]:
    """The leaders, every learned optimizer by task, performance profiles, and small multiples of validation loss.

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
        *curves.overview_figures(rows, styles),
    ]
    return [figure for figure in found if figure is not None]


def tuning_figures(rows: Rows) -> list[Figure]:
    """For each (family, horizon) that hand-designed rows were tuned on: loss against learning rate, and best of k."""
    styles = optimizer_styles(rows)
    return [figure for group in tuning_records.tuning_groups(rows) for figure in tuning.figures(group, rows, styles)]
