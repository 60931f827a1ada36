"""Time to a target with right-censored misses: by hand, against textbook tables, and against the definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.statistics import kaplan_meier, km_median, restricted_mean

few = settings(max_examples=30)  # each runs scipy; more examples find no more
MISS = math.inf

# Weeks of remission of 21 leukaemia patients on 6-mercaptopurine (Freireich et al. 1963), the standing example of the
# textbooks; False where the patient was still in remission when last seen.
REMISSION = [
    *((6, True), (6, True), (6, True), (6, False), (7, True), (9, False), (10, True), (10, False), (11, False)),
    *((13, True), (16, True), (17, False), (19, False), (20, False), (22, True), (23, True), (25, False)),
    *((32, False), (32, False), (34, False), (35, False)),
]
WEEKS, RELAPSED = [weeks for weeks, _ in REMISSION], [relapsed for _, relapsed in REMISSION]

# Few runs on few times, so that ties of events and censorings are common.
runs = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=12)


def by_definition(times, events):
    """The Kaplan-Meier curve and Greenwood's sum, term by term: (times, survival, greenwood)."""
    product, greenwood, found = 1.0, 0.0, []
    for now in sorted(set(times)):
        at_risk = sum(time >= now for time in times)
        deaths = sum(time == now and event for time, event in zip(times, events, strict=True))
        product *= 1 - deaths / at_risk
        greenwood += deaths / (at_risk * (at_risk - deaths)) if deaths < at_risk else math.inf
        found.append((now, product, greenwood))
    return tuple(np.array(column, float) for column in zip(*found, strict=True))


def split(observed):
    return [float(time) for time, _ in observed], [event for _, event in observed]


class TestKaplanMeier:
    def test_without_censoring_it_falls_by_one_nth_a_run(self):
        curve = kaplan_meier([3.0, 1.0, 4.0, 2.0], [True] * 4)
        np.testing.assert_array_equal(curve.times, [1.0, 2.0, 3.0, 4.0])
        np.testing.assert_allclose(curve.survival, [3 / 4, 2 / 4, 1 / 4, 0], atol=1e-15)  # products of rounded ratios

    def test_a_run_censored_at_the_time_of_an_event_is_at_risk_for_it(self):
        # At 2 four runs are at risk, one arrives and one is censored: 3/4. At 3 two are at risk: 3/4 x 1/2.
        curve = kaplan_meier([2.0, 2.0, 3.0, 5.0], [True, False, True, False])
        np.testing.assert_array_equal(curve.at_risk, [4, 2, 1])
        np.testing.assert_array_equal(curve.num_events, [1, 1, 0])
        np.testing.assert_allclose(curve.survival, [3 / 4, 3 / 8, 3 / 8])

    def test_the_remission_of_leukaemia_patients_is_that_of_the_textbooks(self):
        # Klein and Moeschberger, tables 4.1 and 4.2; the log(-log) bands are those that Stata's `sts list` prints.
        curve = kaplan_meier(WEEKS, RELAPSED)
        printed = {
            6: (21, 3, 0.8571, 0.6197, 0.9516),
            7: (17, 1, 0.8067, 0.5631, 0.9228),
            10: (15, 1, 0.7529, 0.5032, 0.8894),
            13: (12, 1, 0.6902, 0.4316, 0.8491),
            16: (11, 1, 0.6275, 0.3675, 0.8049),
            22: (7, 1, 0.5378, 0.2678, 0.7468),
            23: (6, 1, 0.4482, 0.1881, 0.6801),
        }
        steps = np.flatnonzero(curve.num_events)
        assert curve.times[steps].tolist() == list(printed)
        found = (curve.at_risk, curve.num_events, curve.survival, curve.low, curve.high)
        for i, expected in zip(steps, printed.values(), strict=True):
            assert [column[i] for column in found] == pytest.approx(expected, abs=5.1e-5)  # four printed decimals

    @few
    @given(runs)
    def test_it_is_the_product_of_its_definition(self, observed):
        times, events = split(observed)
        curve = kaplan_meier(times, events)
        at, survival, greenwood = by_definition(times, events)
        np.testing.assert_array_equal(curve.times, at)
        np.testing.assert_allclose(curve.survival, survival, atol=1e-14)  # twelve rounded factors
        inner = (survival > 0) & (survival < 1)
        spread = 1.959963984540054 * np.sqrt(greenwood[inner]) / np.log(survival[inner])
        np.testing.assert_allclose(curve.low[inner], survival[inner] ** np.exp(-spread), rtol=1e-9)
        np.testing.assert_allclose(curve.high[inner], survival[inner] ** np.exp(spread), rtol=1e-9)

    @few
    @given(runs)
    def test_it_falls_from_one_and_stays_within_its_band(self, observed):
        curve = kaplan_meier(*split(observed))
        assert (np.diff(curve.survival) <= 0).all()
        assert (curve.low <= curve.survival).all()
        assert (curve.survival <= curve.high).all()
        assert curve.low.min() >= 0
        assert curve.high.max() <= 1

    @few
    @given(runs, st.randoms(use_true_random=False), st.sampled_from([0.25, 2.0, 1024.0]))
    def test_neither_the_order_of_runs_nor_the_unit_of_time_matters(self, observed, random, unit):
        shuffled = random.sample(observed, len(observed))
        curve, other = kaplan_meier(*split(observed)), kaplan_meier(*split(shuffled))
        np.testing.assert_array_equal(curve.survival, other.survival)
        times, events = split(observed)
        scaled = kaplan_meier([time * unit for time in times], events)
        np.testing.assert_array_equal(scaled.times, curve.times * unit)
        np.testing.assert_array_equal(scaled.low, curve.low)

    def test_where_nobody_arrives_it_stays_at_one_and_the_band_is_the_binomial_one(self):
        # None of n arrives: the smallest share of survivors p with p^n >= 0.025. At 2 four runs are watched, at 3 two.
        curve = kaplan_meier([2.0, 2.0, 3.0, 3.0], [False] * 4)
        np.testing.assert_array_equal(curve.survival, [1.0, 1.0])
        np.testing.assert_allclose(curve.low, [0.025 ** (1 / 4), 0.025 ** (1 / 2)])
        np.testing.assert_array_equal(curve.high, [1.0, 1.0])

    def test_where_all_arrive_at_once_the_band_is_the_binomial_one(self):
        # All of five arrive: the largest p with (1 - p)^5 >= 0.025.
        curve = kaplan_meier([7.0] * 5, [True] * 5)
        assert (curve.survival.tolist(), curve.low.tolist()) == ([0.0], [0.0])
        assert curve.high[0] == pytest.approx(1 - 0.025**0.2)

    @pytest.mark.parametrize(("event", "survival"), [(True, 0.0), (False, 1.0)])
    def test_of_one_run_it_is_a_single_step_or_none(self, event, survival):
        curve = kaplan_meier([0.0], [event])
        assert (curve.times.tolist(), curve.survival.tolist(), curve.at_risk.tolist()) == ([0.0], [survival], [1])

    @pytest.mark.parametrize(
        ("times", "events", "message"),
        [
            ([1.0, math.nan], [True, True], "times"),
            ([1.0, math.inf], [True, False], "times"),  # a miss is (budget, False), never an infinite time
            ([1.0, -1.0], [True, True], "negative"),
            ([1.0, 2.0], [True], "a time and an event"),
            ([1.0, 2.0], [0, 2], "True or False"),
            ([1.0, 2.0], [True, math.nan], "events"),
            ([], [], "non-empty"),
        ],
    )
    def test_what_is_no_censored_time_is_refused(self, times, events, message):
        for function in (kaplan_meier, km_median, lambda t, e: restricted_mean(t, e, 1.0)):
            with pytest.raises(ValueError, match=message):
                function(times, events)


