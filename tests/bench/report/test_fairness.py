"""The table of update costs."""

import pandas as pd

from bench.report import fairness


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
