"""The first screen: plain data with every key, whatever the rows."""

import json
import math

import pytest

from bench.score.first_screen import as_json, first_screen
from bench.store.rows import read_rows
from tests.bench.pairs import CONTENDER, FLAT, LEVELS, REFERENCE, ROLES, controlled, pair, suite_rows, targets_on_t
from tests.bench.synthetic import cells_of, diverging, failed_cell, falling, frames, frozen, rows_of


@pytest.mark.rule(8)
def test_the_measured_floor_is_on_the_first_screen():
    screen = as_json(first_screen(controlled(falling(0.005)), targets_on_t(LEVELS), "s", "l", "cpu", None))
    # Ratios of 1.01 and .99, half of each: the median is 1, its interval goes from .99 to 1.01.
    assert screen["controls"]["aa"] == {"estimate": 1.0, "low": 0.99, "high": 1.01}


TOP = {"suite", "label", "device", "verdict", "rows", "controls"}
ROW = {
    *("task", "optimizer", "role", "speedup", "step_cost_ratio"),
    *("train_loss", "validation_loss", "test_loss", "success_rate"),
}
VALUE = {"estimate", "low", "high"}
HARD_CASES = {
    "whole": lambda: (suite_rows(), dict.fromkeys("ab", frozen(LEVELS))),
    "bound": lambda: (suite_rows(FLAT), dict.fromkeys("ab", frozen(LEVELS))),
    "diverged": lambda: (suite_rows(diverging(3), diverging(3)), dict.fromkeys("ab", frozen(LEVELS))),
    "four seeds": lambda: (suite_rows(num_seeds=4), dict.fromkeys("ab", frozen(LEVELS))),
    "one seed": lambda: (suite_rows(num_seeds=1), dict.fromkeys("ab", frozen(LEVELS))),
    "no targets": lambda: (suite_rows(), {}),
    "targets of one task": lambda: (suite_rows(), {"a": frozen(LEVELS)}),
    "infinite level": lambda: (suite_rows(), dict.fromkeys("ab", frozen({REFERENCE: (math.inf,) * 3}))),
    "no clock": lambda: (rows_of({"a": pair(falling(0.02))[0]}, roles=ROLES), {"a": frozen(LEVELS)}),
    "no learned": lambda: (rows_of({"a": {REFERENCE: [falling(0.01)] * 5}}), {"a": frozen(LEVELS)}),
    "one optimizer": lambda: (rows_of({"a": {CONTENDER: [falling(0.02)] * 5}}, roles=ROLES), {}),
    "an error": lambda: (
        read_rows(
            *frames([*cells_of({"a": {REFERENCE: [falling(0.01)] * 5}}), failed_cell("a", CONTENDER, 0, "learned")])
        ),
        {"a": frozen(LEVELS)},
    ),
}


class TestFirstScreen:
    @pytest.mark.parametrize("case", HARD_CASES)
    def test_it_is_json_with_every_key_whatever_the_rows(self, case):
        screen = as_json(first_screen(*HARD_CASES[case](), "quick", "machine", "cpu", None))
        assert json.loads(json.dumps(screen, allow_nan=False)) == screen
        assert screen.keys() >= TOP
        assert (screen["suite"], screen["label"], screen["device"]) == ("quick", "machine", "cpu")
        assert screen["verdict"].keys() >= {"text", "optimizer", "against"}
        for against in screen["verdict"]["against"]:
            assert against.keys() >= {"group", "reference", "speedup"}
            assert list(against["speedup"]) == ["hard", "medium", "easy"]
            assert all(found.keys() >= VALUE for found in against["speedup"].values())
        assert screen["rows"]
        for row in screen["rows"]:
            assert row.keys() >= ROW
            assert list(row["speedup"]) == ["hard", "medium", "easy"]
            values = [
                *row["speedup"].values(),
                *(row[key] for key in ROW if key not in ("task", "optimizer", "role", "speedup")),
            ]
            assert all(value.keys() >= VALUE for value in values)
        assert screen["controls"].keys() >= {"aa", "double_step", "frozen_rank", "adam_10x_minus_adam"}
        assert screen["controls"]["frozen_rank"].keys() == {"rank", "of"}
        for name in ("aa", "double_step", "adam_10x_minus_adam"):
            assert screen["controls"][name].keys() >= VALUE

    def test_its_numbers_are_those_worked_by_hand(self):
        screen = as_json(first_screen(*HARD_CASES["whole"](), "quick", "machine", "cpu", None))
        assert screen["verdict"]["optimizer"] == CONTENDER
        for against in screen["verdict"]["against"]:
            assert against["reference"] == REFERENCE
            assert [against["speedup"][target]["estimate"] for target in ("hard", "medium", "easy")] == [2.0, 2.0, 2.0]
        rows = {(row["task"], row["optimizer"]): row for row in screen["rows"]}
        assert set(rows) == {
            (scope, name) for scope in ("all", "a", "b") for name in (CONTENDER, REFERENCE)
        }  # no control
        adam = rows["a", REFERENCE]
        assert adam["train_loss"]["estimate"] == 2.0
        assert adam["step_cost_ratio"]["estimate"] == 1.0
        assert adam["success_rate"]["estimate"] == 1.0
        assert rows["a", CONTENDER]["train_loss"]["estimate"] == 1.0
        assert screen["controls"]["frozen_rank"] == {"rank": 3, "of": 3}
        # Ten times the rate ends at 2.5, the tuned rate at 2.0, in every seed.
        assert screen["controls"]["adam_10x_minus_adam"] == {"estimate": 0.5, "low": 0.5, "high": 0.5}

    def test_a_bound_is_marked(self):
        screen = as_json(first_screen(*HARD_CASES["bound"](), "quick", "machine", "cpu", None))
        found = screen["verdict"]["against"][0]["speedup"]["hard"]
        assert (found["bound"], found["estimate"], found["low"]) == ("<", 1.0, 0.0)

    def test_failed_runs_are_counted_in_their_row(self):
        screen = as_json(first_screen(*HARD_CASES["an error"](), "quick", "machine", "cpu", None))
        failed = {row["optimizer"]: row["failed_runs"] for row in screen["rows"]}
        assert failed == {CONTENDER: 1, REFERENCE: 0}