class TestMedian:
    def test_the_leukaemia_patients_stay_23_weeks_in_remission(self):
        # S falls from .5378 to .4482 at 23. Its band reaches 1/2 from below at 13 and never from above.
        assert (km_median(WEEKS, RELAPSED).estimate, km_median(WEEKS, RELAPSED).low) == (23.0, 13.0)
        assert math.isinf(km_median(WEEKS, RELAPSED).high)

    @pytest.mark.parametrize(
        ("times", "median"),
        [
            ([5.0], 5.0),
            ([1.0, 2.0], 1.0),  # half of the runs have arrived at 1
            ([1.0, 2.0, 3.0], 2.0),
            ([4.0, 4.0, 4.0, 9.0], 4.0),
        ],
    )
    def test_it_is_the_first_time_by_which_half_have_arrived(self, times, median):
        found = km_median(times, [True] * len(times))
        assert (found.estimate, found.low, found.n) == (median, None, len(times))

    def test_where_half_never_arrive_it_is_infinite(self):
        assert math.isinf(km_median([1.0, 2.0, 9.0, 9.0, 9.0], [True, True, False, False, False]).estimate)
        # 2 of 4 are half.
        assert km_median([1.0, 2.0, 9.0, 9.0], [True, True, False, False]).estimate == 2.0

    def test_with_five_runs_the_upper_bound_is_infinite_even_if_all_arrive(self):
        found = km_median([1.0, 2.0, 3.0, 4.0, 5.0], [True] * 5)
        assert (found.estimate, found.high) == (3.0, math.inf)
        assert found.low is not None
        assert found.low <= 3.0

    @few
    @given(runs)
    def test_it_is_where_the_curve_and_its_band_cross_one_half(self, observed):
        times, events = split(observed)
        curve, found = kaplan_meier(times, events), km_median(times, events)
        # 1e-12 because a curve at exactly one half comes out as a product of up to twelve rounded ratios.
        assert found.estimate == min(curve.times[curve.survival <= 0.5 + 1e-12], default=math.inf)
        if len(times) >= 5:
            assert found.low == min(curve.times[curve.low <= 0.5], default=math.inf)
            assert found.high == min(curve.times[curve.high <= 0.5], default=math.inf)
            assert found.low <= found.estimate <= found.high

    @pytest.mark.parametrize("n", range(1, 60))
    def test_half_is_half_for_any_number_of_runs(self, n):
        # 9/10 x 8/9 x ... x 5/6 is 1/2 but for rounding: the (n + 1) // 2-th run is the median, never the next.
        assert km_median(np.arange(1.0, n + 1), [True] * n).estimate == (n + 1) // 2

    def test_its_interval_covers_the_true_median(self):
        # Exponential times, 20 runs, watched until 1.5 (four in ten at most are censored); the true median is log 2.
        rng, hits = np.random.default_rng(0), 0
        for _ in range(1000):
            times = rng.exponential(size=20)
            found = km_median(np.minimum(times, 1.5), times <= 1.5)
            hits += found.low <= math.log(2) <= found.high
        # The standard error of a share of 0.95 over 1000 is 0.007. Order statistics are coarse at 20 runs and the band
        # is an approximation: between 92 and 99 %.
        assert 920 <= hits <= 990


