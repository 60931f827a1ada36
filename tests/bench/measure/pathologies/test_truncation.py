"""Two routes to a truncated gradient."""

import jax
import pytest

from bench.measure.pathologies import truncation
from learned.estimators import tbptt
from tests.bench.measure.pathologies import linear
from tests.helpers import assert_trees_close

KEY = jax.random.key(5)


@pytest.mark.slow
def test_a_truncated_gradient_is_that_of_the_estimator_and_over_the_whole_unroll_that_of_backpropagation():
    where = linear.load("trained")
    estimator = tbptt(where.objective, 1)

    @jax.jit
    def by_windows(theta, arrays):
        """The key of the unroll, and the mean gradient of its two windows."""
        begin = estimator.init(theta, arrays, KEY, 5, 10)
        _, begin = estimator.estimate(theta, begin, arrays, KEY, 5, 10)  # a window
        first, state = estimator.estimate(theta, estimator.init(theta, arrays, KEY, 5, 10), arrays, KEY, 5, 10)
        second, _ = estimator.estimate(theta, state, arrays, jax.random.key(6), 5, 10)
        mean = jax.tree.map(lambda a, b: (a[0] + b[0]) / 2, first.gradients, second.gradients)
        return begin.episode.key[0], mean

    key, expected = by_windows(where.theta, where.arrays)
    truncated = jax.jit(truncation.truncated_gradient, static_argnums=(0, 4, 5))
    assert_trees_close(
        truncated(where.objective, where.theta, where.arrays, key, 5, 10), expected, rtol=1e-4, atol=1e-6
    )
    whole = truncated(where.objective, where.theta, where.arrays, key, 10, 10)
    exact = jax.jit(jax.grad(lambda theta: where.objective(theta, where.arrays, key, 10)))(where.theta)
    assert_trees_close(whole, exact, rtol=1e-4, atol=1e-6)
