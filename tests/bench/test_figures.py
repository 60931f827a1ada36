"""The figures of a report; what alt texts state is worked by hand, on straight lines (tests/bench/synthetic.py)."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas
from PIL import Image

from baselines import BASELINES, read_tuned, tuned_path
from baselines.tuned_values import SHIPPED_DIR
from bench.report import figures, tuning
from bench.report.figures import curves, drawing, ladder, parts, profiles
from bench.report.table import format_interval
from bench.statistics import t_interval
from bench.store.rows import LEARNED, read_rows
from bench.tuning import targets
from tests.bench import synthetic
from tests.bench.synthetic import GRID, falling, rows_of
from tests.bench.test_report import OPTIMIZERS, chosen, make_frames

pytestmark = pytest.mark.slow  # drawing, or a report made anew for every altered number

CONTENDER, REFERENCE = "lopt", "adam"
# The reference falls by .01 a step from 3: 2.0, 2.5, 2.75 at 100, 50, 25 steps.
LEVELS = {REFERENCE: (2.0, 2.5, 2.75)}
NEVER = falling(0.0)
ODD_NAME = "<b>$\\frac_名前 with a name far too long for any legend, v2"


def raced(contender, seconds=1.0):
    """Five runs of the learned optimizer beside the reference's on task "t", and their blocks."""
    runs = {CONTENDER: [contender] * 5, REFERENCE: [falling(0.01)] * 5}
    return rows_of({"t": runs}, {"t": {CONTENDER: [seconds] * 6, REFERENCE: [1.0] * 6}}, {CONTENDER: "learned"})


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


@pytest.fixture(scope="module")
def three_tasks():
    """Three tasks, three optimizers, five seeds: every kind of figure but those of tuning."""
    rows = read_rows(*make_frames(chosen("adam", "muon", "lopt"), ("a", "b", "c"), num_points=26))
    return rows, frozen_from(rows, "muon"), {"a": "out-of-distribution", "b": "held-out", "c": "held-out"}


def test_nothing_is_drawn_before_it_is_asked_for(three_tasks, monkeypatch):
    rows, found_targets, marks = three_tasks

    def refuse(*args, **kwargs):
        raise AssertionError("drawn")

    monkeypatch.setattr("matplotlib.figure.Figure.__init__", refuse)
    drawn = every_figure(rows, found_targets, "lopt", marks)
    assert len(drawn) > 20
    assert all(len(figure.alt) > 40 and figure.caption.endswith(".") for figure in drawn)
    with pytest.raises(AssertionError, match="drawn"):
        drawn[0].png  # noqa: B018


def test_the_same_rows_give_the_same_bytes_whatever_is_asked_for_first(three_tasks):
    slugs = ("time_to_target_a", "speedup_by_task")
    first, second = (by_slug(every_figure(three_tasks[0], three_tasks[1], "lopt", three_tasks[2])) for _ in range(2))
    for slug in slugs:
        one = {kind: getattr(first[slug], kind) for kind in ("png", "svg", "pdf")}
        other = {kind: getattr(second[slug], kind) for kind in ("pdf", "svg", "png")}
        assert one == other
        assert b"<dc:date>" not in one["svg"]
        assert b"CreationDate" not in one["pdf"]
        assert b"/Subtype /Type3" not in one["pdf"]
        assert first[slug].png is first[slug].png  # rendered once


def test_a_png_has_a_palette_and_a_white_ground(three_tasks):
    rows, found_targets, _ = three_tasks
    figure = figures.task_figures(rows, "a", figures.optimizer_styles(rows), found_targets)[0]
    image = Image.open(io.BytesIO(figure.png))
    assert image.mode == "P"
    assert len(image.getcolors()) <= drawing.NUM_COLORS
    assert image.convert("RGB").getpixel((image.width - 1, 0)) == (255, 255, 255)
    assert len(figure.png) < 60_000  # eighty of them make a page of three megabytes


