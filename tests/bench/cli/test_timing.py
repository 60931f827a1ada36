"""`bench time`."""

import json

import pytest


@pytest.mark.slow
def test_time_prints_the_ratio_to_the_first(bench):
    args = ["time", "-t", "digits8_mlp", "-o", "sgd_momentum", "-o", "adam", "--blocks", "6", "--steps", "20", "--json"]
    found = json.loads(bench(*args)[1])
    assert found["device"]["platform"]
    first, second = found["rows"]
    assert set(first) == {"task", "optimizer", "seconds_per_step", "cost_ratio_to_first", "compile_seconds"}
    assert first["cost_ratio_to_first"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    ratio = second["cost_ratio_to_first"]
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
