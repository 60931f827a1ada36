"""All figures of some rows, by name."""

from bench.report import figures
from bench.tuning import targets
from tests.bench import synthetic
from tests.bench.pairs import CONTENDER, LEVELS


def frozen_from(rows, reference):
    """Targets of every task from the rows' own curves."""
    found = {}
    for task in rows.tasks:
        levels = {}
        for name in rows.trained:
            curve = rows.curve(task, name, "train_loss")
            if curve is not None:
                by_target = targets.levels_of(curve.index, curve.to_numpy(dtype=float), rows.horizon(task))
                levels[name] = {"train_loss": by_target, "validation_loss": by_target}
        references = dict.fromkeys(targets.GROUPS, reference)
        found[task] = targets.Targets(task, rows.horizon(task), levels, references, "", "", {})
    return found


def every_figure(rows, found_targets, contender, marks):
    styles = figures.optimizer_styles(rows)
    drawn = [figure for task in rows.tasks for figure in figures.task_figures(rows, task, styles, found_targets)]
    drawn += figures.overview_figures(rows, styles, found_targets, contender, {contender: marks})
    return drawn + figures.tuning_figures(rows)


def by_slug(drawn):
    found = {figure.slug: figure for figure in drawn}
    assert len(found) == len(drawn)  # each is a file of its own
    return found


def of_race(rows, levels=LEVELS, marks=None):
    return by_slug(every_figure(rows, {"t": synthetic.frozen(levels)}, CONTENDER, marks or {}))
