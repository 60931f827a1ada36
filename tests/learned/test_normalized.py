"""The design whose direction follows the shape: by definition, in any unit, and unharmed by what is not finite."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optax.contrib import MuonDimensionNumbers

from learned.matrices import Leaf, dimension_numbers
from learned.normalized import NUM_INPUTS, NUM_OUTPUTS, normalized
from tasks import evaluation_params
from tests.helpers import assert_trees_close
from tests.learned.test_designs import example_theta

RNG = np.random.default_rng(7)
PARAMS = {
    "conv": jnp.asarray(RNG.normal(size=(2, 2, 3, 4)), jnp.float32),
    "w": jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32),
    "b": jnp.array([0.1, 0.2, -0.3]),
    "s": jnp.array(0.7),
}
OPTIONS = {"hidden": 6, "rate": 0.1, "column_rate": 0.1, "vector_rate": 0.1, "largest_dense": 0}
DESIGN, THETA = (
    normalized(**OPTIONS),
    {name: 0.3 * leaf for name, leaf in example_theta("normalized", hidden=6).items()},
)
LOSSES = (2.3, 1.9, 2.0, 1.2, 0.7)
HORIZON = 6


def gradients(inner_step, params=PARAMS, scale=1.0):
    rng = np.random.default_rng(50 + inner_step)
    return jax.tree.map(lambda p: jnp.asarray(scale * rng.normal(size=p.shape), p.dtype), params)


def steps(optimizer, losses=LOSSES, params=PARAMS, scale=1.0, grads=None):
    """(parameters, updates, state) of consecutive steps, the parameters moving along."""
    update, state, found = jax.jit(optimizer.update), optimizer.init(params), []
    for inner_step, loss in enumerate(losses):
        of_step = gradients(inner_step, params, scale) if grads is None else grads[inner_step]
        value = {} if loss is None else {"value": loss}
        updates, state = update(of_step, state, params, **value)
        found.append((params, updates, state))
        params = optax.apply_updates(params, updates)
    return found


# By definition --------------------------------------------------------------------------------------------------------


def log_ratio(a, b):
    return min(np.log(1e-3 + a / b), np.log(1e3)) if b > 0 else np.log(1e-3)


def update_by_definition(leaf, ws, gs, losses):
    """The last update of one leaf in float64, from the module's description."""
    theta = {name: np.asarray(value, np.float64) for name, value in THETA.items()}
    vector, orthogonal = leaf in "bs", leaf == "conv"
    fan_out = {"conv": 4, "w": 3, "b": 3, "s": 1}[leaf]
    matrix = (1, fan_out) if vector else (-1, fan_out)
    m = slow = size = largest = signal = 0.0
    for t, (w, g) in enumerate(zip(ws, gs, strict=True)):
        w, g = (np.asarray(x, np.float64).reshape(matrix) for x in (w, g))
        size = size + 0.01 * (np.sum(g**2) - size)
        unbiased = size / (1 - 0.99 ** (t + 1))
        largest = max(largest, unbiased)
        seen = np.asarray(losses[: t + 1])
        fast = slow_loss = square = 0.0
        squares = []
        for n, loss in enumerate(seen, 1):
            distance = (loss - fast) ** 2 if n > 1 else 0.0
            square = square + max(0.01, 1 / n) * (distance - square)
            squares.append(square)
            fast = fast + max(0.1, 1 / n) * (loss - fast)
            slow_loss = slow_loss + max(0.01, 1 / n) * (loss - slow_loss)
        drift = np.tanh((fast - slow_loss) / np.sqrt(square)) if square else 0.0
        done = min(t / HORIZON, 1.0)
        inputs = [
            *np.tanh(t / np.array([3, 10, 30, 100, 300, 1000]) - 1),
            *(1.0, done, np.log(1.02 - done) / -np.log(0.02), 2 / 4),  # no horizon counts as below 100
            *(drift, log_ratio(square, max(squares)) / 2),
            *(vector, orthogonal, np.log10(w.shape[0]) / 2, np.log10(fan_out) / 2),
            np.log(1e-4 + np.sum(w**2) / fan_out) / 2,
            *(log_ratio(signal, unbiased), log_ratio(unbiased, largest)),
        ]
        kind = 2 if vector else 1 if orthogonal else 0
        said = theta["w2"][kind] @ np.maximum(theta["w1"] @ inputs + theta["b1"], 0)
        said = said + theta["linear"][kind] @ inputs + theta["b2"][kind]
        a0, a1, a2 = np.array([0.2, 0.65, 0.15]) + said[:3]
        gain = min(max(0.05 * np.exp(3 * said[3]), 1 / (t + 1)), 1.0)
        m = m + gain * (g - m)
        slow = slow + max(0.01, 1 / (t + 1)) * (g - slow)
        x = a0 * g + a1 * m + (a2 * slow if orthogonal else 0.0)
        signal = np.sum(x**2) / ((a0 + a1 + (a2 if orthogonal else 0.0)) ** 2 + 1e-3)
        if orthogonal:
            u, s, vt = np.linalg.svd(x / np.sqrt(np.sum(x**2) + 1e-6 * unbiased), full_matrices=False)
            for _ in range(4):
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            direction = u @ np.diag(s) @ vt
        else:
            norms = np.sum(x**2, axis=0)
            mean = (norms.sum() + (1.0 if vector else 1e-6) * unbiased) / fan_out
            direction = x / np.sqrt(mean) / (norms / mean + 0.01) ** ((1 + said[4]) / 2)
        rate = 0.1 * np.exp(5 * said[6])
        shrink = 0.0 if vector else min(rate * 0.15 * np.exp(5 * said[5]), 0.5)
        update = -(rate * direction + shrink * w)
    return update


