"""What the host counts of a run, and what it tells of it."""

import dataclasses

import pytest

from learned.outer.record import Record, inner_steps_of, summary
from tests.learned.outer.linear import CONFIG

METRICS = [
    {"outer_step": 1, "horizon": 10, "outer_loss": 1.0},
    {"outer_step": 2, "horizon": 10, "outer_loss": 1.0, "outer_validation_loss": 0.123456},
]


def test_the_best_is_what_is_below_all_before_it_and_not_a_number_is_not():
    record = Record(outer_step=2)
    assert record.is_best(1e9)
    record = record.with_best(0.5, "cpu")
    assert [record.is_best(loss) for loss in (0.4, 0.5, float("nan"))] == [True, False, False]


def test_the_facts_of_a_run_are_those_of_its_best_theta_and_its_whole_cost():
    record = Record(outer_step=2, inner_steps=80, device_seconds=900.0).with_best(0.123456, "cpu")
    record = dataclasses.replace(record, outer_step=3, inner_steps=120, device_seconds=1800.0, skipped=1)
    assert summary(record, METRICS) == {
        "outer_validation_loss": 0.1235,
        "outer_step": 2,
        "inner_steps": 80,
        "device_hours": 0.25,
        "device": "cpu",
        "outer_validation_curve": [[2, 10, 0.1235]],
        "total_outer_steps": 3,
        "total_inner_steps": 120,
        "total_device_hours": 0.5,
        "skipped_updates": 1,
        "restored": 0,
    }


@pytest.mark.parametrize(
    ("names", "shared", "signs"),
    [(("es",), True, 2), (("tbptt",), True, 1), (("reparam", "es"), False, 4), (("reparam", "es"), True, 2)],
)
def test_both_signs_count_and_both_of_two_that_are_merged_but_for_unrolls_that_they_share(names, shared, signs):
    config = dataclasses.replace(CONFIG, estimator=names, num_tasks=3, shared_samples=shared)
    assert inner_steps_of(config, 10) == signs * 3 * 10
