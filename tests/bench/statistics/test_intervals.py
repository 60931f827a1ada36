"""Intervals and tests over seeds, pairs, runs and timing blocks: by hand, by another route, and by simulation."""

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
    crossed_interval,
    holm,
    median_interval,
    p_value,
    paired_difference,
    ratio_interval,
    t_interval,
    wilson_interval,
)

few = settings(max_examples=30)  # each runs scipy; more examples find no more

# Quantiles of Student's t from a printed table (Fisher and Yates), three decimals: t(4; 0.975) and t(9; 0.995).
T_4_975, T_9_995 = 2.776, 3.250
Z_975 = 1.959964  # of the normal distribution, six decimals


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


# Shares of runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # All or none of n: the ends are n / (n + z^2) and z^2 / (n + z^2).
        (10, 10, 10 / (10 + Z_975**2), 1.0),
        (0, 10, 0.0, Z_975**2 / (10 + Z_975**2)),
        (1, 1, 1 / (1 + Z_975**2), 1.0),
        # Half of ten: 1/2 -+ z sqrt(10 / 4 + z^2 / 4) / (10 + z^2) = 0.5 -+ 0.2634
        (5, 10, 0.2366, 0.7634),
        (8, 10, 0.4902, 0.9433),  # Brown, Cai and DasGupta 2001 and every calculator
    ],
)
def test_wilson_by_hand(k, n, low, high):
    found = wilson_interval(k, n)
    assert (found.estimate, found.n) == (k / n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5.1e-5)


def test_wilson_shows_no_rounding_where_all_or_none_succeed():
    for n in range(1, 40):
        assert wilson_interval(0, n).low == 0.0
        assert wilson_interval(n, n).high == 1.0


@few
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95]))
def test_wilson_is_that_of_scipy_and_its_mirror_image(pair, confidence):
    k, n = pair
    found, mirrored = wilson_interval(k, n, confidence), wilson_interval(n - k, n, confidence)
    expected = scipy.stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-12)
    assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize("n", [5, 10])
def test_wilson_covers_the_share_at_its_nominal_rate_on_average(n):
    # Exact: for each true share, the probability of all counts whose interval holds it; averaged over shares.
    shares = np.linspace(0.005, 0.995, 199)
    covered = np.zeros_like(shares)
    for k in range(n + 1):
        found = wilson_interval(k, n)
        covered += scipy.stats.binom.pmf(k, n, shares) * ((found.low <= shares) & (shares <= found.high))
    # A count takes n + 1 values, so no interval covers just 95 % everywhere; on average within a point and a half.
    assert 0.94 <= covered.mean() <= 0.965


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5), (0, 0)])
def test_a_share_is_of_some_runs(k, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(k, n)


def test_a_count_is_a_whole_number():
    with pytest.raises(TypeError):
        wilson_interval(2.5, 5)


# Seeds and test images ------------------------------------------------------------------------------------------------


def test_crossed_interval_of_seeds_and_blocks_that_add_up_by_hand():
    # Seeds 1 to 5 on blocks 0 and 2. Means of the seeds 2..6, variance 2.5, over 5: 0.5. Means of the blocks 3 and 5,
    # variance 2, over 2: 1. All ten around 4: squares 9 + 4 + 1 + 0 + 1 + 1 + 0 + 1 + 4 + 9 = 30, variance 30 / 9, over
    # 10: 1 / 3. Together 0.5 + 1 - 1 / 3 = 7 / 6.
    found = crossed_interval(np.arange(1.0, 6)[:, None] + np.array([[0.0, 2.0]]))
    half = T_4_975 * math.sqrt(7 / 6)
    assert (found.estimate, found.n) == (4.0, 5)
    # The printed quantile is known to 0.0005, times 1.08.
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half), abs=6e-4)


def test_where_all_images_are_alike_only_seeds_count():
    # Then V_seed + 0 - V_both is less than V_seed, and the larger is taken.
    seeds = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert crossed_interval(np.tile(seeds[:, None], (1, 3))) == t_interval(seeds)


def test_where_all_seeds_are_alike_the_images_still_count():
    found = crossed_interval(np.tile([[0.0, 2.0]], (5, 1)))
    # V_seed = 0, V_image = 2 / 2 = 1 and V_both = (10 / 9) / 10 = 1 / 9: the larger of 8 / 9 and 1.
    assert found.high - found.estimate == pytest.approx(T_4_975, abs=5e-4)


