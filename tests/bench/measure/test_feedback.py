"""Schedule and feedback: a run that is replayed is the same run, and its differences are paired by task."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from bench.measure import feedback
from learned.normalized import normalized
from tasks import inner_loop
from tests.helpers import assert_trees_close, linear_family
from tests.learned.test_designs import example_theta

STEPS = 12
DESIGN = normalized(hidden=6, rate=0.1, column_rate=0.1, vector_rate=0.1)
THETA = {name: 0.3 * leaf for name, leaf in example_theta("normalized", hidden=6).items()}
FAMILY = linear_family()
TASK = FAMILY.task(FAMILY.sample(jax.random.key(1), "outer_validation"))


def run(decide=None, key=0):
    """Parameters after a run, and its record if no `decide` is given."""
    optimizer = DESIGN.optimizer(THETA, STEPS, None, decide) if decide else feedback.recording(DESIGN, THETA, STEPS)
    begin = inner_loop.init(TASK, optimizer, jax.random.key(key))
    state, _ = jax.jit(lambda state: inner_loop.unroll(TASK, optimizer, state, jax.random.key(key), STEPS))(begin)
    return state.params, getattr(state.opt_state, "record", None)


def test_a_run_replayed_or_fed_with_what_it_gave_is_the_same_run():
    params, record = run()
    for decide in (feedback.replayed(record.outputs), feedback.with_feedback_of(record.inputs)):
        assert_trees_close(run(decide)[0], params, rtol=1e-5)
    assert np.all(np.std(record.outputs, axis=0) > 0), "the outputs change along the run"


def test_of_another_run_only_feedback_is_taken():
    _, record = run()
    _, other = run(key=5)
    given = jnp.stack([jnp.arange(feedback.NUM_INPUTS, dtype=jnp.float32)] * record.inputs.shape[1])
    seen = []
    mixed = feedback.with_feedback_of(other.inputs)

    def spied(theta, count, inputs):
        seen.append((inputs, mixed(theta, count, inputs)))
        return seen[-1][1]

    expected = given.at[:, feedback.FEEDBACK].set(other.inputs[3][:, feedback.FEEDBACK])
    found = spied(THETA, jnp.array(3), given)
    assert_trees_close(found, feedback.outputs_of(THETA, jnp.array(3), expected), rtol=1e-6)
    # Time and shape are the same in both runs, and feedback is not.
    same = np.all(np.isclose(record.inputs, other.inputs, atol=1e-6), axis=(0, 1))
    assert set(np.flatnonzero(~same)) == set(feedback.FEEDBACK)


def test_differences_are_means_over_seeds_paired_by_task():
    tasks = [f"feedback/family/{k}" for k in range(5)]
    cells = pd.DataFrame({"cell": list("abcde"), "task": tasks, "status": "ok"})
    open_less = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    rows = []
    for k, cell in enumerate("abcde"):
        for seed, noise in enumerate((-0.05, 0.05)):
            for score in feedback.SCORES:
                values = {"closed": 1.0 + k + noise, "open": 1.0 + k + open_less[k] - noise, "swapped": 1.0 + k + noise}
                rows += [(cell, seed, f"{way}/{score}", value) for way, value in values.items()]
    curves = pd.DataFrame(rows, columns=["cell", "step", "metric", "value"])
    found = feedback.table(cells, curves).set_index(["score", "way"]).loc["final_test_loss"]
    assert found.loc["open", "difference"] == pytest.approx(0.3)
    assert found.loc["open", "closed"] == pytest.approx(3.0)
    # Student's t with 4 degrees of freedom: 2.776 standard errors of the mean.
    assert found.loc["open", "low"] == pytest.approx(0.3 - 2.776 * np.std(open_less, ddof=1) / np.sqrt(5), abs=1e-3)
    assert found.loc["swapped", "difference"] == pytest.approx(0.0)


def test_a_part_has_every_score_of_every_way(monkeypatch):
    monkeypatch.setattr("tasks.load_family", lambda name: FAMILY)
    monkeypatch.setattr("tasks.load", lambda name: TASK)
    rows = feedback.trained_in_each_way(DESIGN, THETA, "linear/0", STEPS, 2, lambda: None)
    assert {(step, name) for step, name, _ in rows} == {
        (seed, f"{way}/{score}") for seed in range(2) for way in feedback.WAYS for score in feedback.SCORES
    }
    found = {(step, name): value for step, name, value in rows}
    assert all(np.isfinite(value) for value in found.values())
    for way in feedback.WAYS[1:]:
        assert found[0, f"{way}/final_test_loss"] != found[0, "closed/final_test_loss"]
