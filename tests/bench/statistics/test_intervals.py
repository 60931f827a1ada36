"""Intervals and tests over seeds and pairs, and Holm's correction: by hand, by another route, and by simulation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.statistics import (
    MIN_SEEDS,
    Interval,
    holm,
    median_interval,
    p_value,
    paired_difference,
    t_interval,
)
from tests.bench.statistics.quantiles import T_4_975, T_9_995

few = settings(max_examples=30)  # each runs scipy; more examples find no more


def paired_p_value(a, b, confidence=0.95):
    """Of the paired t test, by way of the interval at any confidence."""
    return p_value(paired_difference(a, b, confidence), confidence)


losses = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=5, max_size=12)


# Means over seeds -----------------------------------------------------------------------------------------------------


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


@few
@given(losses, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_t_interval_takes_the_quantile_of_scipys_own_distribution(values, confidence):
    found, error = t_interval(values, confidence), np.std(values, ddof=1) / math.sqrt(len(values))
    quantile = scipy.stats.t(len(values) - 1).ppf((1 + confidence) / 2)
    expected = (np.mean(values) - quantile * error, np.mean(values) + quantile * error)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@few
@given(losses, st.randoms(use_true_random=False), st.floats(-5, 5), st.sampled_from([-2.0, 0.25, 3.0]))
def test_t_interval_moves_with_the_values_whatever_their_order(values, random, shift, scale):
    found = t_interval(values)
    moved = t_interval([scale * x + shift for x in random.sample(values, len(values))])
    ends = sorted(scale * end + shift for end in (found.low, found.high))
    # Sums of a dozen numbers of size 30: 1e-13.
    assert (moved.low, moved.high) == pytest.approx(tuple(ends), abs=1e-12)


@pytest.mark.parametrize("n", range(1, MIN_SEEDS))
def test_below_min_seeds_there_is_a_point_without_an_interval(n):
    assert t_interval([2.0] * n) == Interval(2.0, None, None, n)


def test_equal_values_have_an_interval_of_width_zero():
    assert t_interval([0.5] * 5) == Interval(0.5, 0.5, 0.5, 5)


def test_an_interval_is_written_with_its_bounds_where_it_has_them():
    found = Interval(0.0123, -0.004, 0.03, 8)
    assert f"{found:+.1%}" == "+1.2% [-0.4%, +3.0%]"
    assert f"{found.without_bounds():.2g}" == "0.012"


@pytest.mark.parametrize("function", [t_interval, median_interval])
@pytest.mark.parametrize("values", [[1.0, math.nan, 2.0], [1.0, math.inf], [], 3.0, [[1.0, 2.0]]])
def test_values_that_are_not_finite_numbers_in_a_row_are_refused(function, values):
    with pytest.raises(ValueError, match="values"):
        function(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_outside_zero_and_one_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        t_interval([1.0] * 5, confidence)


# Pairs ----------------------------------------------------------------------------------------------------------------


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


@few
@given(losses, st.integers(0, 1000), st.sampled_from([0.001, 0.1, 3.0]))
def test_paired_tests_are_those_of_scipy(a, seed, noise):
    b = np.array(a) + noise * np.random.default_rng(seed).normal(size=len(a))
    expected = scipy.stats.ttest_rel(a, b)
    assert paired_p_value(a, b) == pytest.approx(expected.pvalue, rel=1e-9)
    found, interval = paired_difference(a, b, 0.9), expected.confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-12)


def test_the_p_value_of_one_to_five_by_hand():
    # t = 3 / sqrt(1 / 2), so t^2 = 18. With 4 degrees of freedom and u^2 = t^2 / (1 + t^2 / 4) = 36 / 11,
    # p = 1 - (3 / 4) u (1 - u^2 / 12) = 1 - (3 / 4) (6 / sqrt(11)) (8 / 11) = 1 - 36 / 11^1.5 = 0.0132.
    assert paired_p_value([1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5) == pytest.approx(1 - 36 / 11**1.5, rel=1e-12)


@few
@given(losses, st.integers(0, 1000), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_p_value_is_small_just_where_the_interval_excludes_zero(a, seed, confidence):
    b = np.array(a) + np.random.default_rng(seed).normal(0.7, 1.0, len(a))
    assert (paired_p_value(a, b, confidence) < 1 - confidence) == paired_difference(a, b, confidence).excludes(0.0)


@few
@given(losses, st.integers(0, 1000))
def test_swapping_the_sides_changes_the_sign_and_nothing_else(a, seed):
    b = np.random.default_rng(seed).normal(size=len(a))
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low), abs=1e-14)
    assert paired_p_value(a, b) == pytest.approx(paired_p_value(b, a), rel=1e-12)


@pytest.mark.parametrize(("difference", "p", "excludes"), [(0.0, 1.0, False), (0.25, 0.0, True), (-0.25, 0.0, True)])
def test_equal_differences_leave_no_doubt_either_way(difference, p, excludes):
    b = np.arange(6.0)
    assert paired_p_value(b + difference, b) == p
    found = paired_difference(b + difference, b)
    assert (found.estimate, found.low, found.high) == (difference,) * 3
    assert found.excludes(0.0) is excludes


def test_the_p_value_averages_tasks_within_each_seed_first():
    # Differences 1 and -1 on two tasks: zero in every seed, so nothing is shown; ten numbers would say the same.
    a = np.tile([1.0, -1.0], (5, 1))
    assert paired_p_value(a, np.zeros((5, 2))) == 1.0
    # Rows 0, 2, .. 8 and 2, 4, .. 10 average to 1, 3, .. 9, whatever stands beside.
    rows = np.array([[2.0 * k, 2.0 * k + 2] for k in range(5)])
    assert paired_p_value(rows, np.zeros((5, 2))) == paired_p_value(rows.mean(axis=1), np.zeros(5))


@pytest.mark.parametrize("function", [paired_difference, paired_p_value])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_failed_run_is_no_number_to_take_differences_of(function, bad):
    with pytest.raises(ValueError, match="decide on failed runs first"):
        function([1.0, 2.0, bad, 4.0, 5.0], [1.0] * 5)


@pytest.mark.parametrize("n", range(1, MIN_SEEDS))
def test_below_min_seeds_there_is_no_test(n):
    assert paired_p_value(np.arange(n), np.ones(n)) is None


# Several contenders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # .01 x 3; .03 x 2; .04 x 1, but not below the one before
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),  # ties share the first's factor
        ([0.5, 0.9], [1.0, 1.0]),  # never above 1
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.03], [0.03]),  # one comparison needs no correction
        ([None, 0.03, None, 0.04], [None, 0.06, None, 0.06]),  # without a test: not counted
        ([None], [None]),
        ([], []),
    ],
)
def test_holm_by_hand(given_, adjusted):
    names = [f"optimizer{i}" for i in range(len(given_))]
    found = holm(dict(zip(names, given_, strict=True)))
    assert list(found) == names
    assert list(found.values()) == pytest.approx(adjusted)


p_values = st.lists(st.integers(0, 200).map(lambda k: k / 200), min_size=1, max_size=7)


@few
@given(p_values, st.sampled_from([0.013, 0.0511, 0.1003, 0.37]))
def test_an_adjusted_value_is_at_most_alpha_just_where_the_step_down_procedure_rejects(values, alpha):
    """Holm's own procedure: compare the i-th smallest with alpha / (m - i + 1) and stop at the first that is larger."""
    rejected = set()
    for i, name in enumerate(sorted(range(len(values)), key=lambda j: values[j])):
        if values[name] > alpha / (len(values) - i):
            break
        rejected.add(name)
    adjusted = holm({str(i): p for i, p in enumerate(values)})
    assert {int(name) for name, p in adjusted.items() if p <= alpha} == rejected


@few
@given(p_values, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order_and_never_lowers_a_value(values, random):
    named = {str(i): p for i, p in enumerate(values)}
    adjusted = holm(named)
    assert holm(dict(random.sample(list(named.items()), len(named)))) == adjusted
    assert all(p <= adjusted[name] <= 1 for name, p in named.items())
    order = sorted(named, key=lambda name: named[name])
    assert all(adjusted[a] <= adjusted[b] for a, b in itertools.pairwise(order))


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_no_p_value(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm({"a": 0.5, "b": p})
