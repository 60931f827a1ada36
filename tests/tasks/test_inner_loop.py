import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tasks
from tasks.inner_loop import EVAL_EXAMPLES, eval_indices, eval_loss, init, start, unroll
from tests.helpers import (
    LINEAR,
    LINEAR_SIZES,
    assert_trees_close,
    assert_trees_equal,
    central_differences,
    linear_arrays,
    linear_task,
)

KEY = jax.random.key(7)
RATE, MOMENTUM = 0.1, 0.9


def sgd(rate=RATE, momentum=MOMENTUM):
    return optax.sgd(rate, momentum=momentum)


@functools.partial(jax.jit, static_argnums=3)
def advance(task, state, key, num_steps):
    return unroll(task, sgd(), state, key, num_steps)


@jax.jit
def first(task, key):
    return init(task, sgd(), key)


def run(task, key, num_steps=5):
    return advance(task, first(task, key), key, num_steps)


def batch_indices(key, inner_step):
    """The training examples of a step, as `unroll` documents them: streams 1 and up of the run's key are the steps."""
    batch_key, _ = jax.random.split(jax.random.fold_in(key, inner_step + 1))
    return np.asarray(jax.random.randint(batch_key, (LINEAR.batch_size,), 0, LINEAR_SIZES["train"]))


# Steps ----------------------------------------------------------------------------------------------------------------


def test_five_steps_of_sgd_with_momentum_by_hand():
    state, trace = run(linear_task(2.0), KEY)

    arrays = linear_arrays(np.float64)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), linear_task().init(jax.random.fold_in(KEY, 0)))
    w, b, velocity_w, velocity_b, losses = params["w"], params["b"], np.zeros(3), 0.0, []
    for inner_step in range(5):
        indices = batch_indices(KEY, inner_step)
        x, y = arrays["train_inputs"][indices], 2.0 * arrays["train_targets"][indices]
        residual = x @ w + b - y
        losses.append(np.mean(residual**2) / 2)
        velocity_w = MOMENTUM * velocity_w + x.T @ residual / LINEAR.batch_size
        velocity_b = MOMENTUM * velocity_b + np.mean(residual)
        w, b = w - RATE * velocity_w, b - RATE * velocity_b

    # float32 against float64 over five steps of numbers of order one.
    np.testing.assert_allclose(trace.inner_loss, losses, rtol=1e-5)
    assert_trees_close(state.params, {"w": w, "b": np.asarray(b)}, rtol=1e-5, atol=1e-6)
    assert state.inner_step == 5
    assert trace.score.shape == (5, 0)


def test_score_sees_the_parameters_after_the_step_and_a_key_of_its_own_and_changes_nothing():
    def score(params, key):
        return params["w"][0] + jax.random.uniform(key)

    task = linear_task()
    state, trace = jax.jit(lambda state: unroll(task, sgd(), state, KEY, 5, score))(first(task, KEY))
    assert_trees_equal(state, run(task, KEY)[0])
    assert trace.score.shape == (5,)
    _, score_key = jax.random.split(jax.random.fold_in(KEY, 5))
    np.testing.assert_allclose(trace.score[-1], score(state.params, score_key), rtol=1e-6)


@pytest.mark.parametrize(("every", "scored_after"), [(2, [2, 2, 4, 4, 5]), (7, [5] * 5)])
def test_one_score_may_stand_for_several_steps_and_changes_nothing(every, scored_after):
    def score(params, key):
        return params["w"][0] + jax.random.uniform(key)

    task = linear_task()
    whole, some = (
        jax.jit(lambda state, k=k: unroll(task, sgd(), state, KEY, 5, score, k))(first(task, KEY)) for k in (1, every)
    )
    np.testing.assert_allclose(some[1].inner_loss, whole[1].inner_loss, rtol=1e-6)
    np.testing.assert_allclose(some[1].score, whole[1].score[np.array(scored_after) - 1], rtol=1e-6)
    assert_trees_close(some[0], whole[0], rtol=1e-6)


def test_the_optimizer_is_told_the_loss_of_the_batch():
    def update(updates, state, params=None, *, value, **extra_args):
        return jax.tree.map(jnp.zeros_like, updates), value

    recorder = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), update)
    task = linear_task()
    state, trace = unroll(task, recorder, init(task, recorder, KEY), KEY, 2)
    assert state.opt_state == trace.inner_loss[-1]


def test_a_run_cut_into_pieces_equals_the_run_in_one_piece():
    task = linear_task()
    whole, trace = run(task, KEY, 10)
    half, early = run(task, KEY, 5)
    pieces, late = advance(task, half, KEY, 5)
    assert_trees_equal(pieces, whole)
    np.testing.assert_array_equal(np.concatenate([early.inner_loss, late.inner_loss]), trace.inner_loss)


def test_two_optimizers_with_one_key_see_the_same_start_and_batches():
    # A loss that is the batch's mean target whatever the parameters: the trace is a fingerprint of the batches.
    def targets_only(params, batch):
        return jnp.mean(batch[1]) + 0.0 * params["b"]

    task = linear_task()
    task = dataclasses.replace(task, problem=dataclasses.replace(task.problem, loss=targets_only))

    @jax.jit
    def both(task, key):
        states = [init(task, optimizer, key) for optimizer in (sgd(), optax.adam(0.1))]
        runs = [unroll(task, o, s, key, 4) for o, s in zip((sgd(), optax.adam(0.1)), states, strict=True)]
        return [state.params for state in states], [trace.inner_loss for _, trace in runs]

    starts, traces = both(task, KEY)
    assert_trees_equal(*starts)
    np.testing.assert_array_equal(*traces)
    targets = linear_arrays()["train_targets"]
    np.testing.assert_allclose(traces[0], [np.mean(targets[batch_indices(KEY, t)]) for t in range(4)], rtol=1e-5)


