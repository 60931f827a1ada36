import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from optax.contrib import MuonDimensionNumbers

from learned.orthogonal import NUM_OUTPUTS, NUM_TENSOR_INPUTS, orthogonal, orthogonalize
from tests.helpers import assert_trees_close
from tests.learned.test_designs import example_theta, gradients

RNG = np.random.default_rng(5)
PARAMS = {
    "kernel": jnp.asarray(RNG.normal(size=(3, 2, 4)), jnp.float32),
    "wide": jnp.asarray(RNG.normal(size=(2, 5)), jnp.float32),
    "b": jnp.array([0.1, 0.2, -0.3]),
}
LOSSES = (2.3, 1.9, 2.0, 1.2, 0.7)


HORIZON = 6


def steps(optimizer, num_steps):
    """Updates and parameters of consecutive steps, the parameters moving along."""
    update, state, params, found = jax.jit(optimizer.update), optimizer.init(PARAMS), PARAMS, []
    for inner_step in range(num_steps):
        updates, state = update(gradients(inner_step, PARAMS), state, params, value=LOSSES[inner_step])
        found.append((params, updates))
        params = optax.apply_updates(params, updates)
    return found


def test_before_outer_training_it_is_annealed_muon_with_decay():
    decay, anneal = 0.3, 1.5
    design = orthogonal(rate=0.03, vector_rate=0.01, decay=decay, anneal=anneal)
    found = steps(design.optimizer(jax.jit(design.init_theta)(jax.random.key(0)), HORIZON), 5)

    def left(count):
        return (1.02 - count / HORIZON) ** anneal

    muon = optax.contrib.muon(
        lambda count: 0.03 * left(count),
        beta=0.95,
        weight_decay=decay,
        adam_b1=0.95,
        adam_learning_rate=lambda count: 0.01 * left(count),
        muon_weight_dimension_numbers=lambda params: jax.tree.map(
            lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim > 1 else None, params
        ),
    )
    for (_, updates), (_, expected) in zip(found, steps(optax.with_extra_args_support(muon), 5), strict=True):
        assert_trees_close(updates, expected, rtol=1e-4, atol=1e-7)


def rms(x):
    return np.sqrt(np.mean(x**2))


def cosine(a, b):
    return np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)


def polynomial_of_singular_values(matrix):
    """Five times x <- 3.4445 x - 4.775 x^3 + 2.0315 x^5 on the singular values of the matrix over its norm."""
    u, s, vt = np.linalg.svd(matrix / np.linalg.norm(matrix), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ vt


def update_by_definition(theta, grads, losses, w, rate, vector_rate, decay, kept):
    """The update of one tensor in float64, from the module's description."""
    momenta, t = {}, len(grads)
    for b in (0.8, 0.95, 0.99):
        raw = sum((1 - b) * b ** (t - 1 - i) * g for i, g in enumerate(grads))
        momenta[b] = raw, raw / (1 - b**t)
    v = sum(0.001 * 0.999 ** (t - 1 - i) * g**2 for i, g in enumerate(grads)) / (1 - 0.999**t)
    g = grads[-1]
    nesterov = 0.95 * momenta[0.95][0] / (1 - 0.95 ** (t + 1)) + 0.05 * g / (1 - 0.95**t)
    adam = nesterov / (np.sqrt(v) + 1e-8)
    averages = [
        sum((1 - d) * d ** (t - 1 - i) * np.log(loss + 1e-4) for i, loss in enumerate(losses)) / (1 - d**t)
        for d in (0.9, 0.99)
    ]
    fan_in, fan_out = (g.size // g.shape[-1], g.shape[-1]) if g.ndim > 1 else (1, g.size)
    about = [np.tanh((t - 1) / s - 1) for s in (3, 10, 30, 100, 300, 1000, 3000, 10000, 30000)]
    done = (t - 1) / HORIZON
    about += [done, np.log(1.02 - done) / -np.log(0.02)]
    about += [*averages, averages[0] - averages[1], g.ndim < 2, np.log10(fan_in) / 2, np.log10(fan_out) / 2]
    about += [np.log(1e-3 + rms(w)), np.log(1e-3 + rms(adam))]
    about += [cosine(momenta[0.95][0], other) for other in (g, w, momenta[0.99][0])]
    about = np.array(about, np.float64)
    said = theta["w2"] @ np.maximum(theta["w1"] @ about + theta["b1"], 0) + theta["b2"] + theta["linear"] @ about
    mixture, (inside, share, shrink, rho) = said[:4], said[4:]
    if g.ndim < 2:
        return -vector_rate * np.exp(5 * rho) * ((1 + share) * adam + shrink * w)
    mixed = nesterov + mixture[0] * g + sum(a * m for a, (_, m) in zip(mixture[1:], momenta.values(), strict=True))
    mixed = mixed / rms(mixed) + inside * adam / rms(adam)
    direction = polynomial_of_singular_values(mixed.reshape(fan_in, fan_out)).reshape(g.shape)
    direction = direction + kept * share * adam / np.sqrt(max(fan_in, fan_out))
    direction = np.sqrt(max(1, fan_out / fan_in)) * direction
    return -rate * np.exp(5 * rho) * (direction + (decay + shrink) * w)


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_three_steps_equal_the_definition(share):
    options = {"hidden": 6, "rate": 0.02, "vector_rate": 0.01, "decay": 0.2, "share": share}
    theta = example_theta("orthogonal", **options)
    exact = {name: np.asarray(leaf, np.float64) for name, leaf in theta.items()}
    seen = []
    for inner_step, (params, updates) in enumerate(steps(orthogonal(**options).optimizer(theta, HORIZON), 3)):
        seen.append(gradients(inner_step, PARAMS))
        for name, param in params.items():
            history = [np.asarray(grads[name], np.float64) for grads in seen]
            w = np.asarray(param, np.float64)
            expected = update_by_definition(exact, history, LOSSES[: inner_step + 1], w, 0.02, 0.01, 0.2, share)
            np.testing.assert_allclose(np.asarray(updates[name]), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (27, 8)])
def test_orthogonalize_keeps_singular_vectors_and_brings_singular_values_near_one(shape):
    matrix = RNG.normal(size=shape)
    found = np.asarray(jax.jit(orthogonalize)(jnp.asarray(matrix, jnp.float32)))
    np.testing.assert_allclose(found, polynomial_of_singular_values(matrix), atol=1e-4)
    values = np.linalg.svd(found, compute_uv=False)
    assert values.min() > 0.3
    assert values.max() < 1.3


@pytest.mark.parametrize(("share", "downhill"), [(1.0, False), (0.0, True)])
def test_a_negative_share_leads_uphill_where_the_gradient_has_rank_one(share, downhill):
    """Why a share is better left out: 64 x 64 of rank one is enough."""
    design = orthogonal(share=share)
    theta = jax.jit(design.init_theta)(jax.random.key(0))
    theta["b2"] = theta["b2"].at[-3].set(-0.25)  # c
    grads, params = {"w": jnp.ones((64, 64))}, {"w": jnp.zeros((64, 64))}
    updates, _ = jax.jit(design.optimizer(theta).update)(grads, design.optimizer(theta).init(params), params)
    assert (float(jnp.sum(grads["w"] * updates["w"])) < 0) == downhill


def test_a_tensor_without_a_gradient_and_of_zeros_stays_finite():
    params = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(3)}
    optimizer = orthogonal(hidden=4).optimizer(example_theta("orthogonal", hidden=4))
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params, value=0.0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))


