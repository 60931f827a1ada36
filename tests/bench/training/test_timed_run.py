"""One cell: the inner loop on its grid, its clock, its splits, and how it ends."""

import dataclasses
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import tasks
import tasks.inner_loop
from bench.entries.entrants import Entrant
from bench.training import programs
from bench.training.programs import NUM_TEST_BLOCKS, _loss_on, compile_program, run_key, whole_loss
from bench.training.timed_run import BLOCK_METRIC, METRICS, run_cell, summarize, whole_grid
from tests.bench.least_squares import CHUNK_SEC, EVALUATION_SEC, descent, planned, program_of, run, slow_program
from tests.bench.pairs import CONTENDER, raced
from tests.bench.synthetic import GRID, falling
from tests.helpers import linear_task


@pytest.mark.rule(4)
def test_the_headline_is_the_final_step_and_early_stopping_stands_beside_it():
    values = {(step, "train_loss"): loss for step, loss in ((0, 2.0), (1, 1.0), (2, 3.0))}
    values |= {(0, "validation_loss"): 2.0, (1, "validation_loss"): 0.5, (2, "validation_loss"): 3.0}
    rows = whole_grid(values, [0, 1, 2])
    rows += [(1, "test_loss_at_best_validation", 1.25), (2, "final_test_loss", 3.5), (2, "final_validation_loss", 3.25)]
    found = summarize(rows)
    assert (found["best_validation_step"], found["test_loss_at_best_validation"]) == (1, 1.25)
    assert (found["final_test_loss"], found["final_validation_loss"], found["final_train_loss"]) == (3.5, 3.25, 3.0)


@pytest.mark.rule(4)
def test_the_test_split_is_touched_at_the_end_only(monkeypatch):
    task, events = linear_task(), []
    sgd = descent()
    program = program_of(sgd)
    chunk, loss_on = program.chunks[1], _loss_on

    def logged_chunk(*args):
        events.append("step")
        return chunk(*args)

    def logged_loss(task, params, split, indices):
        events.append(split)
        return loss_on(task, params, split, indices)

    monkeypatch.setattr(programs, "_loss_on", logged_loss)
    program = dataclasses.replace(program, chunks={1: logged_chunk})
    run_cell(program, sgd, task, run_key("linear", 0), 5)
    assert set(program.evaluate) == {"train", "validation"}  # all that is evaluated along the way
    assert events[:5] == ["step"] * 5
    # Five test examples in as many blocks, at the final step and at the step chosen on validation.
    assert events.count("test") == 10
    assert "step" not in events[5:]


@pytest.mark.rule(4)
def test_nothing_is_selected_on_the_test_split():
    """With test images that are not even numbers, training and selection are the same to the last bit."""
    sgd, whole = descent(), linear_task()
    arrays = {
        name: jnp.full_like(array, jnp.nan) if name.startswith("test") else array
        for name, array in whole.arrays.items()
    }
    program, key = program_of(sgd), run_key("linear", 0)
    one, other = (run_cell(program, sgd, task, key, 5) for task in (whole, dataclasses.replace(whole, arrays=arrays)))
    assert other.status == "ok"
    for name in ("final_train_loss", "final_validation_loss", "mean_train_loss", "best_validation_step"):
        assert getattr(one.result, name) == getattr(other.result, name)
    assert (other.result.final_test_loss, other.result.test_loss_at_best_validation) == (None, None)
    along = [
        outcome.curve[outcome.curve["metric"].isin(["train_loss", "validation_loss", "inner_loss"])]
        for outcome in (one, other)
    ]
    pd.testing.assert_frame_equal(*along)


@pytest.mark.rule(5)
def test_a_seed_fixes_initialization_and_data_order_for_all_optimizers():
    """At rate 0 parameters stay, so that equal losses of all mini-batches mean equal parameters and equal batches."""
    task = linear_task()
    still = {name: run(descent(name, 0.0, getattr(optax, name)), task)[0] for name in ("sgd", "adam")}
    losses = {
        name: outcome.curve.loc[outcome.curve["metric"] == "inner_loss", "value"].tolist()
        for name, outcome in still.items()
    }
    assert losses["sgd"] == losses["adam"]
    assert len(set(losses["sgd"])) == 5  # another batch every step
    other = run(descent("sgd", 0.0), task, seed=1)[0].curve
    assert other.loc[other["metric"] == "inner_loss", "value"].tolist() != losses["sgd"]