def test_updates_are_those_of_the_description():
    found = steps(DESIGN.optimizer(THETA, HORIZON))
    for leaf in PARAMS:
        ws, gs = [params[leaf] for params, _, _ in found], [gradients(t)[leaf] for t in range(len(found))]
        expected = update_by_definition(leaf, ws, gs, LOSSES)
        got = np.asarray(found[-1][1][leaf], np.float64)
        # Float32 against float64; four polynomials of degree five magnify rounding a few hundred times.
        np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=2e-4, atol=2e-6)


def test_theta_has_the_shapes_that_are_said():
    shapes = {name: leaf.shape for name, leaf in DESIGN.init_theta(jax.random.key(0)).items()}
    assert shapes == {
        "w1": (6, NUM_INPUTS), "b1": (6,), "w2": (3, NUM_OUTPUTS, 6), "b2": (3, NUM_OUTPUTS),
        "linear": (3, NUM_OUTPUTS, NUM_INPUTS),
    }  # fmt: skip
    assert (NUM_INPUTS, NUM_OUTPUTS) == (19, 7)


def test_before_outer_training_columns_have_the_length_of_the_annealed_rate():
    design = normalized(column_rate=0.05, decay=0.0, anneal=1.5, boost=1.0, largest_dense=0)
    optimizer = design.optimizer(design.init_theta(jax.random.key(0)), HORIZON)
    for t, (_, updates, _) in enumerate(steps(optimizer)):
        lengths = np.linalg.norm(updates["w"], axis=0)
        rate = 0.05 * (1.02 - t / HORIZON) ** 1.5
        # n_j^2 -> n_j^2 + 0.01 n^2: the shortest of three columns is at least a tenth of the others here
        assert np.all((lengths > 0.9 * rate) & (lengths <= rate)), (lengths, rate)


# Units and offsets ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(-6, 6).map(lambda power: 10**power), offset=st.floats(-3, 3))
def test_updates_depend_neither_on_the_unit_nor_on_the_offset_of_the_loss(scale, offset):
    optimizer = DESIGN.optimizer(THETA, HORIZON)
    plain = steps(optimizer)[-1][1]
    other = steps(optimizer, [scale * (loss + offset) for loss in LOSSES], scale=scale)[-1][1]
    assert_trees_close(other, plain, rtol=1e-3, atol=1e-5)


def test_a_horizon_that_is_not_told_is_not_the_longest():
    told, untold = (steps(DESIGN.optimizer(THETA, horizon))[0] for horizon in (1e6, None))
    assert np.isinf(untold[2].horizon)
    assert np.all(np.isfinite(untold[1]["w"]))
    assert not np.allclose(untold[1]["w"], told[1]["w"])


