"""Intervals of shares of runs, and of medians and ratios over timing blocks: by hand, and by other routes."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.statistics import (
    Interval,
    holm,
    median_interval,
    ratio_interval,
    wilson_interval,
)
from tests.bench.statistics.quantiles import Z_975

few = settings(max_examples=30)  # each runs scipy; more examples find no more


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
