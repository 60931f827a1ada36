import math

import numpy as np
import pytest

from bench.statistics import MIN_SEEDS, Interval, median_interval, paired_difference, ratio_interval, t_interval

# Quantiles of Student's t from a printed table (Fisher and Yates), three decimals: t(4; 0.975) and t(9; 0.995).
T_4_975, T_9_995 = 2.776, 3.250


def test_t_interval_of_one_to_five_by_hand():
    # mean 3, s^2 = (4 + 1 + 0 + 1 + 4) / 4 = 2.5, standard error sqrt(2.5 / 5) = sqrt(0.5)
    interval = t_interval([1, 2, 3, 4, 5])
    half = T_4_975 * math.sqrt(0.5)
    assert interval.n == 5
    assert interval.estimate == 3.0
    # The table has three decimals, so the half-width is known to 0.0005 * sqrt(0.5).
    assert (interval.low, interval.high) == pytest.approx((3 - half, 3 + half), abs=4e-4)


def test_t_interval_takes_the_confidence_asked_for():
    # 0..9: mean 4.5, s^2 = 82.5 / 9
    interval = t_interval(np.arange(10.0), confidence=0.99)
    assert interval.high == pytest.approx(4.5 + T_9_995 * math.sqrt(82.5 / 9 / 10), abs=5e-4)


def test_t_interval_covers_the_mean_at_its_nominal_rate():
    samples = np.random.default_rng(0).normal(size=(2000, 5))
    misses = np.mean([t_interval(row).excludes(0.0) for row in samples])
    # Binomial standard error of a rate of 0.05 over 2000 samples is 0.0049; four of them.
    assert abs(misses - 0.05) < 0.02


@pytest.mark.parametrize("n", range(1, MIN_SEEDS))
def test_below_min_seeds_there_is_a_point_without_an_interval(n):
    assert t_interval([2.0] * n) == Interval(2.0, None, None, n)


def test_equal_values_have_an_interval_of_width_zero():
    assert t_interval([0.5] * 5) == Interval(0.5, 0.5, 0.5, 5)


@pytest.mark.parametrize("function", [t_interval, median_interval])
@pytest.mark.parametrize("values", [[1.0, math.nan, 2.0], [1.0, math.inf], [], 3.0, [[1.0, 2.0]]])
def test_values_that_are_not_finite_numbers_in_a_row_are_refused(function, values):
    with pytest.raises(ValueError, match="values"):
        function(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_outside_zero_and_one_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        t_interval([1.0] * 5, confidence)


def test_paired_difference_is_the_t_interval_of_the_differences():
    a, b = np.array([5.0, 4.0, 7.0, 6.0, 8.0]), np.array([4.0, 2.0, 4.0, 2.0, 3.0])
    assert paired_difference(a, b) == t_interval([1, 2, 3, 4, 5])


def test_paired_difference_removes_what_a_seed_does_to_both_sides():
    seed_effect = np.array([0.0, 10.0, -20.0, 30.0, 5.0])
    noise = np.array([0.01, -0.01, 0.0, 0.01, -0.01])
    assert paired_difference(seed_effect + 0.1 + noise, seed_effect).excludes(0.0)


def test_tasks_are_averaged_within_each_seed_first():
    # Seed differences (1 + 3) / 2 = 2 and (2 + 6) / 2 = 4: n is 2 seeds, not 4 numbers.
    difference = paired_difference([[1.0, 3.0], [2.0, 6.0]], np.zeros((2, 2)))
    assert difference == Interval(3.0, None, None, 2)


def test_pairs_of_unequal_shape_are_refused():
    with pytest.raises(ValueError, match="equal shapes"):
        paired_difference([1.0, 2.0], [1.0])


# Largest k with P(Binomial(n, 1/2) <= k - 1) <= 0.025: n = 6: 1/64; n = 9: (1 + 9)/512; n = 10: (1 + 10)/1024;
# n = 20: the classical table gives the 6th and the 15th value.
@pytest.mark.parametrize(("n", "k"), [(6, 1), (8, 1), (9, 2), (10, 2), (20, 6)])
def test_median_interval_takes_the_order_statistics_of_the_printed_table(n, k):
    values = np.random.default_rng(n).permutation(np.arange(1, n + 1))
    interval = median_interval(values)
    assert interval == Interval((n + 1) / 2, k, n + 1 - k, n)


@pytest.mark.parametrize("n", range(1, 6))
def test_five_values_cannot_give_a_95_percent_interval_for_the_median(n):
    # The widest one, [min, max], covers 1 - 2 / 2^n, which is 0.9375 for n = 5.
    assert median_interval(range(n)).low is None


def test_ratios_are_taken_within_a_block():
    # The machine slows down tenfold during the run; within each block a costs exactly twice b.
    b = np.array([1.0, 2.0, 4.0, 6.0, 8.0, 10.0])
    assert ratio_interval(2 * b, b) == Interval(2.0, 2.0, 2.0, 6)


def test_the_estimate_is_the_median_of_ratios_not_the_ratio_of_medians():
    assert ratio_interval([1.0, 4.0, 9.0], [1.0, 1.0, 9.0]).estimate == 1.0


@pytest.mark.parametrize(("a", "b"), [([1.0, 2.0], [1.0]), ([1.0], [0.0]), ([-1.0], [1.0]), ([math.nan], [1.0])])
def test_ratios_need_positive_times_of_the_same_blocks(a, b):
    with pytest.raises(ValueError, match=r"same blocks|positive|non-finite"):
        ratio_interval(a, b)


def test_an_interval_excludes_only_what_lies_outside_it():
    interval = Interval(1.0, 0.0, 2.0, 5)
    assert not interval.excludes(0.0)
    assert interval.excludes(-0.1)
    assert not interval.without_bounds().excludes(-0.1)
