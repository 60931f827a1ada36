"""Losses after equal steps and after equal seconds."""

import pytest

from bench.report import budgets
from tests.bench.pairs import CONTENDER, REFERENCE, raced, rows_on_t
from tests.bench.report.reading import entries
from tests.bench.synthetic import diverging, falling


def test_losses_after_equal_steps_and_after_equal_seconds_stand_side_by_side():
    # The contender's step takes three times the reference's: in the seconds of its 100 steps it takes 33, and the last
    # evaluation before that is after 30.
    table = budgets.budget_table(raced(falling(0.02), 3.0), ("t",), "budgets")
    assert [row[0].value for row in table.rows] == [REFERENCE, CONTENDER]
    for name, at_steps, at_seconds, share in ((REFERENCE, 2.0, 2.0, 1.0), (CONTENDER, 1.0, 2.4, 1 / 3)):
        found = entries(table, name)
        for metric in ("train_loss", "validation_loss"):
            assert found[f"{metric}_steps"].value.estimate == pytest.approx(at_steps)
            assert found[f"{metric}_seconds"].value.estimate == pytest.approx(at_seconds)
        assert found["share_of_steps"].value == pytest.approx(share)
    # What the clock cannot tell apart has time for the same steps.
    near = entries(budgets.budget_table(raced(falling(0.02), 1.01), ("t",), "budgets", 0.02), CONTENDER)
    assert (near["share_of_steps"].value, near["train_loss_seconds"].value.estimate) == (1.0, pytest.approx(1.0))
    assert budgets.budget_table(rows_on_t({REFERENCE: [falling(0.01)]}), ("t",), "budgets") is None


def test_a_run_that_has_failed_by_the_end_of_a_budget_is_counted_and_sorted_last():
    runs = {CONTENDER: [diverging(50, 0.02), *[falling(0.02)] * 4], REFERENCE: [falling(0.01)] * 5}
    rows = rows_on_t(runs, {CONTENDER: [3.0] * 6, REFERENCE: [1.0] * 6}, {CONTENDER: "learned"})
    found = entries(budgets.budget_table(rows, ("t",), "budgets"), CONTENDER)
    assert found["train_loss_steps"].text == "1 failed"
    assert found["train_loss_seconds"].value.estimate == pytest.approx(2.4)  # it still stands after 30 steps
    rows = rows_on_t(runs, {CONTENDER: [1.0] * 6, REFERENCE: [1.0] * 6}, {CONTENDER: "learned"})
    table = budgets.budget_table(rows, ("t",), "budgets")
    assert entries(table, CONTENDER)["train_loss_seconds"].text == "1 failed"
    assert [row[0].value for row in table.rows] == [REFERENCE, CONTENDER]