def test_a_colour_that_little_is_drawn_in_stays_what_it_is():
    """As that of a line in a legend, where the curves themselves lie under others."""

    def draw():
        canvas = Canvas(figsize=(5, 4))
        axes = canvas.add_subplot()
        axes.imshow(np.linspace(0, 1, 4096).reshape(64, 64), cmap="viridis")
        axes.plot([50, 58], [5, 5], color="#0072B2")
        axes.plot([50, 58], [9, 9], color="#D55E00")
        return canvas

    figure = drawing.Figure("rare", "", "", draw)
    image = np.asarray(Image.open(io.BytesIO(figure.png)).convert("RGB"), int)
    assert np.abs(image - np.asarray(figure.image(), int)).max() < 32


def test_bands_that_overlap_keep_their_tints():
    """Their mixtures are many, and each is near another's."""
    colors = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#009E73", "#D55E00")
    x = np.linspace(0.0, 6.0, 200)

    def draw():
        canvas = Canvas(figsize=(5, 4))
        for axes in canvas.subplots(2, 2).flat:
            for number, color in enumerate(colors):
                y = np.exp(-x / (number + 2))
                axes.fill_between(x, 0.9 * y, 1.2 * y, color=color, alpha=0.2, linewidth=0)
                axes.plot(x, y, color=color)
        return canvas

    figure = drawing.Figure("bands", "", "", draw)
    image = np.asarray(Image.open(io.BytesIO(figure.png)).convert("RGB"), int)
    beyond = np.abs(image - np.asarray(figure.image(), int)).max(axis=-1) > 12
    assert beyond.mean() < 2e-3


def test_rules_share_a_colour_with_their_scheduled_form_and_no_two_rows_look_alike():
    names = dict.fromkeys(BASELINES, OPTIMIZERS["adam"]) | {"lopt": OPTIMIZERS["lopt"]}
    styles = figures.optimizer_styles(read_rows(*make_frames(names, ("t",), 1, num_points=3, timed=False)))
    assert styles["adam"].color == styles["adam_cosine"].color
    assert styles["adam"].marker != styles["adam_cosine"].marker
    assert len({(style.color, style.linestyle) for style in styles.values()}) == len(names)
    assert styles["lopt"].linewidth > max(style.linewidth for name, style in styles.items() if name != "lopt")


# ---------------------------------------------------------------------------------------------------------------------
# What is said, worked by hand
# ---------------------------------------------------------------------------------------------------------------------


def test_time_to_target_counts_arrivals_and_their_median_in_seconds():
    # Twice as fast at 1.25 s a step: the loss of step 100 at step 50, 62.5 s, against 100 s.
    alt = of_race(raced(falling(0.02), 1.25))["time_to_target_t"].alt
    assert "Kaplan-Meier curves of seconds to target" in alt
    assert "Hard target, train loss 2: adam 5 of 5 (100 s), lopt 5 of 5 (62.5 s)." in alt.replace(
        "lopt 5 of 5 (62.5 s), adam 5 of 5 (100 s)", "adam 5 of 5 (100 s), lopt 5 of 5 (62.5 s)"
    )
    assert "Easy target, train loss 2.75: " in alt


def test_time_to_target_names_a_miss_and_is_in_steps_where_the_clock_is_missing():
    runs = {REFERENCE: [falling(0.01)] * 3 + [NEVER] * 2, CONTENDER: [NEVER] * 5}
    rows = rows_of({"t": runs}, {"t": {REFERENCE: [1.0] * 6}})
    alt = of_race(rows)["time_to_target_t"].alt
    assert "curves of steps to target" in alt
    assert "adam 3 of 5 (100 steps)" in alt  # the third of five arrives at step 100
    assert "lopt 0 of 5" in alt


def test_target_levels_of_the_reference_are_drawn_in_train_loss_and_named():
    found = of_race(raced(falling(0.02)))
    assert found["train_loss_steps_t"].alt.endswith("Targets: hard 2, medium 2.5, easy 2.75.")
    texts = {text.get_text() for text in found["train_loss_steps_t"].draw().axes[0].texts}
    assert {"hard", "medium", "easy"} <= texts
    texts = {text.get_text() for text in found["validation_loss_steps_t"].draw().axes[0].texts}
    assert not {"hard", "medium", "easy"} & texts


