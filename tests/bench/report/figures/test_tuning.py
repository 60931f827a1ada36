"""Figures and tables of tuning are read from the record behind the rows."""

import json
import math

import numpy as np
import pytest

from baselines import read_tuned, tuned_path
from baselines.tuned_values import SHIPPED_DIR
from bench.report import figures, tuning
from bench.store.rows import read_rows
from tests.bench.noisy_rows import chosen, make_frames
from tests.bench.report.figures.drawn import by_slug


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
