"""Estimators on outer-losses whose gradient is known, judged by their own standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned.estimators import es, one_by_one, side_by_side
from learned.estimators.base import perturbation

SIGMA, NUM_SAMPLES = 0.01, 4000
THETA = {"w": jnp.array([[0.3, -0.2], [0.5, 0.1]]), "b": jnp.array([0.4, -0.6, 0.2])}
P = 7
CURVATURE = jax.tree.map(lambda leaf: 1.0 + jnp.arange(leaf.size, dtype=jnp.float32).reshape(leaf.shape) / 4, THETA)
GRADIENT = jax.tree.map(lambda c, t: np.asarray(c * t, np.float64), CURVATURE, THETA)


class Quadratic:
    """L(theta) = sum c theta^2 / 2 + a number that depends on the key, the same for both signs."""

    def start(self, theta, arrays, key, horizon):
        del theta, arrays, key, horizon
        return ()

    def advance(self, theta, arrays, state, key, num_steps):
        del arrays
        value = sum(jnp.sum(c * t**2) / 2 for c, t in zip(*map(jax.tree.leaves, (CURVATURE, theta)), strict=True))
        return state, jnp.full((num_steps,), value + jax.random.uniform(key))


class Failing(Quadratic):
    """Losses at theta + eps and - eps: 1; where the first weight is perturbed upwards, NaN, infinite, 1e3 and 1."""

    def advance(self, theta, arrays, state, key, num_steps):
        del arrays, key, num_steps
        bad = jnp.array([jnp.nan, jnp.inf, 1e3, 1.0])
        return state, jnp.where(theta["w"][0, 0] > THETA["w"][0, 0], bad, 1.0)


def estimate(objective, num_tasks, batch_size=None, num_steps=2):
    each = side_by_side(batch_size) if batch_size else one_by_one
    estimator = es(objective, num_tasks, SIGMA, each)
    return jax.jit(lambda theta, key: estimator.estimate(theta, (), {}, key, num_steps, num_steps)[0])


@pytest.fixture(scope="module")
def many():
    """(per-sample gradients (n, P) in float64, exact gradient (P,), losses)"""
    result = estimate(Quadratic(), NUM_SAMPLES, batch_size=500)(THETA, jax.random.key(0))
    flat = np.concatenate(
        [np.asarray(leaf, np.float64).reshape(NUM_SAMPLES, -1) for leaf in jax.tree.leaves(result.gradients)], axis=1
    )
    return flat, np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(GRADIENT)]), result


def z_scores(samples, expected):
    return (samples.mean(axis=0) - expected) / (samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


def test_a_perturbation_is_normal_with_the_scale_sigma():
    keys = jax.random.split(jax.random.key(0), 2000)
    eps = jax.jit(jax.vmap(lambda key: perturbation(key, THETA, SIGMA)))(keys)
    assert jax.tree.map(jnp.shape, eps) == jax.tree.map(lambda leaf: (2000, *leaf.shape), THETA)
    flat = np.concatenate([np.asarray(leaf).reshape(2000, -1) for leaf in jax.tree.leaves(eps)], axis=1)
    covariance = flat.T @ flat / 2000 / SIGMA**2
    # Standard errors: sqrt(2 / n) on the diagonal, sqrt(1 / n) off it; four and a half of the larger.
    assert np.abs(covariance - np.eye(P)).max() < 4.5 * np.sqrt(2 / 2000)


def test_es_hands_back_a_gradient_for_each_sample(many):
    _, _, result = many
    assert jax.tree.map(jnp.shape, result.gradients) == jax.tree.map(lambda leaf: (NUM_SAMPLES, *leaf.shape), THETA)
    assert result.losses.shape == (NUM_SAMPLES, 2)
    assert result.num_non_finite == 0


def test_es_is_unbiased_on_a_quadratic(many):
    samples, exact, _ = many
    z = z_scores(samples, exact)
    assert np.abs(z).max() < 4, z
    assert np.sum(z**2) < 24.3  # chi-squared of 7 degrees of freedom: one in a thousand


def test_the_z_score_would_see_a_bias_of_a_tenth(many):
    samples, exact, _ = many
    assert np.sum(z_scores(1.1 * samples, exact) ** 2) > 24.3


def test_es_has_a_total_variance_of_p_plus_one_squared_gradients(many):
    samples, exact, _ = many
    distances = np.sum((samples - exact) ** 2, axis=1)
    assert abs(z_scores(distances, (P + 1) * np.sum(exact**2))) < 4


def test_es_is_antithetic(many):
    # A gradient is weight * eps, so that with h = eps / sigma^2 both losses can be predicted from it; on a quadratic
    # the mean of the two is L(theta) + L(eps), whose key-dependent part lies in [0, 1) and is shared.
    samples, exact, result = many
    losses = np.asarray(result.losses, np.float64)
    weight = (losses[:, 0] - losses[:, 1]) / (2 * SIGMA**2)
    eps = samples / weight[:, None]
    assert np.std(eps) == pytest.approx(SIGMA, rel=0.05)
    # The difference of the two is 2 gradient . eps: the noise of the task and the curvature have cancelled. A loss near
    # 2 in float32 is rounded by 1e-7; the difference is of order 1e-2.
    np.testing.assert_allclose(losses[:, 0] - losses[:, 1], 2 * eps @ exact, atol=1e-6)


@pytest.fixture(scope="module")
def three():
    """The estimate from three samples, unrolled one by one."""
    return estimate(Quadratic(), 3)


def test_es_is_a_pure_function_of_its_key(three):
    one, again, other = (three(THETA, jax.random.key(seed)) for seed in (0, 0, 1))
    for a, b, c in zip(*map(jax.tree.leaves, (one.gradients, again.gradients, other.gradients)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.any(np.asarray(a) == np.asarray(c))
    assert len(np.unique(np.asarray(one.gradients["b"]))) == 9  # samples differ from each other


def test_unrolls_side_by_side_equal_unrolls_one_by_one(three):
    alone = three(THETA, jax.random.key(0))
    batched = estimate(Quadratic(), 3, batch_size=4)(THETA, jax.random.key(0))  # six unrolls: one and a half batches
    np.testing.assert_allclose(alone.losses, batched.losses, rtol=1e-6)
    for a, b in zip(*map(jax.tree.leaves, (alone.gradients, batched.gradients)), strict=True):
        # A rounding of 1e-7 in a loss, times eps / sigma^2 of about 100.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_losses_that_are_not_finite_are_counted_and_count_as_ten():
    result = estimate(Failing(), 16, num_steps=4)(THETA, jax.random.key(0))
    losses = np.asarray(result.losses)
    # Of each pair exactly one sign is perturbed upwards: (10 + 10 + 10 + 1) / 4, and the other has four ones.
    np.testing.assert_allclose(np.sort(losses, axis=1), [[1.0, 7.75]] * 16)
    assert len(set(losses[:, 0].tolist())) == 2
    assert result.num_non_finite == 2 * 16
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.gradients))
    # Up is worse: every sample says so.
    assert np.all(np.asarray(result.gradients["w"])[:, 0, 0] > 0)


def test_es_carries_no_state():
    estimator = es(Quadratic(), 2)
    assert estimator.init(THETA, {}, jax.random.key(0), 2, 2) == ()
    _, state = jax.eval_shape(lambda: estimator.estimate(THETA, (), {}, jax.random.key(0), 2, 2))
    assert state == ()