def test_the_same_key_gives_the_same_run_and_another_key_another():
    task = linear_task()
    one, again, other = run(task, KEY), run(task, KEY), run(task, jax.random.key(8))
    assert_trees_equal(one, again)
    assert not np.any(np.asarray(one[1].inner_loss) == np.asarray(other[1].inner_loss))
    assert not np.any(np.asarray(one[0].params["w"]) == np.asarray(other[0].params["w"]))


@pytest.mark.slow
def test_jit_equals_eager():
    task = linear_task()
    with jax.disable_jit():
        eager = unroll(task, sgd(), init(task, sgd(), KEY), KEY, 5)
    # The compiler may fuse and reorder: rounding of float32 over five steps.
    assert_trees_close(run(task, KEY), eager, rtol=1e-5, atol=1e-6)


def test_vmap_over_cfg_and_keys_equals_a_loop():
    arrays, cfgs, keys = linear_task().arrays, jnp.array([0.5, 1.0, -2.0]), jax.random.split(KEY, 3)
    batched = jax.jit(jax.vmap(lambda cfg, key: run(tasks.Task(LINEAR, arrays, cfg), key)))(cfgs, keys)
    loop = [run(tasks.Task(LINEAR, arrays, cfg), key) for cfg, key in zip(cfgs, keys, strict=True)]
    for row, expected in enumerate(loop):
        assert_trees_close(jax.tree.map(lambda x, row=row: x[row], batched), expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_in_theta_equals_finite_differences():
    def outer_loss(theta, task):
        optimizer = sgd(theta[0], theta[1])
        _, trace = unroll(task, optimizer, start(optimizer, params), key, 6)
        return jnp.mean(trace.inner_loss)

    with jax.enable_x64(True):
        key, task, theta = jax.random.key(7), linear_task(1.5, np.float64), np.array([0.1, 0.9])
        params = {"w": jnp.asarray([0.3, -0.2, 0.5]), "b": jnp.asarray(0.1)}
        value_and_grad = jax.jit(jax.value_and_grad(outer_loss))
        _, gradient = value_and_grad(theta, task)
        assert gradient.dtype == np.float64
        expected = central_differences(lambda point: float(value_and_grad(point, task)[0]), theta)
    # Central differences at 1e-6 in float64: 1e-10 of rounding, 1e-12 of truncation times the third derivative.
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-9)


def test_a_diverged_run_goes_on_and_shows_as_non_finite_numbers():
    state, trace = run(linear_task(1e18), KEY)  # squares of 1e18 fit in float32, and five steps take them beyond
    state, late = advance(linear_task(1e38), state, KEY, 5)
    assert np.all(np.isfinite(trace.inner_loss))
    assert not np.any(np.isfinite(late.inner_loss))
    assert state.inner_step == 10


def test_the_inner_loop_keeps_dtypes_without_implicit_promotion():
    task = linear_task()
    with jax.numpy_dtype_promotion("strict"):
        state, trace = jax.eval_shape(lambda: unroll(task, sgd(), init(task, sgd(), KEY), KEY, 2))
        loss = jax.eval_shape(lambda params: eval_loss(task, params, "validation", batch_size=3), state.params)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, trace, loss))} == {jnp.dtype("float32")}
    assert state.inner_step.dtype == jnp.int32


# Evaluation -----------------------------------------------------------------------------------------------------------


def numpy_loss(params, arrays, cfg, split):
    residual = arrays[f"{split}_inputs"] @ params["w"] + params["b"] - cfg * arrays[f"{split}_targets"]
    return np.mean(residual**2) / 2


@pytest.mark.parametrize("batch_size", [3, 7, 100], ids=["ragged", "whole", "larger than the split"])
def test_eval_loss_is_the_mean_over_all_examples(batch_size):
    task, params = linear_task(2.0), {"w": np.array([0.3, -0.2, 0.5], np.float32), "b": np.float32(0.1)}
    actual = jax.jit(lambda task, params: eval_loss(task, params, "validation", batch_size=batch_size))(task, params)
    np.testing.assert_allclose(actual, numpy_loss(params, linear_arrays(np.float64), 2.0, "validation"), rtol=2e-6)


def sized_task(size):
    return tasks.Task(dataclasses.replace(LINEAR, sizes=(size, min(size, 70_000), 1)), None)


@settings(max_examples=30)
@given(st.integers(1, 2**31 - 1))
@example(1)
@example(EVAL_EXAMPLES["train"])
@example(EVAL_EXAMPLES["train"] + 1)
@example(2**31 - 1)
def test_a_split_is_evaluated_on_an_evenly_spaced_sample(size):
    indices = np.asarray(eval_indices(sized_task(size), "train"))
    assert indices.dtype == np.int32
    assert len(indices) == min(size, EVAL_EXAMPLES["train"])
    assert indices[0] == 0
    gaps = np.diff(np.append(indices.astype(np.int64), size))
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("size", [1, 7, 46_341, 70_000])  # 46,341^2 is the first square beyond 2^31
def test_a_whole_split_is_every_example_once(size):
    np.testing.assert_array_equal(eval_indices(sized_task(size), "validation", whole=True), np.arange(size))


def test_a_run_is_evaluated_on_a_thousand_validation_images_at_most():
    assert len(eval_indices(sized_task(70_000), "validation")) == 1000
    assert len(eval_indices(sized_task(700), "validation")) == 700