@pytest.mark.rule(5)
def test_a_cells_numbers_do_not_depend_on_the_cells_beside_it():
    task = linear_task()
    alone, program = run(descent(), task, seed=3)
    for seed in (0, 1, 2):
        run_cell(program, descent(rate=0.5), task, run_key("linear", seed), 5)
    again = run_cell(program, descent(), task, run_key("linear", 3), 5)
    assert again.result == alone.result
    # Nor does the plan: with more optimizers and seeds the cells of before are the same ones.
    fewer = {cell.name for cell in planned(("adam",), (0, 1)) if cell.identity["kind"] == "train"}
    more = {cell.name for cell in planned(("muon", "adam", "rmsprop"), (0, 1, 5)) if cell.identity["kind"] == "train"}
    assert fewer < more


@pytest.mark.rule(6)
def test_the_clock_waits_for_a_slow_chunk_and_stops_for_evaluation():
    """Without the wait the clock would show next to nothing; with evaluation inside it at least 0.2 s, not 0.1."""
    task, log, shares = linear_task(), [], []
    sgd = descent()
    program = slow_program(task, sgd, log)
    for _ in range(3):
        log.clear()
        begin = time.perf_counter()
        outcome = run_cell(program, sgd, task, run_key("linear", 0), 10)
        total = time.perf_counter() - begin  # a clock of our own
        clock = outcome.clock
        assert clock.train_wall_sec >= 10 * CHUNK_SEC
        assert clock.eval_wall_sec >= 11 * 2 * EVALUATION_SEC
        assert clock.train_wall_sec + clock.eval_wall_sec <= total
        shares.append(1 - (clock.train_wall_sec + clock.eval_wall_sec) / total)
        # One wait a chunk, before anything else happens.
        assert log == ["evaluated"] * 2 + ["dispatched", "waited for", "evaluated", "evaluated"] * 10
        wall = outcome.curve.loc[outcome.curve["metric"] == "wall_time_sec", "value"].to_numpy()
        assert (np.diff(wall) >= CHUNK_SEC).all()
        assert wall[-1] == clock.train_wall_sec
    # What is left, making rows of 0.3 s of work, is at most a twentieth in the least disturbed of three.
    assert min(shares) <= 0.05


@pytest.mark.rule(6)
@pytest.mark.slow
def test_unattributed_time_is_at_most_a_twentieth_of_a_real_run():
    task = tasks.load("digits8_mlp")
    large = dataclasses.replace(task, problem=dataclasses.replace(task.problem, batch_size=4096))
    sgd, shares = descent(), []
    program = compile_program(sgd, large, 40, [1])
    for _ in range(3):
        begin = time.perf_counter()
        clock = run_cell(program, sgd, large, run_key("", 0), 40).clock
        shares.append(1 - (clock.train_wall_sec + clock.eval_wall_sec) / (time.perf_counter() - begin))
    assert 0 <= min(shares) <= 0.05


@pytest.mark.rule(10)
def test_contenders_run_the_whole_horizon_whatever_they_have_reached():
    # 0.2 a step on straight lines: the easy target 2.75 is passed at step 2 of 100.
    rows = raced(falling(0.2))
    assert rows.curve("t", CONTENDER, "train_loss").index.tolist() == GRID.tolist()
    outcome, _ = run(descent(rate=0.5), linear_task(), horizon=20)
    assert outcome.curve.loc[outcome.curve["metric"] == "train_loss", "step"].max() == 20