def test_where_nothing_varies_a_crossed_interval_has_no_width():
    assert crossed_interval(np.full((5, 4), 0.25)) == Interval(0.25, 0.25, 0.25, 5)


@pytest.mark.parametrize("shape", [(4, 9), (1, 1), (9, 1)])
def test_few_seeds_or_one_block_show_no_spread(shape):
    assert crossed_interval(np.ones(shape)) == Interval(1.0, None, None, shape[0])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_block_without_a_loss_is_refused(bad):
    values = np.ones((5, 3))
    values[2, 1] = bad
    with pytest.raises(ValueError, match="values"):
        crossed_interval(values)


@few
@given(st.integers(0, 1000), st.floats(-5, 5), st.sampled_from([0.25, 3.0]))
def test_a_crossed_interval_moves_with_its_values_whatever_their_order(seed, shift, scale):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(6, 4))
    found = crossed_interval(values)
    moved = crossed_interval(scale * values[rng.permutation(6)][:, rng.permutation(4)] + shift)
    expected = [scale * end + shift for end in (found.estimate, found.low, found.high)]
    assert (moved.estimate, moved.low, moved.high) == pytest.approx(expected, abs=1e-12)


def test_a_crossed_interval_covers_the_mean_where_one_over_seeds_does_not():
    # 10 seeds on 25 blocks; images differ more than seeds do, as on a small test split.
    rng, crossed, seeds_only = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        values = (
            rng.normal(scale=0.1, size=(10, 1)) + rng.normal(scale=0.5, size=(1, 25)) + rng.normal(size=(10, 25)) * 0.2
        )
        crossed += not crossed_interval(values).excludes(0.0)
        seeds_only += not t_interval(values.mean(axis=1)).excludes(0.0)
    # Standard error 0.007; t with 9 instead of about 24 degrees of freedom makes it a little too wide.
    assert 940 <= crossed <= 985
    assert seeds_only < 700


def test_what_differs_between_classes_is_no_sampling_of_images_by_hand():
    # Blocks 0, 2 of class 0, 10, 14 of class 1 and a mixed one, the same for five seeds 0, 0, 0, 0, 0. Around the class
    # means: -1, 1, -2, 2, so (1 + 1 + 4 + 4) / (4 - 2) = 5 over 5 blocks: V_image = 1. V_both = 5 x 10 / (20 - 2) / 25.
    values = np.tile([[0.0, 2.0, 5.0, 10.0, 14.0]], (5, 1))
    found = crossed_interval(values, strata=[[0, 0, -1, 1, 1]])
    assert found.estimate == pytest.approx(6.2)
    # V_seed = 0, and the larger of 1 - 1 / 9 and 1 is taken.
    assert found.high - found.estimate == pytest.approx(T_4_975, abs=5e-4)
    # One class for all blocks is no stratum at all.
    assert crossed_interval(values, strata=[[3] * 5]) == crossed_interval(values)


def test_strata_give_back_the_spread_within_classes_and_cover():
    # Ten classes that differ by much more than their images, two blocks of 20 images of each, and every fifth mixed.
    rng, covered, within = np.random.default_rng(1), 0, []
    labels = np.array([0, 0, -1, 1, 1] * 5) + np.repeat(2 * np.arange(5), 5) * np.array([1, 1, 0, 1, 1] * 5)
    truth = np.array([1.0, 1.0, 0.5, 0.0, 0.0] * 5) * 3
    for _ in range(400):
        values = truth + rng.normal(scale=0.2, size=(1, 25)) + rng.normal(scale=0.1, size=(10, 1))
        values = values + rng.normal(scale=0.05, size=(10, 25))
        found = crossed_interval(values, strata=[labels])
        covered += not found.excludes(truth.mean())
        within.append(found.high - found.low)
    assert 365 <= covered <= 398  # 95 %, standard error 1.1 %; t with 9 degrees of freedom is a little wide
    blind = crossed_interval(values)
    assert blind.high - blind.low > 3 * np.median(within)


