"""The cost of an inner step, on one device and on several."""

import json
import subprocess
import sys

import pytest

from bench.errors import UsageError
from bench.outer.cost import measure, on_one_device
from tests.helpers import REPOSITORY, assert_one_line, linear_family
from tests.learned.outer.linear import CONFIG


@pytest.mark.slow
def test_the_cost_of_an_inner_step_is_that_of_an_outer_step_over_its_inner_steps():
    # An odd number: the median of the rates is then the rate of the median block, however noisy the machine.
    found = measure(CONFIG, linear_family, num_devices=1, num_blocks=7)
    assert found.keys() == {
        "config",
        "inner_steps_per_second",
        "adam_step_seconds",
        "cost_ratio_to_adam",
        "outer_step_seconds",
        "compile_seconds",
        "peak_memory_bytes",
        "devices",
    }
    # 4 tasks, both signs, 10 steps.
    rate = found["inner_steps_per_second"]
    assert rate["low"] <= rate["median"] <= rate["high"]
    assert found["outer_step_seconds"] * rate["median"] == pytest.approx(80, rel=1e-3)
    ratio = found["cost_ratio_to_adam"]["median"]
    assert ratio == pytest.approx(1 / rate["median"] / found["adam_step_seconds"], rel=0.5)
    assert found["peak_memory_bytes"] > 2**20


TWO_DEVICES = """
import dataclasses, json
import jax
jax.config.update("jax_num_cpu_devices", 2)
from bench.outer.cost import measure
from tests.helpers import linear_family
from tests.learned.outer.linear import CONFIG

print(json.dumps(measure(dataclasses.replace(CONFIG, num_tasks=2), linear_family, num_devices=2, num_blocks=6)))
"""


@pytest.mark.slow
def test_several_devices_are_timed_beside_one_on_a_core_of_its_own():
    """In each block; two devices forced onto this machine's cores, beside one that another process has when asked."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == 2
    speedup = found["speedup_over_one_device"]
    assert 0 < speedup["low"] <= speedup["median"] <= speedup["high"] < 100


def no_data():
    raise ValueError("no data")


@pytest.mark.slow
def test_what_fails_in_the_process_on_one_core_is_told():
    with (
        pytest.raises(UsageError, match="on one core: ValueError: no data") as caught,
        on_one_device(CONFIG, no_data),
    ):
        pass
    assert_one_line(caught.value)
