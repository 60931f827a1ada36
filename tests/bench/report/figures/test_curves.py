"""Levels and leaders in the figures of losses."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.report import figures
from bench.report.figures import curves, panels
from bench.report.figures.theme import themed
from bench.report.first_screen import leaders
from bench.store.rows import read_rows
from tests.bench import synthetic
from tests.bench.pairs import REFERENCE, raced
from tests.bench.report.figures.drawn import frozen_from, of_race
from tests.bench.synthetic import diverging, falling, rows_of


def test_target_levels_of_the_reference_are_drawn_in_validation_loss_and_named():
    found = of_race(raced(falling(0.02)))
    assert found["validation_loss_steps_t"].alt.endswith("Targets: hard 2, medium 2.5, easy 2.75.")
    texts = {text.get_text() for text in found["validation_loss_steps_t"].draw().axes[0].texts}
    assert {"hard", "medium", "easy"} <= texts
    texts = {text.get_text() for text in found["train_loss_steps_t"].draw().axes[0].texts}
    assert not {"hard", "medium", "easy"} & texts


def test_an_infinite_level_is_left_out():
    found = synthetic.frozen({REFERENCE: (math.inf, 2.5, 2.75)})
    assert curves.target_levels({"t": found}, "t") == {"medium": 2.5, "easy": 2.75}


NAMES = ("adam", "muon", "sgd_momentum", "rmsprop", "lion", "adafactor", "muon_cosine_by_train", "ema", "lopt")


def rows_on(tasks, names=NAMES, seconds=1.0, timed=True):
    """Every run falls by 0.01 a step; `seconds` of a step, by optimizer or of all."""
    blocks = {name: [seconds.get(name, 1.0) if isinstance(seconds, dict) else seconds] * 6 for name in names}
    runs = {task: {name: [falling(0.01)] * 5 for name in names} for task in tasks}
    return rows_of(runs, dict.fromkeys(tasks, blocks) if timed else {}, {"lopt": "learned"})


def leader_figures(rows, reference="adam"):
    found = curves.leader_figures(rows, figures.optimizer_styles(rows), frozen_from(rows, reference))
    return {figure.slug: figure for figure in found}


def test_leaders_are_the_learned_the_references_the_best_and_who_is_tuned_by_train_loss():
    rows = rows_on("tu")
    assert set(leaders(rows, frozen_from(rows, "adam"))) == {"adam", "adafactor", "muon_cosine_by_train", "lopt"}
    assert len(leaders(rows_on("tu", NAMES[1:]), {})) == len(NAMES) - 1  # all, where they are few


def test_the_leaders_of_one_family_are_drawn_over_all_tasks_in_seconds():
    """Tasks of `rows_on` are families of their own: here both are of one."""
    rows = rows_on("tu", seconds={"lopt": 2.0})
    rows.train["family"] = "f"
    found = leader_figures(rows)
    assert set(found) == {"leaders_validation_loss_seconds", "leaders_train_loss_seconds"}
    chart = found["leaders_validation_loss_seconds"].chart()
    lines = {line["name"]: line for line in chart["lines"]}
    assert set(lines) == {"adam", "adafactor", "muon_cosine_by_train", "lopt"}
    assert (lines["lopt"]["x"][-1], lines["adam"]["x"][-1]) == (200.0, 100.0)
    assert lines["adam"]["median"][::5][:2] == [3.0, 2.5]
    assert (chart["title"], chart["values"]) == ("2 tasks: validation loss", "median [quartiles over tasks and seeds]")
    assert chart["levels"] == {"chance": 3.0, "hard": 2.0}


def test_the_leaders_of_several_families_are_drawn_relative_to_the_reference():
    rows = rows_on("tu", seconds={"adam": 2.0})
    chart = leader_figures(rows)["leaders_validation_loss_seconds"].chart()
    lines = {line["name"]: line for line in chart["lines"]}
    assert (lines["lopt"]["x"][-1], lines["lopt"]["median"][-1]) == (0.5, 1.0)
    assert lines["adam"]["median"][0] == 1.5
    assert "leaders_train_loss_seconds" not in leader_figures(rows)


def test_without_a_clock_the_leaders_are_drawn_against_steps_of_the_first_task():
    found = leader_figures(rows_on("tu", timed=False))
    assert {slug.rpartition("_")[0] for slug in found} == {"leaders_validation_loss"}
    assert "on t." in next(iter(found.values())).alt
    assert leader_figures(rows_on("t")) == {}  # its own figures are the same


def test_who_does_not_lead_is_in_the_chart_of_a_task_to_be_switched_on():
    rows = rows_on("t")
    figure = curves.curve_figures(rows, "t", figures.optimizer_styles(rows), frozen_from(rows, "adam"))[0]
    hidden = {line["name"] for line in figure.chart()["lines"] if line["hidden"]}
    assert (figure.chart()["title"], figure.chart()["values"]) == (
        "t: validation loss against steps",
        "median over seeds",
    )
    assert hidden == set(NAMES) - {"adam", "adafactor", "muon_cosine_by_train", "lopt"}
    with themed():
        (axes,) = figure.draw().axes
    assert len([line for line in axes.lines if len(line.get_xdata()) > 2]) == 4


def test_a_line_ends_thin_where_a_run_has_failed():
    runs = {"adam": [falling(0.01)] * 4 + [diverging(50, 0.01)], "lopt": [falling(0.02)] * 5}
    rows = rows_of({"t": runs}, {}, {"lopt": "learned"})
    figure = curves.curve_figures(rows, "t", figures.optimizer_styles(rows), {})[0]
    with themed():
        (axes,) = figure.draw().axes
    ends = {round(line.get_linewidth(), 1): line.get_xdata()[-1] for line in axes.lines if len(line.get_xdata()) > 2}
    assert ends == {2.6: 100, 1.6: 50, 0.9: 100}
    assert "A cross marks" in figure.caption


@pytest.mark.parametrize(
    ("num_seeds", "band"), [(2, "range over tasks and seeds (fewer"), (3, "25th to 75th percentile")]
)
def test_the_band_is_of_percentiles_where_tasks_and_seeds_together_are_enough(num_seeds, band):
    runs = {name: [falling(0.01, 3.0 + seed) for seed in range(num_seeds)] for name in ("adam", "lopt")}
    rows = rows_of(dict.fromkeys("tu", runs), {t: {"adam": [1.0] * 6, "lopt": [1.0] * 6} for t in "tu"})
    rows.train["family"] = "f"
    figure = curves.leader_figures(rows, figures.optimizer_styles(rows), {})[0]
    assert band in figure.caption
    line = figure.chart()["lines"][0]
    assert (line["low"][0], line["median"][0], line["high"][0]) == ((3.0, 3.5, 4.0), (3.25, 4.0, 4.75))[num_seeds - 2]


def test_a_clock_that_is_not_known_takes_no_run_with_it():
    found = panels.long({"a": [(np.array([0.0, 1.0, math.nan]), pd.DataFrame({0: [3.0, 2.0, 1.0]}))]})
    assert found["whole"].tolist() == [True, True]
    assert found["whole"].dtype == bool


@pytest.mark.parametrize("others", ["u", "uv"])
def test_a_task_whose_every_run_ends_at_once_leaves_the_figures_to_the_others(others):
    """Its loss before the first step has no time on the runs' own clock."""
    ended = {"adam": [diverging(0)] * 5}
    runs = {"t": ended, **{task: {"adam": [falling(0.01)] * 5} for task in others}}
    rows = read_rows(*synthetic.frames(synthetic.cells_of(runs)))
    styles = figures.optimizer_styles(rows)
    found = [*curves.leader_figures(rows, styles, {}), *curves.overview_figures(rows, styles)]
    with themed():
        drawn = {figure.slug: figure.draw() for figure in found}
    assert "leaders_validation_loss_steps" in drawn
    if "overview_validation_loss_seconds" in drawn:
        titles = [axes.get_title(loc="left") for axes in drawn["overview_validation_loss_seconds"].axes]
        assert titles == list(others)
