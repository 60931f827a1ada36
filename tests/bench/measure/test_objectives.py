"""The objective alone swapped: configurations that differ in nothing else, and differences paired by outer seed."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.measure import ablation, objectives
from learned.curriculum import Stage
from tests.helpers import linear_family

SEEDS = range(objectives.SEEDS)
NAMES = (*objectives.LOSSES, objectives.BEFORE)


def test_two_configurations_differ_in_the_objective_alone_and_share_their_draws():
    for design in objectives.DESIGNS:
        one, other = (objectives.config_of(design, objective, 3).as_dict() for objective in ("train", "validation"))
        differing = {name for name in one | other if one.get(name) != other.get(name)}
        assert differing == {"name", "objective"}
        assert one["drawn_as"]


def cells_and_curves(losses):
    """Of (design, objective, seed) -> final test loss, the same on two tasks."""
    cells, rows = [], []
    for cell, ((design, objective, seed), loss) in enumerate(losses.items()):
        cells.append((cell, f"objectives/{design}/{objective}/{seed}", "ok"))
        rows += [(cell, 1, "seconds", 9.0), (cell, 2, "seconds", 10.0)]
        rows += [(cell, t, name, value) for t, value in enumerate((loss / 2, loss * 2)) for name in NAMES]
    return pd.DataFrame(cells, columns=["cell", "task", "status"]), pd.DataFrame(
        rows, columns=["cell", "step", "metric", "value"]
    )


def test_differences_are_logarithms_paired_by_outer_seed():
    losses = {("normalized", "validation", seed): 1.0 + 0.1 * seed for seed in SEEDS}
    losses |= {("normalized", "train", seed): 2.0 * (1.0 + 0.1 * seed) * np.exp(0.01 * (seed - 2)) for seed in SEEDS}
    losses |= {("per_parameter_mlp", "train", seed): 1.0 for seed in SEEDS}
    table = objectives.table(*cells_and_curves(losses))
    first = table[(table["design"] == "normalized") & (table["objective"] == "validation")].iloc[1]
    assert (first["seed"], first["seconds"], first["final_test_loss"]) == (1, 10.0, pytest.approx(1.1))
    found = objectives.differences(table)
    assert list(found) == ["normalized"], "the other design lacks runs"
    assert found["normalized"].estimate == pytest.approx(-math.log(2))
    assert found["normalized"].low < -math.log(2) < found["normalized"].high < 0


@pytest.mark.slow
def test_a_part_is_outer_trained_and_evaluated(monkeypatch):
    monkeypatch.setattr("tasks.load_family", lambda name: linear_family())
    monkeypatch.setattr(objectives, "HORIZON", 12)
    monkeypatch.setattr(objectives, "OUTER_STEPS", 4)
    monkeypatch.setattr(objectives, "NUM_TASKS", 2)
    monkeypatch.setattr(objectives, "POOL", "outer_validation")
    curve = objectives.measure("normalized/validation/0", (), 1)
    assert {name: len(rows) for name, rows in curve.groupby("metric")} | dict.fromkeys(ablation.FOLLOWED, 0) == {
        **dict.fromkeys(ablation.FOLLOWED, 0),
        "inner_steps": 4,
        "seconds": 4,
        **dict.fromkeys(NAMES, 2),
    }
    assert objectives.config_of("normalized", "train", 0).stages[1] == Stage(12, 2)