def test_an_infinite_level_is_left_out():
    found = synthetic.frozen({REFERENCE: (math.inf, 2.5, 2.75)})
    assert curves.target_levels({"t": found}, "t") == {"medium": 2.5, "easy": 2.75}


def test_profiles_are_the_share_of_runs_within_a_ratio_of_the_best_median():
    # 62.5 s is the best median; the reference needs 100 s, 1.6 times as long.
    alt = of_race(raced(falling(0.02), 1.25))["performance_profile"].alt
    assert "share of runs within 1, 2, 4 times the best median time, and ever" in alt
    assert "adam 0 %, 100 %, 100 %, ever 100 %" in alt
    assert "lopt 100 %, 100 %, 100 %, ever 100 %" in alt


def test_profiles_take_the_seeds_and_the_tasks_that_all_have():
    cells, steps = make_frames(chosen("adam", "muon", "lopt"), ("a", "b"), 4, num_points=11)
    seeds = (cells["optimizer"] == "lopt") & (cells["task"] == "b") & (cells["seed"] == 0)
    muon = (cells["optimizer"] == "muon") & (cells["task"] == "a")
    rows = read_rows(cells[~(seeds | muon)], steps[~steps["cell"].isin(cells.loc[seeds | muon, "cell"])])
    found = profiles.profiled(rows, frozen_from(rows, "adam"))
    assert found.tasks == ("a", "b")
    assert set(found.optimizers) == {"adam", "lopt"}
    assert found.left_out == ("muon",)
    assert found.times.shape == (2, 2, 3)


def test_the_ladder_states_speed_ups_and_marks():
    alt = of_race(raced(falling(0.02), 1.25), marks={"t": "held-out"})["speedup_by_task"].alt
    assert "t (held-out): hard 1.60 [1.60, 1.60], medium 1.60 [1.60, 1.60], easy 1.60 [1.60, 1.60]." in alt
    assert "geometric mean" not in alt  # of one task it would be the same again


def test_the_ladder_marks_a_bound():
    found = of_race(raced(NEVER, 2.0))["speedup_by_task"]
    # The whole horizon at twice the cost is not enough: below 1/2, 1/4 and 1/8.
    assert all(bound in found.alt for bound in ("hard <0.5", "medium <0.25", "easy <0.12"))
    axes = found.draw().axes[0]
    assert any(text.get_text().startswith("<0.5") for text in axes.texts)
    assert {line.get_marker() for line in axes.lines} & set("Ds^|") == {"|"}  # no marker where there is no speed-up


def test_tasks_stand_under_their_marks_from_in_distribution_to_out_of_distribution():
    tasks = ["far", "new", "seen", "also far", "stranger", "chosen on"]
    marks = dict(
        zip(tasks, ["out-of-distribution", "held-out", "in-distribution", "out-of-distribution"], strict=False)
    )
    marks["chosen on"] = "used for choosing"
    lines = ladder.ladder_lines(tasks, marks, "geometric mean")
    assert [line.name for line in lines] == [
        *("in-distribution", "seen", "used for choosing", "chosen on", "held-out", "new"),
        *("out-of-distribution", "far", "also far", "unknown", "stranger", "geometric mean"),
    ]
    assert [line.name for line in ladder.ladder_lines(tasks, {})] == tasks


def test_both_ladders_show_the_tasks_in_that_order(three_tasks):
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


def test_every_learned_optimizer_has_ladders_the_headline_first_and_without_its_name(three_tasks):
    rows, found_targets, marks = three_tasks
    learned = [name for name in rows.trained if rows.role(name) == LEARNED]
    drawn = figures.overview_figures(rows, figures.optimizer_styles(rows), found_targets, None, {"lopt": marks})
    ladders = [figure.slug for figure in drawn if "_by_task" in figure.slug]
    assert ladders == [f"{kind}_by_task_{name}" for name in learned for kind in ("speedup", "test_loss")]
    drawn = figures.overview_figures(rows, figures.optimizer_styles(rows), found_targets, "lopt", {"lopt": marks})
    assert [figure.slug for figure in drawn][:2] == ["speedup_by_task", "test_loss_by_task"]


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


def test_a_divergent_task_does_not_hide_the_others_on_the_ladder_of_losses():
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