def test_the_loss_is_read_and_without_one_its_inputs_are_zero():
    optimizer = orthogonal(hidden=4).optimizer(example_theta("orthogonal", hidden=4))
    params = {"wide": PARAMS["wide"]}
    update, state = jax.jit(optimizer.update), optimizer.init(params)
    grads = gradients(0, params)
    without, low, one = (
        update(grads, state, params, **given)[0] for given in ({}, {"value": 0.1}, {"value": 1 - 1e-4})
    )
    assert not np.allclose(without["wide"], low["wide"], rtol=1e-3)
    assert_trees_close(without, one, rtol=1e-4, atol=1e-7)


def test_the_state_takes_16_bytes_a_parameter_and_the_weights_are_few():
    design = orthogonal()
    theta = jax.eval_shape(design.init_theta, jax.random.key(0))
    state = jax.eval_shape(design.optimizer(example_theta("orthogonal")).init, {"w": jnp.zeros((10, 10))})
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) == 16 * 100 + 4 + 4 + 8
    assert (NUM_TENSOR_INPUTS, NUM_OUTPUTS) == (22, 8)
    assert sum(leaf.size for leaf in theta.values()) == 32 * (22 + 1) + 8 * (32 + 1 + 22)


def test_a_loss_below_zero_or_not_finite_is_taken_for_what_it_was_on_average():
    """A log-likelihood, say: updates are those of the loss before it, and stay finite from there on."""
    design = orthogonal()
    optimizer = design.optimizer(example_theta("orthogonal"), HORIZON)
    update = jax.jit(optimizer.update)
    for odd in (-0.5, -1e6, np.nan, np.inf, -np.inf):
        state, kept = optimizer.init(PARAMS), optimizer.init(PARAMS)
        for inner_step, loss in enumerate((0.7, 0.7, odd, odd)):
            grads = gradients(inner_step, PARAMS)
            updates, state = update(grads, state, PARAMS, value=loss)
            expected, kept = update(grads, kept, PARAMS, value=0.7)
            assert_trees_close(updates, expected, rtol=1e-3, atol=1e-6)
    updates, _ = update(grads, optimizer.init(PARAMS), PARAMS, value=-1.0)  # the first of all
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(updates))


def test_a_state_that_is_donated_and_leaves_without_elements():
    params = PARAMS | {"empty": jnp.zeros((0, 4)), "none": jnp.zeros(0)}
    optimizer = orthogonal().optimizer(example_theta("orthogonal"), jnp.array(9.0))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = optimizer.update(params, state, params, value=1.0)
        return optax.apply_updates(params, updates), state

    params, state = jax.tree.map(jnp.array, params), optimizer.init(params)
    for _ in range(2):
        params, state = step(params, state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
