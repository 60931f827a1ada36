import functools

import jax
import jax.numpy as jnp
import numpy as np

from learned.per_parameter_mlp import NUM_INPUTS, per_parameter_mlp
from tests.helpers import CountingTraces

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


def test_the_state_takes_40_bytes_a_parameter():
    state = jax.eval_shape(DESIGN.optimizer(example_theta()).init, {"w": jnp.zeros((10, 10))})
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) == 40 * 100 + 4
