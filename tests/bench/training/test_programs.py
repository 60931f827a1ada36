"""The compiled parts of a cell: keys, grid, chunks, and losses of whole splits."""

import dataclasses
import hashlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tasks
import tasks.inner_loop
from bench.training.programs import block_losses, compile_program, evaluation_grid, run_key, whole_loss
from tests.bench.least_squares import descent, run
from tests.helpers import linear_task

PINNED_KEY = [0, 365403128]  # data of the key of digits8_mlp, seed 0


@pytest.mark.rule(5)
def test_keys_are_stable_digests_of_names():
    # The first four bytes, as a number, of the SHA-256 of the names with zero bytes between: written out once more, and
    # pinned, so that no release changes a published seed.
    for name, seed in (("digits8_mlp", 0), ("imagenet32_cnn3/7", 9)):
        digest = hashlib.sha256(f"run\0{name}\0{seed}".encode()).digest()
        expected = jax.random.key(int.from_bytes(digest[:4], "little"))
        assert (jax.random.key_data(run_key(name, seed)) == jax.random.key_data(expected)).all()
    assert jax.random.key_data(run_key("digits8_mlp", 0)).tolist() == PINNED_KEY
    keys = {tuple(jax.random.key_data(run_key("t", seed)).tolist()) for seed in range(1010)}
    assert len(keys) == 1010


@pytest.mark.rule(6)
def test_a_region_that_repeats_a_chunk_is_that_many_chunks_of_training():
    task, adam, key = linear_task(), descent("adam", 0.1, optax.adam), run_key("linear", 0)
    program = compile_program(adam, task, 300, [3])
    start = program.init(task, adam, key)
    once = start
    for _ in range(4):
        once, losses = program.chunks[3](task, adam.variables, once, key, 1)
    repeated, last_losses = program.chunks[3](task, adam.variables, start, key, 4)
    jax.tree.map(np.testing.assert_array_equal, repeated, once)
    np.testing.assert_array_equal(last_losses, losses)
    assert repeated.inner_step == 12


@pytest.mark.rule(6)
def test_programs_are_compiled_ahead_of_time_and_their_seconds_are_apart():
    outcome, program = run(descent(), linear_task())
    parts = [program.init_params, program.start, *program.chunks.values(), *program.evaluate.values()]
    assert all(isinstance(part, jax.stages.Compiled) for part in parts)
    assert set(program.compile_sec) == {"init_params", "start", "chunk1", "evaluate_train", "evaluate_validation"}
    assert all(seconds > 0 for seconds in program.compile_sec.values())
    assert outcome.clock.compile_sec is None


@pytest.mark.rule(10)
@pytest.mark.parametrize("horizon", [100, 500, 2000, 1234])
def test_there_is_one_evaluation_grid_every_percent_of_the_horizon(horizon):
    grid = evaluation_grid(horizon)
    assert (grid[0], grid[-1], len(grid)) == (0, horizon, 101)
    np.testing.assert_allclose(grid, np.linspace(0, horizon, 101), atol=0.5)  # whole steps


@pytest.mark.rule(10)
def test_along_the_way_samples_are_evaluated_and_at_the_end_whole_splits():
    assert tasks.inner_loop.EVAL_EXAMPLES == {"train": 1000, "validation": 1000}
    problem = dataclasses.replace(linear_task().problem, sizes=(50_000, 2500, 10_000))
    large = dataclasses.replace(linear_task(), problem=problem)
    # Every 50th of 50,000 and every second or third of 2,500.
    assert np.unique(np.diff(tasks.inner_loop.eval_indices(large, "train"))).tolist() == [50]
    assert len(tasks.inner_loop.eval_indices(large, "validation")) == 1000
    assert len(tasks.inner_loop.eval_indices(large, "test", whole=True)) == 10_000


def test_the_grid_is_every_percent_of_the_horizon():
    assert evaluation_grid(2000) == list(range(0, 2001, 20))
    assert evaluation_grid(30) == list(range(31))
    grid = evaluation_grid(250)
    assert (grid[0], grid[-1], len(grid)) == (0, 250, 101)
    assert {b - a for a, b in itertools.pairwise(grid)} == {2, 3}


def test_blocks_of_uneven_size_weigh_by_their_images():
    task = linear_task()  # 5 test examples, so 5 blocks; 7 of validation, so 7
    params = {"w": jnp.array([0.3, -0.2, 0.5]), "b": jnp.float32(0.1)}
    for split in ("validation", "test"):
        whole = tasks.inner_loop.eval_loss(task, params, split, whole=True)
        np.testing.assert_allclose(whole_loss(task, params, split), whole, rtol=1e-5)
    problem = dataclasses.replace(task.problem, sizes=(11, 7, 5))
    assert block_losses(dataclasses.replace(task, problem=problem), params, "test")[1].tolist() == [1] * 5
