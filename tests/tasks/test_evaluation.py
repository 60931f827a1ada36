"""Which parameters a run is evaluated at."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib import schedule_free_adamw, schedule_free_eval_params, schedule_free_sgd

from tasks import EvaluationParams, evaluation_params
from tasks.inner_loop import init, unroll
from tests.helpers import assert_one_line, assert_trees_close, assert_trees_equal, linear_task

PARAMS = {"kernel": jnp.array([[0.3, -0.2], [1.0, 0.1]]), "bias": jnp.array([0.5, -0.7])}
KEY = jax.random.key(7)


def after_steps(optimizer, num_steps=3):
    params, state = PARAMS, optimizer.init(PARAMS)
    for inner_step in range(num_steps):
        grads = jax.tree.map(lambda p, t=inner_step: jnp.sin(p + t), params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return state, params


@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optax.adam(0.1), optax.contrib.muon(0.1)])
def test_parameters_are_evaluated_as_they_are_where_the_state_says_nothing(optimizer):
    state, params = after_steps(optimizer)
    assert evaluation_params(state, params) is params


def wrapped(optimizer):
    return {
        "alone": optimizer,
        "in a chain": optax.chain(optax.clip(1.0), optimizer),
        "if finite": optax.apply_if_finite(optimizer, 3),
        "with its rate injected": optax.inject_hyperparams(lambda rate: optimizer)(rate=0.1),
    }


@pytest.mark.parametrize("how", wrapped(optax.identity()))
def test_a_schedule_free_state_is_found_at_any_depth(how):
    optimizer = schedule_free_adamw(0.1)
    state, params = after_steps(wrapped(optimizer)[how])
    alone, expected = after_steps(optimizer)
    # What is compiled under a condition may round differently.
    assert_trees_close(params, expected, rtol=1e-6)
    assert_trees_close(evaluation_params(state, params), schedule_free_eval_params(alone, expected), rtol=2e-6)
    assert np.abs(evaluation_params(state, params)["bias"] - params["bias"]).max() > 1e-3


def test_what_a_mask_leaves_out_as_a_whole_is_evaluated_as_it_is():
    params = {"in": PARAMS, "out": PARAMS}
    optimizer = optax.masked(schedule_free_sgd(0.1, b1=0.5), {"in": True, "out": False})
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
    found = evaluation_params(state, params)
    assert_trees_equal(found["out"], params["out"])
    assert np.abs(found["in"]["bias"] - params["in"]["bias"]).max() > 1e-3


def test_averages_of_another_structure_are_refused_in_one_line():
    flat = EvaluationParams(jnp.zeros(6))
    with pytest.raises(ValueError, match=r"the state holds .* to evaluate, and the parameters are") as caught:
        evaluation_params(flat, PARAMS)
    assert_one_line(caught.value)


def test_each_of_two_in_a_partition_speaks_for_its_own_leaves():
    rules = {"a": schedule_free_sgd(0.1, b1=0.5), "b": schedule_free_sgd(0.2, b1=0.8), "c": optax.sgd(0.1)}
    for labels in ({"kernel": "a", "bias": "b"}, {"kernel": "c", "bias": "b"}):
        state, params = after_steps(optax.partition(rules, labels))
        found = evaluation_params(state, params)
        for leaf, label in labels.items():
            alone, expected = after_steps(rules[label])
            np.testing.assert_array_equal(found[leaf], evaluation_params(alone, expected)[leaf])


def test_an_optimizer_of_anyones_own_says_it_by_a_node_of_its_state():
    best = {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}
    assert_trees_equal(evaluation_params((optax.EmptyState(), {"kept": EvaluationParams(best)}), PARAMS), best)


def test_parameters_to_evaluate_have_the_dtypes_of_those_that_are_trained():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    found = evaluation_params(EvaluationParams(PARAMS), params)
    assert_trees_equal(found, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.bfloat16.dtype}


@pytest.mark.parametrize("every", [1, 3])
def test_a_score_along_the_inner_loop_sees_the_parameters_to_evaluate(every):
    task, optimizer = linear_task(), schedule_free_sgd(0.1, b1=0.5)
    state, trace = unroll(
        task, optimizer, init(task, optimizer, KEY), KEY, 3, lambda params, key: params["w"][0], every
    )
    np.testing.assert_allclose(trace.score[-1], state.eval_params["w"][0], rtol=1e-6)
    assert abs(state.eval_params["w"][0] - state.params["w"][0]) > 1e-3
