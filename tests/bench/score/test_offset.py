"""Losses below zero: no time, rank, control or verdict depends on the offset of a loss, and figures bear it."""

import numpy as np
import pytest

from bench.report.page import write_page
from bench.score.controls import read_controls
from bench.score.first_screen import first_screen
from tests.bench.pairs import CONTENDER, LEVELS, REFERENCE, rows_on_t, targets_on_t
from tests.bench.synthetic import cells_of, diverging, falling, frames

RUNS = {
    CONTENDER: [falling(0.02 + 0.001 * seed) for seed in range(5)],
    REFERENCE: [falling(0.01 + 0.001 * seed) for seed in range(5)],
    "adam_frozen": [falling(0.0)] * 5,
    "adam_10x": [diverging(20), *[falling(0.005)] * 4],
}
ROLES = {CONTENDER: "learned", "adam_frozen": "control", "adam_10x": "control"}
BLOCKS = {CONTENDER: [1.1, 1.2, 1.0, 1.1, 1.3, 1.1], REFERENCE: [1.0] * 6}


def moved(offset):
    """The runs and the levels of their targets, lower by an offset."""
    runs = {name: [losses - offset for losses in of_seeds] for name, of_seeds in RUNS.items()}
    return runs, {name: tuple(level - offset for level in levels) for name, levels in LEVELS.items()}


def judged(offset):
    runs, levels = moved(offset)
    rows, targets = rows_on_t(runs, BLOCKS, ROLES), targets_on_t(levels)
    return first_screen(rows, targets, "s", "l", "cpu", CONTENDER).scores, read_controls(rows, targets)


@pytest.mark.parametrize("offset", [3.0, 8.0])  # to losses around zero, and all below
def test_scores_and_controls_do_not_depend_on_the_offset_of_a_loss(offset):
    (scores, controls), (lower, lower_controls) = judged(0.0), judged(offset)
    assert (lower.verdict, lower.word) == (scores.verdict, scores.word)
    assert scores.word == "faster"
    for row, low in zip(scores.rows, lower.rows, strict=True):
        assert low.speedups == row.speedups
        assert low.success == row.success
        assert low.losses["test_loss"].estimate == pytest.approx(row.losses["test_loss"].estimate - offset)
    assert lower_controls.zero_rate_rank == controls.zero_rate_rank == (3, 3)
    assert lower_controls.tenfold.estimate == pytest.approx(controls.tenfold.estimate)
    assert (lower_controls.tenfold_failed, lower_controls.zero_rate_success) == (1, controls.zero_rate_success)


def test_a_page_of_losses_below_zero_is_drawn(tmp_path):
    """Its axes are not logarithmic: a warning would be an error."""
    runs, levels = moved(8.0)
    cells, curves = frames(cells_of({"t": runs}, {"t": BLOCKS}, ROLES))
    named = {"title": "t", "suite": "made", "label": "local"}
    page = write_page(cells, curves, tmp_path, targets=targets_on_t(levels), headline=CONTENDER, **named)
    assert np.all(cells["final_test_loss"].dropna() < 0)
    assert page.stat().st_size > 50_000
