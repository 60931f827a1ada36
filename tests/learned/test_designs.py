"""What every design of a learned optimizer passes, each with weights of order one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned.designs import DESIGNS, make_design
from tests.helpers import CountingTraces, assert_trees_close, central_differences, kinds

PARAMS = {"w": jnp.array([[0.3, -0.2, 0.5], [1.0, -1.0, 0.1]]), "b": jnp.array([0.1, 0.2, -0.3]), "s": jnp.array(0.7)}
# Options of a design with few units, each of which is compiled by itself, whose outputs all show in an update.
SMALL = {
    "per_parameter_mlp": {"hidden": 3, "step_scale": 1.0, "exp_scale": 0.1},
    "lean_mlp": {"hidden": 2, "rate": 0.1},
    "orthogonal": {"hidden": 6, "vector_rate": 0.1},
    "normalized": {"hidden": 6, "vector_rate": 0.1},
}


@functools.cache
def example_theta(design, **options):
    """Weights of order one, from numpy, so that a mistake in any input is visible."""
    rng = np.random.default_rng(len(design))
    shapes = jax.eval_shape(make_design(design, options).init_theta, jax.random.key(0))
    return {
        name: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(4 * leaf.shape[-1]), jnp.float32)
        for name, leaf in sorted(shapes.items())
    }


def gradients(inner_step, like=PARAMS):
    rng = np.random.default_rng(100 + inner_step)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), like)


def first_update(optimizer, params=PARAMS):
    return jax.jit(optimizer.update)(gradients(0, params), optimizer.init(params), params)[0]


class Row:
    """A small design, example weights, and one compiled step whose traces are counted."""

    def __init__(self, name):
        self.name, self.design, self.theta = name, make_design(name, SMALL[name]), example_theta(name, **SMALL[name])
        self.optimizer = self.design.optimizer(self.theta)
        self.traces = CountingTraces(
            lambda theta, grads, state, params: self.design.optimizer(theta).update(grads, state, params)
        )
        self.step = jax.jit(self.traces)


@pytest.fixture(scope="module", params=list(DESIGNS))
def row(request):
    return Row(request.param)


def test_every_design_has_a_row_here():
    assert sorted(SMALL) == sorted(DESIGNS)


def test_structure_shapes_and_dtypes_are_kept_and_nothing_retraces(row):
    state = row.optimizer.init(PARAMS)
    expected, before = kinds(state), None
    for inner_step in range(3):
        updates, state = row.step(row.theta, gradients(inner_step), state, PARAMS)
        before = before or row.traces.count
        assert kinds(updates) == kinds(PARAMS)
        assert kinds(state) == expected
    assert row.traces.count == before
    assert state.count == 3


def test_jit_equals_eager(row):
    params = {"b": PARAMS["b"]}
    optimizer = row.optimizer
    eager, _ = optimizer.update(gradients(0, params), optimizer.init(params), params)
    assert_trees_close(first_update(optimizer, params), eager, rtol=1e-5, atol=1e-8)


def test_vmap_over_theta_equals_a_loop(row):
    state = row.optimizer.init(PARAMS)
    thetas = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf, -leaf]), row.theta)
    batched = jax.jit(jax.vmap(row.step, in_axes=(0, None, None, None)))(thetas, gradients(0), state, PARAMS)[0]
    for i in range(3):
        theta = jax.tree.map(lambda leaf, i=i: leaf[i], thetas)
        alone = row.step(theta, gradients(0), state, PARAMS)[0]
        assert_trees_close(jax.tree.map(lambda u, i=i: u[i], batched), alone, rtol=1e-5, atol=1e-8)


def test_the_gradient_in_theta_equals_finite_differences(row):
    params = {"b": np.array([0.1, 0.2, -0.3], np.float32)}
    with jax.enable_x64(True):
        flat, unflatten = jax.flatten_util.ravel_pytree(
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), row.theta)
        )

        def sum_of_updates(flat):
            optimizer = row.design.optimizer(unflatten(flat))
            state, total = optimizer.init(params), 0.0
            for inner_step in range(2):
                # A float64 gradient gets a float64 update, and float32 parameters and state do not depend on theta.
                grads = {"b": jnp.asarray(gradients(inner_step, params)["b"], jnp.float64)}
                updates, state = optimizer.update(grads, state, params)
                total = total + jnp.sum(updates["b"] * jnp.array([1.0, -2.0, 0.5]))
            return total

        value_and_grad = jax.jit(jax.value_and_grad(sum_of_updates))
        gradient = np.asarray(value_and_grad(flat)[1])
        expected = central_differences(lambda point: float(value_and_grad(point)[0]), flat)
    assert gradient.dtype == np.float64
    assert np.count_nonzero(gradient) > 50  # of 107, some behind a closed ReLU
    # Central differences at 1e-6 in float64: 1e-10 of rounding; no ReLU switches that close to these points.
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_backpropagation_is_finite_where_gradients_and_parameters_are_zero(row):
    """As of units that are dead, and of biases at their start: a root's derivative at zero is not finite."""
    params = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2), "s": jnp.array(0.7)}

    def loss(theta):
        optimizer = row.design.optimizer(theta)

        def step(carry, _):
            moved, state = carry
            grads = {name: leaf if name == "s" else 0 * leaf for name, leaf in moved.items()}
            updates, state = optimizer.update(grads, state, moved)
            return (optax.apply_updates(moved, updates), state), None

        moved = jax.lax.scan(step, (params, optimizer.init(params)), length=2)[0][0]
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(moved))

    value, gradient = jax.jit(jax.value_and_grad(loss))(row.theta)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_no_implicit_promotion(row):
    with jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.float32, jnp.bfloat16):
            params = jax.tree.map(lambda p, dtype=dtype: p.astype(dtype), PARAMS)
            state = jax.eval_shape(row.optimizer.init, params)
            updates, new_state = jax.eval_shape(row.optimizer.update, params, state, params)
            assert kinds(updates) == kinds(params)
            assert kinds(new_state) == kinds(state)


