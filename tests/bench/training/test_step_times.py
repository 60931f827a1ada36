"""The clock of a step: regions, blocks, and what they wait for."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tasks
import tasks.inner_loop
from bench.training import step_times
from bench.training.programs import compile_program, run_key
from bench.training.step_times import MIN_REGION_SEC, time_entrants, training_region
from tests.bench.least_squares import CHUNK_SEC, descent, slow_program
from tests.helpers import linear_task


@pytest.mark.rule(6)
def test_a_timed_region_is_one_dispatch_and_one_wait():
    log, task, sgd = [], linear_task(), descent()
    program = slow_program(task, sgd, log)
    region = training_region(program, sgd, task, run_key("linear", 0), num_steps=1, repeats=3)
    seconds = step_times.interleave([region], 2)
    assert log == ["dispatched", "waited for"] * 2
    assert (seconds >= CHUNK_SEC).all()


@pytest.mark.rule(6)
def test_every_region_is_warm_before_it_is_timed(monkeypatch):
    task, log = linear_task(), []
    entrants = [descent("a"), descent("b")]
    make, interleave = training_region, step_times.interleave

    def region(program, entrant, *args):
        performed = make(program, entrant, *args)

        def logged():
            log.append(entrant.name)
            performed()

        return logged

    def timed(regions, num_blocks, *args, **kwargs):
        log.append(f"timed {len(regions)}")
        return interleave(regions, num_blocks, *args, **kwargs)

    program = compile_program(entrants[0], task, 5, [1])
    monkeypatch.setattr(step_times, "compile_program", lambda *args: program)
    monkeypatch.setattr(step_times, "training_region", region)
    monkeypatch.setattr(step_times, "interleave", timed)
    time_entrants(entrants, task, 5, num_blocks=1)
    before = log[: log.index("timed 2")]
    assert set(before) == {"a", "b"}


@pytest.mark.rule(6)
def test_every_entrant_fills_a_region_of_its_own():
    """A step that costs fifty times another's is not timed fifty times as long: regions last, they do not count."""
    task, asked = linear_task(), {"slow": [], "fast": []}
    entrants, cost = [descent("slow"), descent("fast")], {"slow": 0.05, "fast": 0.001}

    def compile_for(entrant):
        def chunk(task, variables, state, key, repeats):
            asked[entrant.name].append(repeats)
            time.sleep(repeats * cost[entrant.name])
            return state, np.ones(1)

        return dataclasses.replace(
            compile_program(entrant, task, 5, []), chunks={1: chunk}, compile_sec={"chunk1": 0.1}
        )

    timings = time_entrants(entrants, task, 5, num_blocks=2, compile_for=compile_for)
    assert asked["slow"][-1] == 1
    assert MIN_REGION_SEC / 0.002 <= asked["fast"][-1] <= MIN_REGION_SEC / 0.001
    np.testing.assert_allclose(timings.seconds_per_step, [[0.05, 0.001]] * 2, rtol=0.5)


def slowed(rate, rounds=20, size=64):
    """SGD that also multiplies matrices, in a way that no compiler can leave out."""

    def update(updates, state, params=None, **extra):
        del params, extra
        state = jax.lax.fori_loop(0, rounds, lambda _, m: jnp.tanh(m @ m), state)
        drop = jnp.where(jnp.isfinite(state[0, 0]), 0.0, 1.0)
        return jax.tree.map(lambda g: -rate * g + drop, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: jnp.eye(size) * 0.5, update)


@pytest.mark.rule(6)
@pytest.mark.slow
def test_the_clock_waits_for_a_deliberately_slow_optimizer():
    """Dispatch returns at once: a clock without synchronization would charge the slow step next to nothing."""
    fast, slow = descent("fast"), descent("slow", transformation=slowed)
    measured = time_entrants([fast, slow], tasks.load("digits8_mlp"), 40, num_blocks=6)
    work = jax.jit(lambda m: jax.lax.fori_loop(0, 1000, lambda _, m: jnp.tanh(m @ m), m))
    region = step_times.interleave([lambda: jax.block_until_ready(work(jnp.eye(64) * 0.5))], 4).min() / 50
    extra = np.median(measured.seconds_per_step[:, 1] - measured.seconds_per_step[:, 0])
    assert extra > 0.5 * region
    assert measured.seconds_per_step.shape == (6, 2)
    assert (measured.compile_sec > 0).all()
    assert measured.step_bytes[1] > measured.step_bytes[0] > 0


@pytest.mark.rule(7)
def test_every_optimizer_runs_once_a_block_in_random_order():
    order = []
    seconds = step_times.interleave([lambda i=i: order.append(i) for i in range(4)], 30)
    assert seconds.shape == (30, 4)
    blocks = [tuple(order[i : i + 4]) for i in range(0, 120, 4)]
    assert all(sorted(block) == [0, 1, 2, 3] for block in blocks)
    # 24 orders, 30 blocks: five or fewer different ones have a chance of 10^-17.
    assert len(set(blocks)) > 5


def test_the_timing_curve_names_block_and_optimizer():
    timings = step_times.Timings(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([5.0, 6.0]), np.array([7.0, np.nan]))
    curve = step_times.curve(timings, ["a", "b"])
    assert (curve.loc[(curve["step"] == 1) & (curve["metric"] == "seconds_per_step/b"), "value"] == 4.0).all()
    assert curve.loc[curve["metric"] == "compile_seconds/b", "value"].tolist() == [6.0]
    assert curve.loc[curve["metric"].str.startswith("step_bytes/"), "value"].tolist() == [7.0]  # of a; b's is not known
