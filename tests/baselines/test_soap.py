"""SOAP and averages of weights against steps worked out in numpy, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from baselines import BASELINES
from baselines.averages import average_params, by_power
from baselines.soap import scale_by_soap
from tasks import evaluation_params
from tests.helpers import assert_trees_close

B1, B2, EPS = 0.9, 0.8, 1e-8
SHAPES = {"kernel": (2, 1, 3), "bias": (3,)}


def gradients(num_steps, shape):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for _ in range(num_steps)]


def soap_by_hand(grads, refresh_every):
    """Directions for one matrix: bases, power iteration and averages as in section 4 of the paper and its code."""
    rows, columns = grads[0].shape
    left, right = (1 - B2) * grads[0] @ grads[0].T, (1 - B2) * grads[0].T @ grads[0]
    q_left, q_right = np.linalg.eigh(left)[1][:, ::-1], np.linalg.eigh(right)[1][:, ::-1]
    m, v = np.zeros((rows, columns)), np.zeros((rows, columns))
    directions = [np.zeros((rows, columns))]  # the first gradient finds the bases and moves nothing
    for step, g in enumerate(grads[1:], 1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * (q_left.T @ g @ q_right) ** 2
        turned = q_left.T @ (m / (1 - B1**step)) @ q_right
        directions.append(q_left @ (turned / (np.sqrt(v / (1 - B2**step)) + EPS)) @ q_right.T)
        left, right = B2 * left + (1 - B2) * g @ g.T, B2 * right + (1 - B2) * g.T @ g
        if step % refresh_every == 0:
            for_rows, for_columns = np.diag(q_left.T @ left @ q_left), np.diag(q_right.T @ right @ q_right)
            order = np.argsort(-for_rows), np.argsort(-for_columns)
            q_left, q_right = (
                np.linalg.qr((c @ q)[:, o])[0] for c, q, o in ((left, q_left, order[0]), (right, q_right, order[1]))
            )
            v = v[order[0]][:, order[1]]
    return directions


@pytest.mark.parametrize("refresh_every", [1, 2, 10])
def test_six_steps_of_soap_by_hand(refresh_every):
    grads = gradients(6, SHAPES["kernel"])
    expected = soap_by_hand([g.reshape(2, 3) for g in grads], refresh_every)
    with jax.enable_x64(True):
        optimizer = scale_by_soap(B1, B2, EPS, refresh_every)
        state = optimizer.init({"kernel": jnp.zeros(SHAPES["kernel"])})
        for g, direction in zip(grads, expected, strict=True):
            found, state = jax.jit(optimizer.update)({"kernel": jnp.asarray(g)}, state)
            assert found["kernel"].shape == SHAPES["kernel"]
            # Signs of eigenvectors and the vector that the first gradient leaves open do not matter: all cancel.
            np.testing.assert_allclose(found["kernel"].reshape(2, 3), direction, rtol=1e-9, atol=1e-9)


def test_of_vectors_the_direction_is_that_of_adam_one_step_late():
    grads = gradients(5, SHAPES["bias"])
    soap, adam = scale_by_soap(B1, B2), optax.scale_by_adam(B1, B2)
    params = jnp.zeros(SHAPES["bias"])
    state, adam_state = soap.init(params), adam.init(params)
    found, state = soap.update(jnp.asarray(grads[0], jnp.float32), state)
    assert not np.any(found)
    for g in grads[1:]:
        g = jnp.asarray(g, jnp.float32)
        found, state = soap.update(g, state)
        expected, adam_state = adam.update(g, adam_state)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_first_bases_are_orthogonal_where_a_gradient_has_a_low_rank():
    optimizer = scale_by_soap()
    g = {"kernel": jnp.asarray(gradients(1, (7, 2))[0] * [1, 0], jnp.float32), "dead": jnp.zeros((5, 3))}
    _, state = optimizer.update(g, optimizer.init(g))
    for moments in state.moments.values():
        for side in (moments.rows, moments.columns):
            np.testing.assert_allclose(side.basis.T @ side.basis, np.eye(len(side.basis)), atol=1e-6)


def test_soap_before_muon_is_the_direction_of_soap_made_orthogonal():
    """With the singular vectors of SOAP's direction, and singular values of Newton-Schulz, 0.68 to 1.14."""
    h = BASELINES["soap_muon_cosine"].default | {"learning_rate": 1.0, "weight_decay": 0.0}
    params = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
    ours = BASELINES["soap_muon_cosine"].make(h, 1)
    soap = scale_by_soap(1.0 - h["one_minus_momentum"])
    state, soap_state = ours.init(params), soap.init(params["kernel"])
    update = soap_direction = None
    for kernel, bias in zip(gradients(3, SHAPES["kernel"]), gradients(3, SHAPES["bias"]), strict=True):
        g = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
        update, state = ours.update(g, _at_first_step(state), params)
        soap_direction, soap_state = soap.update(g["kernel"], soap_state)
    u, _, vt = np.linalg.svd(np.asarray(soap_direction, np.float64).reshape(2, 3), full_matrices=False)
    values = -u.T @ np.asarray(update["kernel"], np.float64).reshape(2, 3) @ vt.T / np.sqrt(3 / 2)  # Muon's scale
    np.testing.assert_allclose(values, np.diag(np.diag(values)), atol=1e-5)
    assert np.all((np.diag(values) > 0.6) & (np.diag(values) < 1.2))


