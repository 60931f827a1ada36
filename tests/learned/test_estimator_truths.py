"""What is known of each estimator before it is run, on outer-losses whose gradient is known.

Means are judged by their own standard errors: a z-score beyond 4 is one in 16,000.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.measure.pathologies import influence
from bench.measure.pathologies.influence import Influence
from learned.estimators import (
    ESTIMATORS,
    PERTURBED,
    TRUNCATED,
    Estimate,
    Estimator,
    make_by_name,
    merge,
    one_by_one,
    side_by_side,
    with_own_es,
)
from learned.estimators.base import mean_and_variance, samples
from tests.helpers import central_differences

pytestmark = pytest.mark.slow  # a program to compile in almost every test

SIGMA = 0.01
KEY = jax.random.key(7)
UNBIASED = ("reparam", "es", "pes", "nres")  # for the gradient of a whole unroll, whatever the window


class Descent:
    """Gradient descent with a learned rate and a learned decay on a bowl of random curvature: smooth, not quadratic."""

    theta = {"rate": jnp.array([0.1, 0.3]), "decay": jnp.float32(0.5)}

    def start(self, theta, arrays, key, horizon):
        del theta, arrays, horizon
        return {"w": 1.0 + jax.random.uniform(key, (2,)), "m": jnp.zeros(2)}

    def advance(self, theta, arrays, state, key, num_steps):
        del arrays
        curvature = 0.5 + jax.random.uniform(jax.random.fold_in(key, 1), (2,))

        def step(s, _):
            m = theta["decay"] * s["m"] + curvature * s["w"]
            w = s["w"] - theta["rate"] * m
            return {"w": w, "m": m}, jnp.sum(curvature * w**2) / 2

        return jax.lax.scan(step, state, length=num_steps)


class InWindow(Descent):
    """The same unroll of 12 steps, of whose losses only those in one of four windows count."""

    def __init__(self, window):
        self.window = window

    def start(self, theta, arrays, key, horizon):
        return super().start(theta, arrays, key, horizon), jnp.zeros((), jnp.int32)

    def advance(self, theta, arrays, state, key, num_steps):
        inner, first = state
        inner, losses = super().advance(theta, arrays, inner, key, num_steps)
        window = (first + jnp.arange(num_steps)) * 4 // 12
        return (inner, first + num_steps), jnp.where(window == self.window, losses, 0.0)


def make(name, objective, num_tasks, batch_size=None):
    return make_by_name(name, objective, num_tasks, SIGMA, side_by_side(batch_size) if batch_size else one_by_one)


def flat(gradients):
    """(num_samples, P) in float64."""
    leaves = jax.tree.leaves(gradients)
    return np.concatenate([np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in leaves], axis=1)


def run(name, objective, num_tasks, num_steps, horizon, num_outer, key=KEY):
    """Estimates of consecutive outer steps at a theta that stands still, all samples side by side."""
    return program(name, type(objective), num_tasks, num_steps, horizon, num_outer)(key)


@functools.cache
def program(name, objective_class, num_tasks, num_steps, horizon, num_outer):
    """`run` as a compiled function of the key."""
    objective = objective_class()
    estimator = make(name, objective, num_tasks, batch_size=num_tasks)

    @jax.jit
    def all_steps(key):
        state = estimator.init(objective.theta, {}, key, num_steps, horizon)

        def step(state, outer_step):
            found, state = estimator.estimate(
                objective.theta, state, {}, jax.random.fold_in(key, outer_step), num_steps, horizon
            )
            return state, found

        return jax.lax.scan(step, state, jnp.arange(num_outer))[1]

    return all_steps


def exact(objective, keys, num_steps):
    """Gradients of the mean loss over whole unrolls at theta, (num_keys, P), by plain backpropagation."""

    def loss(theta, key):
        return jnp.mean(objective.advance(theta, {}, objective.start(theta, {}, key, num_steps), key, num_steps)[1])

    gradients = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(objective.theta, keys)
    return flat(gradients)


HORIZON = influence.HORIZON


@pytest.fixture(scope="module")
def balance():
    """The gradient of influence balancing over the whole horizon, a number."""
    return float(exact(Influence(), jax.random.split(KEY, 1), HORIZON)[0, 0])


def episodes(name, window, num_tasks=1000):
    """Each particle's mean gradient over one whole episode after its first, cut one: independent replications."""
    return np.asarray(influence.episodes(name, window, num_tasks)(KEY), np.float64)


def z_score(values, expected):
    return (values.mean(axis=0) - expected) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("name", ["pes", "nres"])
def test_persistent_and_noise_reuse_es_are_unbiased_where_influence_balances(name, balance):
    means = episodes(name, window=5)
    assert balance > 0
    assert abs(z_score(means, balance)) < 4
    assert z_score(means, 0.0) > 4  # and so the right way


