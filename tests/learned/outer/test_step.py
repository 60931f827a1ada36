"""The compiled parts: one outer step by hand, what is skipped, what is clipped, what a stage begins anew."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned.curriculum import Stage
from learned.designs import make_design
from learned.outer.step import Engine, Families, clipped, mean_clipped, no_outliers, of_logarithm, of_parts
from tests.helpers import assert_trees_close, linear_family
from tests.learned.outer.linear import CONFIG, PES, Broken, engine


def one_step(made, state, outer_step=0):
    num_steps, horizon = made.config.lengths_at(outer_step)
    return made.step(state, made.arrays, outer_step, num_steps=num_steps, horizon=horizon)


@pytest.mark.slow
def test_an_outer_step_by_hand():
    """The mean of the samples, clipped by value and then by norm, and one step of Adam: sign times rate."""
    changes = {"clip_value": 0.05, "clip_norm": 0.08, "learning_rate": 0.01, "final_learning_rate": 1.0, "b1": 0.5}
    made = engine(dataclasses.replace(CONFIG, ema=0.25, **changes))
    state = made.init()
    key = jax.random.fold_in(made.key, 1)
    estimate, _ = made.estimators[0].estimate(state.theta, (), made.arrays[0][0], key, 10, 10)
    mean = {name: np.mean(np.asarray(leaf, np.float64), axis=0) for name, leaf in estimate.gradients.items()}
    by_value = {name: np.clip(leaf, -0.05, 0.05) for name, leaf in mean.items()}
    norm = math.sqrt(sum(np.sum(leaf**2) for leaf in by_value.values()))
    assert norm > 0.08
    after, metrics = one_step(made, state)
    np.testing.assert_allclose(metrics["gradient_norm"], math.sqrt(sum(np.sum(g**2) for g in mean.values())), rtol=1e-4)
    alone = [
        math.sqrt(sum(np.sum(np.square(leaf[i])) for leaf in estimate.gradients.values()))
        for i in range(len(estimate.losses))
    ]
    np.testing.assert_allclose(metrics["sample_norm"], np.median(alone), rtol=1e-4)
    for name, leaf in by_value.items():
        gradient = leaf * 0.08 / norm
        expected = np.asarray(state.theta[name]) - 0.01 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(after.theta[name], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            after.average[name], 0.25 * state.theta[name] + 0.75 * expected, rtol=1e-4, atol=1e-6
        )


@pytest.mark.slow
def test_an_update_that_is_not_finite_is_skipped_and_the_step_halved():
    made = Engine(CONFIG, linear_family())
    made.estimators = [Broken(made.estimators[0], [1, 2])]
    state, factors = made.init(), []
    for outer_step in range(5):
        before = state
        state, metrics = one_step(made, state, outer_step)
        factors.append(float(metrics["step_factor"]))
        same = np.array_equal(state.theta["w1"], before.theta["w1"])
        assert same == bool(metrics["skipped"]) == (outer_step in (1, 2))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((state.theta, state.opt_state)))
    np.testing.assert_allclose(factors, [1.0, 1.0, 0.5, 0.25, 0.275], rtol=1e-6)


@pytest.mark.slow
def test_with_a_stage_the_unrolls_that_are_carried_begin_anew():
    made = engine(PES)
    state, _ = one_step(made, made.init())
    assert np.all(np.asarray(state.carried.episode.position) == PES.window)
    again = made.begin_stage(state, 6)
    assert np.all(np.asarray(again.carried.episode.position) == -1)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(again.carried.noise))
    # Other tasks than at the run's beginning, and theta as it stands.
    keys = [jax.random.key_data(s.carried.episode.key) for s in (made.init(), again)]
    assert not np.any(np.all(keys[0] == keys[1], axis=1))
    assert again.theta is state.theta


def test_with_a_stage_of_other_lengths_programs_are_dropped():
    made = engine(dataclasses.replace(CONFIG, stages=(Stage(10, 2), Stage(10, 1), Stage(20, 1))))
    state, _ = one_step(made, made.init())
    for begins, kept in ((2, 1), (3, 0)):
        made.begin_stage(state, begins)
        assert made.step._cache_size() == kept


def test_each_sample_is_clipped_before_the_mean():
    one = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}
    found = clipped(one, 1.0)
    np.testing.assert_allclose(found["a"], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found["b"], 0.8, rtol=1e-6)
    assert clipped(one, 6.0) == {name: pytest.approx(np.asarray(leaf)) for name, leaf in one.items()}
    other = {"a": jnp.array([0.0, 0.5]), "b": jnp.array(0.0)}
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, other)
    for limit, expected in ((1.0, {"a": [0.3, 0.25], "b": 0.4}), (0.0, {"a": [1.5, 0.25], "b": 2.0})):
        for name, leaf in mean_clipped(both, limit).items():
            np.testing.assert_allclose(leaf, expected[name], rtol=1e-6)


def test_only_the_parts_of_theta_that_are_named_are_trained_and_a_gradient_outside_them_may_be_anything():
    design = make_design("normalized", {})
    hash(design)  # it is static in compiled programs
    parts = dict(design.parts)
    theta = design.init_theta(jax.random.key(0))
    samples = jax.tree.map(lambda leaf: jnp.ones((2, *leaf.shape)).at[0, 1].set(jnp.nan), theta)
    assert of_parts([], samples) is samples
    found = of_parts([parts["columns"]], samples)
    assert {name: float(leaf.sum()) for name, leaf in found.items()} == {
        "w1": 0,
        "b1": 0,
        "b2": 2 * 7,
        "w2": 2 * 7 * 32,
        "linear": 2 * 7 * 19,
    }
    both = of_parts([parts["columns"], parts["hidden"]], samples)
    assert float(both["w1"][1].sum()) == theta["w1"].size
    whole = of_parts(list(parts.values()), samples)
    assert all(np.array_equal(whole[name], samples[name], equal_nan=True) for name in theta)


def test_runs_that_differ_in_their_seed_share_their_programs():
    texts = set()
    for seed in (0, 1):
        made = engine(dataclasses.replace(CONFIG, seed=seed))
        lowered = made.step.lower(made.init(), made.arrays, 0, num_steps=10, horizon=10)
        texts.add(lowered.as_text())
    assert len(texts) == 1


def test_a_sample_many_times_as_long_as_the_others_is_left_out_and_so_is_one_that_is_not_finite():
    lengths = np.array([1.0, 2.0, 1.5, 40.0, np.nan])
    samples = {"a": jnp.outer(lengths, jnp.array([0.6, 0.0])), "b": jnp.array(0.8 * lengths)}
    kept = no_outliers(samples, 10.0)
    assert kept.tolist() == [True, True, True, False, False]
    np.testing.assert_allclose(mean_clipped(samples, 0.0, kept)["a"], [0.6 * 1.5, 0.0], rtol=1e-6)
    of_clipped = mean_clipped(samples, 1.0, kept)["b"]
    np.testing.assert_allclose(of_clipped, 0.8, rtol=1e-6, err_msg="the mean of those kept, where all are clipped")
    assert no_outliers(samples, 40.0)[3]
    broken = {"a": jnp.array([1.0, jnp.nan, jnp.inf])}
    kept = no_outliers(broken, 10.0)
    assert not np.isfinite(np.asarray(mean_clipped(broken, 0.0, kept)["a"])), "the step is skipped"


def test_gradients_of_logarithms_are_those_of_losses_over_the_losses():
    def losses(theta):
        return jnp.stack([jnp.sum(theta["a"] ** 2) + 3, 1e-3 * theta["a"][0] * theta["b"]])

    theta = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(0.5)}
    found = of_logarithm(jax.jacobian(losses)(theta), losses(theta))
    first = jax.grad(lambda theta: jnp.log(losses(theta)[0]))(theta)
    small = jax.grad(lambda theta: losses(theta)[1] / 0.01)(theta)  # below this no loss is small
    for name in theta:
        np.testing.assert_allclose(found[name], jnp.stack([first[name], small[name]]), rtol=1e-6)


def test_outer_validation_takes_geometric_means_where_losses_are_relative():
    made = engine(dataclasses.replace(CONFIG, relative=True))
    assert float(made._mean(jnp.array([0.5, 8.0]))) == pytest.approx(2.0)
    assert float(engine(CONFIG)._mean(jnp.array([0.5, 8.0]))) == pytest.approx(4.25)


@pytest.mark.slow
def test_one_chaotic_sample_does_not_outweigh_the_others_where_samples_are_clipped():
    """With every sample clipped to next to nothing, no update is longer than that."""
    still, free = engine(dataclasses.replace(CONFIG, clip_sample=1e-30, clip_norm=0.0)), engine(CONFIG)
    norms = [float(one_step(made, made.init())[1]["gradient_norm"]) for made in (still, free)]
    assert norms[0] <= 1e-30 < norms[1]


# Mixtures -------------------------------------------------------------------------------------------------------------


def twice_as_far():
    """The linear family with targets twice as large, and a shorter horizon."""
    family = linear_family()
    arrays = {name: 2 * leaf if name.endswith("targets") else leaf for name, leaf in family.arrays.items()}
    problem = dataclasses.replace(family.problem, horizon=3)
    return dataclasses.replace(family, arrays=arrays, problem=problem)


def test_an_outer_step_on_a_mixture_is_that_of_the_family_it_takes():
    members = (linear_family(), twice_as_far())
    mixture = Engine(CONFIG, Families(members, members))
    state = mixture.init()
    for member, family in enumerate(members):
        alone = Engine(CONFIG, family)
        found, _ = mixture.step(state, mixture.arrays, 0, num_steps=3, horizon=3, member=member)
        expected, _ = alone.step(alone.init(), alone.arrays, 0, num_steps=3, horizon=3)
        assert_trees_close(found.theta, expected.theta, rtol=1e-6, atol=1e-8)
    outer_step = next(step for step in range(2) if mixture.unroll_at(step)[0] == 1)
    assert mixture.unroll_at(outer_step) == (1, 3, 3), "no unroll is longer than its family's horizon"


def test_a_mixture_is_judged_by_the_mean_over_families():
    config = dataclasses.replace(CONFIG, validation_family="of its own")
    members = (linear_family(), twice_as_far())
    both = Engine(config, Families(members, members))
    theta = both.init().theta
    each = []
    for family in members:
        alone = Engine(config, Families(members, (family,)))
        each.append(alone.validate(theta, alone.arrays))
    assert both.validate(theta, both.arrays) == pytest.approx(np.mean(each), rel=1e-6)
    assert each[1] > each[0]
