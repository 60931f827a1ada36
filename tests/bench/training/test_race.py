"""A race is the same training as the cells, on a clock of each racer."""

import numpy as np
import pytest

from bench.training import race as race_
from bench.training.programs import evaluation_grid, run_key
from tests.bench.least_squares import descent, program_of, run
from tests.helpers import linear_task


@pytest.mark.rule(9)
def test_a_race_runs_the_same_training_as_the_cells(monkeypatch):
    """Both racers from the run's own key, each on a clock of its own that only its chunks move."""
    task, horizon = linear_task(), 20
    racers = [descent("a", 0.05), descent("b", 0.02)]
    monkeypatch.setattr(race_, "MIN_RACE_SEC", 0.0, raising=False)
    key, never = run_key("linear", 0), -1.0
    table = race_.race(racers, task, key, horizon, never, compile_for=lambda racer: program_of(racer, horizon))
    table = table.pivot(index="step", columns="metric", values="value")
    assert table.index.tolist() == evaluation_grid(horizon)
    for racer in racers:
        cell = run(racer, task, horizon=horizon)[0].curve
        expected = cell.loc[cell["metric"] == "validation_loss", "value"].to_numpy()
        # One program trains, two evaluate, and their sums may round differently.
        np.testing.assert_allclose(table[f"validation_loss/{racer.name}"], expected, rtol=1e-5)
        assert table[f"wall_time_sec/{racer.name}"].iloc[0] == 0.0
        assert (np.diff(table[f"wall_time_sec/{racer.name}"]) > 0).all()