@pytest.mark.parametrize("name", ["tbptt", "truncated_es"])
def test_short_windows_go_the_wrong_way_where_influence_balances(name, balance):
    means = episodes(name, window=5)
    assert balance > 0
    assert means.mean() < 0
    if name == "truncated_es":
        assert z_score(means, 0.0) < -4


@pytest.mark.parametrize("name", ["pes", "nres", "truncated_es"])
def test_with_one_window_every_truncated_estimator_is_es(name):
    es, other = (run(n, Descent(), 16, 12, 12, 3) for n in ("es", name))
    np.testing.assert_allclose(other.losses, es.losses, rtol=1e-6)
    np.testing.assert_allclose(flat(other.gradients), flat(es.gradients), rtol=1e-4, atol=1e-4)


def test_with_one_window_truncated_backpropagation_is_exact():
    found = run("tbptt", Descent(), 5, 12, 12, 1)
    _, keys = samples(jax.random.fold_in(KEY, 0), Descent.theta, 5, SIGMA)
    one = jax.tree.map(lambda leaf: leaf[0], found.gradients)
    np.testing.assert_allclose(flat(one), exact(Descent(), keys, 12), rtol=1e-4, atol=1e-6)


def test_truncated_backpropagation_is_biased_on_shorter_windows():
    """The window's gradient leaves out what theta did to the state before: of a smooth loss, most of it."""
    num_tasks, window, horizon = 64, 2, 12
    found = run("tbptt", Descent(), num_tasks, window, horizon, 2 * horizon // window)
    means = np.asarray(found.gradients["decay"], np.float64)[horizon // window :].mean(axis=0)
    whole = exact(Descent(), jax.random.split(KEY, 512), horizon)[:, 0]  # "decay" comes first
    gap = means.mean() - whole.mean()
    assert abs(gap) > 4 * np.hypot(means.std(ddof=1) / np.sqrt(num_tasks), whole.std(ddof=1) / np.sqrt(512))


def test_backpropagation_through_perturbed_unrolls_has_no_variance_on_a_quadratic(balance):
    found = run("reparam", Influence(), 8, HORIZON, HORIZON, 1)
    np.testing.assert_allclose(found.gradients["theta"], balance, rtol=1e-4)


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_estimators_agree_with_the_exact_gradient_of_a_whole_unroll(name):
    num_tasks, horizon = 2000, 12
    window = horizon if name in ("es", "reparam") else 3
    windows = horizon // window
    found = run(name, Descent(), num_tasks, window, horizon, 2 * windows)
    means = np.concatenate(
        [
            np.asarray(leaf, np.float64)[windows:].mean(axis=0).reshape(num_tasks, -1)
            for leaf in jax.tree.leaves(found.gradients)
        ],
        axis=1,
    )
    # Smoothing by sigma = 0.01 moves the gradient by about sigma^2 / 2 third derivatives: 1e-4, far below the error.
    whole = exact(Descent(), jax.random.split(jax.random.key(8), 20_000), horizon)
    error = np.hypot(means.std(axis=0, ddof=1) / np.sqrt(num_tasks), whole.std(axis=0, ddof=1) / np.sqrt(len(whole)))
    z = (means.mean(axis=0) - whole.mean(axis=0)) / error
    assert np.abs(z).max() < 4, z


@pytest.mark.parametrize("name", ["reparam", "tbptt"])
def test_backpropagated_gradients_are_those_of_finite_differences_in_float64(name):
    with jax.enable_x64(True):
        theta = {"rate": jnp.array([0.1, 0.3], jnp.float64), "decay": jnp.array(0.5, jnp.float64)}
        objective, estimator = Descent(), make(name, Descent(), 2)
        key = jax.random.key(3)
        eps, keys = samples(key, theta, 2, SIGMA)
        state = estimator.init(theta, {}, key, 11, 11)
        found, _ = estimator.estimate(theta, state, {}, key, 11, 11)  # 11 steps: three pieces of 3, and 2 left

        def loss(point, sample):
            shifts = (1.0, -1.0) if name in PERTURBED else (0.0,)
            total = 0.0
            for sign in shifts:
                moved = {
                    "decay": point[0] + sign * np.asarray(eps["decay"])[sample],
                    "rate": point[1:] + sign * np.asarray(eps["rate"])[sample],
                }
                losses = objective.advance(moved, {}, objective.start(moved, {}, keys[sample], 11), keys[sample], 11)[1]
                total += float(jnp.mean(losses)) / len(shifts)
            return total

        for sample in range(2):
            point = np.array([0.5, 0.1, 0.3])
            expected = central_differences(lambda p, sample=sample: loss(p, sample), point)
            np.testing.assert_allclose(flat(found.gradients)[sample], expected, rtol=1e-6)


# Conformance: what every row of the table does ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
class TestEveryEstimator:
    def test_hands_back_a_gradient_for_each_sample(self, name):
        found = run(name, Descent(), 3, 4, 8, 2)
        shapes = jax.tree.map(lambda leaf: (2, 3, *leaf.shape), Descent.theta)
        assert jax.tree.map(jnp.shape, found.gradients) == shapes
        assert found.losses.shape == (2, 3, 2 if name in PERTURBED else 1)
        assert found.num_non_finite.tolist() == [0, 0]

    def test_is_a_pure_function_of_its_key(self, name):
        one, again, other = (run(name, Descent(), 3, 4, 8, 2, jax.random.key(seed)) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one.gradients["rate"], again.gradients["rate"])
        assert not np.any(np.asarray(one.gradients["rate"]) == np.asarray(other.gradients["rate"]))

    def test_samples_side_by_side_equal_samples_one_by_one(self, name):
        def both(batch_size):
            estimator = make(name, Descent(), 3, batch_size)
            state = estimator.init(Descent.theta, {}, KEY, 4, 8)
            return jax.jit(lambda state: estimator.estimate(Descent.theta, state, {}, KEY, 4, 8)[0])(state)

        alone, batched = both(None), both(3)
        np.testing.assert_allclose(alone.losses, batched.losses, rtol=1e-6)
        # A rounding of 1e-7 in a loss, times eps / sigma^2 of about 100.
        np.testing.assert_allclose(flat(alone.gradients), flat(batched.gradients), rtol=1e-4, atol=1e-4)

    def test_carries_its_state_in_one_program(self, name):
        estimator = make(name, Descent(), 3)
        state = estimator.init(Descent.theta, {}, KEY, 4, 8)
        _, after = jax.eval_shape(lambda state: estimator.estimate(Descent.theta, state, {}, KEY, 4, 8), state)
        before = jax.eval_shape(lambda state: state, state)
        assert jax.tree.structure(before) == jax.tree.structure(after)
        assert jax.tree.leaves(before) == jax.tree.leaves(after)
        assert estimator.name == name
        assert (before == ()) == (name not in TRUNCATED)


# Merging --------------------------------------------------------------------------------------------------------------


def given(gradients, name=""):
    """An estimator that hands back these samples."""
    gradients = {"x": jnp.asarray(gradients, jnp.float32)}
    losses = jnp.zeros((len(gradients["x"]), 1))
    return Estimator(
        lambda *args: (),
        lambda theta, state, *args: (Estimate(gradients, losses, jnp.zeros((), jnp.int32)), state),
        name,
    )


def merged(a, b):
    estimator = merge(given(a, "a"), given(b, "b"))
    return estimator.estimate({"x": jnp.zeros(())}, estimator.init({}, {}, KEY, 1, 1), {}, KEY, 1, 1)[0]


def test_merging_weighs_by_inverse_variance_elementwise():
    # First element: variances 2 and 0.5 over two samples, so weights 0.2 and 0.8 on means 1 and 2.5; second: reversed.
    found = merged([[0.0, 2.0], [2.0, 3.0]], [[2.0, 0.0], [3.0, 2.0]])
    mean, _ = mean_and_variance(found.gradients)
    np.testing.assert_allclose(mean["x"], [0.2 * 1 + 0.8 * 2.5, 0.2 * 1 + 0.8 * 2.5], rtol=1e-6)
    np.testing.assert_allclose(found.info["merge_weight"], 0.5, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_estimate_with_a_sample_that_is_not_finite_has_weight_zero(bad):
    found = merged([[bad, 1.0], [1.0, 1.5]], [[2.0, 0.0], [3.0, 2.0]])
    np.testing.assert_array_equal(found.gradients["x"], [[2.0, 0.0], [3.0, 2.0]])
    assert (bool(found.info["finite/a"]), bool(found.info["finite/b"])) == (False, True)
    assert not np.isfinite(np.asarray(merged([[bad], [1.0]], [[bad], [1.0]]).gradients["x"])).all()


def test_merging_is_biased_where_one_estimate_is_heavy_tailed():
    """A sample that misses the tail has a small mean and a small variance: it gets the weight."""
    rng = np.random.default_rng(0)
    scale, num_samples, replications = 2.0, 128, 400
    heavy = np.exp(scale * rng.normal(size=(replications, num_samples)) - scale**2 / 2)  # lognormal of mean 1
    spread = np.sqrt(np.exp(scale**2) - 1)
    normal = 1 + spread * rng.normal(size=heavy.shape)  # of the same mean and variance
    means = np.array(
        [np.mean(merged(h, n).gradients["x"]) for h, n in zip(heavy[:, :, None], normal[:, :, None], strict=True)]
    )
    assert z_score(means, 1.0) < -4
    assert abs(z_score(heavy.mean(axis=1), 1.0)) < 4


def test_merged_estimates_of_shared_and_of_independent_samples_have_the_gradient_of_both(balance):
    for shared in (True, False):
        estimator = merge(*(make(n, Influence(), 64, 64) for n in ("reparam", "es")), shared=shared)
        state = estimator.init(Influence.theta, {}, KEY, HORIZON, HORIZON)
        found, _ = jax.jit(
            lambda state, estimator=estimator: estimator.estimate(Influence.theta, state, {}, KEY, HORIZON, HORIZON)
        )(state)
        # Backpropagation has no variance on a quadratic: it gets all the weight.
        np.testing.assert_allclose(found.gradients["theta"], balance, rtol=1e-3)
        assert found.info["merge_weight"] > 0.999


def test_telescoping_losses_sum_to_the_last():
    """l_t - l_{t-1} over windows gives the final loss whatever the window: the windows of an episode join."""
    objective, key = Descent(), jax.random.key(2)
    state, losses = objective.start(objective.theta, {}, key, 12), []
    for _ in range(4):
        state, window = objective.advance(objective.theta, {}, state, key, 3)
        losses.append(np.asarray(window))
    _, whole = objective.advance(objective.theta, {}, objective.start(objective.theta, {}, key, 12), key, 12)
    np.testing.assert_allclose(np.concatenate(losses), whole, rtol=1e-6)
    assert np.diff(np.concatenate(losses), prepend=0.0).sum() == pytest.approx(float(whole[-1]), rel=1e-5)


def test_with_the_es_of_its_own_unrolls_it_is_the_merge_of_shared_samples():
    apart = merge(*(make(n, Descent(), 8, 8) for n in ("reparam", "es")))
    own = with_own_es(make("reparam", Descent(), 8, 8), 8, SIGMA)
    states = [apart.init(Descent.theta, {}, KEY, 12, 12), own.init(Descent.theta, {}, KEY, 12, 12)]
    found = [
        jax.jit(lambda e=e, state=state: e.estimate(Descent.theta, state, {}, KEY, 12, 12)[0])()
        for e, state in zip((apart, own), states, strict=True)
    ]
    np.testing.assert_allclose(flat(found[0].gradients), flat(found[1].gradients), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[0].losses, found[1].losses, rtol=1e-6)
    assert found[0].info.keys() == found[1].info.keys()
    assert all(found[0].info[name] == pytest.approx(float(found[1].info[name]), rel=1e-3) for name in found[0].info)


def test_merged_in_a_single_window_it_is_the_merge_of_whole_unrolls(monkeypatch):
    monkeypatch.setattr(sys.modules["learned.estimators.merged_windows"], "NUM_WINDOWS", 1)
    whole = merge(*(make(n, Descent(), 64, 64) for n in ("reparam", "es")))
    states = [whole.init(Descent.theta, {}, KEY, 12, 12), ()]
    found = [
        jax.jit(lambda e=e, state=state: e.estimate(Descent.theta, state, {}, KEY, 12, 12)[0])()
        for e, state in zip((whole, make("merged_windows", Descent(), 64, 64)), states, strict=True)
    ]
    np.testing.assert_allclose(flat(found[0].gradients), flat(found[1].gradients), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[0].losses, found[1].losses, rtol=1e-6)
    np.testing.assert_allclose(found[0].info["merge_weight"], found[1].info["merge_weight"], rtol=1e-3)


def test_merged_window_by_window_it_is_the_sum_of_merges_of_the_losses_in_each():
    """Merges of shared samples, which a test above takes apart; each has a weight of its own."""

    def estimate(estimator):
        state = estimator.init(Descent.theta, {}, KEY, 12, 12)
        return jax.jit(lambda: estimator.estimate(Descent.theta, state, {}, KEY, 12, 12)[0])()

    apart = [estimate(with_own_es(make("reparam", InWindow(w), 8, 8), 8, SIGMA)) for w in range(4)]
    found = estimate(make("merged_windows", Descent(), 8, 8))
    expected = sum(flat(part.gradients) for part in apart)
    np.testing.assert_allclose(flat(found.gradients), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.losses, sum(part.losses for part in apart), rtol=1e-5)
    weights = [float(part.info["merge_weight"]) for part in apart]
    assert max(weights) - min(weights) > 0.01
    assert float(found.info["merge_weight"]) == pytest.approx(np.mean(weights), rel=1e-3)


def test_merged_window_by_window_the_parts_add_up_where_backpropagation_has_no_variance(balance):
    found = run("merged_windows", Influence(), 64, HORIZON, HORIZON, 1)
    np.testing.assert_allclose(np.mean(found.gradients["theta"]), balance, rtol=1e-3)
    assert found.info["merge_weight"] > 0.999
