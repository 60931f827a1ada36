"""A run that is stopped anywhere, also killed, goes on to the same theta, to the last bit."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from learned.curriculum import Stage
from learned.outer import RunFolder, outer_train
from learned.outer.checkpoints import Checkpoints
from learned.outer.files import (
    METRICS_FILE,
    STAGE_FILE,
    last_checkpoint,
    outer_step_reached,
    read_metrics,
    stage_end,
    write_metrics,
)
from tests.helpers import assert_one_line
from tests.learned.outer.linear import FULL, PES, engine, run

pytestmark = pytest.mark.slow  # a program to compile in almost every test

ROOT = Path(__file__).parent.parent.parent.parent
MERGED = dataclasses.replace(FULL, estimator=("reparam", "es"), stages=(Stage(5, 6), Stage(5, 6)))
KINDS = {"es": FULL, "merged": MERGED, "pes": PES}


def last_arrays(folder):
    """Every array of the last checkpoint, as numpy."""
    with Checkpoints(folder / "checkpoints") as checkpoints:
        restored = checkpoints._manager.restore(checkpoints.latest())
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(restored.arrays)}


def is_key(leaf):
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def assert_same(one, other):
    (theta, log, facts), (other_theta, other_log, other_facts) = one, other
    for name in theta:
        np.testing.assert_array_equal(theta[name], other_theta[name])
    assert len(log) == len(other_log)
    for row, other_row in zip(log, other_log, strict=True):
        assert row == other_row
    clocks = ("device_hours", "total_device_hours")
    assert {k: v for k, v in facts.items() if k not in clocks} == {
        k: v for k, v in other_facts.items() if k not in clocks
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_last_bit(kind, tmp_path):
    config = KINDS[kind]
    whole = run(config, tmp_path / "whole")
    for stop_after in (4, 5):  # before and at an outer-validation
        folder = tmp_path / str(stop_after)
        # A checkpoint after every outer step, so that it is stopped just there.
        assert run(config, folder, stop_after, checkpoint_sec=0.0) is None
        assert last_checkpoint(folder) == stop_after
        assert_same(run(config, folder, resume=True), whole)
    ends = [last_arrays(tmp_path / name) for name in ("whole", "4")]
    assert ends[0].keys() == ends[1].keys()
    for name in ends[0]:
        one, other = (jax.random.key_data(e[name]) if is_key(e[name]) else e[name] for e in ends)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_a_stage_alone_goes_on_to_the_last_bit(kind, tmp_path):
    """The stage's file and the metrics, moved to a folder without checkpoints; the second stage has six steps."""
    config, begin, there = KINDS[kind], tmp_path / "begin", tmp_path / "there"
    whole = run(config, None)
    assert run(config, begin, 8) is None
    there.mkdir()
    for name in (STAGE_FILE, METRICS_FILE):
        shutil.copy(begin / name, there / name)
    assert (there / STAGE_FILE).stat().st_size < 50_000
    theta, log, facts = stage_end(there, config)
    assert len(log) == facts["total_outer_steps"] == 6
    assert facts["outer_step"] in (5, 6)  # judged every five outer steps, and at the end of a stage
    assert run(config, there, 7, resume=True, checkpoint_sec=0.0) is None
    assert last_checkpoint(there) == 7
    end = run(config, there, resume=True)
    assert_same(end, whole)
    assert any(not np.array_equal(theta[name], end[0][name]) for name in theta)


def test_what_was_done_since_the_last_checkpoint_is_done_again(tmp_path):
    whole = run(FULL, None)
    assert run(FULL, tmp_path, 3, checkpoint_sec=0.0) is None
    assert run(FULL, tmp_path, 5, resume=True, checkpoint_sec=1e9) is None  # as if killed: two outer steps lost
    assert last_checkpoint(tmp_path) == 3
    assert_same(run(FULL, tmp_path, resume=True), whole)


def test_metrics_past_the_checkpoint_are_cut_off(tmp_path):
    """Metrics are written before their checkpoint; a process may end between the two."""
    whole = run(FULL, None)
    run(FULL, tmp_path, 6, checkpoint_sec=0.0)
    later = (tmp_path / METRICS_FILE).read_bytes()
    run(FULL, tmp_path / "other", 4, checkpoint_sec=0.0)
    (tmp_path / "other" / METRICS_FILE).write_bytes(later)
    assert_same(run(FULL, tmp_path / "other", resume=True), whole)


