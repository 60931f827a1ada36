"""Every figure can be drawn, whatever the rows."""

import math

import numpy as np
import pytest

from bench.report import figures
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


def test_of_many_tasks_the_page_shows_what_says_most_and_steps_only_where_there_are_no_seconds():
    few, many, untimed = (
        read_rows(*make_frames(chosen("adam", "lopt"), tasks, 2, num_points=6, timed=timed))
        for tasks, timed in (("ab", True), ("abc", True), ("abc", False))
    )
    assert len(figures.shown(every_figure(few, {}, "lopt", {}), few)) == len(every_figure(few, {}, "lopt", {}))
    shown = {figure.slug for figure in figures.shown(every_figure(many, {}, "lopt", {}), many)}
    assert {slug for slug in shown if slug.endswith("_a")} == {
        "train_loss_seconds_a",
        "validation_loss_seconds_a",
        "final_test_loss_a",
    }
    assert "overview_validation_loss_steps" in shown
    drawn = [f for f in every_figure(untimed, {}, "lopt", {}) if "seconds" not in f.slug]
    slugs = {figure.slug for figure in figures.shown(drawn, untimed)}
    assert {"train_loss_steps_a", "validation_loss_steps_a"} <= slugs
