"""Tasks by pattern, and settings of a suite."""

import pytest

import tasks
from bench.errors import UsageError
from bench.suites.choose import apply_settings, expand_tasks
from bench.suites.suite import build_suite
from tests.bench.suites.test_suite import TABLE


def test_task_patterns():
    known = tasks.task_names()
    assert len(expand_tasks(["imagenet16_cnn3/*"], known)) == 10
    assert len(expand_tasks(["imagenet16_cnn3/outer_validation/*"], known)) == 5
    with pytest.raises(UsageError, match="is a family of tasks"):
        expand_tasks(["imagenet16_cnn3"], known)
    with pytest.raises(UsageError, match="did you mean"):
        expand_tasks(["digits8_mpl"], known)


def test_settings():
    suite = build_suite("mine", TABLE)
    changed = apply_settings(suite, ["adam.learning_rate=1e-2", "steps=7", "timing_blocks=0"])
    assert (changed.overrides, changed.steps, changed.timing_blocks) == ({"adam": {"learning_rate": 0.01}}, 7, 0)
    for setting, message in [
        ("steps", "expects key=value"),
        ("stepz=3", "did you mean steps"),
        ("steps=three", "whole number"),
        ("adma.learning_rate=1", "did you mean adam"),
        ("adam.learning_rate=fast", "finite number"),
        ("adam.learning_rate=nan", "finite number"),
        ("adam.learning_rate=1e39", "finite number"),  # infinite in float32
    ]:
        with pytest.raises(UsageError, match=message):
            apply_settings(suite, [setting])