def test_tasks_that_share_images_have_as_wide_an_interval_as_one():
    rng = np.random.default_rng(2)
    one = np.tile(rng.normal(size=(1, 25)), (6, 1))
    alone, thrice = crossed_interval(one), crossed_interval(one, one, one)
    assert (thrice.estimate, thrice.low, thrice.high) == pytest.approx((alone.estimate, alone.low, alone.high))
    # The mean of a difference of 0 on one task and of all of it on the other has half of its width.
    half = crossed_interval(one, np.zeros((6, 25)))
    assert half.high - half.low == pytest.approx((alone.high - alone.low) / 2)


def test_seeds_are_averaged_over_tasks_first():
    seeds = np.array([1.0, 2.0, 3.0, 4.0, 5.0])[:, None]
    up, down = np.tile(seeds, (1, 3)), np.tile(6 - seeds, (1, 3))
    assert crossed_interval(up, down) == Interval(3.0, 3.0, 3.0, 5)
    assert crossed_interval(up, up) == t_interval(seeds[:, 0])


@pytest.mark.parametrize("strata", [[[0, 1, 2]], [[0, 0]], [[-1, -1, -1]]])
def test_strata_that_show_no_spread_or_do_not_fit_are_refused(strata):
    with pytest.raises(ValueError, match="strata"):
        crossed_interval(np.zeros((5, 3)), strata=strata)


def test_tasks_of_other_seeds_are_refused():
    with pytest.raises(ValueError, match="same seeds"):
        crossed_interval(np.zeros((5, 3)), np.zeros((6, 3)))


# Medians and ratios over blocks ---------------------------------------------------------------------------------------


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


@few
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_a_median_and_its_bounds_go_through_every_rising_map(values, random):
    found = median_interval(random.sample(values, len(values)))
    mapped = median_interval([x**3 for x in values])
    if len(values) % 2:  # an even number's median is halfway between two
        assert mapped.estimate == found.estimate**3
    if len(values) >= 6:
        assert (mapped.low, mapped.high) == (found.low**3, found.high**3)
        assert found.low <= found.estimate <= found.high
    else:
        assert found.low is None


@pytest.mark.parametrize("n", [6, 7, 10])
def test_a_median_interval_covers_at_least_its_nominal_rate(n):
    # All 2^n ways in which n values can lie above or below the median, equally likely: the interval misses where fewer
    # than k lie on one side. With values -1 and 1 and the median 0 that is where it does not hold 0.
    missed = sum(median_interval(signs).excludes(0.0) for signs in itertools.product([-1.0, 1.0], repeat=n))
    assert missed / 2**n <= 0.05
    # One order statistic further in would cover less: the interval is the shortest that is allowed.
    k = sum(median_interval(np.arange(n)).low >= i for i in range(n))
    assert 2 * sum(math.comb(n, j) for j in range(k + 1)) / 2**n > 0.05


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


@few
@given(st.integers(0, 1000), st.sampled_from([7, 9, 21]))
def test_the_ratio_the_other_way_round_is_the_reciprocal(seed, n):
    a, b = np.random.default_rng(seed).uniform(0.5, 2.0, size=(2, n))
    one, other = ratio_interval(a, b), ratio_interval(b, a)
    assert (one.estimate, one.low, one.high) == pytest.approx(
        (1 / other.estimate, 1 / other.high, 1 / other.low), rel=1e-12
    )


@few
@given(st.integers(0, 1000))
def test_a_slow_spell_of_the_machine_cancels(seed):
    rng = np.random.default_rng(seed)
    (a, b), spell = rng.uniform(0.5, 2.0, size=(2, 8)), 2.0 ** rng.integers(-3, 4, 8)  # powers of 2 multiply exactly
    assert ratio_interval(a * spell, b * spell) == ratio_interval(a, b)


def test_an_interval_excludes_only_what_lies_outside_it():
    interval = Interval(1.0, 0.0, 2.0, 5)
    assert not interval.excludes(0.0)
    assert interval.excludes(-0.1)
    assert not interval.without_bounds().excludes(-0.1)


@pytest.mark.rule(12)
def test_holm_multiplies_the_smallest_by_the_number_of_comparisons():
    # .01 x 3, .02 x 2, .04 x 1, each at least as large as the one before
    assert holm({"a": 0.01, "b": 0.04, "c": 0.02, "d": None}) == pytest.approx(
        {"a": 0.03, "b": 0.04, "c": 0.04, "d": None}
    )
