"""Variances of estimators."""

import jax
import numpy as np
import pytest

import tasks
from bench.measure import pathologies
from bench.measure.pathologies import inner, moments, summary, variance
from learned.estimators import reparam, side_by_side
from tests.bench.measure.pathologies import linear

NUM_REPLICATIONS = 24  # a variance of so many is known to 30 % or so


@pytest.mark.slow
def test_variances_are_those_of_estimates_from_fresh_keys(monkeypatch):
    monkeypatch.setattr(variance, "load", linear.load)
    rows = pathologies.measure("variance/trained/5", (), NUM_REPLICATIONS)
    found = summary.wide(rows)
    where = linear.load("trained")
    rp = reparam(where.objective, variance.NUM_SAMPLES, inner.SIGMA, side_by_side(variance.NUM_SAMPLES))

    @jax.jit
    def estimate(theta, arrays, key):  # the program that is measured, which so compiles once
        return rp.estimate(theta, (), arrays, key, 5, 5)[0]

    means = []
    for key in jax.random.split(tasks.named_key("pathologies", "variance", 5), NUM_REPLICATIONS):
        gradients = jax.device_get(estimate(where.theta, where.arrays, jax.random.split(key, 3)[0])).gradients
        means.append(moments.flattened({name: leaf.mean(axis=0)[None] for name, leaf in gradients.items()})[0])
    np.testing.assert_allclose(found["deviation/reparam"].mean(), np.var(means, axis=0, ddof=1).sum(), rtol=1e-3)
    # The smaller variance gets nearly all the weight, and the variance of the merged one is near it.
    assert found["deviation/reparam"].mean() < found["deviation/es"].mean()
    assert found["deviation/merged"].mean() < 1.5 * found["deviation/reparam"].mean()
    assert found["merge_weight/merged"].mean() > 0.9
    # With a window as long as the unroll both are ES, of other samples: within a factor of each other.
    for name in ("pes", "nres"):
        assert 0.5 < found[f"deviation/{name}"].mean() / found["deviation/es"].mean() < 2
    assert set(found["finite/es"]) == {1.0}


@pytest.mark.slow
def test_merging_in_windows_is_compared_with_the_merged_one_of_the_same_samples(monkeypatch):
    monkeypatch.setattr(variance, "load", linear.load)
    whole, windows = (summary.wide(pathologies.measure(f"{name}/trained/5", (), 8)) for name in ("variance", "windows"))
    np.testing.assert_allclose(windows["deviation/merged"], whole["deviation/merged"], rtol=1e-3)
    # Where backpropagation has the smaller variance, windows change little.
    ratio = windows["deviation/merged_windows"].mean() / windows["deviation/merged"].mean()
    assert 0.5 < ratio < 2
