import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tasks
import tasks.unroll
from bench.clock import timing
from bench.clock.engine import NUM_TEST_BLOCKS, block_losses, compile_program, evaluation_grid, run_key, whole_loss
from bench.clock.training import BLOCK_METRIC, METRICS, run_cell
from bench.entries.entrants import Entrant
from tests.helpers import linear_task

HORIZON = 40


def entrant(transformation, name="test"):
    return Entrant(
        name,
        "hand-designed",
        lambda variables, horizon: transformation(variables["rate"]),
        {"rate": jnp.float32(0.05)},
        {},
    )


def grid_of(outcome):
    """(grid step x metric) of what is evaluated along the way."""
    curve = outcome.curve[outcome.curve["metric"].isin(METRICS)]
    return curve.pivot(index="step", columns="metric", values="value")


@pytest.fixture(scope="module")
def task():
    return tasks.load("digits8_mlp")


@pytest.fixture(scope="module")
def trained(task):
    sgd = entrant(optax.sgd)
    program = compile_program(sgd, task, HORIZON, [1])
    key = run_key("digits8_mlp", 0)
    return program, sgd, key, run_cell(program, sgd, task, key, HORIZON)


def test_the_grid_is_every_percent_of_the_horizon():
    assert evaluation_grid(2000) == list(range(0, 2001, 20))
    assert evaluation_grid(30) == list(range(31))
    grid = evaluation_grid(250)
    assert (grid[0], grid[-1], len(grid)) == (0, 250, 101)
    assert {b - a for a, b in itertools.pairwise(grid)} == {2, 3}


def test_a_cell_is_the_inner_loop_evaluated_on_the_grid(task, trained):
    _, sgd, key, outcome = trained
    optimizer = sgd.make(sgd.variables, HORIZON)
    state, trace = jax.jit(
        lambda task: tasks.unroll.unroll(task, optimizer, tasks.unroll.init(task, optimizer, key), key, HORIZON)
    )(task)
    assert outcome.status == "ok"
    wide = grid_of(outcome)
    assert wide.index.tolist() == list(range(HORIZON + 1))
    np.testing.assert_allclose(wide["inner_loss"][1:], trace.inner_loss, rtol=1e-4)
    sampled = tasks.unroll.eval_loss(task, state.params, "train")
    np.testing.assert_allclose(outcome.result["final_train_loss"], sampled, rtol=1e-4)
    for split in ("validation", "test"):
        whole = whole_loss(task, state.params, split)
        np.testing.assert_allclose(outcome.result[f"final_{split}_loss"], whole, rtol=1e-4)
    np.testing.assert_allclose(outcome.result["mean_train_loss"], wide["train_loss"][1:].mean(), rtol=1e-6)
    best = wide["validation_loss"].idxmin()
    assert outcome.result["best_validation_step"] == best
    until, _ = jax.jit(
        lambda task: tasks.unroll.unroll(task, optimizer, tasks.unroll.init(task, optimizer, key), key, int(best))
    )(task)
    then = whole_loss(task, until.params, "test")
    np.testing.assert_allclose(outcome.result["test_loss_at_best_validation"], then, rtol=1e-4)


def test_a_cell_keeps_its_final_test_loss_on_blocks_of_images(task, trained):
    """Protocol rule 12: test-loss intervals resample images too, so something has to be there to resample."""
    program, sgd, key, outcome = trained
    blocks = outcome.curve.loc[outcome.curve["metric"] == BLOCK_METRIC]
    assert blocks["step"].tolist() == list(range(NUM_TEST_BLOCKS))
    np.testing.assert_allclose(blocks["value"].mean(), outcome.result["final_test_loss"], rtol=1e-12)
    state, _ = tasks.unroll.unroll(task, sgd.make(sgd.variables, 0), program.init(task, sgd, key), key, HORIZON)
    second = task.loss(state.params, task.take("test", jnp.arange(12, 24)))  # 300 images in 25 blocks
    np.testing.assert_allclose(blocks["value"].iloc[1], second, rtol=1e-3)


def test_blocks_of_uneven_size_weigh_by_their_images():
    task = linear_task()  # 5 test examples, so 5 blocks; 7 of validation, so 7
    params = {"w": jnp.array([0.3, -0.2, 0.5]), "b": jnp.float32(0.1)}
    for split in ("validation", "test"):
        whole = tasks.unroll.eval_loss(task, params, split, whole=True)
        np.testing.assert_allclose(whole_loss(task, params, split), whole, rtol=1e-5)
    problem = dataclasses.replace(task.problem, sizes=(11, 7, 5))
    assert block_losses(dataclasses.replace(task, problem=problem), params, "test")[1].tolist() == [1] * 5


def test_the_same_seed_gives_the_same_numbers(task, trained):
    program, sgd, key, outcome = trained
    again = run_cell(program, sgd, task, key, HORIZON)
    assert again.result == outcome.result
    other = run_cell(program, sgd, task, run_key("digits8_mlp", 1), HORIZON)
    assert other.result != outcome.result


def test_divergence_is_a_result_with_its_first_bad_step(task, trained):
    program, sgd, key, _ = trained
    wild = dataclasses.replace(sgd, variables={"rate": jnp.float32(1e30)})
    outcome = run_cell(program, wild, task, key, HORIZON)
    assert outcome.status == "diverged"
    assert outcome.first_bad_step is not None
    wide = grid_of(outcome)
    assert wide.index.tolist() == list(range(HORIZON + 1))  # never a missing row
    assert wide["train_loss"][outcome.first_bad_step + 1 :].isna().all()
    assert math.isfinite(wide["train_loss"][0])
    assert outcome.result["final_test_loss"] is None
    assert outcome.result["mean_train_loss"] is None


def test_a_time_limit_is_a_row(task, trained):
    program, sgd, key, _ = trained
    outcome = run_cell(program, sgd, task, key, HORIZON, time_limit_sec=1e-9)
    assert (outcome.status, len(outcome.curve)) == ("time_limit", 2 + 4 * HORIZON + 1)  # and test at best validation


def test_the_timing_curve_names_block_and_optimizer():
    timings = timing.Timings(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([5.0, 6.0]), np.array([7.0, np.nan]))
    curve = timing.curve(timings, ["a", "b"])
    assert (curve.loc[(curve["step"] == 1) & (curve["metric"] == "seconds_per_step/b"), "value"] == 4.0).all()
    assert curve.loc[curve["metric"] == "compile_seconds/b", "value"].tolist() == [6.0]
    assert curve.loc[curve["metric"].str.startswith("step_bytes/"), "value"].tolist() == [7.0]  # of a; b's is not known
