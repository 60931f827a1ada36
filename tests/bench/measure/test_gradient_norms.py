"""Gradient norms against the length of unrolls: by finite differences, and the table by hand."""

import jax
import numpy as np
import optax
import pandas as pd
import pytest

import tasks
from bench.measure import gradient_norms
from learned.designs import make_design
from learned.estimators.base import samples
from learned.objective import FamilyObjective
from tests.helpers import linear_family


@pytest.mark.slow
def test_a_norm_is_that_of_the_gradient_of_the_mean_loss(monkeypatch):
    monkeypatch.setattr(gradient_norms, "LENGTHS", (3, 6))
    monkeypatch.setattr(gradient_norms, "SIDE_BY_SIDE", 2)
    family, design = linear_family(), make_design("normalized", {"hidden": 4, "rate": 0.1, "vector_rate": 0.1})
    objective = FamilyObjective(design, family.problem, family.sample, "outer_validation", "train")
    theta = design.init_theta(jax.random.key(0))
    ticks = []
    rows = gradient_norms.norms(objective, theta, family.arrays, 4, lambda: ticks.append(0))
    assert len(ticks) == 4
    found = {(length, name): value for length, name, value in rows}
    assert found.keys() == {(length, f"gradient_norm/{i}") for length in (3, 6) for i in range(4)}
    _, keys = samples(tasks.named_key("gradient_norms", gradient_norms.FAMILY), theta, 4, 0.0)
    for i in range(4):
        gradient = jax.jit(jax.grad(lambda theta, i=i: objective(theta, family.arrays, keys[i], 6)))(theta)
        assert found[6, f"gradient_norm/{i}"] == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-4)


def test_growth_is_that_of_the_median_since_the_shortest():
    cells = pd.DataFrame({"cell": ["a"], "task": ["gradient_norms/lopt_paper/trained"], "status": ["ok"]})
    norms = {5: np.linspace(0.5, 1.5, 9), 50: np.linspace(5, 15, 9), 500: np.array([20.0] * 8 + [np.nan])}
    rows = [("a", n, f"gradient_norm/{i}", value) for n, values in norms.items() for i, value in enumerate(values)]
    found = gradient_norms.table(cells, pd.DataFrame(rows, columns=["cell", "step", "metric", "value"]))
    assert list(found["optimizer"]) == ["lopt_paper"] * 3
    assert list(found["median"]) == pytest.approx([1.0, 10.0, 20.0])
    assert str(gradient_norms.growths(found)["lopt_paper", "trained"]).startswith("grows 20.0 [14.5, 32.0] times")
    assert list(found["finite"]) == pytest.approx([1.0, 1.0, 8 / 9])
    assert found["low"].iloc[0] < 1.0 < found["high"].iloc[0]
    assert (found["low"].iloc[2], found["high"].iloc[2]) == (20.0, 20.0), "one that is infinite is above both ends"


def test_the_papers_design_comes_first_in_the_table_and_in_words():
    names = sorted(gradient_norms.OPTIMIZERS)
    assert names != list(gradient_norms.OPTIMIZERS)
    cells = pd.DataFrame(
        {"cell": names, "task": [f"gradient_norms/{name}/trained" for name in names], "status": ["ok"] * len(names)}
    )
    rows = [(name, n, f"gradient_norm/{i}", 1.0 + n * i) for name in names for n in (5, 50) for i in range(9)]
    table = gradient_norms.table(cells, pd.DataFrame(rows, columns=["cell", "step", "metric", "value"]))
    assert list(table["optimizer"].unique()) == list(gradient_norms.OPTIMIZERS)
    assert list(gradient_norms.growths(table)) == [(name, "trained") for name in gradient_norms.OPTIMIZERS]
