"""Slices through the loss of an unroll."""

import jax
import numpy as np
import pytest

import tasks
from bench.measure import pathologies
from bench.measure.pathologies import summary, unrolls
from tests.bench.measure.pathologies import linear


@pytest.mark.slow
def test_a_slice_joins_the_loss_at_theta_and_smoothing_averages(monkeypatch):
    monkeypatch.setattr(unrolls, "load", linear.load)
    monkeypatch.setattr(unrolls, "NUM_POINTS", 5)
    monkeypatch.setattr(unrolls, "NUM_SMOOTHED_POINTS", 3)
    monkeypatch.setattr(unrolls, "SLICED_LENGTHS", (2, 4, 8))
    found = summary.wide(pathologies.measure("slices/trained", (), 4))
    where = linear.load("trained")
    key, _, _ = jax.random.split(tasks.named_key("pathologies", "slices"), 3)
    at_theta = where.objective(where.theta, where.arrays, key, 8)
    assert found["raw_at"][2] == found["smoothed_at"][1] == 0
    np.testing.assert_allclose(found["raw/8"][2], at_theta, rtol=1e-5)
    assert abs(found["smoothed/8"][1] - at_theta) < 0.1
    assert found["smoothed/8"][1] != found["raw/8"][2]
