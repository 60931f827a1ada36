import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned.lean_mlp import NUM_INPUTS, NUM_TENSOR_INPUTS, lean_mlp
from tests.helpers import assert_trees_close
from tests.learned.test_designs import example_theta, gradients

PARAMS = {"w": jnp.array([[0.3, -0.2, 0.5], [1.0, -1.0, 0.1]]), "b": jnp.array([0.1, 0.2, -0.3])}
HORIZON = 4


def steps(optimizer, num_steps):
    """Updates and parameters of consecutive steps, the parameters moving along."""
    update, state, params, found = jax.jit(optimizer.update), optimizer.init(PARAMS), PARAMS, []
    for inner_step in range(num_steps):
        updates, state = update(gradients(inner_step, PARAMS), state, params)
        found.append((params, updates))
        params = optax.apply_updates(params, updates)
    return found


def test_before_outer_training_it_is_annealed_adam():
    design = lean_mlp(hidden=4, rate=0.01, anneal=1.5)
    found = steps(design.optimizer(jax.jit(design.init_theta)(jax.random.key(0)), HORIZON), 4)
    expected = steps(optax.adam(lambda count: 0.01 * (1.02 - count / HORIZON) ** 1.5), 4)
    for (_, updates), (_, adams) in zip(found, expected, strict=True):
        assert_trees_close(updates, adams, rtol=1e-5, atol=1e-8)


def update_by_definition(theta, grads, params, inner_step, shape, rate):
    """The update of one tensor in float64, parameter by parameter, from the module's description."""
    momenta = {}
    for decay in (0.5, 0.9, 0.99):
        m = np.zeros_like(params)
        for g in grads:
            m = decay * m + (1 - decay) * g
        momenta[decay] = m / (1 - decay ** len(grads))
    v = np.zeros_like(params)
    for g in grads:
        v = 0.999 * v + 0.001 * g**2
    root = np.sqrt(v / (1 - 0.999 ** len(grads))) + 1e-8
    g, m = grads[-1], momenta[0.9]
    fan_in, fan_out = (np.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (1, shape[0])

    def rms(x):
        return np.sqrt(np.mean(x**2))

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    about = [np.tanh(inner_step / s - 1) for s in (3, 10, 30, 100, 300, 1000, 3000, 10000, 30000)]
    about += [inner_step / HORIZON, np.log(1.02 - inner_step / HORIZON) / -np.log(0.02)]
    about += [len(shape) < 2, np.log10(fan_in) / 2, np.log10(fan_out) / 2]
    about += [np.log(1e-3 + rms(params)), np.log(1e-3 + rms(m / root)), cosine(m, g), cosine(m, params)]
    about = np.array(about, np.float64)
    said = theta["t2"] @ np.maximum(theta["t1"] @ about + theta["c1"], 0) + theta["c2"] + theta["linear"] @ about
    updates = []
    for i in range(len(params)):
        x = [g[i] / root[i], *(momenta[d][i] / root[i] for d in (0.5, 0.9, 0.99))]
        x += [g[i] / rms(g), params[i] / rms(params)]
        units = np.maximum(theta["w1"] @ np.array(x) + theta["b1"] + said[:-2], 0)
        direction = m[i] / root[i] + theta["w2"] @ units + said[-2] * params[i]
        updates.append(-rate * np.exp(5 * said[-1]) * direction)
    return np.array(updates)


def test_three_steps_equal_the_definition():
    options = {"hidden": 4, "rate": 0.01}
    theta = example_theta("lean_mlp", **options)
    exact = {name: np.asarray(leaf, np.float64) for name, leaf in theta.items()}
    seen = []
    for inner_step, (params, updates) in enumerate(steps(lean_mlp(**options).optimizer(theta, HORIZON), 3)):
        seen.append(gradients(inner_step, PARAMS))
        for name, param in params.items():
            history = [np.asarray(grads[name], np.float64).ravel() for grads in seen]
            flat = np.asarray(param, np.float64).ravel()
            expected = update_by_definition(exact, history, flat, inner_step, param.shape, 0.01)
            np.testing.assert_allclose(np.asarray(updates[name]).ravel(), expected, rtol=2e-4, atol=1e-7)


def test_a_tensor_without_a_gradient_and_of_zeros_stays_finite():
    params = {"b": jnp.zeros(3)}
    optimizer = lean_mlp(hidden=4).optimizer(example_theta("lean_mlp", hidden=4))
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))


def test_the_state_takes_16_bytes_a_parameter_and_the_weights_are_few():
    design = lean_mlp()
    theta = jax.eval_shape(design.init_theta, jax.random.key(0))
    state = jax.eval_shape(design.optimizer(example_theta("lean_mlp")).init, {"w": jnp.zeros((10, 10))})
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) == 16 * 100 + 4 + 4
    assert (NUM_INPUTS, NUM_TENSOR_INPUTS) == (6, 18)
    assert sum(leaf.size for leaf in theta.values()) == 16 * (6 + 1 + 1) + 16 * (18 + 1) + 18 * (16 + 1 + 18)
