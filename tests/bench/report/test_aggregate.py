"""Time to target and the aggregate over tasks, worked by hand."""

import numpy as np
import pytest

from bench.report import aggregate
from bench.statistics import Interval
from tests.bench.pairs import CONTENDER, LEVELS, REFERENCE, SLOW, raced, rows_on_t, targets_on_t
from tests.bench.report.reading import entries
from tests.bench.synthetic import GRID, falling


def test_time_to_target_is_median_restricted_mean_and_shares():
    # Three runs arrive at the hard target, loss 2.0, after 50 steps of 1.5 s; two never do: censored at 150 s.
    runs = {CONTENDER: [falling(0.02)] * 3 + [SLOW] * 2, REFERENCE: [falling(0.01)] * 5}
    rows = rows_on_t(runs, {CONTENDER: [1.5] * 6, REFERENCE: [1.0] * 6}, {CONTENDER: "learned"})
    table = aggregate.time_table(rows, targets_on_t(LEVELS), "t", "time_t")
    row = entries(table, CONTENDER)
    assert row["median_seconds"].value.estimate == 75.0
    # Of at most the 100 s that the reference's horizon takes: 75 s for three fifths, and 100 s for the others.
    assert row["restricted_mean_seconds"].value.estimate == pytest.approx(0.6 * 75 + 0.4 * 100)
    assert row["success_hard"].value.estimate == 0.6
    # All of the reference's runs arrive, none before the end of its budget: a mean without an interval.
    assert entries(table, REFERENCE)["restricted_mean_seconds"].value == Interval(100.0, None, None, 5)
    assert [row[0].value for row in table.rows] == [REFERENCE, CONTENDER]  # who arrives most often first


def test_a_median_never_reached_is_later_than_the_budget():
    rows = raced(SLOW, 2.0)
    row = entries(aggregate.time_table(rows, targets_on_t(LEVELS), "t", "time_t"), CONTENDER)
    assert (row["median_seconds"].text, row["median_seconds"].value.estimate) == (">200", 200.0)
    assert row["success_hard"].value.estimate == 0.0


def test_without_a_clock_or_targets_there_is_no_time_to_target():
    rows = rows_on_t({REFERENCE: [falling(0.01)] * 5})
    assert aggregate.time_table(rows, targets_on_t(LEVELS), "t", "time_t") is None
    assert aggregate.time_table(raced(SLOW), {}, "t", "time_t") is None
    assert aggregate.aggregate_table(raced(SLOW), {}, CONTENDER) is None


def test_the_normalized_loss_is_over_the_references_mean_and_improvement_counts_pairs():
    # Final losses 1 and 2: half of the reference's, and lower in every pair.
    table = aggregate.aggregate_table(raced(falling(0.02)), targets_on_t(LEVELS), CONTENDER)
    row = entries(table, CONTENDER)
    assert row["normalized_test_loss"].value.estimate == pytest.approx(0.5)
    better = entries(table, REFERENCE)["improvement"]
    assert (better.value.estimate, better.bold) == (1.0, True)
    assert row["improvement"].value is None  # on itself


def test_a_failed_run_withholds_the_mean_and_loses_its_pairs():
    broken = np.where(GRID > 20, np.nan, falling(0.02))
    rows = rows_on_t(
        {CONTENDER: [falling(0.02)] * 4 + [broken], REFERENCE: [falling(0.01)] * 5}, roles={CONTENDER: "learned"}
    )
    table = aggregate.aggregate_table(rows, targets_on_t(LEVELS), CONTENDER)
    assert entries(table, CONTENDER)["normalized_test_loss"].text == "1 failed"
    assert entries(table, REFERENCE)["improvement"].value.estimate == pytest.approx(0.8)