# Inside optax ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(row):
    return row.step(row.theta, gradients(0), row.optimizer.init(PARAMS), PARAMS)[0]


def test_it_chains(row, plain):
    chained = first_update(optax.chain(row.optimizer, optax.scale(2.0)))
    assert_trees_close(chained, jax.tree.map(lambda u: 2 * u, plain), rtol=1e-5, atol=1e-8)


def test_it_shares_a_model_with_another_optimizer(row, plain):
    """Each masked, by `optax.masked`, to what is its own."""
    labels = {"w": "learned", "b": "sgd", "s": "learned"}
    transforms = {"learned": row.optimizer, "sgd": optax.sgd(0.1)}
    updates = first_update(optax.multi_transform(transforms, labels))
    assert_trees_close(updates, {**plain, "b": -0.1 * gradients(0)["b"]}, rtol=1e-5, atol=1e-8)


def test_it_takes_the_extra_arguments_of_the_inner_loop(row, plain):
    optimizer = optax.with_extra_args_support(row.optimizer)
    updates, _ = jax.eval_shape(
        lambda: optimizer.update(gradients(0), optimizer.init(PARAMS), PARAMS, value=jnp.zeros(()))
    )
    assert kinds(updates) == kinds(plain)


def test_half_precision_parameters_get_half_precision_updates_from_a_full_precision_state(row):
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    grads = gradients(0, params)
    half = first_update(row.optimizer, params)
    assert kinds(half) == kinds(params)
    full_params, full_grads = (jax.tree.map(lambda x: x.astype(jnp.float32), tree) for tree in (params, grads))
    state = row.optimizer.init(full_params)
    full, _ = row.step(row.theta, full_grads, state, full_params)
    # The computation is in float32; only the result is rounded, to 8 bits.
    assert_trees_close(jax.tree.map(lambda u: u.astype(jnp.float32), half), full, rtol=2**-8, atol=1e-8)


def test_without_parameters_it_says_what_it_needs(row):
    optimizer = row.optimizer
    with pytest.raises(ValueError, match=r"reads the parameters: call update\(grads, state, params\)"):
        optimizer.update(PARAMS, optimizer.init(PARAMS))
