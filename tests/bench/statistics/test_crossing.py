"""Smoothing, and the step at which a smoothed curve reaches a level."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.statistics.crossing import smooth, steps_to

GRID = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


class TestSmoothing:
    def test_a_running_median_removes_a_spike(self):
        # around the spike {4, 3, 9, 1, .5} -> 3, before it {5, 4, 3, 9, 1} -> 4, after it {3, 9, 1, .5, .2} -> 1
        smoothed = smooth([5.0, 4.0, 3.0, 9.0, 1.0, 0.5, 0.2])
        np.testing.assert_array_equal(smoothed, [5.0, 4.0, 4.0, 3.0, 1.0, 0.5, 0.2])

    @given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
    def test_a_monotone_curve_stays_as_it_is(self, values):
        falling = sorted(values, reverse=True)
        np.testing.assert_array_equal(smooth(falling), falling)

    def test_what_comes_after_the_end_of_a_run_counts_as_infinite(self):
        # around the third point {4, 3, 2, 1, inf} -> 3, around the fourth {3, 2, 1, inf, inf} -> 3
        smoothed = smooth([4.0, 3.0, 2.0, 1.0, math.nan, math.nan, math.nan])
        np.testing.assert_array_equal(smoothed, [4, 3, 3, 3, math.inf, math.inf, math.inf])

    def test_seeds_are_smoothed_apart(self):
        both = np.array([[3.0, 1.0], [9.0, 1.0], [2.0, 1.0]])
        np.testing.assert_array_equal(smooth(both)[:, 0], smooth(both[:, 0]))


class TestStepsToTarget:
    """Protocol rule 10, worked by hand on falling curves, which smoothing leaves alone."""

    def test_between_two_points_the_loss_is_linear(self):
        # 2.0 at step 10, 1.0 at step 20: 1.25 is three quarters of the way
        assert steps_to(1.25, [0, 10, 20], [3.0, 2.0, 1.0]) == pytest.approx(17.5)

    def test_a_level_that_is_a_point_is_reached_at_that_point(self):
        assert steps_to(2.0, [0, 10, 20], [3.0, 2.0, 1.0]) == 10.0

    def test_a_start_below_the_level_is_step_zero(self):
        assert steps_to(3.0, [0, 10, 20], [3.0, 2.0, 1.0]) == 0.0

    def test_a_miss_is_infinite(self):
        assert math.isinf(steps_to(0.5, [0, 10, 20], [3.0, 2.0, 1.0]))

    def test_one_lucky_point_is_no_arrival(self):
        losses = [3.0, 3.0, 3.0, 0.1, 3.0, 3.0, 3.0]
        assert math.isinf(steps_to(1.0, GRID[:7], losses))

    def test_a_run_that_arrives_and_then_diverges_has_arrived(self):
        losses = [4.0, 3.0, 2.0, 1.0, 0.9, 0.8, 0.7, math.nan, math.nan, math.nan, math.nan]
        assert steps_to(1.0, GRID, losses) == 30.0

    def test_a_run_that_diverges_on_the_way_misses(self):
        losses = [4.0, 3.0, 2.0] + [math.nan] * 8
        assert math.isinf(steps_to(1.0, GRID, losses))