class TestRestrictedMean:
    def test_it_is_the_area_under_the_curve(self):
        # S is 1 until 2, 3/4 until 4, 1/2 until 6.
        assert restricted_mean([2.0, 4.0, 6.0, 6.0], [True, True, False, False], 6.0).estimate == 2 + 1.5 + 1

    def test_a_run_censored_on_the_way_shares_out_what_it_might_have_done(self):
        # S is 1 until 4; the run censored at 2 leaves three at risk: 2/3 from 4, 1/3 from 6, 0 from 8.
        found = restricted_mean([2.0, 4.0, 6.0, 8.0], [False, True, True, True], 10.0)
        assert found.estimate == pytest.approx(4 + 2 * 2 / 3 + 2 * 1 / 3)

    def test_the_leukaemia_patients_have_a_restricted_mean_of_23_weeks(self):
        # By hand from the printed curve: 6 + 1 x .8571 + 3 x .8067 + 3 x .7529 + 3 x .6902 + 6 x .6275 + 1 x .5378
        # + 12 x .4482 = 23.29; survfit of R prints 23.29 with a standard error of 2.83.
        found = restricted_mean(WEEKS, RELAPSED, 35.0)
        assert found.estimate == pytest.approx(23.29, abs=0.005)
        assert (found.high - found.low) / (2 * 1.96) == pytest.approx(2.83, abs=0.005)

    @few
    @given(st.lists(st.integers(1, 20), min_size=5, max_size=12), st.integers(1, 20))
    def test_without_censoring_it_is_the_mean_of_what_is_cut_off_at_tau(self, times, tau):
        cut = np.minimum(times, tau).astype(float)
        found = restricted_mean(times, [True] * len(times), tau)
        half = 1.959963984540054 * cut.std() / math.sqrt(len(cut))  # divisor n, as the docstring says
        assert found.estimate == pytest.approx(cut.mean(), rel=1e-12)
        assert found.low == pytest.approx(max(cut.mean() - half, 0), abs=1e-9)
        assert found.high == pytest.approx(min(cut.mean() + half, tau), abs=1e-9)

    @few
    @given(runs, st.integers(1, 6))
    def test_it_is_the_integral_of_the_definition(self, observed, tau):
        times, events = split(observed)
        at, survival, _ = by_definition(times, events)
        tau = min(float(tau), at[-1])
        knots = [0.0, *at[at < tau], tau]
        heights = [1.0, *survival[at < tau]]
        area = sum(h * (b - a) for h, a, b in zip(heights, knots, knots[1:], strict=False))
        assert restricted_mean(times, events, tau).estimate == pytest.approx(area, rel=1e-12)

    @few
    @given(runs)
    def test_it_grows_with_tau_and_never_passes_it(self, observed):
        times, events = split(observed)
        taus = np.linspace(0.1, max(times), 7)
        means = [restricted_mean(times, events, tau).estimate for tau in taus]
        assert (np.diff(means) >= -1e-12).all()
        assert (np.array(means) <= taus + 1e-12).all()

    def test_where_nobody_arrives_it_is_the_budget_and_so_are_its_bounds(self):
        found = restricted_mean([100.0] * 5, [False] * 5, 100.0)
        assert (found.estimate, found.low, found.high) == (100.0, 100.0, 100.0)

    def test_equal_times_have_no_width(self):
        found = restricted_mean([3.0] * 6, [True] * 6, 10.0)
        assert (found.estimate, found.low, found.high) == (3.0, 3.0, 3.0)

    def test_below_five_runs_it_has_no_interval(self):
        assert restricted_mean([3.0] * 4, [True] * 4, 10.0).low is None

    @pytest.mark.parametrize("tau", [0.0, -1.0, math.inf, math.nan])
    def test_a_budget_is_positive_and_finite(self, tau):
        with pytest.raises(ValueError, match="tau"):
            restricted_mean([1.0], [True], tau)

    def test_nothing_is_known_beyond_the_last_censoring(self):
        with pytest.raises(ValueError, match="must not be later"):
            restricted_mean([1.0, 2.0], [True, False], 2.5)
        # A curve that has reached 0 is known for ever.
        assert restricted_mean([1.0, 2.0], [True, True], 100.0).estimate == 1.5