@pytest.mark.rule(11)
def test_an_update_that_overflows_is_a_divergence_with_its_first_bad_step():
    outcome, _ = run(descent(rate=1e20), linear_task())
    assert outcome.status == "diverged"
    # The first update takes the parameters to 1e20, whose square overflows: the loss of the second step is infinite.
    assert outcome.first_bad_step in (1, 2)
    assert "not finite" in outcome.reason
    train = outcome.curve[outcome.curve["metric"] == "train_loss"]
    assert train["step"].tolist() == list(range(6))  # every row is there
    assert math.isfinite(train["value"].iloc[0])
    assert math.isnan(train["value"].iloc[-1])


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
    """Least squares, but for 300 examples of test: 25 blocks of twelve."""
    rng, few = np.random.default_rng(1), linear_task()
    arrays = {"test_inputs": rng.normal(size=(300, 3)), "test_targets": rng.normal(size=300)}
    arrays = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
    problem = dataclasses.replace(few.problem, sizes=(*few.problem.sizes[:2], 300))
    return dataclasses.replace(few, problem=problem, arrays={**few.arrays, **arrays})


@pytest.fixture(scope="module")
def trained(task):
    sgd = entrant(optax.sgd)
    program = compile_program(sgd, task, HORIZON, [1])
    key = run_key("linear", 0)
    return program, sgd, key, run_cell(program, sgd, task, key, HORIZON)


def test_a_cell_is_the_inner_loop_evaluated_on_the_grid(task, trained):
    _, sgd, key, outcome = trained
    optimizer = sgd.make(sgd.variables, HORIZON)
    state, trace = jax.jit(
        lambda task: tasks.inner_loop.unroll(task, optimizer, tasks.inner_loop.init(task, optimizer, key), key, HORIZON)
    )(task)
    assert outcome.status == "ok"
    wide = grid_of(outcome)
    assert wide.index.tolist() == list(range(HORIZON + 1))
    np.testing.assert_allclose(wide["inner_loss"][1:], trace.inner_loss, rtol=1e-4)
    sampled = tasks.inner_loop.eval_loss(task, state.params, "train")
    np.testing.assert_allclose(outcome.result.final_train_loss, sampled, rtol=1e-4)
    for split in ("validation", "test"):
        whole = whole_loss(task, state.params, split)
        np.testing.assert_allclose(getattr(outcome.result, f"final_{split}_loss"), whole, rtol=1e-4)
    np.testing.assert_allclose(outcome.result.mean_train_loss, wide["train_loss"][1:].mean(), rtol=1e-6)
    best = wide["validation_loss"].idxmin()
    assert outcome.result.best_validation_step == best
    until, _ = tasks.inner_loop.unroll(task, optimizer, tasks.inner_loop.init(task, optimizer, key), key, int(best))
    then = whole_loss(task, until.params, "test")
    np.testing.assert_allclose(outcome.result.test_loss_at_best_validation, then, rtol=1e-4)


def test_a_cell_keeps_its_final_test_loss_on_blocks_of_images(task, trained):
    """Protocol rule 12: test-loss intervals resample images too, so something has to be there to resample."""
    program, sgd, key, outcome = trained
    blocks = outcome.curve.loc[outcome.curve["metric"] == BLOCK_METRIC]
    assert blocks["step"].tolist() == list(range(NUM_TEST_BLOCKS))
    np.testing.assert_allclose(blocks["value"].mean(), outcome.result.final_test_loss, rtol=1e-12)
    state, _ = tasks.inner_loop.unroll(task, sgd.make(sgd.variables, 0), program.init(task, sgd, key), key, HORIZON)
    second = task.loss(state.params, task.take("test", jnp.arange(12, 24)))  # 300 images in 25 blocks
    np.testing.assert_allclose(blocks["value"].iloc[1], second, rtol=1e-3)


def test_the_same_seed_gives_the_same_numbers(task, trained):
    program, sgd, key, outcome = trained
    again = run_cell(program, sgd, task, key, HORIZON)
    assert again.result == outcome.result
    other = run_cell(program, sgd, task, run_key("linear", 1), HORIZON)
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
    assert outcome.result.final_test_loss is None
    assert outcome.result.mean_train_loss is None


def test_a_time_limit_is_a_row(task, trained):
    program, sgd, key, _ = trained
    outcome = run_cell(program, sgd, task, key, HORIZON, time_limit_sec=1e-9)
    assert (outcome.status, len(outcome.curve)) == ("time_limit", 2 + 4 * HORIZON + 1)  # and test at best validation
