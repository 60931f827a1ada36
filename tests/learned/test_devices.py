"""Samples spread over devices: the same program on 1, 2 or 8 gives the same gradient, to float tolerance."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from learned.estimators import ESTIMATORS
from learned.outer.step import Engine
from tests.helpers import assert_one_line, linear_family
from tests.learned.outer.linear import CONFIG

ROOT = Path(__file__).parent.parent.parent
NUM_TASKS = 8
RUN = dataclasses.replace(CONFIG, estimator=("pes",), window=5, num_tasks=NUM_TASKS, learning_rate=1e-3)

PROGRAM = """
import json
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
import numpy as np
from learned.estimators import ESTIMATORS, make_by_name, merge, one_by_one, over_devices
from learned.outer.step import Engine, task_mesh
from tests.helpers import linear_family
from tests.learned.test_devices import NUM_TASKS, RUN
from tests.learned.test_estimator_truths import KEY, SIGMA, Descent, flat

assert len(jax.devices()) == 8
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **facts: compiled.append(name) if "backend_compile" in name else None
)
found = {}
for num_devices in (1, 8):
    each = one_by_one if num_devices == 1 else over_devices(task_mesh(num_devices, RUN))
    made = [make_by_name(name, Descent(), NUM_TASKS, SIGMA, each) for name in ESTIMATORS]
    for estimator in [*made, merge(*(e for e in made if e.name in ("reparam", "es")))]:
        state = jax.jit(lambda key: estimator.init(Descent.theta, {}, key, 4, 8))(KEY)
        for outer_step in range(3):
            key = jax.random.fold_in(KEY, outer_step)
            estimate, state = jax.jit(lambda s, k: estimator.estimate(Descent.theta, s, {}, k, 4, 8))(state, key)
        found[f"{estimator.name} {num_devices}"] = {
            "gradients": flat(estimate.gradients).tolist(), "losses": np.asarray(estimate.losses).tolist()
        }
for num_devices in (1, 2, 8):
    engine = Engine(RUN, linear_family(), num_devices)
    state = engine.init()
    num_steps, horizon = RUN.lengths_at(0)
    metrics = []
    for outer_step in range(3):
        before = len(compiled)
        state, told = engine.step(state, engine.arrays, outer_step, num_steps=num_steps, horizon=horizon)
        compiled_late = len(compiled) - before
        metrics.append({key: float(value) for key, value in told.items()})
    found[f"run {num_devices}"] = {
        "metrics": metrics,
        "theta": {key: np.asarray(leaf).tolist() for key, leaf in state.theta.items()},
        "spread": sorted({len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.carried)}),
        "validation": float(engine.validate(state.theta, engine.arrays)),
        "compiled_late": compiled_late,
    }
print(json.dumps(found))
"""


@pytest.mark.slow
def test_samples_spread_over_devices_give_what_one_device_gives():
    """One test, since it is one process with eight devices: every estimator, and outer steps of a run."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for name in (*ESTIMATORS, "reparam+es"):
        one, eight = found[f"{name} 1"], found[f"{name} 8"]
        assert np.shape(eight["gradients"]) == (NUM_TASKS, 3)
        np.testing.assert_allclose(eight["losses"], one["losses"], rtol=1e-6, err_msg=name)
        # A rounding of 1e-7 in a loss, times eps / sigma^2 of about 100, where losses are differences.
        np.testing.assert_allclose(eight["gradients"], one["gradients"], rtol=1e-4, atol=1e-4, err_msg=name)
    one = found["run 1"]
    for num_devices in (1, 2, 8):
        several = found[f"run {num_devices}"]
        for row, other in zip(one["metrics"], several["metrics"], strict=True):
            assert row.keys() == other.keys()
            np.testing.assert_allclose(list(other.values()), list(row.values()), rtol=1e-3)
        for key, leaf in one["theta"].items():
            np.testing.assert_allclose(several["theta"][key], leaf, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(several["validation"], one["validation"], rtol=1e-4)
        assert several["spread"] == [num_devices], "what is carried stays where it is worked on"
        assert several["compiled_late"] == 0, "an outer step of one length compiles once"


def test_more_devices_than_there_are_is_answered_in_one_line():
    there = len(jax.devices())
    with pytest.raises(ValueError, match=f"expected at most {there} devices") as caught:
        Engine(CONFIG, linear_family(), there + 1)
    assert_one_line(caught.value)


def test_samples_that_do_not_divide_among_the_devices_are_answered_in_one_line(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [object()] * 3)
    with pytest.raises(ValueError, match="expected a multiple of 3 devices for num_tasks, got 4") as caught:
        Engine(CONFIG, linear_family(), 3)
    assert_one_line(caught.value)
