"""Scores worked by hand: losses fall along straight lines, so that every time to a target can be read off.

The reference, adam, falls from 3 by 0.01 a step: 2.0, 2.5 and 2.75 at 100, 50 and 25 steps are its targets. A run that
falls by 0.02 a step is at the hard one after 50 steps: twice as fast in steps.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.score import speedup as speedup_
from bench.score.controls import Controls, read_controls
from bench.score.first_screen import first_screen
from bench.score.losses import block_classes, difference_of_test_loss, loss
from bench.score.speedup import Speedup, _expanded_tail, format_speedup
from bench.score.times import (
    mean_restricted_steps,
    median_steps,
    reference_text,
    references,
    step_cost_ratio,
    steps_to_target,
    success_rate,
)
from bench.score.verdict import score, verdict_word
from bench.statistics import Interval, t_interval, wilson_interval
from bench.store.rows import read_rows
from tests.bench.synthetic import GRID, cells_of, diverging, failed_cell, falling, frames, frozen, rows_of, train_cell

LOPT, ADAM = "lopt", "adam"
ROLES = {LOPT: "learned"}
LEVELS = {ADAM: (2.0, 2.5, 2.75)}
FLAT = np.full(len(GRID), 3.0)  # never gets anywhere
TIMED = {LOPT: [1.0] * 6, ADAM: [1.0] * 6}


def pair(contender, seconds=(1.0,) * 6, num_seeds=5):
    """Runs and blocks of the learned optimizer beside adam on one task; a list of curves gives each seed its own."""
    curves = contender if isinstance(contender, list) else [contender] * num_seeds
    return {LOPT: curves, ADAM: [falling(0.01)] * len(curves)}, {LOPT: list(seconds), ADAM: [1.0] * len(seconds)}


def rows_on(**tasks):
    """Rows of several tasks, each given as `pair` makes it."""
    return rows_of(
        {task: runs for task, (runs, _) in tasks.items()}, {t: blocks for t, (_, blocks) in tasks.items()}, ROLES
    )


def speedup(rows, targets=None, target="hard", metric="train_loss", reference=None):
    targets = targets or dict.fromkeys(rows.tasks, frozen(LEVELS))
    reference = reference or dict.fromkeys(rows.tasks, ADAM)
    return speedup_.speedup(rows, targets, rows.tasks, LOPT, reference, target, metric)


class TestStepsToTarget:
    def test_a_miss_is_infinite_and_stays_in_its_place(self):
        rows = rows_of({"t": {LOPT: [falling(0.02), FLAT, falling(0.04)]}})
        np.testing.assert_array_equal(steps_to_target(rows, "t", LOPT, 2.0), [50.0, math.inf, 25.0])

    def test_seeds_are_in_order_whatever_the_order_of_the_rows(self):
        rows = rows_of({"t": {LOPT: {7: falling(0.02), 2: falling(0.04)}}})
        np.testing.assert_array_equal(steps_to_target(rows, "t", LOPT, 2.0), [25.0, 50.0])

    def test_a_diverged_run_has_arrived_only_if_it_arrived_before(self):
        late, early = diverging(80, 0.02), diverging(20, 0.02)
        rows = rows_of({"t": {LOPT: [late, early]}})
        np.testing.assert_array_equal(steps_to_target(rows, "t", LOPT, 2.0), [50.0, math.inf])

    def test_a_run_without_a_curve_is_a_miss(self):
        cells = [train_cell("t", LOPT, 0, falling(0.02)), failed_cell("t", LOPT, 1)]
        rows = read_rows(*frames(cells))
        np.testing.assert_array_equal(steps_to_target(rows, "t", LOPT, 2.0), [50.0, math.inf])

    @pytest.mark.parametrize(("steps", "median"), [([3], 3), ([1, 2], 1), ([1, 9, 2], 2), ([1, math.inf], 1)])
    def test_the_median_is_the_first_time_by_which_half_have_arrived(self, steps, median):
        assert median_steps(np.array(steps, float)) == median

    def test_the_median_is_infinite_where_more_than_half_miss(self):
        assert math.isinf(median_steps(np.array([1.0, math.inf, math.inf])))


class TestSpeedup:
    def test_over_tasks_it_is_the_geometric_mean(self):
        # Task a: 50 steps instead of 100 at the same cost: 2. Task b: 25 steps at twice the cost: 4 / 2 = 2, and 4 in
        # steps. Task c: 100 steps at half the cost: 2. Together 2; in steps the cube root of 2 x 4 x 1 = 2.
        rows = rows_on(a=pair(falling(0.02)), b=pair(falling(0.04), [2.0] * 6), c=pair(falling(0.01), [0.5] * 6))
        found = speedup(rows)
        assert (found.estimate, found.steps.estimate) == (pytest.approx(2.0), pytest.approx(2.0))
        assert (found.low, found.high, found.bound, found.num_seeds) == (found.estimate, found.estimate, False, 5)
        rows = rows_on(a=pair(falling(0.02)), b=pair(falling(0.08)))  # 2 and 8
        assert speedup(rows).estimate == pytest.approx(4.0)

    def test_a_tie_is_one_at_every_target(self):
        rows = rows_on(a=pair(falling(0.01)))
        for target in ("hard", "medium", "easy"):
            found = speedup(rows, target=target)
            assert (found.estimate, found.low, found.high) == (pytest.approx(1.0),) * 3
            assert verdict_word(found, None) == "no difference shown"

    def test_twice_the_seconds_per_step_halve_it_and_leave_the_steps_alone(self):
        one, other = (speedup(rows_on(a=pair(falling(0.02), [cost] * 6))) for cost in (1.5, 3.0))
        assert one.estimate == pytest.approx(2 * other.estimate) == pytest.approx(2 / 1.5)
        assert one.steps.estimate == other.steps.estimate == pytest.approx(2.0)

    def test_the_median_seed_counts_and_a_miss_is_the_slowest(self):
        # Steps 25, 50, miss, miss, 40: the third of five is 50.
        curves = [falling(0.04), falling(0.02), FLAT, FLAT, falling(0.025)]
        found = speedup(rows_on(a=pair(curves)))
        assert (found.estimate, found.bound) == (pytest.approx(2.0), False)

    def test_the_median_block_counts(self):
        # Ratios adam / lopt 1, 1/2, 1/2, 1/2, 1/4: the median is a half; of the means it would be another.
        found = speedup(rows_on(a=pair(falling(0.02), [1.0, 2.0, 2.0, 2.0, 4.0])))
        assert found.estimate == pytest.approx(1.0)

    def test_ratios_are_taken_within_blocks(self):
        # The machine is ten times slower in the last two blocks, for both.
        runs, _ = pair(falling(0.02))
        spell = np.array([1.0, 1.0, 1.0, 1.0, 10.0, 10.0])
        found = speedup(rows_of({"a": runs}, {"a": {LOPT: 1.25 * spell, ADAM: spell}}, ROLES))
        assert (found.estimate, found.low, found.high) == (pytest.approx(1.6),) * 3

    def test_an_arrival_before_the_first_step_counts_as_one_step(self):
        # A loss below the easy target from the start: 25 steps of the reference over one.
        assert speedup(rows_on(a=pair(falling(0.01, start=2.6))), target="easy").estimate == pytest.approx(25.0)

    def test_the_validation_twin_is_judged_by_validation_curves_and_levels(self):
        # Train: 50 steps to 2.0. Validation falls by 0.01 from 2.6 and reaches its own target 2.2 at step 40: 2.5.
        runs = {LOPT: [falling(0.02)] * 5, ADAM: [falling(0.01)] * 5}
        rows = rows_of({"a": runs}, {"a": TIMED}, ROLES, validation=falling(0.01, start=2.6))
        levels = {ADAM: {"train_loss": (2.0, 2.5, 2.75), "validation_loss": (2.2, 2.3, 2.4)}}
        assert speedup(rows, {"a": frozen(levels)}).estimate == pytest.approx(2.0)
        assert speedup(rows, {"a": frozen(levels)}, metric="validation_loss").estimate == pytest.approx(2.5)

    def test_each_task_has_its_own_reference(self):
        # Against adam on a (2.0 at 50 steps: 2) and against sgd on b (its hard target 1.0 at 100 steps: 1).
        runs, blocks = pair(falling(0.02))
        sgd = {"sgd": [falling(0.02)] * 5}
        timed = blocks | {"sgd": [0.5] * 6}  # half the cost of a step of lopt
        rows = rows_of({"a": runs | sgd, "b": runs | sgd}, {"a": timed, "b": timed}, ROLES)
        targets = dict.fromkeys("ab", frozen(LEVELS | {"sgd": (1.0, 2.0, 2.5)}))
        found = speedup(rows, targets, reference={"a": ADAM, "b": "sgd"})
        assert found.estimate == pytest.approx(math.sqrt(2.0 * 0.5))
        assert found.steps.estimate == pytest.approx(math.sqrt(2.0 * 1.0))


class TestSpeedupBounds:
    def test_a_median_never_reached_on_one_of_two_tasks_makes_the_whole_a_bound(self):
        # Task a: 2. Task b: not in 100 steps, so below 1. Together below sqrt(2).
        found = speedup(rows_on(a=pair(falling(0.02)), b=pair(FLAT)))
        assert found.bound
        assert (found.estimate, found.low) == (pytest.approx(math.sqrt(2)), 0.0)
        assert format_speedup(found) == "<1.41"
        assert verdict_word(found, 0.02) == "not reached"  # whether it is above 1 is not known

    def test_just_half_of_the_runs_is_a_time_and_one_fewer_a_bound(self):
        curves = [falling(0.02)] * 3 + [FLAT] * 2
        assert not speedup(rows_on(a=pair(curves))).bound
        assert speedup(rows_on(a=pair([*curves[1:], FLAT]))).bound

    def test_runs_that_diverge_before_the_target_are_misses_at_the_horizon(self):
        # Ended at step 20, at a third of the cost: the bound is what the whole horizon would have cost, 3, not 15.
        found = speedup(rows_on(a=pair(diverging(20, 0.02), [1 / 3] * 6)))
        assert (found.bound, found.estimate) == (True, pytest.approx(3.0))

    def test_where_some_resamples_miss_the_interval_reaches_down_to_zero(self):
        # Three of five arrive: 32 % of the resamples have fewer, 1 - P(Binomial(5, 3/5) >= 3).
        found = speedup(rows_on(a=pair([falling(0.02)] * 3 + [FLAT] * 2)))
        assert (found.estimate, found.low, found.high) == (pytest.approx(2.0), 0.0, pytest.approx(2.0))
        assert verdict_word(found, None) == "no difference shown"


class TestSpeedupOfWhatIsMissing:
    def test_a_missing_seed_leaves_the_others_and_is_counted(self):
        runs, blocks = pair(falling(0.02), num_seeds=6)
        short = {LOPT: {seed: falling(0.02) for seed in (0, 1, 3, 4, 5)}, ADAM: runs[ADAM]}
        found = speedup(rows_of({"a": runs, "b": short}, {"a": blocks, "b": blocks}, ROLES))
        assert (found.num_seeds, found.estimate) == (5, pytest.approx(2.0))
        assert found.low is not None

    def test_fewer_than_five_seeds_on_one_task_take_the_interval_away(self):
        runs, blocks = pair(falling(0.02))
        short = {LOPT: runs[LOPT][:4], ADAM: runs[ADAM]}
        found = speedup(rows_of({"a": runs, "b": short}, {"a": blocks, "b": blocks}, ROLES))
        assert (found.num_seeds, found.low, found.high) == (4, None, None)

    @pytest.mark.parametrize("lacking", ["task", "seconds", "targets", "reference", "level"])
    def test_without_runs_a_clock_or_targets_on_one_task_there_is_none(self, lacking):
        runs, blocks = pair(falling(0.02))
        targets = dict.fromkeys("ab", frozen(LEVELS))
        reference = dict.fromkeys("ab", ADAM)
        rows = {
            "task": lambda: rows_of({"a": runs, "b": {ADAM: runs[ADAM]}}, {"a": blocks, "b": blocks}, ROLES),
            "seconds": lambda: rows_of({"a": runs, "b": runs}, {"a": blocks}, ROLES),
        }.get(lacking, lambda: rows_of({"a": runs, "b": runs}, {"a": blocks, "b": blocks}, ROLES))()
        if lacking == "targets":
            del targets["b"]
        if lacking == "reference":
            del reference["b"]
        if lacking == "level":  # most of the reference's tuning runs diverged: there is nothing to reach
            targets["b"] = frozen({ADAM: (math.inf, 2.5, 2.75)})
        assert speedup(rows, targets, reference=reference) is None
        assert format_speedup(None) == "–"

    def test_a_level_that_nobody_has_is_reached_by_nobody(self):
        """An infinite level is not one that a diverged run is below."""
        rows = rows_of({"t": {LOPT: [diverging(3)] * 5, ADAM: [falling(0.01)] * 5}}, roles=ROLES)
        found = success_rate(rows, {"t": frozen({ADAM: (math.inf,) * 3})}, ["t"], LOPT, {"t": ADAM}, "hard")
        assert found is None or found.estimate == 0.0


class TestSpeedupIntervals:
    def test_the_widened_tail_of_five_seeds_by_hand(self):
        # sqrt(5 / 4) x t(4; 0.975) = 1.1180 x 2.7764 = 3.1042, whose normal tail is 0.00095.
        assert _expanded_tail(5) == pytest.approx(0.00095, abs=1e-5)
        # With many seeds it goes to 2.5 %.
        assert _expanded_tail(10_000) == pytest.approx(0.025, abs=1e-4)

    def test_with_a_steady_clock_the_bounds_are_those_of_the_medians_of_all_resamples(self):
        # Steps 20, 25, 50, 80, 100. The median of a resample of five is 100 with probability P(Binomial(5, 1/5) >= 3) =
        # 0.058, above the tail of 0.00095, and as often 20: the interval is 100 / 100 to 100 / 20.
        curves = [falling(1 / steps) for steps in (20, 25, 50, 80, 100)]
        found = speedup(rows_on(a=pair(curves)))
        assert (found.estimate, found.low, found.high) == (pytest.approx(2.0), pytest.approx(1.0), pytest.approx(5.0))

    def test_the_tail_is_widened_for_few_seeds(self):
        # Of seven seeds, 20 to 80 steps, the median of a resample is the largest where four or more draws of seven hit
        # it: 35 x 6^3 / 7^7 + 21 x 6^2 / 7^7 + .. = 1.0 %. That is less than 2.5 %, and more than the widened tail of
        # seven, Phi(-sqrt(7 / 6) x 2.447) = 0.41 %: the interval goes all the way to the slowest and the fastest.
        steps = [20, 30, 40, 50, 60, 70, 80]
        found = speedup(rows_on(a=pair([falling(1 / n) for n in steps])))
        assert (found.estimate, found.low, found.high) == pytest.approx((100 / 50, 100 / 80, 100 / 20))

    def test_with_equal_seeds_the_bounds_are_those_of_the_clock(self):
        # Ratios adam / lopt 1, 1, 1, 2, 2, 2, median 1.5: a resample of six has the median 1 where at least four are 1,
        # 1.5 at three, 2 otherwise. 4 of 6 have probability 22 / 64: both ends are in the interval.
        runs, _ = pair(falling(0.02))
        rows = rows_of({"a": runs}, {"a": {LOPT: [1.0, 1.0, 1.0, 0.5, 0.5, 0.5], ADAM: [1.0] * 6}}, ROLES)
        found = speedup(rows)
        assert (found.estimate, found.low, found.high) == (pytest.approx(3.0), pytest.approx(2.0), pytest.approx(4.0))

    def test_over_tasks_it_is_shorter_than_on_each(self):
        curves = [falling(1 / steps) for steps in np.linspace(30, 90, 10)]
        one = speedup(rows_on(a=pair(curves)))
        four = speedup(rows_on(**{task: pair(curves) for task in "abcd"}))
        assert four.estimate == pytest.approx(one.estimate)
        # Four independent tasks halve the width in logarithms; medians of ten are coarse, so no more than 0.7.
        assert math.log(four.high / four.low) < 0.7 * math.log(one.high / one.low)
        assert four.low <= four.estimate <= four.high

    def test_the_same_rows_give_the_same_interval(self):
        curves = [falling(1 / steps) for steps in np.linspace(30, 90, 10)]
        assert speedup(rows_on(a=pair(curves))) == speedup(rows_on(a=pair(curves)))

    @settings(max_examples=5)
    @given(st.integers(0, 1000), st.sampled_from([0.5, 2.0]))
    def test_a_faster_clock_scales_the_estimate_and_its_interval(self, seed, factor):
        rng = np.random.default_rng(seed)
        curves = [falling(1 / steps) for steps in rng.uniform(30, 90, 5)]
        seconds = rng.uniform(0.9, 1.1, 6)
        one, other = (speedup(rows_on(a=pair(curves, seconds * f))) for f in (1.0, factor))
        for end in ("estimate", "low", "high"):
            assert getattr(one, end) == pytest.approx(factor * getattr(other, end))

    @pytest.mark.slow
    def test_it_covers_the_true_ratio_of_medians_at_its_nominal_rate(self):
        """Log-normal steps and a noisy clock, 10 seeds and 20 blocks; the true speed-up is 2 / 1.25."""
        rng, covered = np.random.default_rng(0), 0
        for _ in range(150):
            steps = np.exp(rng.normal(math.log(50), 0.1, 10))
            seconds = np.exp(rng.normal(math.log(1.25), 0.05, 20))
            runs = {"a": {LOPT: [falling(1 / s) for s in steps]}}
            rows = rows_of(runs, {"a": {LOPT: seconds, ADAM: np.ones(20)}}, ROLES)
            found = speedup(rows)
            covered += found.low <= 1.6 <= found.high
        # Standard error 0.018. The median of a resample is one of ten numbers, so the interval is a little too wide.
        assert 0.9 <= covered / 150 <= 1.0


class TestStepCostRatio:
    def test_on_one_task_it_is_the_median_over_blocks_with_its_order_statistics(self):
        rows = rows_on(a=pair(falling(0.02), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
        assert step_cost_ratio(rows, ["a"], LOPT, ADAM) == Interval(3.5, 1.0, 6.0, 6)

    def test_over_tasks_it_is_the_geometric_mean_of_the_medians(self):
        rows = rows_on(a=pair(falling(0.02), [2.0] * 6), b=pair(falling(0.02), [8.0] * 8))
        found = step_cost_ratio(rows, ["a", "b"], LOPT, ADAM)
        assert (found.estimate, found.low, found.high) == (pytest.approx(4.0),) * 3
        assert found.n == 6  # the fewest blocks of any task

    def test_over_tasks_the_bounds_are_those_of_the_medians_of_all_resamples(self):
        # Medians of six of 1, 1, 1, 4, 4, 4: 1 or 4 with probability 22 / 64 each, 2.5 otherwise, on two tasks: both
        # 1 with probability 0.118, both 4 likewise. The interval goes from 1 to 4; the estimate is 2.5.
        seconds = [1.0, 1.0, 1.0, 4.0, 4.0, 4.0]
        rows = rows_on(a=pair(falling(0.02), seconds), b=pair(falling(0.02), seconds))
        found = step_cost_ratio(rows, ["a", "b"], LOPT, ADAM)
        assert (found.estimate, found.low, found.high) == (pytest.approx(2.5), pytest.approx(1.0), pytest.approx(4.0))

    def test_without_the_clock_on_one_of_two_tasks_there_is_none(self):
        runs, blocks = pair(falling(0.02))
        rows = rows_of({"a": runs, "b": runs}, {"a": blocks}, ROLES)
        assert step_cost_ratio(rows, ["a", "b"], LOPT, ADAM) is None
        assert step_cost_ratio(rows, ["a"], LOPT, "nobody") is None


class TestSuccessRate:
    def rate(self, rows, target="hard", tasks=("a",)):
        targets, reference = dict.fromkeys(tasks, frozen(LEVELS)), dict.fromkeys(tasks, ADAM)
        return success_rate(rows, targets, tasks, LOPT, reference, target)

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
        assert success_rate(rows, {}, ["a"], LOPT, {"a": ADAM}, "hard") is None
        assert success_rate(rows, {"a": frozen(LEVELS)}, ["a"], LOPT, {}, "hard") is None
        assert success_rate(rows, {"a": frozen(LEVELS)}, ["a"], "nobody", {"a": ADAM}, "hard") is None


class TestLosses:
    def test_one_task_gives_students_interval_over_seeds(self):
        rows = rows_of({"a": {ADAM: [falling(0.01 * k) for k in range(1, 6)]}})  # final losses 2, 1, 0, -1, -2
        assert loss(rows, ["a"], ADAM, "final_train_loss") == (t_interval([2.0, 1.0, 0.0, -1.0, -2.0]), 0)

    def test_tasks_are_averaged_within_each_seed(self):
        curves = [falling(0.01 * k) for k in range(1, 6)]
        rows = rows_of({"a": {ADAM: curves}, "b": {ADAM: curves[::-1]}})  # 2 and -2, 1 and -1, ..: 0 for every seed
        found, failed = loss(rows, ["a", "b"], ADAM, "final_train_loss")
        assert (found.estimate, found.high - found.low, failed) == (pytest.approx(0), pytest.approx(0, abs=1e-12), 0)

    def test_a_failed_run_is_counted_is_in_no_mean_and_takes_the_interval_away(self):
        curves = [falling(0.01)] * 5 + [diverging(3)]
        found, failed = loss(rows_of({"a": {ADAM: curves}}), ["a"], ADAM, "final_train_loss")
        assert (found.estimate, found.low, failed) == (pytest.approx(2.0), None, 1)

    def test_a_missing_cell_takes_the_interval_away_and_is_no_failure(self):
        curves = [falling(0.01)] * 6
        rows = rows_of({"a": {ADAM: curves}, "b": {ADAM: curves[:5]}})
        found, failed = loss(rows, ["a", "b"], ADAM, "final_train_loss")
        assert (found.estimate, found.low, failed) == (pytest.approx(2.0), None, 0)

    def test_where_every_run_fails_there_is_no_mean(self):
        rows = rows_of({"a": {ADAM: [diverging(3)] * 5}})
        assert loss(rows, ["a"], ADAM, "final_train_loss") == (None, 5)
        assert loss(rows, ["a"], "nobody", "final_train_loss") == (None, 0)

    def test_the_interval_of_the_test_loss_lets_images_vary_too(self):
        # Seeds alike, blocks of images 0 and 2: over seeds alone there is no spread, over images 1 +- t(4; 0.975).
        rows = rows_of({"a": {ADAM: [falling(0.01)] * 5}}, test=[0.0, 2.0])
        found, _ = loss(rows, ["a"], ADAM, "final_test_loss")
        assert (found.estimate, found.low, found.high) == pytest.approx((1.0, 1 - 2.776, 1 + 2.776), abs=5e-4)

    def test_blocks_that_differ_by_an_image_move_the_interval_to_the_mean_over_images(self):
        rows = rows_of({"a": {ADAM: [falling(0.01)] * 5}}, test=[0.0, 2.0], finals={"test": 1.1})
        found, _ = loss(rows, ["a"], ADAM, "final_test_loss")
        assert (found.estimate, found.low, found.high) == pytest.approx((1.1, 1.1 - 2.776, 1.1 + 2.776), abs=5e-4)

    def test_the_difference_of_test_losses_lets_seeds_and_images_vary(self):
        # Differences 1 to 5 by seed, and 2 more on the second block of images: the seeds' means 2..6 have variance 2.5,
        # over 5; the blocks' 3 and 5 have 2, over 2; all ten have 30 / 9, over 10. 0.5 + 1 - 1 / 3 = 7 / 6.
        def cells(task):
            for seed in range(5):
                yield train_cell(task, LOPT, seed, falling(0.01), "learned", test=[seed + 1.5, seed + 3.5])
                yield train_cell(task, ADAM, seed, falling(0.01), test=[0.5, 0.5])

        rows = read_rows(*frames([*cells("a"), *cells("b")]))
        found = difference_of_test_loss(rows, ["a"], LOPT, ADAM)
        half = 2.776 * math.sqrt(7 / 6)
        assert (found.estimate, found.low, found.high) == pytest.approx((4.0, 4 - half, 4 + half), abs=6e-4)
        # Two tasks may share their images, so that 1 stays what it is; of what both count, a half is left: 1 / 6.
        half = 2.776 * math.sqrt(0.5 + 1 - 1 / 6)
        found = difference_of_test_loss(rows, ["a", "b"], LOPT, ADAM)
        assert (found.estimate, found.low, found.high) == pytest.approx((4.0, 4 - half, 4 + half), abs=6e-4)

    def test_blocks_of_images_know_their_class_where_classes_lie_one_after_the_other(self):
        # 500 images, 50 of a class, in 25 blocks of 20: 0-19 and 20-39 of the first class, 40-59 of two, and so on.
        def of(family):
            cells, curves = frames([train_cell("t", ADAM, 0, falling(0.01), test=[0.0, 2.0])])
            return block_classes(read_rows(cells.assign(family=family), curves), "t", 25)

        assert of("mnist28_cnn3") is None
        assert of("somebody_elses") is None
        expected = [label for k in range(5) for label in (2 * k, 2 * k, -1, 2 * k + 1, 2 * k + 1)]
        assert list(of("imagenet32_cnn3")) == expected

    def test_what_differs_between_the_classes_of_a_task_widens_no_interval(self):
        # Classes at 0, 1, 2 ...; every block of its class alone 0.1 above or below: within classes 20 x 0.01 over
        # 20 - 10, over 25 blocks.
        blocks = [
            k + d
            for j in range(5)
            for k, d in ((2 * j, -0.1), (2 * j, 0.1), (0, 4.5), (2 * j + 1, 0.1), (2 * j + 1, -0.1))
        ]
        cells, curves = frames([train_cell("t", ADAM, seed, falling(0.01), test=blocks) for seed in range(5)])
        found, _ = loss(read_rows(cells.assign(family="imagenet32_cnn3"), curves), ["t"], ADAM, "final_test_loss")
        assert found.high - found.estimate == pytest.approx(2.776 * math.sqrt(0.02 / 25), rel=1e-3)
        mixed, _ = loss(read_rows(cells.assign(family="mnist28_cnn3"), curves), ["t"], ADAM, "final_test_loss")
        assert mixed.high - mixed.low > 10 * (found.high - found.low)

    @pytest.mark.parametrize(
        "lacking",
        [
            "seed of one",
            "seed of both",
            "diverged",
        ],
    )
    def test_without_the_same_finished_seeds_on_every_task_there_is_no_such_difference(self, lacking):
        curves = {seed: falling(0.01) for seed in range(6)}
        runs = {task: {LOPT: dict(curves), ADAM: dict(curves)} for task in "ab"}
        if lacking == "seed of one":
            del runs["b"][LOPT][3]
        if lacking == "seed of both":  # seeds 0 to 4 on one task and 1 to 5 on the other
            for name in (LOPT, ADAM):
                del runs["a"][name][5], runs["b"][name][0]
        if lacking == "diverged":
            runs["b"][ADAM][3] = diverging(20)
        assert difference_of_test_loss(rows_of(runs, roles=ROLES), ["a", "b"], LOPT, ADAM) is None


class TestVerdict:
    @pytest.mark.parametrize(
        ("estimate", "low", "high", "floor", "word"),
        [
            (1.5, 1.2, 1.8, None, "faster"),
            (1.5, 1.2, 1.8, 0.02, "faster"),
            (1.5, 0.9, 2.2, 0.02, "no difference shown"),  # 1 is inside
            (1.5, 1.0, 2.2, 0.02, "no difference shown"),  # 1 is at the end
            (1.04, 1.01, 1.07, 0.05, "no difference shown"),  # closer to 1 than one optimizer is to itself
            (1.06, 1.01, 1.07, 0.05, "faster"),
            (0.5, 0.4, 0.6, 0.02, "slower"),
            (0.96, 0.93, 0.99, 0.05, "no difference shown"),  # 1 / 1.05 = 0.952
            (0.95, 0.93, 0.99, 0.05, "slower"),
            (1.5, None, None, 0.02, "no claim"),
        ],
    )
    def test_it_needs_both_the_interval_and_the_floor(self, estimate, low, high, floor, word):
        found = Speedup(estimate, low, high, bound=False, num_seeds=10, steps=1.0)
        assert verdict_word(found, floor) == word

    @pytest.mark.parametrize(
        ("estimate", "high", "floor", "word"),
        [
            (0.25, 0.3, 0.02, "slower"),
            (0.25, 1.2, 0.02, "not reached"),
            (1.4, 1.5, 0.02, "not reached"),
        ],
    )
    def test_a_bound_is_slower_only_where_it_lies_below_one_for_certain(self, estimate, high, floor, word):
        found = Speedup(estimate, 0.0, high, bound=True, num_seeds=10, steps=1.0)
        assert verdict_word(found, floor) == word

    def test_a_bound_below_the_floor_ranks_nothing(self):
        """Below 0.99 may be 0.98, which is closer to 1 than one optimizer is to itself (protocol rule 8)."""
        found = Speedup(0.99, 0.0, 0.99, bound=True, num_seeds=10, steps=1.0)
        assert verdict_word(found, 0.05) == "not reached"

    def scores(self, rate, num_seeds=5, **kwargs):
        rows = rows_on(a=pair(falling(rate), num_seeds=num_seeds))
        return score(rows, {"a": frozen(LEVELS, **kwargs)})

    @pytest.mark.parametrize(("rate", "word"), [(0.02, "faster"), (0.01, "no difference shown"), (0.001, "slower")])
    def test_its_word_is_that_of_the_strongest_group_and_begins_its_sentence(self, rate, word):
        found = self.scores(rate)
        assert found.word == word
        assert found.verdict.lower().startswith(f"{word}. speed-up of lopt")

    def test_below_five_seeds_nothing_is_claimed(self):
        assert self.scores(0.02, num_seeds=4).word == "no claim"

    def test_the_floor_of_the_a_a_control_is_that_of_these_rows(self):
        # lopt is 2 % faster with no spread at all; adam entered twice differs from itself by up to 5 %.
        runs = {LOPT: [falling(0.0102)] * 5, ADAM: [falling(0.01)] * 5}
        again = {"adam_again": [0.95, 1.0, 1.0, 1.0, 1.0, 1.05]}
        targets = {"a": frozen(LEVELS)}
        bare = score(rows_of({"a": runs}, {"a": TIMED}, ROLES), targets)
        floored = score(rows_of({"a": runs}, {"a": TIMED | again}, ROLES | {"adam_again": "control"}), targets)
        assert (bare.word, floored.word) == ("faster", "no difference shown")
        assert floored.controls.floor == pytest.approx(0.05)
        assert floored.against["all_hand_designed"]["hard"].estimate == pytest.approx(1.02)

    def test_without_a_learned_optimizer_there_is_nothing_to_judge(self):
        found = score(rows_of({"a": {ADAM: [falling(0.01)] * 5}}, {"a": {ADAM: [1.0] * 6}}), {"a": frozen(LEVELS)})
        assert (found.contender, found.word, dict(found.against)) == (None, "no claim", {})
        assert [(row.optimizer, row.success) for row in found.rows] == [(ADAM, wilson_interval(5, 5))]

    def test_a_learned_optimizer_alone_has_nobody_to_be_judged_against(self):
        found = score(rows_of({"a": {LOPT: [falling(0.02)] * 5}}, {"a": {LOPT: [1.0] * 6}}, ROLES), {})
        assert (found.contender, found.word) == (LOPT, "no claim")
        assert found.rows[0].speedups == {"hard": None, "medium": None, "easy": None}

    def test_references_are_named_or_counted(self):
        assert reference_text({}) == "–"
        assert reference_text({"a": "adam", "b": "adam"}) == "adam"
        assert reference_text({"a": "sgd", "b": "adam", "c": "adam"}) == "adam on 2, sgd on 1"


class TestGroups:
    def test_each_group_is_judged_by_its_own_reference_on_each_task(self):
        # On a adam is the best of all and of the scheduled, sgd of the constant ones; on b it is sgd everywhere.
        runs = {LOPT: [falling(0.02)] * 5, ADAM: [falling(0.01)] * 5, "sgd": [falling(0.005)] * 5}
        timed = TIMED | {"sgd": [1.0] * 6}
        rows = rows_of({"a": runs, "b": runs}, {"a": timed, "b": timed}, ROLES)
        levels = LEVELS | {"sgd": (2.5, 2.75, 2.875)}
        targets = {
            "a": frozen(levels, {"all_hand_designed": ADAM, "paper_scheduled": ADAM, "paper_constant": "sgd"}),
            "b": frozen(levels, dict.fromkeys(("all_hand_designed", "paper_scheduled", "paper_constant"), "sgd")),
        }
        found = score(rows, targets)
        # Against adam 2; against sgd, whose 2.5 lopt has after 25 steps, 4.
        hard = {group: by_target["hard"].estimate for group, by_target in found.against.items()}
        assert hard == pytest.approx(
            {"all_hand_designed": math.sqrt(8), "paper_scheduled": math.sqrt(8), "paper_constant": 4.0}
        )
        assert references(rows, targets, "paper_constant") == {"a": "sgd", "b": "sgd"}

    def test_a_group_without_a_reference_is_no_comparison(self):
        rows = rows_on(a=pair(falling(0.02)))
        found = score(rows, {"a": frozen(LEVELS, {"all_hand_designed": ADAM})})
        assert found.against["paper_constant"]["hard"] is None
        assert found.against["all_hand_designed"]["hard"].estimate == pytest.approx(2.0)

    def test_the_row_over_all_tasks_comes_first_where_there_are_several(self):
        found = score(rows_on(a=pair(falling(0.02)), b=pair(falling(0.08))), dict.fromkeys("ab", frozen(LEVELS)))
        assert [(row.task, row.optimizer) for row in found.rows] == [
            (scope, name) for scope in ("all", "a", "b") for name in (LOPT, ADAM)
        ]
        by_scope = {row.task: row.speedups["hard"].estimate for row in found.rows if row.optimizer == ADAM}
        assert by_scope == pytest.approx({"all": 4.0, "a": 2.0, "b": 8.0})
        # Of the learned one against the reference of each task, which is adam on both: the same.
        assert found.rows[0].speedups["hard"].estimate == pytest.approx(4.0)

    def test_an_optimizer_without_a_task_has_no_row_there_and_no_score_over_all(self):
        runs, blocks = pair(falling(0.02))
        rows = rows_of({"a": runs | {"sgd": [falling(0.005)] * 5}, "b": runs}, {"a": blocks, "b": blocks}, ROLES)
        found = score(rows, dict.fromkeys("ab", frozen(LEVELS)))
        assert [row.task for row in found.rows if row.optimizer == "sgd"] == ["all", "a"]
        assert next(row for row in found.rows if row.optimizer == "sgd").speedups["hard"] is None
        assert next(row for row in found.rows if row.optimizer == ADAM).speedups["hard"].estimate == pytest.approx(2.0)


SUITE_ROLES = ROLES | dict.fromkeys(("adam_again", "adam_twice", "adam_frozen", "adam_10x"), "control")


def suite_rows(contender=None, tenfold=None, num_seeds=5):
    """Two tasks with every control."""
    runs = {
        LOPT: [falling(0.02) if contender is None else contender] * num_seeds,
        ADAM: [falling(0.01)] * num_seeds,
        "adam_frozen": [FLAT] * num_seeds,
        "adam_10x": [falling(0.005) if tenfold is None else tenfold] * num_seeds,
    }
    timed = TIMED | {"adam_again": [1.0] * 5 + [1.01], "adam_twice": [2.0] * 6}
    return rows_of({"a": runs, "b": runs}, {"a": timed, "b": timed}, SUITE_ROLES)


class TestControls:
    def test_blocks_of_all_tasks_count_together(self):
        found = read_controls(suite_rows(), dict.fromkeys("ab", frozen(LEVELS)))
        # Ten ratios of 1 and two of 1.01; the third of twelve from either end is 1, but for 12 the bounds are the
        # third smallest and the third largest.
        assert (found.aa.estimate, found.aa.n) == (1.0, 12)
        assert found.floor == 0.0
        assert (found.double_step.estimate, found.double_step.low, found.double_step.high) == (2.0, 2.0, 2.0)

    def test_the_floor_is_the_end_further_from_one(self):
        made = Controls(ADAM, Interval(1.0, 0.97, 1.02, 12), None, None, None, None, 0)
        assert made.floor == pytest.approx(0.03)
        assert Controls(ADAM, Interval(1.0, None, None, 3), None, None, None, None, 0).floor is None

    def test_the_frozen_one_is_last_and_an_optimizer_that_does_no_better_shares_its_place(self):
        targets = dict.fromkeys("ab", frozen(LEVELS))
        assert read_controls(suite_rows(), targets).frozen_rank == (3, 3)
        # lopt gets nowhere either: both are censored at the horizon on every target.
        assert read_controls(suite_rows(FLAT), targets).frozen_rank == (3, 3)

    def test_an_optimizer_of_which_a_run_diverged_has_no_place(self):
        diverging = falling(0.02).copy()
        diverging[-1] = np.nan
        targets = dict.fromkeys("ab", frozen(LEVELS))
        for known in (targets, {}):
            assert read_controls(suite_rows(diverging), known).frozen_rank == (2, 2)

    def test_a_control_that_beats_an_optimizer_is_not_last(self):
        # adam at rate 0 cannot fall; lopt that rises is no better by time to target, but is by the final loss.
        targets = dict.fromkeys("ab", frozen(LEVELS))
        assert read_controls(suite_rows(falling(-0.01)), targets).frozen_rank == (3, 3)
        assert read_controls(suite_rows(falling(-0.01)), {}).frozen_rank == (2, 3)

    def test_restricted_mean_steps_by_hand(self):
        # adam on its own targets: 100, 50 and 25 steps of 100; rate 0: 100 each.
        rows, targets = suite_rows(), dict.fromkeys("ab", frozen(LEVELS))
        reference = dict.fromkeys("ab", ADAM)
        assert mean_restricted_steps(rows, targets, ADAM, reference) == pytest.approx(1.75 / 3)
        assert mean_restricted_steps(rows, targets, "adam_frozen", reference) == pytest.approx(1.0)

    def test_without_controls_nothing_is_read(self):
        assert read_controls(rows_on(a=pair(falling(0.02))), {}) is None


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
    "infinite level": lambda: (suite_rows(), dict.fromkeys("ab", frozen({ADAM: (math.inf,) * 3}))),
    "no clock": lambda: (rows_of({"a": pair(falling(0.02))[0]}, roles=ROLES), {"a": frozen(LEVELS)}),
    "no learned": lambda: (rows_of({"a": {ADAM: [falling(0.01)] * 5}}), {"a": frozen(LEVELS)}),
    "one optimizer": lambda: (rows_of({"a": {LOPT: [falling(0.02)] * 5}}, roles=ROLES), {}),
    "an error": lambda: (
        read_rows(*frames([*cells_of({"a": {ADAM: [falling(0.01)] * 5}}), failed_cell("a", LOPT, 0, "learned")])),
        {"a": frozen(LEVELS)},
    ),
}


class TestFirstScreen:
    @pytest.mark.parametrize("case", HARD_CASES)
    def test_it_is_json_with_every_key_whatever_the_rows(self, case):
        screen = first_screen(*HARD_CASES[case](), "quick", "machine", "cpu", None)
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
        screen = first_screen(*HARD_CASES["whole"](), "quick", "machine", "cpu", None)
        assert screen["verdict"]["optimizer"] == LOPT
        for against in screen["verdict"]["against"]:
            assert against["reference"] == ADAM
            assert [against["speedup"][target]["estimate"] for target in ("hard", "medium", "easy")] == [2.0, 2.0, 2.0]
        rows = {(row["task"], row["optimizer"]): row for row in screen["rows"]}
        assert set(rows) == {(scope, name) for scope in ("all", "a", "b") for name in (LOPT, ADAM)}  # no control
        adam = rows["a", ADAM]
        assert adam["train_loss"]["estimate"] == 2.0
        assert adam["step_cost_ratio"]["estimate"] == 1.0
        assert adam["success_rate"]["estimate"] == 1.0
        assert rows["a", LOPT]["train_loss"]["estimate"] == 1.0
        assert screen["controls"]["frozen_rank"] == {"rank": 3, "of": 3}
        # Ten times the rate ends at 2.5, the tuned rate at 2.0, in every seed.
        assert screen["controls"]["adam_10x_minus_adam"] == {"estimate": 0.5, "low": 0.5, "high": 0.5}

    def test_a_bound_is_marked(self):
        screen = first_screen(*HARD_CASES["bound"](), "quick", "machine", "cpu", None)
        found = screen["verdict"]["against"][0]["speedup"]["hard"]
        assert (found["bound"], found["estimate"], found["low"]) == ("<", 1.0, 0.0)

    def test_failed_runs_are_counted_in_their_row(self):
        screen = first_screen(*HARD_CASES["an error"](), "quick", "machine", "cpu", None)
        failed = {row["optimizer"]: row["failed_runs"] for row in screen["rows"]}
        assert failed == {LOPT: 1, ADAM: 0}
