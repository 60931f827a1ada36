"""Times to a target: arrivals, misses, medians, and the ratio of step costs."""

import math

import numpy as np
import pytest

from bench.score.times_to_target import (
    block_ratio,
    median_steps,
    step_cost_ratio,
    steps_to_target,
    success_rate,
    survival,
)
from bench.statistics import Interval, km_median, restricted_mean, wilson_interval
from bench.store.rows import read_rows
from tests.bench.pairs import CONTENDER, FLAT, LEVELS, REFERENCE, ROLES, pair, raced, rows_on, rows_on_t, targets_on_t
from tests.bench.synthetic import GRID, diverging, failed_cell, falling, frames, frozen, rows_of, train_cell


@pytest.mark.rule(7)
def test_ratios_are_taken_within_a_block():
    # A slow second block doubles both: the ratio is 2 in each.
    blocks = {"adam": [1.0, 2.0, 1.0], "muon": [2.0, 4.0, 2.0]}
    rows = rows_on_t({"adam": [falling(0.01)]}, blocks)
    np.testing.assert_array_equal(block_ratio(rows, "t", "muon", "adam"), [2.0, 2.0, 2.0])


@pytest.mark.rule(11)
def test_a_miss_is_censored_at_the_horizon_and_a_divergence_before_it_too():
    curves = [falling(0.01), diverging(20, 0.02), np.full(len(GRID), 3.0)]
    rows = rows_on_t({REFERENCE: curves}, {REFERENCE: [2.0] * 6})
    times, events, budget = survival(rows, targets_on_t(LEVELS), "t", REFERENCE, REFERENCE, "hard")
    assert (times.tolist(), events.tolist(), budget) == ([200.0, 200.0, 200.0], [True, False, False], 200.0)
    times, events, budget = survival(rows, targets_on_t(LEVELS), "t", REFERENCE, REFERENCE, "medium")
    assert (times.tolist(), events.tolist(), budget) == ([100.0, 200.0, 200.0], [True, False, False], 200.0)
    found = success_rate(rows, targets_on_t(LEVELS), ["t"], REFERENCE, {"t": REFERENCE}, "medium")
    assert found == wilson_interval(1, 3)
    # One arrival at 100, two misses at 200: 100 + 2/3 of the other 100.
    assert restricted_mean(times, events, budget).estimate == pytest.approx(100 + 200 / 3)
    assert math.isinf(km_median(times, events).estimate)


@pytest.mark.rule(11)
@pytest.mark.parametrize("arrivals", [5, 6, 7, 10])
def test_the_order_statistic_is_the_kaplan_meier_median(arrivals):
    steps = np.array([*np.arange(1.0, arrivals + 1), *[math.inf] * (10 - arrivals)])
    events = np.isfinite(steps)
    assert median_steps(steps) == km_median(np.where(events, steps, 100.0), events).estimate == 5.0


@pytest.mark.rule(13)
def test_times_to_target_are_in_steps_and_in_seconds():
    rows = raced(falling(0.02), 1.25)
    steps, seconds = (
        survival(rows, targets_on_t(LEVELS), "t", CONTENDER, REFERENCE, "hard", seconds=unit) for unit in (False, True)
    )
    assert (steps[0].tolist(), steps[2]) == ([50.0] * 5, 100.0)
    assert (seconds[0].tolist(), seconds[2]) == ([62.5] * 5, 125.0)


class TestStepsToTarget:
    def test_a_miss_is_infinite_and_stays_in_its_place(self):
        rows = rows_of({"t": {CONTENDER: [falling(0.02), FLAT, falling(0.04)]}})
        np.testing.assert_array_equal(steps_to_target(rows, "t", CONTENDER, 2.0), [50.0, math.inf, 25.0])

    def test_seeds_are_in_order_whatever_the_order_of_the_rows(self):
        rows = rows_of({"t": {CONTENDER: {7: falling(0.02), 2: falling(0.04)}}})
        np.testing.assert_array_equal(steps_to_target(rows, "t", CONTENDER, 2.0), [25.0, 50.0])

    def test_a_diverged_run_has_arrived_only_if_it_arrived_before(self):
        late, early = diverging(80, 0.02), diverging(20, 0.02)
        rows = rows_of({"t": {CONTENDER: [late, early]}})
        np.testing.assert_array_equal(steps_to_target(rows, "t", CONTENDER, 2.0), [50.0, math.inf])

    def test_a_run_without_a_curve_is_a_miss(self):
        cells = [train_cell("t", CONTENDER, 0, falling(0.02)), failed_cell("t", CONTENDER, 1)]
        rows = read_rows(*frames(cells))
        np.testing.assert_array_equal(steps_to_target(rows, "t", CONTENDER, 2.0), [50.0, math.inf])

    @pytest.mark.parametrize(("steps", "median"), [([3], 3), ([1, 2], 1), ([1, 9, 2], 2), ([1, math.inf], 1)])
    def test_the_median_is_the_first_time_by_which_half_have_arrived(self, steps, median):
        assert median_steps(np.array(steps, float)) == median

    def test_the_median_is_infinite_where_more_than_half_miss(self):
        assert math.isinf(median_steps(np.array([1.0, math.inf, math.inf])))


