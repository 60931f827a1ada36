"""Muon on the Gram matrix against the iteration as it is usually written, in numpy and in optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest
from optax.contrib import MuonDimensionNumbers

from baselines import BASELINES, warmup_cosine
from baselines.muon import muon, newton_schulz
from tests.helpers import assert_trees_close

RNG = np.random.default_rng(0)
SHAPES = {
    "tall": (3, 3, 4, 8),
    "alike": (36, 8),
    "wide": (4, 12),
    "square": (6, 6),
    "near": (7, 6),
    "bias": (8,),
    "scale": (),
}


def _numbers(params):
    return jax.tree.map(
        lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim > 1 else None, params
    )


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
            muon_weight_dimension_numbers=_numbers,
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


def _steps(optimizer, params, num_steps):
    state, found = optimizer.init(params), []
    for step in range(num_steps):
        rng = np.random.default_rng(step)
        grads = {name: jnp.asarray(rng.normal(size=p.shape), p.dtype) for name, p in params.items()}
        updates, state = optimizer.update(grads, state, params)
        found.append(updates)
    return found


def test_the_rows_of_muon_are_made_of_it():
    """Rates, momentum and decay land where they belong: three steps against optax with the same values."""
    h, horizon = BASELINES["muonw_bias_cosine"].default | {"weight_decay": 0.3}, 10
    expected = optax.contrib.muon(
        warmup_cosine(h["learning_rate"], horizon),
        beta=1.0 - h["one_minus_momentum"],
        weight_decay=0.3,
        adam_learning_rate=warmup_cosine(h["adam_learning_rate"], horizon),
        muon_weight_dimension_numbers=_numbers,
    )
    params = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    rows = BASELINES["muonw_bias_cosine"].make(h, horizon)
    for ours, theirs in zip(_steps(rows, params, 3), _steps(expected, params, 3), strict=True):
        assert_trees_close(ours, theirs, rtol=2e-4, atol=2e-6)


def test_where_singular_values_span_many_powers_of_ten_it_differs_by_a_thousandth():
    left, right = (np.linalg.qr(RNG.normal(size=(n, 32)))[0] for n in (288, 32))
    x = left * np.logspace(0, -6, 32) @ right.T
    x = jnp.asarray(x / np.linalg.norm(x), jnp.float32)
    found = newton_schulz(x, 5)
    expected = optax.contrib.scale_by_muon(beta=0.0, nesterov=False)
    theirs, _ = expected.update(x, expected.init(x))
    assert 1e-5 < np.linalg.norm(found - theirs) / np.linalg.norm(theirs) < 2e-3


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_updates_have_the_dtype_of_their_leaf(dtype):
    with jax.enable_x64(True):
        params = {"a": jnp.ones((8, 3), dtype), "b": jnp.ones((8, 3), dtype), "c": jnp.ones((4, 4), dtype)}
        optimizer = muon(1e-2, adam_learning_rate=1e-2)
        (ours,), (theirs,) = (
            _steps(each, params, 1) for each in (optimizer, optax.contrib.muon(1e-2, adam_learning_rate=1e-2))
        )
        assert {name: leaf.dtype for name, leaf in ours.items()} == dict.fromkeys(params, dtype)
        tolerance = 4 * float(jnp.finfo(dtype).eps) ** 0.5
        assert_trees_close(
            *(jax.tree.map(lambda x: x.astype(jnp.float64) * 100, each) for each in (ours, theirs)), atol=tolerance
        )
        guarded = optax.apply_if_finite(optimizer, 3)
        assert guarded.update(params, guarded.init(params), params)[0]["a"].dtype == dtype


def test_leaves_without_elements_and_trees_without_leaves_pass():
    for params in ({"none": jnp.zeros((3, 0)), "some": jnp.ones((3, 2))}, {"none": jnp.zeros((0, 3))}, {}):
        optimizer = muon(1e-2, adam_learning_rate=1e-2)
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
