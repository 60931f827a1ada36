"""The tables of a report, worked by hand on straight lines: task "t", horizon 100, losses that fall from 3."""

import csv
import io
import math

import numpy as np
import pandas as pd
import pytest

from bench.report import aggregate, budgets, comparison, fairness, first_screen
from bench.report.table import Column, Entry, Table, as_written
from bench.score.first_screen import first_screen as screen_of
from bench.statistics import Interval
from tests.bench.synthetic import diverging
from tests.bench.test_protocol import CONTENDER, GRID, LEVELS, REFERENCE, falling, frozen, raced, rows_of

SLOW = np.full(len(GRID), 2.9)


def entries(table, name):
    """Column key -> entry, of the row of this name."""
    return next(
        dict(zip((c.key for c in table.columns), row, strict=True)) for row in table.rows if row[0].value == name
    )


def screen(contender=None, seconds=1.0):
    rows = raced(falling(0.02) if contender is None else contender, seconds)
    return screen_of(rows, frozen(LEVELS), "s", "l", "cpu", None)


def test_a_table_is_written_in_latex_with_rules_and_nothing_that_latex_reads_as_its_own():
    columns = (Column("name", "row_1 & 50 %"), Column("value", "value", interval=True))
    rows = ((Entry("[a]_#$"), Entry("<0.25 [0.1, 0.4]", Interval(0.25, 0.1, 0.4, 5), bold=True)), (Entry("–"),) * 2)
    lines = Table("some", "100 % {sure}", columns, rows).latex().splitlines()
    assert lines[3:5] == [r"\caption{100 \% \{sure\}}", r"\label{tab:some}"]
    assert lines[5:10] == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"row\_1 \& 50 \% & value \\",
        r"\midrule",
        r"{[}a{]}\_\#\$ & \textbf{$<$0.25 {[}0.1, 0.4{]}} \\",
    ]
    assert lines[10:] == [r"-- & -- \\", r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def test_the_first_table_has_the_learned_row_first_and_bold_where_the_interval_excludes_one():
    table = first_screen.score_table(screen(), "t", "score")
    assert [row[0].value for row in table.rows] == [CONTENDER, REFERENCE]
    hard = entries(table, REFERENCE)["hard_speedup"]
    assert (hard.text, hard.bold) == ("2.00 [2.00, 2.00]", True)
    assert entries(table, REFERENCE)["success_rate"].value.estimate == 1.0
    # Equal curves: a speed-up of 1 is no difference.
    equal = entries(first_screen.score_table(screen(falling(0.01)), "t", "score"), REFERENCE)["hard_speedup"]
    assert (equal.text, equal.bold) == ("1.00 [1.00, 1.00]", False)


def test_a_speed_up_that_is_only_a_bound_is_marked_and_bold_below_one():
    hard = entries(first_screen.score_table(screen(SLOW, 2.0), "t", "score"), REFERENCE)["hard_speedup"]
    # Never reached in the whole horizon, each step twice as dear: below 1 / 2.
    assert (hard.text, hard.bold) == ("<0.500", True)


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
    assert budgets.budget_table(rows_of({REFERENCE: [falling(0.01)]}), ("t",), "budgets") is None


def test_a_run_that_has_failed_by_the_end_of_a_budget_is_counted_and_sorted_last():
    runs = {CONTENDER: [diverging(50, 0.02), *[falling(0.02)] * 4], REFERENCE: [falling(0.01)] * 5}
    rows = rows_of(runs, {CONTENDER: [3.0] * 6, REFERENCE: [1.0] * 6}, {CONTENDER: "learned"})
    found = entries(budgets.budget_table(rows, ("t",), "budgets"), CONTENDER)
    assert found["train_loss_steps"].text == "1 failed"
    assert found["train_loss_seconds"].value.estimate == pytest.approx(2.4)  # it still stands after 30 steps
    rows = rows_of(runs, {CONTENDER: [1.0] * 6, REFERENCE: [1.0] * 6}, {CONTENDER: "learned"})
    table = budgets.budget_table(rows, ("t",), "budgets")
    assert entries(table, CONTENDER)["train_loss_seconds"].text == "1 failed"
    assert [row[0].value for row in table.rows] == [REFERENCE, CONTENDER]


def test_controls_that_did_not_run_are_dashes_and_races_are_counted():
    table = first_screen.controls_table(screen())
    assert [[entry.text for entry in row[2:]] for row in table.rows] == [["–", "–", "–"]] * 5
    found = screen()
    found["races"] = [
        {"task": task, "target": "hard", "contender": "a", "reference": "b", "raced": 2.0, "predicted": 2.0 * ratio}
        | {"predicted_over_raced": ratio}
        for task, ratio in (("t", 0.95), ("u", 1.08))
    ]
    last = first_screen.controls_table(found).rows[-1]
    assert [entry.text for entry in last[2:]] == ["0.950 to 1.08", "yes", "2 targets reached by both on 2 tasks"]
    assert [row[-2].text for row in first_screen.races_table(found).rows] == ["0.950", "1.08"]
    found["races"][0]["predicted_over_raced"] = 0.89
    assert first_screen.controls_table(found).rows[-1][3].text == "no"


def test_a_race_that_nobody_decides_is_said():
    found = screen()
    one = {"task": "t", "target": "hard", "contender": "a", "reference": "b", "not_arrived": ["a"]}
    found["races_not_decided"] = [one]
    assert "no race is decided" in first_screen.controls_table(found).rows[-1][-1].text
    assert [entry.text for entry in first_screen.races_table(found).rows[0]][-4:] == ["–", "–", "–", "a"]


def test_failed_runs_at_ten_times_the_rate_are_worse_than_any():
    found = screen()
    for estimate, text in ((None, "–"), (0.5, "0.500")):
        others = {"estimate": estimate, "low": None, "high": None}
        found["controls"] |= {"adam_10x_failed": 3, "adam_10x_minus_adam": others}
        last = [entry.text for entry in first_screen.controls_table(found).rows[-1]]
        assert last[2:] == [text, "yes", "3 runs failed, in no mean"]


def test_a_control_that_is_not_as_expected_says_so():
    found = screen()
    interval = {"estimate": 1.04, "low": 1.0, "high": 1.1}
    found["controls"] |= {"aa": interval, "frozen_rank": {"rank": 2, "of": 3}}
    held = {row[0].text.partition(":")[0]: row[3].text for row in first_screen.controls_table(found).rows}
    assert held["the same optimizer entered twice"] == "no"
    assert [row[3].text for row in first_screen.controls_table(found).rows].count("no") == 2  # the rank is not last


def test_time_to_target_is_median_restricted_mean_and_shares():
    # Three runs arrive at the hard target, loss 2.0, after 50 steps of 1.5 s; two never do: censored at 150 s.
    runs = {CONTENDER: [falling(0.02)] * 3 + [SLOW] * 2, REFERENCE: [falling(0.01)] * 5}
    rows = rows_of(runs, {CONTENDER: [1.5] * 6, REFERENCE: [1.0] * 6}, {CONTENDER: "learned"})
    table = aggregate.time_table(rows, frozen(LEVELS), "t", "time_t")
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
    row = entries(aggregate.time_table(rows, frozen(LEVELS), "t", "time_t"), CONTENDER)
    assert (row["median_seconds"].text, row["median_seconds"].value.estimate) == (">200", 200.0)
    assert row["success_hard"].value.estimate == 0.0


def test_without_a_clock_or_targets_there_is_no_time_to_target():
    rows = rows_of({REFERENCE: [falling(0.01)] * 5})
    assert aggregate.time_table(rows, frozen(LEVELS), "t", "time_t") is None
    assert aggregate.time_table(raced(SLOW), {}, "t", "time_t") is None
    assert aggregate.aggregate_table(raced(SLOW), {}, CONTENDER) is None


def test_the_normalized_loss_is_over_the_references_mean_and_improvement_counts_pairs():
    # Final losses 1 and 2: half of the reference's, and lower in every pair.
    table = aggregate.aggregate_table(raced(falling(0.02)), frozen(LEVELS), CONTENDER)
    row = entries(table, CONTENDER)
    assert row["normalized_test_loss"].value.estimate == pytest.approx(0.5)
    better = entries(table, REFERENCE)["improvement"]
    assert (better.value.estimate, better.bold) == (1.0, True)
    assert row["improvement"].value is None  # on itself


def test_a_failed_run_withholds_the_mean_and_loses_its_pairs():
    broken = np.where(GRID > 20, np.nan, falling(0.02))
    rows = rows_of(
        {CONTENDER: [falling(0.02)] * 4 + [broken], REFERENCE: [falling(0.01)] * 5}, roles={CONTENDER: "learned"}
    )
    table = aggregate.aggregate_table(rows, frozen(LEVELS), CONTENDER)
    assert entries(table, CONTENDER)["normalized_test_loss"].text == "1 failed"
    assert entries(table, REFERENCE)["improvement"].value.estimate == pytest.approx(0.8)


def with_blocks(rows, noise):
    """The rows with final test losses by blocks of images: of the contender shifted by `noise`, a value a block."""
    seeds = range(5)
    for name, loss in ((CONTENDER, 1.0 + np.asarray(noise)), (REFERENCE, np.full(len(noise), 2.0))):
        rows.series["t", name, "test_block_loss"] = pd.DataFrame(dict.fromkeys(seeds, loss))
    return rows


def test_the_interval_of_a_test_loss_lets_the_images_vary():
    # All seeds agree, so the seeds alone would give an interval of width zero; the images do not agree.
    rows = with_blocks(raced(falling(0.02)), [-0.2, 0.2, -0.2, 0.2])
    found = comparison.compare(rows, CONTENDER, REFERENCE, ("t",), "final_test_loss")
    # The variance of the blocks' means is 4/3 * 0.04 over 4 blocks; t with 4 degrees of freedom is 2.776.
    half = 2.7764451 * np.sqrt(0.04 / 3)
    assert found.difference.estimate == pytest.approx(-1.0)
    assert found.difference.high - found.difference.low == pytest.approx(2 * half)
    train = comparison.compare(rows, CONTENDER, REFERENCE, ("t",), "final_train_loss").difference
    assert train.high - train.low == pytest.approx(0.0)


def test_p_values_are_adjusted_for_the_rows_of_the_table():
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.1, size=(3, 5))
    runs = {
        name: [falling(0.01) + gap + noise[i, seed] for seed in range(5)]
        for i, (name, gap) in enumerate((("lopt", 0.0), ("adam", 0.1), ("muon", 0.3)))
    }
    rows = rows_of(runs, roles={"lopt": "learned"})
    (table,) = comparison.comparison_tables(rows, ("t",))
    single = {
        name: comparison.compare(rows, "lopt", name, ("t",), "final_test_loss").p_value for name in ("adam", "muon")
    }
    found = {row[0].value: row[-1].value for row in table.rows}
    smaller, larger = sorted(single, key=single.get)
    assert found[smaller] == pytest.approx(2 * single[smaller])
    assert found[larger] == pytest.approx(max(single[larger], 2 * single[smaller]))