def _at_first_step(state):
    """The state with the schedule's count set back, so that its rate is the peak at every step."""
    return jax.tree.map(
        lambda s: s._replace(count=jnp.zeros_like(s.count)) if isinstance(s, optax.ScaleByScheduleState) else s,
        state,
        is_leaf=lambda s: isinstance(s, optax.ScaleByScheduleState),
    )


@pytest.mark.parametrize(
    ("share", "weights"),
    [
        (by_power(2.0), lambda s, t: s * (s + 1)),
        (by_power(0.0), lambda s, t: np.ones(t)),
    ],
    ids=["by power", "uniform"],
)
def test_four_averages_by_hand(share, weights):
    rate = 0.5
    optimizer = optax.chain(optax.sgd(rate), average_params(share))
    params = {"w": jnp.array([1.0, -2.0])}
    state = optimizer.init(params)
    assert_trees_close(evaluation_params(state, params), params)
    w, seen = np.array([1.0, -2.0]), []
    for step, g in enumerate(gradients(4, (2,)), 1):
        updates, state = optimizer.update({"w": jnp.asarray(g, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        w = w - rate * g
        seen.append(w)
        expected = np.average(seen, axis=0, weights=weights(np.arange(1, step + 1), step))
        assert_trees_close(params, {"w": w}, rtol=1e-5)
        assert_trees_close(evaluation_params(state, params), {"w": expected}, rtol=1e-5)


@pytest.mark.parametrize(
    ("row", "without"), [("adamw_average_cosine", "adamw_cosine"), ("muonw_average_cosine", "muonw_cosine")]
)
def test_a_row_of_averages_trains_as_without_and_is_evaluated_at_them(row, without):
    h = BASELINES[row].default
    ours, adamw = BASELINES[row].make(h, 20), BASELINES[without].make({"one_minus_b1": 0.1} | h, 20)
    params = {"w": jnp.array([1.0, -2.0])}
    state, plain = ours.init(params), adamw.init(params)
    for g in gradients(3, (2,)):
        updates, state = ours.update({"w": jnp.asarray(g, jnp.float32)}, state, params)
        expected, plain = adamw.update({"w": jnp.asarray(g, jnp.float32)}, plain, params)
        assert_trees_close(updates, expected)
        params = optax.apply_updates(params, updates)
    assert np.all(evaluation_params(state, params)["w"] != params["w"])
