"""Speed-ups and differences in test loss, task by task."""

import dataclasses

from bench.report import figures
from bench.report.figures import speedups
from bench.report.table import format_interval
from bench.score.speedup import Speedup
from bench.statistics import Interval, t_interval
from bench.store.rows import LEARNED, read_rows
from bench.tuning import targets
from tests.bench.noisy_rows import chosen, make_frames
from tests.bench.pairs import FLAT, raced
from tests.bench.report.figures.drawn import by_slug, frozen_from, of_race
from tests.bench.synthetic import falling

SPEEDUP = Speedup(1.5, 1.0, 2.0, False, 5, Interval(1.5, 1.0, 2.0, 5))


def test_speed_ups_and_marks_are_stated():
    alt = of_race(raced(falling(0.02), 1.25), marks={"t": "held-out"})["speedup_by_task"].alt
    assert "t (held-out): hard 1.60 [1.60, 1.60], medium 1.60 [1.60, 1.60], easy 1.60 [1.60, 1.60]." in alt
    assert "geometric mean" not in alt  # of one task it would be the same again


def test_a_bound_is_marked():
    found = of_race(raced(FLAT, 2.0))["speedup_by_task"]
    # The whole horizon at twice the cost is not enough: below 1/2, 1/4 and 1/8.
    assert all(bound in found.alt for bound in ("hard <0.5", "medium <0.25", "easy <0.12"))
    axes = found.draw().axes[0]
    assert any(text.get_text().startswith("<0.5") for text in axes.texts)
    assert {line.get_marker() for line in axes.lines} & set("Ds^|") == {"|"}  # no marker where there is no speed-up


def test_captions_explain_the_marks_that_the_figure_has_and_no_others():
    plain, bound = (of_race(raced(curve, 2.0), marks={"t": "held-out"}) for curve in (falling(0.02), FLAT))
    assert "Arrow" not in plain["speedup_by_task"].caption
    assert "Arrow with cap: half of the runs never reach" in bound["speedup_by_task"].caption
    assert "Arrow from a marker" not in bound["speedup_by_task"].caption
    open_end = dataclasses.replace(SPEEDUP, low=0.0)
    assert speedups._arrows_sentence({"t": {"hard": open_end}}).startswith("Arrow from a marker: the interval has no")
    assert "hollow" not in plain["test_loss_by_task"].caption
    assert "These tasks are held-out for lopt: new images" in plain["test_loss_by_task"].caption


def test_tasks_stand_under_their_marks_from_in_distribution_to_out_of_distribution():
    tasks = ["far", "new", "seen", "also far", "stranger", "chosen on"]
    marks = dict(
        zip(tasks, ["out-of-distribution", "held-out", "in-distribution", "out-of-distribution"], strict=False)
    )
    marks["chosen on"] = "used for choosing"
    lines = speedups.lines_of(tasks, marks, "geometric mean")
    assert [line.name for line in lines] == [
        *("in-distribution", "seen", "used for choosing", "chosen on", "held-out", "new"),
        *("out-of-distribution", "far", "also far", "unknown", "stranger", "geometric mean"),
    ]
    assert [line.name for line in speedups.lines_of(tasks, {})] == tasks


