"""The list of what a page does not show."""

import dataclasses

import pytest

from baselines import BASELINES
from bench.report.controls import NO_CONTROLS, controls_table
from bench.report.not_shown import not_shown
from bench.score.first_screen import first_screen
from bench.score.verdict import GROUP_NAMES
from bench.statistics import Interval
from tests.bench.pairs import LEVELS, REFERENCE, SLOW, learning, raced, targets_on_t
from tests.bench.synthetic import diverging, falling, rows_of


def listed(rows, tasks="t"):
    targets = dict.fromkeys(tasks, targets_on_t(LEVELS)["t"])
    screen = first_screen(rows, targets, "s", "l", "cpu", "lopt" if "lopt" in rows.optimizers else None)
    return not_shown(screen, rows, controls_table(screen))


def of(rates, blocks=6, roles=None):
    """Rows of several tasks: task -> name -> rate of the fall; a step of all takes a second."""
    curves = {task: {name: [falling(rate)] * 5 for name, rate in by_name.items()} for task, by_name in rates.items()}
    clock = {task: {name: [1.0] * blocks for name in by_name} for task, by_name in rates.items()}
    return rows_of(curves, clock, roles or {"lopt": "learned"})


def test_without_a_difference_every_group_and_the_test_loss_are_listed():
    found = listed(raced(falling(0.01)))
    assert found[:5] == [
        *(f"that it is faster than {name} (adam): 1.00 [1.00, 1.00]" for name in GROUP_NAMES.values()),
        "that a step of it is cheaper than one of the best hand-designed: 1.00 [1.00, 1.00] of its cost",
        "that its final test loss is lower: it is not told apart from that of adam",
    ]


def test_without_frozen_targets_one_item_says_so():
    assert [item for item in listed(raced(falling(0.02), 0.5), tasks="") if "faster" in item] == [
        "that it is faster than any row: no frozen targets for these tasks and horizons, or no clock"
    ]


def test_what_is_shown_is_not_listed():
    found = listed(raced(falling(0.02), 0.5))
    assert not any("faster" in item or "cheaper" in item for item in found)


def test_a_bound_is_said_as_one():
    assert listed(raced(SLOW, 2.0))[0].endswith("(adam): at most 0.500")


def test_tasks_on_which_it_is_not_faster_are_named_and_counted():
    found = listed(of({"t": {"lopt": 0.02, "adam": 0.01}, "u": {"lopt": 0.01, "adam": 0.01}}), "tu")
    assert [item for item in found if "tasks" in item] == [
        "on 1 of 2 tasks, that it is faster than the best hand-designed there: u 1.00 [1.00, 1.00]"
    ]


def test_test_losses_above_and_those_without_an_interval_are_told_apart():
    curves = {"t": {"lopt": [falling(0.01)] * 5, "adam": [falling(0.02)] * 5, "muon": [diverging(10)] * 5}}
    rows = rows_of(curves, {"t": {name: [1.0] * 6 for name in curves["t"]}}, {"lopt": "learned"})
    (item,) = [item for item in listed(rows) if "test loss" in item]
    assert item == "that its final test loss is lower: it is above that of adam; it is not judged beside that of muon"


def test_controls_that_are_not_as_expected_are_listed():
    rows = learning([falling(0.02)] * 5, [falling(0.01)] * 5)  # worse after outer-training
    found = [item for item in listed(rows) if "control expects" in item]
    assert any("before outer-training" in item and "above 1" in item for item in found)


def test_hand_designed_rows_that_did_not_run_are_named_and_those_that_use_values_of_others_are_not():
    (item,) = [item for item in listed(raced(falling(0.02))) if "did not run" in item]
    named = set(item.partition(": ")[2].split(", "))
    assert named == {name for name, row in BASELINES.items() if row.values_of is None} - {REFERENCE}


@pytest.mark.rule(8)
def test_a_task_is_judged_by_its_own_floor():
    rows, targets = raced(falling(0.0104)), targets_on_t(LEVELS)
    screen = first_screen(rows, targets, "s", "l", "cpu", None)
    slow = dataclasses.replace(screen, floors={"t": 0.5})
    assert screen.floor_of("t") == screen.floor
    assert slow.floor_of("t") == 0.5
    measured = dataclasses.replace(
        NO_CONTROLS, aa=Interval(1.0, 0.99, 1.01, 9), aa_by_task={"t": Interval(1.02, 0.98, 1.05, 9)}
    )
    assert (measured.floor, measured.floor_of("t"), measured.floor_of("u")) == pytest.approx((0.01, 0.05, 0.01))
