"""The table of update costs."""

import pandas as pd

from bench.report import fairness
from bench.score.exposure import Overlap
from bench.score.fairness import Exposure, FairnessCard


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
        ["CNN", "20", "10.0", "1.50"],
        ["MLP", "670", "100", "20.0"],
    ]


def test_what_is_the_same_of_several_learned_optimizers_stands_once():
    def card(name, marks):
        exposures = tuple(
            Exposure(task, 100, mark, 10, 1000, Overlap(0, 0), Overlap(0, 0)) for task, mark in marks.items()
        )
        return FairnessCard(name, None, None, exposures, None, {"t": {"adam": 8.0, name: 12.0}, "u": {"adam": 8.5}})

    alike = {"t": "held-out", "u": "held-out"}
    cards = [card("a", alike), card("b", alike), card("c", alike | {"u": "in-distribution"})]
    exposure, state = fairness.card_tables(cards, None)
    assert [[entry.text for entry in row[:3]] for row in exposure.rows] == [
        ["t", "a, b, c", "held-out"],
        ["u", "a, b", "held-out"],
        ["u", "c", "in-distribution"],
    ]
    assert [(row[0].text, row[1].value) for row in state.rows] == [("adam", 8.5), ("a", 12.0), ("b", 12.0), ("c", 12.0)]