def test_the_ladder_of_losses_ends_with_the_mean_where_all_tasks_have_one_reference():
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


def test_leaders_are_the_learned_the_references_and_who_is_tuned_by_train_loss():
    names = ("adam", "muon", "sgd_momentum", "rmsprop", "lion", "adafactor", "muon_cosine_by_train", "lopt")
    rows = rows_of({"t": {name: [falling(0.01)] * 5 for name in names}}, {}, {"lopt": "learned"})
    styles, frozen = figures.optimizer_styles(rows), frozen_from(rows, "adam")
    assert "leaders_train_loss_seconds" not in by_slug(figures.overview_figures(rows, styles, frozen, "lopt", {}))
    blocks = {"t": dict.fromkeys(names, [1.0] * 6)}
    rows = rows_of({"t": {name: [falling(0.01)] * 5 for name in names}}, blocks, {"lopt": "learned"})
    found = by_slug(figures.overview_figures(rows, styles, frozen, "lopt", {}))
    alt = found["leaders_train_loss_seconds"].alt
    assert {name for name in names if f"{name} " in alt} == {"adam", "muon_cosine_by_train", "lopt"}
    few = names[4:]
    rows = rows_of({"t": {name: [falling(0.01)] * 5 for name in few}}, {"t": dict.fromkeys(few, [1.0] * 6)}, {})
    assert not [slug for slug in by_slug(figures.overview_figures(rows, styles, frozen, None, {})) if "lead" in slug]


def test_a_task_without_targets_stays_on_the_ladder(three_tasks):
    rows, found_targets, marks = three_tasks
    some = {task: frozen for task, frozen in found_targets.items() if task != "b"}
    found = by_slug(figures.overview_figures(rows, figures.optimizer_styles(rows), some, "lopt", {"lopt": marks}))
    assert "b (held-out): no target" in found["speedup_by_task"].alt
    assert "b (held-out): no target" in found["test_loss_by_task"].alt
    assert "geometric mean over the 2 tasks that have one" in found["speedup_by_task"].caption


# ---------------------------------------------------------------------------------------------------------------------
# Tuning
# ---------------------------------------------------------------------------------------------------------------------


def tuned_rows(**changes):
    """Rows of `adam` and `lopt` on digits8_mlp, as tuned for 500 steps but for `changes`."""
    record = read_tuned(tuned_path(SHIPPED_DIR, "digits8_mlp", 500, "adam"))
    cells, steps = make_frames(chosen("adam", "lopt"), ("digits8_mlp",), 2, num_points=3)
    adam = cells["optimizer"] == "adam"
    cells.loc[:, "family"] = "digits8_mlp"
    cells.loc[adam, "hyperparameters"] = json.dumps(record["hyperparameters"])
    for column, value in changes.items():
        cells.loc[adam, column] = value
    return read_rows(cells, steps), record


def test_tuning_is_read_from_the_record_behind_the_rows():
    rows, record = tuned_rows()
    (group,) = tuning.tuning_groups(rows)
    assert (group.family, group.horizon, group.slug) == ("digits8_mlp", 500, "digits8_mlp_500")
    (found,) = group.tunings
    assert found.learning_rate == record["hyperparameters"]["learning_rate"]
    assert found.losses[0] == pytest.approx(np.mean(record["trials"][0]["validation_losses"]))
    drawn = by_slug(figures.tuning_figures(rows))
    assert set(drawn) == {"learning_rate_digits8_mlp_500", "tuning_budget_digits8_mlp_500"}
    assert "adam 0.00944 (loss " in drawn["learning_rate_digits8_mlp_500"].alt
    assert "its outer-training is its tuning" in drawn["tuning_budget_digits8_mlp_500"].caption
    (table,) = tuning.tuning_tables(rows)
    assert [column.key for column in table.columns][1:] == ["learning_rate", *(f"best_of_{2**i}" for i in range(6))]
    assert table.rows[0][-1].value.estimate == min(found.losses)