def test_both_figures_show_the_tasks_in_that_order(three_tasks):
    rows, found_targets, marks = three_tasks
    found = by_slug(
        figures.overview_figures(rows, figures.optimizer_styles(rows), found_targets, "lopt", {"lopt": marks})
    )
    order = ["held-out", "b", "c", "out-of-distribution", "a"]
    for slug, last in (("speedup_by_task", ["geometric mean"]), ("test_loss_by_task", ["mean"])):
        axes = found[slug].draw().axes[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == order + last
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
        assert "held-out, new images for the data set and architecture of outer-training" in found[slug].caption


def test_every_learned_optimizer_has_both_figures_the_headline_first_and_without_its_name(three_tasks):
    rows, found_targets, marks = three_tasks
    learned = [name for name in rows.trained if rows.role(name) == LEARNED]
    drawn = figures.overview_figures(rows, figures.optimizer_styles(rows), found_targets, None, {"lopt": marks})
    slugs = [figure.slug for figure in drawn if "_by_task" in figure.slug]
    assert slugs == [f"{kind}_by_task_{name}" for name in learned for kind in ("speedup", "test_loss")]
    drawn = figures.overview_figures(rows, figures.optimizer_styles(rows), found_targets, "lopt", {"lopt": marks})
    slugs = [figure.slug for figure in drawn if "_by_task" in figure.slug]
    assert slugs[:2] == ["speedup_by_task", "test_loss_by_task"]


def test_differences_in_test_loss_are_paired_and_a_failed_run_is_shown_as_failed():
    statuses = {("b", "lopt", 0): "diverged"}
    cells, steps = make_frames(chosen("adam", "lopt"), ("a", "b"), 5, statuses, num_points=6)
    rows = read_rows(cells, steps)
    styles = figures.optimizer_styles(rows)
    found = by_slug(figures.overview_figures(rows, styles, frozen_from(rows, "adam"), "lopt", {}))["test_loss_by_task"]
    on_task = cells.query("task == 'a' and kind == 'train'").astype({"final_test_loss": float})
    losses = on_task.pivot(index="seed", columns="optimizer", values="final_test_loss")
    difference = format_interval(t_interval(losses["lopt"] - losses["adam"]), sign=True)
    assert f"a (unknown): {difference};" in found.alt
    assert "(failed runs: 1 of lopt)" in found.alt
    assert "1 of 5 failed" in [text.get_text() for text in found.draw().axes[0].texts]


def test_a_divergent_task_does_not_hide_the_others_in_the_figure_of_losses():
    cells, steps = make_frames(chosen("adam", "lopt"), ("a", "b"), 5, {}, num_points=6)

    def axes_of(cells):
        rows = read_rows(cells, steps)
        styles = figures.optimizer_styles(rows)
        found = by_slug(figures.overview_figures(rows, styles, frozen_from(rows, "adam"), "lopt", {}))
        return found["test_loss_by_task"].draw().axes[0]

    assert axes_of(cells).get_xscale() == "linear"
    far = (cells["task"] == "a") & (cells["optimizer"] == "lopt") & (cells["kind"] == "train")
    near = (cells["task"] == "b") & (cells["optimizer"] == "lopt") & (cells["kind"] == "train")
    changed = cells.astype({"final_test_loss": object})
    changed.loc[far, "final_test_loss"] = 5000.0
    changed.loc[near, "final_test_loss"] = 9.0
    axes = axes_of(changed)
    assert axes.get_xscale() == "symlog"
    assert "log scale beyond 1" in axes.get_xlabel()
    diamonds = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"][:2]  # the third: their mean
    shown = axes.transAxes.inverted().transform(axes.transData.transform([(x, 1.0) for x in [0.0, *diamonds]]))[:, 0]
    assert len(shown) == 3
    assert min(abs(a - b) for i, a in enumerate(shown) for b in shown[:i]) > 0.1
    adam = (cells["task"] == "a") & (cells["optimizer"] == "adam") & (cells["kind"] == "train")
    expected = f"{5000 - cells.loc[adam, 'final_test_loss'].astype(float).mean():+,.0f}"
    assert expected in [text.get_text() for text in axes.texts]


def test_the_figure_of_losses_ends_with_the_mean_where_all_tasks_have_one_reference():
    cells, steps = make_frames(chosen("adam", "muon", "lopt"), ("a", "b"), 5, {}, num_points=6)
    rows = read_rows(cells, steps)
    styles, frozen = figures.optimizer_styles(rows), frozen_from(rows, "adam")
    found = by_slug(figures.overview_figures(rows, styles, frozen, "lopt", {}))["test_loss_by_task"]
    losses = cells.query("kind == 'train'").astype({"final_test_loss": float})
    losses = losses.pivot_table(index="seed", columns="optimizer", values="final_test_loss")  # means over the tasks
    difference = format_interval(t_interval(losses["lopt"] - losses["adam"]), sign=True)
    assert f"; mean: {difference}." in found.alt
    assert "Last row: mean over the tasks." in found.caption
    frozen["b"] = dataclasses.replace(frozen["b"], references=dict.fromkeys(targets.GROUPS, "muon"))
    found = by_slug(figures.overview_figures(rows, styles, frozen, "lopt", {}))["test_loss_by_task"]
    assert "mean:" not in found.alt


def test_a_task_without_targets_stays_in_the_figure(three_tasks):
    rows, found_targets, marks = three_tasks
    some = {task: frozen for task, frozen in found_targets.items() if task != "b"}
    found = by_slug(figures.overview_figures(rows, figures.optimizer_styles(rows), some, "lopt", {"lopt": marks}))
    assert "b (held-out): no target" in found["speedup_by_task"].alt
    assert "b (held-out): no target" in found["test_loss_by_task"].alt
    assert "geometric mean over the 2 tasks that have one" in found["speedup_by_task"].caption