class TestStepCostRatio:
    def test_on_one_task_it_is_the_median_over_blocks_with_its_order_statistics(self):
        rows = rows_on(a=pair(falling(0.02), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
        assert step_cost_ratio(rows, ["a"], CONTENDER, REFERENCE) == Interval(3.5, 1.0, 6.0, 6)

    def test_over_tasks_it_is_the_geometric_mean_of_the_medians(self):
        rows = rows_on(a=pair(falling(0.02), [2.0] * 6), b=pair(falling(0.02), [8.0] * 8))
        found = step_cost_ratio(rows, ["a", "b"], CONTENDER, REFERENCE)
        assert (found.estimate, found.low, found.high) == (pytest.approx(4.0),) * 3
        assert found.n == 6  # the fewest blocks of any task

    def test_over_tasks_the_bounds_are_those_of_the_medians_of_all_resamples(self):
        # Medians of six of 1, 1, 1, 4, 4, 4: 1 or 4 with probability 22 / 64 each, 2.5 otherwise, on two tasks: both
        # 1 with probability 0.118, both 4 likewise. The interval goes from 1 to 4; the estimate is 2.5.
        seconds = [1.0, 1.0, 1.0, 4.0, 4.0, 4.0]
        rows = rows_on(a=pair(falling(0.02), seconds), b=pair(falling(0.02), seconds))
        found = step_cost_ratio(rows, ["a", "b"], CONTENDER, REFERENCE)
        assert (found.estimate, found.low, found.high) == (pytest.approx(2.5), pytest.approx(1.0), pytest.approx(4.0))

    def test_without_the_clock_on_one_of_two_tasks_there_is_none(self):
        runs, blocks = pair(falling(0.02))
        rows = rows_of({"a": runs, "b": runs}, {"a": blocks}, ROLES)
        assert step_cost_ratio(rows, ["a", "b"], CONTENDER, REFERENCE) is None
        assert step_cost_ratio(rows, ["a"], CONTENDER, "nobody") is None


class TestSuccessRate:
    def rate(self, rows, target="hard", tasks=("a",)):
        targets, reference = dict.fromkeys(tasks, frozen(LEVELS)), dict.fromkeys(tasks, REFERENCE)
        return success_rate(rows, targets, tasks, CONTENDER, reference, target)

    def test_it_is_the_share_of_runs_with_wilsons_interval(self):
        # By 0.004 a step it gets to 2.6: below the easy target 2.75, not the medium 2.5.
        curves = [falling(0.02), falling(0.004), FLAT, diverging(40, 0.02)]
        rows = rows_on(a=pair(curves))
        assert self.rate(rows) == wilson_interval(1, 4)
        assert self.rate(rows, "medium") == wilson_interval(2, 4)  # the diverged one was there at step 25
        assert self.rate(rows, "easy") == wilson_interval(3, 4)

    def test_runs_of_all_tasks_count_together(self):
        rows = rows_on(a=pair([falling(0.02)] * 3), b=pair([falling(0.02), FLAT]))
        assert self.rate(rows, tasks=("a", "b")) == wilson_interval(4, 5)

    def test_without_targets_or_runs_there_is_none(self):
        rows = rows_on(a=pair(falling(0.02)))
        assert success_rate(rows, {}, ["a"], CONTENDER, {"a": REFERENCE}, "hard") is None
        assert success_rate(rows, {"a": frozen(LEVELS)}, ["a"], CONTENDER, {}, "hard") is None
        assert success_rate(rows, {"a": frozen(LEVELS)}, ["a"], "nobody", {"a": REFERENCE}, "hard") is None