# What is not finite ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_no_parameter_and_no_later_step(bad):
    optimizer = DESIGN.optimizer(THETA, None)
    grads = [gradients(t) for t in range(5)]
    grads[2] = {**grads[2], "w": grads[2]["w"].at[1, 1].set(bad)}
    found = steps(optimizer, grads=grads)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(found[2][1]))
    before, after = found[1][2], found[2][2]
    for name in ("momentum", "slow", "sizes"):
        assert_trees_close(getattr(after, name), getattr(before, name), rtol=0, atol=0)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found[-1][1]))
    assert np.any(found[-1][1]["w"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_a_loss_that_is_absent_or_not_finite_leaves_the_averages_as_they_are(bad):
    found = steps(DESIGN.optimizer(THETA, HORIZON), (2.3, 1.9, bad, 1.2, 0.7))
    assert_trees_close(found[2][2].loss, found[1][2].loss, rtol=0, atol=0)
    assert found[-1][2].loss.seen == 4
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((found[-1][1], found[-1][2].momentum)))


def test_weights_that_gradients_no_longer_reach_come_to_rest():
    """Of dead units: a direction of unit length would move them along a forgotten gradient for a thousand steps."""
    design = normalized(decay=1e-9, largest_dense=0)
    optimizer = design.optimizer(design.init_theta(jax.random.key(0)), None)
    grads = [gradients(0), *([jax.tree.map(jnp.zeros_like, PARAMS)] * 299)]
    found = steps(optimizer, [1.0] * 300, grads=grads)
    lengths = [float(np.linalg.norm(updates["w"])) for _, updates, _ in found]
    assert lengths[-1] < 0.01 * lengths[0]


# Shapes ---------------------------------------------------------------------------------------------------------------


def test_the_usual_reading_of_leaves():
    shapes = {"b": (4,), "s": (), "w": (5, 3), "stacked": (2, 5, 3), "conv": (3, 3, 8, 16), "wide": (3, 3, 80, 70)}
    params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    numbers = dimension_numbers(params)
    leaves = {name: Leaf(shape, numbers[name], (64, 0)) for name, shape in shapes.items()}
    found = {name: (leaf.num, leaf.fan_in, leaf.fan_out, leaf.orthogonal) for name, leaf in leaves.items()}
    assert found == {
        "b": (1, 1, 4, False),
        "s": (1, 1, 1, False),
        "w": (1, 5, 3, False),
        "stacked": (2, 5, 3, False),
        "conv": (1, 72, 16, True),
        "wide": (1, 720, 70, False),
    }


@pytest.mark.parametrize("shape", [(5, 3), (2, 2, 3, 4)])
def test_stacked_matrices_get_the_updates_that_each_would_get_alone(shape):
    grads = [{"x": jnp.asarray(RNG.normal(size=(3, *shape)), jnp.float32)} for _ in range(4)]
    params = {"x": jnp.asarray(RNG.normal(size=(3, *shape)), jnp.float32)}
    one = dimension_numbers({"x": params["x"][0]})["x"]
    axes = ((part,) if isinstance(part, int) else part for part in one)
    numbers = {"x": MuonDimensionNumbers(*(tuple(axis + 1 for axis in part) for part in axes))}
    together = steps(DESIGN.optimizer(THETA, HORIZON, numbers), LOSSES[:4], params, grads=grads)[-1][1]["x"]
    for k in range(3):
        own = [{"x": g["x"][k]} for g in grads]
        alone = steps(DESIGN.optimizer(THETA, HORIZON), LOSSES[:4], {"x": params["x"][k]}, grads=own)[-1][1]["x"]
        np.testing.assert_allclose(together[k], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("limit", "alike"), [(16, True), (2, False)])
def test_an_output_layer_gets_the_update_of_a_convolution_of_one_pixel(limit, alike):
    """Up to the limit of its short side, here 3; an input of the network tells them apart, but does not count yet."""
    design = normalized(rate=0.1, decay=0.0, largest_dense=limit)
    optimizer = design.optimizer(design.init_theta(jax.random.key(0)), HORIZON)
    params = {"w": PARAMS["w"]}
    dense = steps(optimizer, LOSSES, params)
    grads = [{"w": gradients(t, params)["w"][None, None]} for t in range(len(LOSSES))]
    conv = steps(optimizer, LOSSES, {"w": PARAMS["w"][None, None]}, grads=grads)
    found = [np.allclose(d["w"], c["w"][0, 0], rtol=1e-5) for (_, d, _), (_, c, _) in zip(dense, conv, strict=True)]
    assert found == [alike] * len(LOSSES)


def test_axes_can_be_told_in_any_order():
    """A layer that stores (outputs, inputs) gets the transposed updates of one that stores (inputs, outputs)."""
    params, grads = {"w": PARAMS["w"].T}, [{"w": gradients(t)["w"].T} for t in range(3)]
    turned = DESIGN.optimizer(THETA, HORIZON, lambda params: {"w": MuonDimensionNumbers(-1, 0)})
    plain = steps(
        DESIGN.optimizer(THETA, HORIZON),
        LOSSES[:3],
        {"w": PARAMS["w"]},
        grads=[{"w": gradients(t)["w"]} for t in range(3)],
    )
    found = steps(turned, LOSSES[:3], params, grads=grads)
    np.testing.assert_allclose(found[-1][1]["w"].T, plain[-1][1]["w"], rtol=1e-5, atol=1e-7)


def test_a_run_is_evaluated_at_a_mean_that_weights_its_steps_by_a_power_of_their_number():
    found = steps(DESIGN.optimizer(THETA, HORIZON))
    # Step s has the weight s (s + 1) ... (s + 7), about s^8, in the mean after the last.
    weights = np.array([math.prod(range(s, s + 8)) for s in range(1, len(found) + 1)], np.float64)
    for leaf in PARAMS:
        given = np.stack([np.asarray(params[leaf], np.float64) for params, _, _ in found])
        expected = np.tensordot(weights / weights.sum(), given, axes=1)
        mean = evaluation_params(found[-1][2], PARAMS)[leaf]
        np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-7)


def test_none_treats_each_element_alone_as_in_a_vector():
    design = normalized(column_rate=9.0)
    theta = design.init_theta(jax.random.key(0))
    flat = {"w": PARAMS["w"].reshape(-1)}
    grads = [{"w": gradients(t)["w"]} for t in range(3)]
    told = steps(design.optimizer(theta, HORIZON, {"w": None}), LOSSES[:3], {"w": PARAMS["w"]}, grads=grads)
    as_vector = steps(
        design.optimizer(theta, HORIZON), LOSSES[:3], flat, grads=[{"w": g["w"].reshape(-1)} for g in grads]
    )
    np.testing.assert_allclose(told[-1][1]["w"].reshape(-1), as_vector[-1][1]["w"], rtol=1e-5, atol=1e-7)
