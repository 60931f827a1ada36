"""Suites of kind "measure": what they refuse."""

import pytest

from bench.cells.plan import plan
from bench.entries.plugins import Registry
from bench.errors import UsageError
from bench.suites.choose import apply_settings
from bench.suites.members import suite_tasks
from bench.suites.suite import Suite, build_suite
from tests.bench.measure.trees import TABLE
from tests.helpers import assert_one_line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measurement": "update_costs"}, "did you mean update_cost"),
        ({"measurement": ["update_cost"]}, "expected measurement to be text"),
        ({"measurement": ""}, "unknown measurement of suite mine ''"),
        ({"optimizers": "adam"}, "list of names"),
        ({"timing_blocks": 0}, "whole number from 1 to"),
        ({"seeds": "0-4"}, "unknown key of suite mine 'seeds'"),
        ({"tasks": ["digits8_mlp"]}, "unknown key of suite mine 'tasks'"),
        ({"kind": "mesure"}, "did you mean measure"),
    ],
)
def test_a_bad_key_or_value_gets_one_clear_line(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        plan(build_suite("mine", TABLE | change), Registry())
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (0,)}, "neither seeds nor steps"),
        ({"steps": 10}, "neither seeds nor steps"),
        ({"tasks": ("update_cost/cnn_21k",)}, "did you mean update_cost/cnn_20k"),
        ({"optimizers": ("adma",)}, "did you mean adam"),
    ],
)
def test_a_plan_refuses_what_a_measurement_has_not(change, message):
    suite = Suite(**{"name": "mine", "kind": "measure", "measurement": "update_cost", "optimizers": ("adam",)} | change)
    with pytest.raises(UsageError, match=message) as caught:
        plan(suite, Registry())
    assert_one_line(caught.value)


def test_settings_of_a_measurement():
    suite = build_suite("mine", TABLE)
    assert apply_settings(suite, ["timing_blocks=7"]).timing_blocks == 7
    with pytest.raises(UsageError, match="whole number from 1 to"):
        apply_settings(suite, ["timing_blocks=0"])
    with pytest.raises(UsageError, match="unknown key for --set 'steps'"):
        apply_settings(suite, ["steps=7"])
    with pytest.raises(UsageError, match="trains no task"):
        suite_tasks(suite, Registry())
