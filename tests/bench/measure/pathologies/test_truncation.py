"""Two routes to a truncated gradient."""

import jax
import numpy as np
import pytest

from bench.measure.pathologies import inner, truncation
from learned.estimators import tbptt

KEY = jax.random.key(5)


@pytest.mark.slow
def test_a_truncated_gradient_is_that_of_the_estimator_and_over_the_whole_unroll_that_of_backpropagation():
    where = inner.load("trained")
    estimator = tbptt(where.objective, 1)
    state = estimator.init(where.theta, where.arrays, KEY, 5, 10)
    _, state = estimator.estimate(where.theta, state, where.arrays, KEY, 5, 10)  # a window
    key = state.episode.key[0]
    first, state = estimator.estimate(
        where.theta, estimator.init(where.theta, where.arrays, KEY, 5, 10), where.arrays, KEY, 5, 10
    )
    second, _ = estimator.estimate(where.theta, state, where.arrays, jax.random.key(6), 5, 10)
    expected = jax.tree.map(lambda a, b: (a[0] + b[0]) / 2, first.gradients, second.gradients)
    found = truncation.truncated_gradient(where.objective, where.theta, where.arrays, key, 5, 10)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-4, atol=1e-6)
    whole = truncation.truncated_gradient(where.objective, where.theta, where.arrays, key, 10, 10)
    exact = jax.grad(lambda theta: where.objective(theta, where.arrays, key, 10))(where.theta)
    for name, leaf in exact.items():
        np.testing.assert_allclose(whole[name], leaf, rtol=1e-4, atol=1e-6)
