"""Speed-ups by hand: estimates, bounds, intervals, and what is missing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.score import losses as losses_
from bench.score import speedup as speedup_
from bench.score.speedup import _expanded_tail, format_speedup
from bench.score.times_to_target import success_rate
from bench.score.verdict import verdict_word
from bench.tuning import targets
from tests.bench.pairs import CONTENDER, FLAT, LEVELS, REFERENCE, ROLES, TIMED, pair, raced, rows_on, targets_on_t
from tests.bench.synthetic import GRID, diverging, falling, frozen, rows_of


@pytest.mark.rule(9)
def test_time_to_target_is_steps_times_seconds_per_step():
    # Half the steps at 1.25 times the cost: 2 / 1.25 = 1.6 in seconds, 2 in steps.
    found = speedup_.speedup(
        raced(falling(0.02), 1.25), targets_on_t(LEVELS), ["t"], CONTENDER, {"t": REFERENCE}, "hard"
    )
    assert (found.estimate, found.steps.estimate) == (pytest.approx(1.6), pytest.approx(2.0))
    assert (found.low, found.high) == (pytest.approx(1.6), pytest.approx(1.6))


@pytest.mark.rule(10)
@pytest.mark.parametrize(("target", "steps"), [("hard", 50.0), ("medium", 25.0), ("easy", 12.5)])
def test_speed_up_is_the_references_share_of_the_horizon_over_the_median_time(target, steps):
    found = speedup_.speedup(raced(falling(0.02)), targets_on_t(LEVELS), ["t"], CONTENDER, {"t": REFERENCE}, target)
    assert found.estimate == pytest.approx(targets.SHARES[target] * 100 / steps) == pytest.approx(2.0)
    assert not found.bound


@given(draws=st.lists(st.floats(-10, 10) | st.just(-math.inf), min_size=1, max_size=50), level=st.floats(0.001, 0.999))
def test_an_order_statistic_is_the_quantile_that_is_one_of_the_draws(draws, level):
    expected = np.quantile(np.array(draws), level, method="inverted_cdf")
    assert speedup_._order_statistic(np.array(draws), level) == expected


@pytest.mark.rule(10)
def test_a_median_never_reached_is_a_bound():
    rows = raced(np.full(len(GRID), 2.9), 2.0)
    found = speedup_.speedup(rows, targets_on_t(LEVELS), ["t"], CONTENDER, {"t": REFERENCE}, "medium")
    # The whole horizon at twice the cost is not enough for what the reference does in half of it: below 0.25.
    assert (found.bound, found.estimate, found.low) == (True, pytest.approx(0.25), 0.0)
    assert format_speedup(found) == "<0.250"
    assert verdict_word(found, 0.02) == "slower"


@pytest.mark.rule(12)
def test_below_five_seeds_there_are_points_without_intervals():
    rows = raced(falling(0.02), num_seeds=4)
    found = speedup_.speedup(rows, targets_on_t(LEVELS), ["t"], CONTENDER, {"t": REFERENCE}, "hard")
    assert (found.low, found.high) == (None, None)
    assert verdict_word(found, 0.0) == "no claim"
    assert losses_.loss(rows, ["t"], CONTENDER, "final_train_loss")[0].low is None


def speedup(rows, targets=None, target="hard", metric="train_loss", reference=None):
    targets = targets or dict.fromkeys(rows.tasks, frozen(LEVELS))
    reference = reference or dict.fromkeys(rows.tasks, REFERENCE)
    return speedup_.speedup(rows, targets, rows.tasks, CONTENDER, reference, target, metric)


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
        found = speedup(rows_of({"a": runs}, {"a": {CONTENDER: 1.25 * spell, REFERENCE: spell}}, ROLES))
        assert (found.estimate, found.low, found.high) == (pytest.approx(1.6),) * 3

    def test_an_arrival_before_the_first_step_counts_as_one_step(self):
        # A loss below the easy target from the start: 25 steps of the reference over one.
        assert speedup(rows_on(a=pair(falling(0.01, start=2.6))), target="easy").estimate == pytest.approx(25.0)

    def test_the_validation_twin_is_judged_by_validation_curves_and_levels(self):
        # Train: 50 steps to 2.0. Validation falls by 0.01 from 2.6 and reaches its own target 2.2 at step 40: 2.5.
        runs = {CONTENDER: [falling(0.02)] * 5, REFERENCE: [falling(0.01)] * 5}
        rows = rows_of({"a": runs}, {"a": TIMED}, ROLES, validation=falling(0.01, start=2.6))
        levels = {REFERENCE: {"train_loss": (2.0, 2.5, 2.75), "validation_loss": (2.2, 2.3, 2.4)}}
        assert speedup(rows, {"a": frozen(levels)}).estimate == pytest.approx(2.0)
        assert speedup(rows, {"a": frozen(levels)}, metric="validation_loss").estimate == pytest.approx(2.5)

    def test_each_task_has_its_own_reference(self):
        # Against adam on a (2.0 at 50 steps: 2) and against sgd on b (its hard target 1.0 at 100 steps: 1).
        runs, blocks = pair(falling(0.02))
        sgd = {"sgd": [falling(0.02)] * 5}
        timed = blocks | {"sgd": [0.5] * 6}  # half the cost of a step of lopt
        rows = rows_of({"a": runs | sgd, "b": runs | sgd}, {"a": timed, "b": timed}, ROLES)
        targets = dict.fromkeys("ab", frozen(LEVELS | {"sgd": (1.0, 2.0, 2.5)}))
        found = speedup(rows, targets, reference={"a": REFERENCE, "b": "sgd"})
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
        short = {CONTENDER: {seed: falling(0.02) for seed in (0, 1, 3, 4, 5)}, REFERENCE: runs[REFERENCE]}
        found = speedup(rows_of({"a": runs, "b": short}, {"a": blocks, "b": blocks}, ROLES))
        assert (found.num_seeds, found.estimate) == (5, pytest.approx(2.0))
        assert found.low is not None

    def test_fewer_than_five_seeds_on_one_task_take_the_interval_away(self):
        runs, blocks = pair(falling(0.02))
        short = {CONTENDER: runs[CONTENDER][:4], REFERENCE: runs[REFERENCE]}
        found = speedup(rows_of({"a": runs, "b": short}, {"a": blocks, "b": blocks}, ROLES))
        assert (found.num_seeds, found.low, found.high) == (4, None, None)

    @pytest.mark.parametrize("lacking", ["task", "seconds", "targets", "reference", "level"])
    def test_without_runs_a_clock_or_targets_on_one_task_there_is_none(self, lacking):
        runs, blocks = pair(falling(0.02))
        targets = dict.fromkeys("ab", frozen(LEVELS))
        reference = dict.fromkeys("ab", REFERENCE)
        rows = {
            "task": lambda: rows_of({"a": runs, "b": {REFERENCE: runs[REFERENCE]}}, {"a": blocks, "b": blocks}, ROLES),
            "seconds": lambda: rows_of({"a": runs, "b": runs}, {"a": blocks}, ROLES),
        }.get(lacking, lambda: rows_of({"a": runs, "b": runs}, {"a": blocks, "b": blocks}, ROLES))()
        if lacking == "targets":
            del targets["b"]
        if lacking == "reference":
            del reference["b"]
        if lacking == "level":  # most of the reference's tuning runs diverged: there is nothing to reach
            targets["b"] = frozen({REFERENCE: (math.inf, 2.5, 2.75)})
        assert speedup(rows, targets, reference=reference) is None
        assert format_speedup(None) == "–"

    def test_a_level_that_nobody_has_is_reached_by_nobody(self):
        """An infinite level is not one that a diverged run is below."""
        rows = rows_of({"t": {CONTENDER: [diverging(3)] * 5, REFERENCE: [falling(0.01)] * 5}}, roles=ROLES)
        found = success_rate(
            rows, {"t": frozen({REFERENCE: (math.inf,) * 3})}, ["t"], CONTENDER, {"t": REFERENCE}, "hard"
        )
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
        rows = rows_of({"a": runs}, {"a": {CONTENDER: [1.0, 1.0, 1.0, 0.5, 0.5, 0.5], REFERENCE: [1.0] * 6}}, ROLES)
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
            runs = {"a": {CONTENDER: [falling(1 / s) for s in steps]}}
            rows = rows_of(runs, {"a": {CONTENDER: seconds, REFERENCE: np.ones(20)}}, ROLES)
            found = speedup(rows)
            covered += found.low <= 1.6 <= found.high
        # Standard error 0.018. The median of a resample is one of ten numbers, so the interval is a little too wide.
        assert 0.9 <= covered / 150 <= 1.0