def test_an_interruption_keeps_the_last_whole_outer_step(tmp_path):
    whole = run(FULL, None)
    assert run(FULL, tmp_path, 7, KeyboardInterrupt, checkpoint_sec=1e9) is None
    assert last_checkpoint(tmp_path) == 7
    assert_same(run(FULL, tmp_path, resume=True), whole)


def test_an_interruption_before_the_first_outer_step_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine(FULL), "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        outer_train(engine(FULL), RunFolder(tmp_path))
    assert outer_step_reached(tmp_path) is None


def test_a_stage_whose_metrics_are_not_there_is_refused(tmp_path):
    assert run(FULL, tmp_path, 7, checkpoint_sec=0.0) is None
    short = read_metrics(tmp_path)[:5]
    write_metrics(tmp_path, short)
    for call in (lambda: stage_end(tmp_path, FULL), lambda: run(FULL, tmp_path, resume=True)):
        with pytest.raises(ValueError, match=r"expected metrics of [67] outer steps, got 5") as caught:
            call()
        assert_one_line(caught.value)


def test_a_run_on_other_data_is_refused(tmp_path):
    assert run(FULL, tmp_path, 4, checkpoint_sec=0.0, provenance={"data": "one", "commit": "a"}) is None
    with pytest.raises(ValueError, match="made with data = 'one', the configuration has 'other'") as caught:
        run(FULL, tmp_path, resume=True, provenance={"data": "other", "commit": "a"})
    assert_one_line(caught.value)
    assert run(FULL, tmp_path, resume=True, provenance={"data": "one", "commit": "b"}) is not None


def test_a_budget_ends_a_sitting_and_changes_nothing(tmp_path):
    whole = run(FULL, None)
    for sitting in (1, 2, 3):
        _, log, facts = run(FULL, tmp_path, resume=True, budget_sec=0.0)
        assert len(log) == facts["total_outer_steps"] == last_checkpoint(tmp_path) == sitting
        assert "outer_validation_loss" in log[-1]  # judged for whoever looks now
    assert_same(run(FULL, tmp_path, resume=True), whole)


def test_another_configuration_does_not_go_on_from_a_checkpoint(tmp_path):
    run(FULL, tmp_path, 2, checkpoint_sec=0.0)
    with pytest.raises(ValueError, match=r"made with sigma = 0\.05, the configuration has 0\.1") as caught:
        run(dataclasses.replace(FULL, sigma=0.1), tmp_path, resume=True)
    assert_one_line(caught.value)


PROCESS = """
import sys
from pathlib import Path
import numpy as np
import jax
jax.config.update("jax_numpy_rank_promotion", "raise")
from learned.outer import Callbacks, RunFolder, outer_train
from tests.learned.outer.linear import PES, engine

folder = Path(sys.argv[1])
tell = Callbacks(on_step=lambda progress: print(progress.outer_step, flush=True))
theta, _, _ = outer_train(engine(PES), RunFolder(folder, resume=True, checkpoint_sec=0), callbacks=tell)
np.savez(folder / "theta.npz", **theta)
"""


def start(folder, cache):
    command = [sys.executable, "-W", "error", "-c", PROCESS, str(folder)]
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def test_a_process_killed_with_minus_nine_at_any_moment_goes_on_to_the_same_theta(tmp_path):
    theta, log, _ = run(PES, tmp_path / "whole")
    kills, rng = 0, np.random.default_rng(0)
    while True:
        process = start(tmp_path, tmp_path / "compiled")
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(int(rng.integers(2, 6)))]
        if told[-1]:
            time.sleep(float(rng.uniform(0, 0.05)))  # in a step, in a save, between them
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.stdout.close()
        status = process.wait(timeout=60)
        if not told[-1]:  # it ended by itself
            assert status == 0
            break
    assert kills >= 2
    with np.load(tmp_path / "theta.npz") as saved:
        for name in theta:
            np.testing.assert_array_equal(saved[name], theta[name])
    assert read_metrics(tmp_path) == log
