"""Who takes part: names resolved to optimizers with their values."""

import pytest

from baselines import BASELINES
from bench.entries.entrants import resolve


@pytest.mark.parametrize("name", [name for name, row in BASELINES.items() if row.values_of])
def test_a_row_that_is_not_tuned_runs_with_the_values_of_another_on_every_family(name):
    family, tuned_name = BASELINES[name].values_of
    carried, there = resolve(name, "mnist14_mlp", 1000), resolve(tuned_name, family, 1000)
    assert {**carried.identity, "tuned_on": None} == {**there.identity, "tuned_on": None}
    assert carried.identity["tuned_on"] == family != "mnist14_mlp"
    assert carried.tuned_horizon == there.tuned_horizon is not None
    assert carried.make is there.make
    assert carried.identity != resolve(tuned_name, "mnist14_mlp", 1000).identity
