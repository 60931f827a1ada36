import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned.per_parameter_mlp import NUM_INPUTS, per_parameter_mlp
from tests.helpers import CountingTraces, assert_trees_close, central_differences, kinds

DESIGN = per_parameter_mlp()
PARAMS = {"w": jnp.array([[0.3, -0.2, 0.5], [1.0, -1.0, 0.1]]), "b": jnp.array([0.1, 0.2, -0.3]), "s": jnp.array(0.7)}


@functools.cache
def example_theta(hidden=32):
    """Weights of order one, from numpy: outputs d and m of order one make a mistake in any input visible."""
    rng = np.random.default_rng(hidden)
    shapes = {"w1": (hidden, 31), "b1": (hidden,), "w2": (2, hidden), "b2": (2,)}
    return {
        name: jnp.asarray(rng.normal(size=shape) / np.sqrt(shape[-1]), jnp.float32) for name, shape in shapes.items()
    }


def gradients(inner_step, like=PARAMS):
    rng = np.random.default_rng(100 + inner_step)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), like)


def first_update(optimizer, params=PARAMS):
    return jax.jit(optimizer.update)(gradients(0, params), optimizer.init(params), params)[0]


TRACES = CountingTraces(lambda theta, grads, state, params: DESIGN.optimizer(theta).update(grads, state, params))
STEP = jax.jit(TRACES)


# The definition -------------------------------------------------------------------------------------------------------


def test_there_are_31_inputs_and_1090_weights():
    theta = jax.eval_shape(DESIGN.init_theta, jax.random.key(0))
    assert NUM_INPUTS == 31
    assert sum(leaf.size for leaf in theta.values()) == 1090
    assert {name: leaf.shape for name, leaf in theta.items()} == {
        name: leaf.shape for name, leaf in example_theta().items()
    }


def update_by_the_paper(theta, grads, params, inner_step, step_scale=1e-3, exp_scale=1e-3):
    """The update of one tensor at a step, in float64, written parameter by parameter from the paper's description.

    Args:
      theta: weights.
      grads: gradients of all steps up to this one, a list of flat vectors.
      params: the parameters, flat.
      inner_step: number of steps taken before this one.
    """
    columns = [grads[-1], params]
    momenta, second = [], []
    for b in (0.5, 0.9, 0.99, 0.999, 0.9999):
        m, v = np.zeros_like(params), np.zeros_like(params)
        for g in grads:
            m = b * m + (1 - b) * g
            v = b * v + (1 - b) * g**2
        momenta.append(m)
        second.append(v)
    columns += momenta
    columns += second
    columns += [1 / np.sqrt(v + 1e-6) for v in second]
    columns += [m / np.sqrt(v + 1e-6) for m, v in zip(momenta, second, strict=True)]
    columns = [column / np.sqrt(1e-5 + np.mean(column**2)) for column in columns]
    time = [np.tanh(inner_step / s - 1) for s in (3, 10, 30, 100, 300, 1000, 3000, 10000, 30000)]
    updates = []
    for i in range(len(params)):
        inputs = np.array([column[i] for column in columns] + time)
        hidden = np.maximum(theta["w1"] @ inputs + theta["b1"], 0)
        d, m = theta["w2"] @ hidden + theta["b2"]
        updates.append(-step_scale * d * np.exp(exp_scale * m))
    return np.array(updates)


def test_three_steps_equal_the_definition_of_the_paper():
    theta = {name: np.asarray(leaf, np.float64) for name, leaf in example_theta().items()}
    state = DESIGN.optimizer(example_theta()).init(PARAMS)
    seen = []
    for inner_step in range(3):
        seen.append(gradients(inner_step))
        updates, state = STEP(example_theta(), seen[-1], state, PARAMS)
        for name, param in PARAMS.items():
            history = [np.asarray(grads[name], np.float64).ravel() for grads in seen]
            expected = update_by_the_paper(theta, history, np.asarray(param, np.float64).ravel(), inner_step)
            # Updates are 1e-3 times a sum of 32 products of order one; float32 keeps 1e-5 of that.
            np.testing.assert_allclose(np.asarray(updates[name]).ravel(), expected, rtol=1e-5, atol=1e-8)


def test_the_scales_of_step_and_exponent_are_options():
    # exp_scale 0.5 makes the exponential visible, which at 1e-3 hides below 1 %.
    design = per_parameter_mlp(hidden=4, step_scale=0.1, exp_scale=0.5)
    theta, params = example_theta(4), {"b": PARAMS["b"]}
    updates = first_update(design.optimizer(theta), params)
    expected = update_by_the_paper(
        {name: np.asarray(leaf, np.float64) for name, leaf in theta.items()},
        [np.asarray(gradients(0, params)["b"], np.float64)],
        np.asarray(params["b"], np.float64),
        0,
        step_scale=0.1,
        exp_scale=0.5,
    )
    np.testing.assert_allclose(updates["b"], expected, rtol=1e-5, atol=1e-6)


# What every learned optimizer passes ----------------------------------------------------------------------------------


