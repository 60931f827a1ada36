"""Differences paired by seed: their intervals, p-values, wins and verdicts."""

import re

import numpy as np
import pandas as pd
import pytest

from bench.report import comparison
from bench.report.table import format_interval
from bench.statistics import t_interval
from bench.store.rows import read_rows
from tests.bench.noisy_rows import chosen, make_frames
from tests.bench.pairs import CONTENDER, REFERENCE, raced, rows_on_t
from tests.bench.report.reading import read_table
from tests.bench.synthetic import falling, rows_of


def test_differences_are_paired_by_seed_and_bold_only_without_zero(full):
    cells, _, out, text = full
    on_task = cells.query("task == 'digits_conv' and kind == 'train'").astype({"final_test_loss": float})
    on_task = on_task.pivot(index="seed", columns="optimizer", values="final_test_loss")
    table = read_table(out, "comparison_digits_conv_lopt")
    for baseline in ("adam", "muon"):
        expected = t_interval(on_task["lopt"] - on_task[baseline])
        got = table[baseline]
        assert float(got["final_test_loss_difference"]) == pytest.approx(expected.estimate)
        assert float(got["final_test_loss_difference_high"]) == pytest.approx(expected.high)
        estimate = format_interval(expected, sign=True).partition(" ")[0]
        assert (f"<strong>{estimate} <" in text) == expected.excludes(0.0)
        wins = int((on_task["lopt"] < on_task[baseline]).sum())
        assert got["final_test_loss_wins"] == f"{wins} / 5"


def test_a_failed_run_loses_its_pair_and_withholds_the_interval(full):
    _, _, out, _ = full
    row = read_table(out, "comparison_digits_mlp_lopt")["adam"]
    assert row["pairs_used"] == "4 / 5"
    assert row["final_test_loss_difference_low"] == ""
    assert row["withheld"] == "failed runs: 1 of adam"
    assert row["final_test_loss_wins"] == "5 / 5"


def test_wins_count_failures_against_the_side_that_failed():
    statuses = {("t", "lopt", 0): "diverged", ("t", "adam", 1): "error", ("t", "lopt", 2): "error",
                ("t", "adam", 2): "diverged"}  # fmt: skip
    results = read_rows(*make_frames(chosen("adam", "lopt"), ("t",), 5, statuses, num_points=3))
    found = comparison.compare(results, "lopt", "adam", ("t",), "final_test_loss")
    assert (found.wins, found.losses) == (3, 1)  # seeds 1, 3, 4 against seed 0; seed 2 is nobody's
    assert (found.num_pairs, found.num_pairs_used) == (5, 2)
    assert (found.failed_a, found.failed_b) == (2, 2)
    assert found.withheld == "failed runs: 2 of lopt, 2 of adam"
    verdict = comparison.verdicts(results, ("t",))[0]
    assert verdict.word == "no claim"


def test_verdicts_say_worse_and_slower_as_readily_as_better(full):
    *_, text = full
    results = read_rows(*make_frames(chosen("adam", "muon", "lopt"), ("t",), num_points=26))
    words = {verdict.question: verdict.word for verdict in comparison.verdicts(results, ("t",))}
    assert words == {
        "final test loss": "worse",
        "final train loss": "worse",
        "mean train loss": "better",
        "seconds per step": "slower",
    }
    worse = [v for v in comparison.verdicts(results, ("t",)) if v.word == "worse"]
    assert all("muon" in verdict.text for verdict in worse)  # the best baseline, not the most convenient one
    looks = re.findall(r'<span class="([^"]+)">(?:better|worse|slower|faster|no claim)', text)
    assert len(looks) >= 8
    assert set(looks) == {"word"}  # one look for every verdict


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ([1.2, 1.2, 1.2, 1.2, 1.2, 900.0], "worse in every run"),  # by the sign test p = 2 / 2^6 = 0.031
        ([1.2, 1.2, 1.2, 1.2, 900.0], "no difference shown"),  # 2 / 2^5 = 0.063
        ([1.2, 1.2, 1.2, 1.2, 0.9, 900.0], "no difference shown"),  # one run is better
        ([1.2, 1.2, 1.2, 1.2, 1.0, 900.0], "no difference shown"),  # one is a tie
        ([0.8, 0.8, 0.8, 0.8, 0.8, -900.0], "better in every run"),
        ([1.2, 1.3, 1.2, 1.3, 1.2, 1.3], "worse"),  # the mean's interval says it
    ],
)
def test_a_run_that_all_but_diverges_does_not_hide_that_every_run_is_worse(ends, word):
    # Constant curves; Adam is at 1. One outlier of 900 makes the interval of the mean some 900 wide.
    runs = {"adam": [np.ones(11)] * len(ends), "lopt": [np.full(11, end) for end in ends]}
    results = rows_of({"t": runs}, roles={"lopt": "learned"})
    words = {found.question: found.word for found in comparison.verdicts(results, ("t",))}
    assert words["final train loss"] == words["final test loss"] == words["mean train loss"] == word


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
    rows = rows_on_t(runs, roles={"lopt": "learned"})
    (table,) = comparison.comparison_tables(rows, ("t",))
    single = {
        name: comparison.compare(rows, "lopt", name, ("t",), "final_test_loss").p_value for name in ("adam", "muon")
    }
    found = {row[0].value: row[-1].value for row in table.rows}
    smaller, larger = sorted(single, key=single.get)
    assert found[smaller] == pytest.approx(2 * single[smaller])
    assert found[larger] == pytest.approx(max(single[larger], 2 * single[smaller]))