@pytest.mark.parametrize(
    "changes",
    [
        {"hyperparameters": json.dumps({"learning_rate": 0.5})},
        {"tuned_horizon": 499},
        {"tuned_horizon": None},
        {"family": "mine"},
    ],
)
def test_rows_with_other_values_than_a_record_have_no_tuning(changes):
    rows, _ = tuned_rows(**changes)
    assert tuning.tuning_groups(rows) == ()
    assert figures.tuning_figures(rows) == tuning.tuning_tables(rows) == []


def test_a_diverged_trial_counts_and_the_table_says_so():
    # Two of {1, 3, inf} are drawn: the best are 1, 1, 3. One of them: 1, 3 or inf, the quartiles 1 and inf.
    found = tuning.Tuning("adam", (0.1, 0.2, 0.4), (3.0, 1.0, math.inf), 1, 0)
    assert found.budgets() == [1, 2]
    assert found.best_of(2).estimate == 1.0
    table = tuning._table(tuning.TuningGroup("f", 10, "f_10", (found,)))
    assert table.rows[0][1].value == 0.2
    assert table.rows[0][2].text == "3 [1, ∞]"
    assert "inf" in table.csv()


# ---------------------------------------------------------------------------------------------------------------------
# Small parts and edge cases
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heights", "places"),
    [
        ([0.0, 0.01, 0.5], [0.0, 0.05, 0.5]),
        ([0.98, 0.99], [0.95, 1.0]),
        ([0.2], [0.2]),
    ],
)
def test_names_in_the_margin_are_moved_apart(heights, places):
    assert parts.spread(heights, gap=0.05) == pytest.approx(places)


def test_a_long_name_keeps_both_ends():
    assert parts.short("lopt", 10) == "lopt"
    assert parts.short("imagenet32_cnn3/outer_validation/12", 16) == "imagenet32…on/12"
    assert len(parts.short("x" * 99, 28)) == 28


EDGE_CASES = {
    "one optimizer, one seed": ((chosen("adam"), ("t",), 1), {}),
    "learned only": ((chosen("lopt"), ("t",), 5), {}),
    "two seeds, no clock": ((chosen("adam", "lopt"), ("t",), 2), {"timed": False}),
    "odd names": (({ODD_NAME: OPTIMIZERS["lopt"], "_hidden": OPTIMIZERS["adam"]}, ("../<b>task" * 9,), 5), {}),
    "timed only": ((chosen("adam", "lopt"), ("t",), 0), {}),
    "all diverged": (
        (chosen("adam", "lopt"), ("t",), 2, {("t", name, s): "diverged" for name in OPTIMIZERS for s in range(2)}),
        {},
    ),
    "all in error": (
        (chosen("adam", "lopt"), ("t",), 2, {("t", name, s): "error" for name in OPTIMIZERS for s in range(2)}),
        {"timed": False},
    ),
    "three tasks, some failed": (
        (chosen("adam", "lopt"), ("a", "b", "c"), 2, {("a", "lopt", 0): "diverged", ("b", "adam", 1): "error"}),
        {},
    ),
}


@pytest.mark.parametrize("with_targets", [True, False], ids=["targets", "no targets"])
@pytest.mark.parametrize("case", EDGE_CASES)
def test_every_figure_can_be_drawn(case, with_targets):
    arguments, options = EDGE_CASES[case]
    rows = read_rows(*make_frames(*arguments, num_points=6, **options))
    reference = "adam" if "adam" in rows.trained else next(iter(rows.trained), "adam")
    found_targets = frozen_from(rows, reference) if with_targets and rows.trained else {}
    contender = next((name for name in rows.optimizers if rows.role(name) == "learned"), None)
    drawn = every_figure(rows, found_targets, contender, {})
    for figure in drawn:
        assert figure.png.startswith(b"\x89PNG")
    for figure in drawn[:1] if case == "odd names" else ():
        assert b"</svg>" in figure.svg
        assert figure.pdf.startswith(b"%PDF")


@pytest.mark.parametrize("values", [NEVER, -falling(0.04), np.where(GRID > 0, np.nan, 3.0)])
def test_losses_may_be_flat_negative_or_end_at_once(values):
    for figure in of_race(raced(values), {REFERENCE: (-1.0, 2.5, math.inf)}).values():
        assert figure.data_uri.startswith("data:image/png;base64,")