def test_structure_shapes_and_dtypes_are_kept_and_nothing_retraces():
    state = DESIGN.optimizer(example_theta()).init(PARAMS)
    expected, before = kinds(state), None
    for inner_step in range(3):
        updates, state = STEP(example_theta(), gradients(inner_step), state, PARAMS)
        before = before or TRACES.count
        assert kinds(updates) == kinds(PARAMS)
        assert kinds(state) == expected
    assert TRACES.count == before
    assert state.count == 3


def test_the_state_takes_40_bytes_a_parameter():
    state = jax.eval_shape(DESIGN.optimizer(example_theta()).init, {"w": jnp.zeros((10, 10))})
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) == 40 * 100 + 4


def test_jit_equals_eager():
    params = {"b": PARAMS["b"]}
    optimizer = DESIGN.optimizer(example_theta())
    eager, _ = optimizer.update(gradients(0, params), optimizer.init(params), params)
    assert_trees_close(first_update(optimizer, params), eager, rtol=1e-5, atol=1e-8)


def test_vmap_over_theta_equals_a_loop():
    state = DESIGN.optimizer(example_theta()).init(PARAMS)
    thetas = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf, -leaf]), example_theta())
    batched = jax.jit(jax.vmap(STEP, in_axes=(0, None, None, None)))(thetas, gradients(0), state, PARAMS)[0]
    for row in range(3):
        theta = jax.tree.map(lambda leaf, row=row: leaf[row], thetas)
        alone = STEP(theta, gradients(0), state, PARAMS)[0]
        assert_trees_close(jax.tree.map(lambda u, row=row: u[row], batched), alone, rtol=1e-5, atol=1e-8)


def test_the_gradient_in_theta_equals_finite_differences():
    design = per_parameter_mlp(hidden=3, step_scale=1.0, exp_scale=0.1)
    params = {"b": np.array([0.1, 0.2, -0.3], np.float32)}
    with jax.enable_x64(True):
        flat, unflatten = jax.flatten_util.ravel_pytree(
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), example_theta(3))
        )

        def sum_of_updates(flat):
            optimizer = design.optimizer(unflatten(flat))
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


def test_no_implicit_promotion():
    with jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.float32, jnp.bfloat16):
            params = jax.tree.map(lambda p, dtype=dtype: p.astype(dtype), PARAMS)
            state = jax.eval_shape(DESIGN.optimizer(example_theta()).init, params)
            updates, new_state = jax.eval_shape(DESIGN.optimizer(example_theta()).update, params, state, params)
            assert kinds(updates) == kinds(params)
            assert kinds(new_state) == kinds(state)


# Inside optax ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain():
    return STEP(example_theta(), gradients(0), DESIGN.optimizer(example_theta()).init(PARAMS), PARAMS)[0]


def test_it_chains(plain):
    chained = first_update(optax.chain(DESIGN.optimizer(example_theta()), optax.scale(2.0)))
    assert_trees_close(chained, jax.tree.map(lambda u: 2 * u, plain), rtol=1e-5, atol=1e-8)


def test_masked_it_leaves_other_parameters_to_others(plain):
    mask = {"w": True, "b": False, "s": False}
    updates = first_update(optax.masked(DESIGN.optimizer(example_theta()), mask))
    assert_trees_close(updates, {**gradients(0), "w": plain["w"]}, rtol=1e-5, atol=1e-8)


def test_it_shares_a_model_with_another_optimizer(plain):
    labels = {"w": "learned", "b": "sgd", "s": "learned"}
    transforms = {"learned": DESIGN.optimizer(example_theta()), "sgd": optax.sgd(0.1)}
    updates = first_update(optax.multi_transform(transforms, labels))
    assert_trees_close(updates, {**plain, "b": -0.1 * gradients(0)["b"]}, rtol=1e-5, atol=1e-8)


def test_it_takes_the_extra_arguments_of_the_inner_loop(plain):
    optimizer = optax.with_extra_args_support(DESIGN.optimizer(example_theta()))
    updates, _ = jax.eval_shape(
        lambda: optimizer.update(gradients(0), optimizer.init(PARAMS), PARAMS, value=jnp.zeros(()))
    )
    assert kinds(updates) == kinds(plain)


def test_half_precision_parameters_get_half_precision_updates_from_a_full_precision_state():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    grads = gradients(0, params)
    half = first_update(DESIGN.optimizer(example_theta()), params)
    assert kinds(half) == kinds(params)
    full_params, full_grads = (jax.tree.map(lambda x: x.astype(jnp.float32), tree) for tree in (params, grads))
    state = DESIGN.optimizer(example_theta()).init(full_params)
    full, _ = STEP(example_theta(), full_grads, state, full_params)
    # The computation is in float32; only the result is rounded, to 8 bits.
    assert_trees_close(jax.tree.map(lambda u: u.astype(jnp.float32), half), full, rtol=2**-8, atol=1e-8)


def test_without_parameters_it_says_what_it_needs():
    optimizer = DESIGN.optimizer(example_theta())
    with pytest.raises(ValueError, match=r"reads the parameters: call update\(grads, state, params\)"):
        optimizer.update(PARAMS, optimizer.init(PARAMS))