def test_an_interval_without_a_count_leaves_the_count_empty():
    table = Table("a", "a", (Column("x", "x", True),), ((Entry("1", Interval(1.0, None, None, 0)),),))
    assert next(iter(csv.DictReader(io.StringIO(table.csv())))) == {"x": "1.0", "x_low": "", "x_high": "", "x_n": ""}


def test_update_costs_stand_in_a_row_for_each_network():
    costs = pd.DataFrame(
        [
            ("cnn", 20, "adam", "hand-designed", 10.0, 1.0),
            ("cnn", 20, "lopt", "learned", 15.0, 1.5),
            ("cnn", 20, "adam_twice", "control", 20.0, 2.0),
            ("mlp", 670, "adam", "hand-designed", 100.0, 1.0),
            ("mlp", 670, "lopt", "learned", 2000.0, 20.0),
        ],
        columns=["kind", "num_params", "optimizer", "role", "microseconds", "ratio"],
    )
    table = fairness.update_cost_table(costs)
    assert [column.key for column in table.columns] == ["kind", "num_params", "adam_microseconds", "lopt"]
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["CNN", "20", "10", "1.5"],
        ["MLP", "670", "100", "20"],
    ]


def test_numbers_in_files_have_nine_digits_so_that_any_kind_of_cpu_writes_the_same():
    last_bits_differ = (1.1766864953409149, 1.1766864953409146)  # of one geometric mean on two machines
    assert {as_written(x) for x in last_bits_differ} == {1.1766865}
    written = [as_written(x) for x in (0.1 + 0.2, 1234567890.5, math.inf, 7, True, None, "0.12345678901")]
    assert written == [0.3, 1234567890.0, math.inf, 7, True, None, "0.12345678901"]
    assert isinstance(written[4], bool)
    made = Table("t", "", (Column("x", "x", interval=True),), ((Entry("", Interval(1 / 3, None, 2 / 3, 5)),),))
    assert made.csv() == "x,x_low,x_high,x_n\n0.333333333,,0.666666667,5\n"
