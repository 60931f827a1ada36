"""Muon on the Gram matrix against the iteration as it is usually written, in numpy and in optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest
from optax.contrib import MuonDimensionNumbers

from baselines import BASELINES
from baselines.muon import muon, newton_schulz
from tests.helpers import assert_trees_close

RNG = np.random.default_rng(0)
SHAPES = {"tall": (3, 3, 4, 8), "wide": (4, 12), "square": (6, 6), "near": (7, 6), "bias": (8,), "scale": ()}


@pytest.mark.parametrize("num_iterations", [0, 1, 4, 5])
@pytest.mark.parametrize("shape", [(9, 4), (2, 4, 9), (5, 5), (3, 2, 6, 5)])
def test_newton_schulz_is_the_usual_iteration(shape, num_iterations):
    x = RNG.normal(size=shape)
    x /= np.linalg.norm(x, axis=(-2, -1), keepdims=True)
    expected = x
    for _ in range(num_iterations):
        gram = expected @ expected.swapaxes(-1, -2)
        expected = 3.4445 * expected - 4.7750 * gram @ expected + 2.0315 * gram @ gram @ expected
    np.testing.assert_allclose(newton_schulz(jnp.asarray(x, jnp.float32), num_iterations), expected, atol=3e-4)


@pytest.mark.parametrize("nesterov", [True, False])
def test_its_steps_are_those_of_optax(nesterov):
    h = {"beta": 0.9, "nesterov": nesterov, "weight_decay": 0.1, "adam_learning_rate": 1e-2}
    ours, optaxs = (
        muon(optax.cosine_decay_schedule(2e-2, 8), **h),
        optax.contrib.muon(
            optax.cosine_decay_schedule(2e-2, 8),
            **h,
            muon_weight_dimension_numbers=lambda params: jax.tree.map(
                lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim > 1 else None, params
            ),
        ),
    )
    params = {name: jnp.asarray(RNG.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}
    state, expected_state = ours.init(params), optaxs.init(params)
    for _ in range(6):
        grads = {name: jnp.asarray(RNG.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}
        updates, state = jax.jit(ours.update)(grads, state, params)
        expected, expected_state = jax.jit(optaxs.update)(grads, expected_state, params)
        assert_trees_close(updates, expected, rtol=2e-4, atol=2e-6)
        params = optax.apply_updates(params, updates)


def test_the_rows_of_muon_are_made_of_it():
    """Rates, decay and momentum land where they belong: a step against optax with the same values."""
    h = BASELINES["muonw_bias_cosine"].default
    ours = BASELINES["muon"].make({**h, "weight_decay": 0.3}, 10)
    expected = muon(
        h["learning_rate"],
        beta=1.0 - h["one_minus_momentum"],
        weight_decay=0.3,
        adam_learning_rate=h["adam_learning_rate"],
    )
    params = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    assert_trees_close(*(each.update(params, each.init(params), params)[0] for each in (ours, expected)))
