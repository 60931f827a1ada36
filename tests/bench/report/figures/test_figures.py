"""Every figure can be drawn, whatever the rows."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas

from bench.report import figures
from bench.report.figures import heat_maps
from bench.report.figures.theme import themed
from bench.statistics import three_digits
from bench.store.rows import read_rows
from tests.bench.noisy_rows import OPTIMIZERS, chosen, make_frames
from tests.bench.pairs import FLAT, REFERENCE, raced
from tests.bench.report.figures.drawn import every_figure, frozen_from, of_race
from tests.bench.synthetic import GRID, falling

pytestmark = pytest.mark.slow  # drawing


ODD_NAME = "<b>$\\frac_名前 with a name far too long for any legend, v2"


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


@pytest.mark.parametrize("values", [FLAT, -falling(0.04), np.where(GRID > 0, np.nan, 3.0)])
def test_losses_may_be_flat_negative_or_end_at_once(values):
    drawn = list(of_race(raced(values), {REFERENCE: (-1.0, 2.5, math.inf)}).values())
    for figure in drawn:
        assert figure.png.startswith(b"\x89PNG")
    assert drawn[0].data_uri.startswith("data:image/webp;base64,")  # takes longer to make than the others together


def test_the_page_shows_what_says_most_and_steps_only_where_there_are_no_seconds():
    timed, untimed = (
        read_rows(*make_frames(chosen("adam", "lopt"), ("a", "b", "c"), 2, num_points=6, timed=clock))
        for clock in (True, False)
    )
    shown = {figure.slug for figure in figures.shown(every_figure(timed, {}, "lopt", {}))}
    assert {slug for slug in shown if slug.endswith("_a")} == {
        "train_loss_seconds_a",
        "validation_loss_seconds_a",
        "final_test_loss_a",
    }
    assert "final_test_loss_heat_map" in shown
    drawn = [f for f in every_figure(untimed, {}, "lopt", {}) if "seconds" not in f.slug]
    assert {"train_loss_steps_a", "validation_loss_steps_a"} <= {figure.slug for figure in figures.shown(drawn)}


def test_the_first_screen_has_the_leaders_or_a_lone_tasks_losses_and_the_speed_ups():
    for tasks, expected in (("t", "validation_loss_seconds_t"), ("tu", "leaders_validation_loss_seconds")):
        rows = read_rows(*make_frames(chosen("adam", "lopt"), tasks, 2, num_points=6))
        targets, styles = frozen_from(rows, "adam"), figures.optimizer_styles(rows)
        overview = figures.overview_figures(rows, styles, targets, "lopt", {})
        of_task = figures.task_figures(rows, "t", styles, targets)
        assert [figure.slug for figure in figures.first(overview, of_task)] == [expected, "speedup_by_task"]


@pytest.mark.parametrize(("columns", "alignment"), [(3, "center"), (6, "right")])
def test_labels_of_a_heat_map_end_below_their_columns(columns, alignment):
    axes = Canvas().add_subplot()
    values = pd.DataFrame(np.zeros((2, columns)), index=["a", "b"], columns=[f"task {i}" for i in range(columns)])
    heat_maps.heat_map(axes, values, values.astype(str), Normalize(-1, 1), heat_maps.AROUND_ONE)
    assert {label.get_horizontalalignment() for label in axes.get_xticklabels()} == {alignment}
    assert [label.get_position()[0] for label in axes.get_xticklabels()] == [i + 0.5 for i in range(columns)]


def test_the_heat_map_has_the_mean_of_every_optimizer_on_every_task_and_marks_failures():
    statuses = {("a", "lopt", 0): "diverged"}
    rows = read_rows(*make_frames(chosen("adam", "muon", "lopt"), ("a", "b"), 3, statuses, num_points=6))
    figure = heat_maps.test_loss_figure(rows)
    with themed():
        (axes,) = figure.draw().axes
    texts = [text.get_text() for text in axes.texts]
    means = {name: rows.losses(name, ("a", "b"), "final_test_loss") for name in ("adam", "muon", "lopt")}
    assert f"{three_digits(means['adam']['b'].mean())}" in texts
    assert f"{three_digits(means['lopt']['a'][1:].mean())}†" in texts
    assert len(texts) == 6
    ratio = (means["adam"].mean() / means["muon"].mean()).max()
    assert f"to {ratio:.3g}; " in figure.alt or f"to {ratio:.3g}." in figure.alt
    assert heat_maps.test_loss_figure(read_rows(*make_frames(chosen("adam"), ("a",), 1, num_points=3))) is None
