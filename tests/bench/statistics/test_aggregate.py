"""One number over tasks and seeds, its bootstrap, and the best of k trials: by hand, by enumeration, by simulation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.statistics import (
    Interval,
    best_of_k,
    geometric_mean,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
    t_interval,
)
from bench.statistics.aggregate import percentile_bounds

few = settings(max_examples=30)  # each runs scipy; more examples find no more
MISS = math.inf
matrices = st.integers(0, 10**6).map(
    lambda seed: np.random.default_rng(seed).integers(0, 6, size=np.random.default_rng(seed).integers(1, 7, 2)) / 2
)


class TestInterquartileMean:
    @pytest.mark.parametrize(
        ("values", "mean"),
        [
            ([1, 2, 3, 4, 5, 6, 7, 8], 4.5),  # two of eight go at each end: 3, 4, 5, 6
            ([0, 2, 3, 4, 100], 3.0),  # floor(5 / 4) = 1 goes at each end
            ([1, 2, 6], 3.0),  # floor(3 / 4) = 0: nothing goes
            ([7], 7.0),
            ([[5, 1], [1, 5]], 3.0),  # over seeds and tasks together: 1 and 5 are left
            ([2, 2, 2, 2], 2.0),
        ],
    )
    def test_by_hand(self, values, mean):
        assert interquartile_mean(values) == mean

    @few
    @given(matrices)
    def test_it_is_the_mean_of_what_is_left_when_a_quarter_goes_at_each_end(self, values):
        ordered, quarter = sorted(values.ravel()), values.size // 4
        assert interquartile_mean(values) == pytest.approx(np.mean(ordered[quarter : values.size - quarter]))

    @few
    @given(matrices, st.randoms(use_true_random=False))
    def test_neither_order_nor_unit_matter(self, values, random):
        shuffled = random.sample(list(values.ravel()), values.size)
        assert interquartile_mean([4 * x - 1 for x in shuffled]) == pytest.approx(4 * interquartile_mean(values) - 1)

    def test_one_wild_run_in_four_does_not_move_it(self):
        assert interquartile_mean([1.0, 2.0, 3.0, 4.0]) == interquartile_mean([1.0, 2.0, 3.0, 1e9]) == 2.5

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_failed_run_is_refused_since_it_would_be_trimmed_out_of_sight(self, bad):
        with pytest.raises(ValueError, match="decide on failed runs first"):
            interquartile_mean([1.0, 2.0, 3.0, bad])


class TestProbabilityOfImprovement:
    def test_by_hand(self):
        # Task 1: 1 beats 2 and 3, 2 beats 3 and ties with 2: 3.5 of 4. Task 2: 5 loses to both, 3 beats 4 only: 1 of 4.
        found = probability_of_improvement([[1.0, 5.0], [2.0, 3.0]], [[2.0, 4.0], [3.0, 2.0]])
        assert found == (3.5 / 4 + 1 / 4) / 2

    @few
    @given(matrices, st.integers(1, 6), st.integers(0, 1000))
    def test_it_is_mann_whitneys_u_over_the_number_of_pairs(self, a, num_seeds, seed):
        b = np.random.default_rng(seed).integers(0, 6, (num_seeds, a.shape[1])) / 2
        # scipy's U counts the pairs in which the first sample is larger, that is, in which a is lower.
        u = [scipy.stats.mannwhitneyu(b[:, task], a[:, task]).statistic for task in range(a.shape[1])]
        assert probability_of_improvement(a, b) == pytest.approx(np.mean(u) / (len(a) * len(b)))

    @few
    @given(matrices, st.integers(1, 6), st.integers(0, 1000))
    def test_both_sides_add_up_to_one_and_only_the_order_of_losses_counts(self, a, num_seeds, seed):
        b = np.random.default_rng(seed).choice([0.0, 0.5, 1.5, MISS], (num_seeds, a.shape[1]))
        found = probability_of_improvement(a, b)
        assert found + probability_of_improvement(b, a) == pytest.approx(1.0)
        assert probability_of_improvement(np.exp(a[::-1]), np.exp(b)) == pytest.approx(found)

    def test_a_failed_run_loses_to_a_finished_one_and_ties_with_another(self):
        assert probability_of_improvement([[1.0]], [[MISS]]) == 1.0
        assert probability_of_improvement([[MISS]], [[MISS]]) == 0.5
        assert probability_of_improvement([[2.0]], [[2.0]]) == 0.5

    @pytest.mark.parametrize(
        ("a", "b"),
        [([[1.0]], [[math.nan]]), ([[-MISS]], [[1.0]]), ([[1.0, 2.0]], [[1.0]]), ([1.0], [1.0]), ([[]], [[]])],
    )
    def test_losses_are_a_matrix_of_the_same_tasks(self, a, b):
        with pytest.raises(ValueError, match=r"same tasks|non-finite|rank"):
            probability_of_improvement(a, b)


class TestStratifiedBootstrap:
    def test_its_bounds_are_those_of_all_resamples(self):
        # All 5^5 resamples of five seeds are equally likely; their means take the values k / 5, of which the bounds are
        # the 2.5 % quantiles. A bootstrap of 4,000 knows the tail to 0.0025; the mean with 4 % below it or the one with
        # 1 % would be another k.
        values = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
        means = np.sort([np.mean(draw) for draw in itertools.product(values, repeat=5)])
        found = stratified_bootstrap(np.mean, [values[:, None]], num_resamples=4000)
        tail = len(means) // 40
        assert found.estimate == 3.0
        assert found.low == pytest.approx(means[tail], abs=0.2)
        assert found.high == pytest.approx(means[-tail - 1], abs=0.2)

    def test_seeds_are_drawn_for_each_task_by_itself(self):
        # Two tasks of opposite sign: drawn together their mean would be zero in every resample.
        values = np.array([[1.0, -1.0], [2.0, -2.0], [3.0, -3.0], [4.0, -4.0], [5.0, -5.0]])
        found = stratified_bootstrap(np.mean, [values], num_resamples=200)
        assert found.estimate == 0.0
        assert found.low < 0 < found.high

    def test_pairs_stay_pairs(self):
        # b is a and 1 more in every run, so every resample of the difference is 1.
        a = np.random.default_rng(0).normal(size=(6, 3)).round(3)
        found = stratified_bootstrap(lambda x, y: round(float(np.mean(y - x)), 9), [a, a + 1], num_resamples=100)
        assert found == Interval(1.0, 1.0, 1.0, 6)

    def test_what_hangs_on_a_run_is_drawn_with_it(self):
        # A third axis, such as blocks of images, comes along whole.
        values = np.random.default_rng(0).normal(size=(5, 2, 4))
        flat = stratified_bootstrap(np.mean, [values.mean(axis=2)], num_resamples=50)
        whole = stratified_bootstrap(np.mean, [values], num_resamples=50)
        assert (whole.low, whole.high) == pytest.approx((flat.low, flat.high), rel=1e-12)

    def test_seeds_that_agree_have_an_interval_without_width(self):
        found = stratified_bootstrap(interquartile_mean, [np.full((5, 3), 0.5)], num_resamples=20)
        assert found == Interval(0.5, 0.5, 0.5, 5)

    def test_the_same_seed_draws_the_same(self):
        values = np.random.default_rng(1).normal(size=(7, 2))
        one, other = (stratified_bootstrap(np.mean, [values], num_resamples=50, seed=3) for _ in range(2))
        assert one == other
        assert stratified_bootstrap(np.mean, [values], num_resamples=50, seed=4) != one

    def test_below_five_seeds_there_is_a_point_without_an_interval(self):
        assert stratified_bootstrap(np.mean, [np.ones((4, 2))]) == Interval(1.0, None, None, 4)

    def test_an_infinite_statistic_is_a_bound_and_nan_is_refused(self):
        # One of five runs failed: its share of resamples without it is (4 / 5)^5, a third; the upper bound is infinite.
        values = np.array([[1.0], [2.0], [3.0], [4.0], [MISS]])
        found = stratified_bootstrap(np.mean, [values], num_resamples=100)
        assert (found.estimate, found.high) == (MISS, MISS)
        assert math.isfinite(found.low)
        with pytest.raises(ValueError, match="NaN"):
            stratified_bootstrap(lambda x: math.nan, [values])

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ([], "at least one"),
            ([np.ones((5, 2)), np.ones((5, 3))], "same"),
            ([np.full((5, 2), math.nan)], "non-finite"),
            ([np.ones(5)], "rank"),
        ],
    )
    def test_arrays_of_the_same_runs_are_needed(self, arrays, message):
        with pytest.raises(ValueError, match=message):
            stratified_bootstrap(lambda *x: 0.0, arrays)

    def test_bounds_are_the_kth_of_the_ordered_draws(self):
        # 2.5 % of 2,000 are 50: the 50th from below and the 50th from above.
        draws = np.random.default_rng(0).permutation(np.arange(1.0, 2001))
        assert percentile_bounds(draws, 0.95) == (50.0, 1951.0)
        assert percentile_bounds(draws[:1], 0.95) == (draws[0], draws[0])
        assert percentile_bounds(np.array([-MISS, 1.0, MISS]), 0.95) == (-MISS, MISS)
        with pytest.raises(ValueError, match="num_resamples"):
            percentile_bounds(np.zeros(0), 0.95)

    @pytest.mark.slow
    def test_over_five_seeds_it_is_too_short_and_students_interval_is_not(self):
        """The reason for t intervals in the per-task tables (protocol rule 12): 83 % for a nominal 95 %."""
        rng, bootstrap, student = np.random.default_rng(0), 0, 0
        for _ in range(500):
            values = rng.normal(size=(5, 1))
            bootstrap += not stratified_bootstrap(np.mean, [values], num_resamples=200).excludes(0.0)
            student += not t_interval(values[:, 0]).excludes(0.0)
        # Standard errors 0.017 and 0.010; 200 resamples add another 0.01.
        assert bootstrap / 500 == pytest.approx(0.83, abs=0.05)
        assert student / 500 == pytest.approx(0.95, abs=0.03)


class TestGeometricMean:
    @pytest.mark.parametrize(
        ("values", "mean"),
        [([0.5, 2.0], 1.0), ([2.0, 8.0], 4.0), ([3.0], 3.0), ([1.0, 0.0], 0.0), ([1.0, MISS], MISS), ([[2], [8]], 4.0)],
    )
    def test_by_hand(self, values, mean):
        assert geometric_mean(values) == pytest.approx(mean)

    @few
    @given(st.lists(st.floats(0.01, 100), min_size=1, max_size=10), st.sampled_from([0.25, 3.0]))
    def test_it_is_the_root_of_the_product_and_turns_over_with_its_values(self, values, scale):
        assert geometric_mean(values) == pytest.approx(math.prod(values) ** (1 / len(values)), rel=1e-12)
        assert geometric_mean(values) == pytest.approx(scipy.stats.gmean(values), rel=1e-12)
        assert geometric_mean([scale / x for x in values]) == pytest.approx(scale / geometric_mean(values), rel=1e-12)

    def test_a_product_that_would_overflow_is_no_problem(self):
        assert geometric_mean([1e200, 1e200, 1e-300]) == pytest.approx(10 ** (100 / 3), rel=1e-12)

    @pytest.mark.parametrize("values", [[-1.0], [math.nan], [0.0, MISS], []])
    def test_what_has_no_geometric_mean_is_refused(self, values):
        with pytest.raises(ValueError, match="values"):
            geometric_mean(values)


def best_of_all_draws(losses, k):
    """Quantiles of the best of k by writing down every draw: the smallest loss that enough draws reach."""
    bests = sorted(min(draw) for draw in itertools.combinations(losses, k))
    return [bests[math.ceil(q * len(bests)) - 1] for q in (0.5, 0.25, 0.75)]


class TestBestOfK:
    @pytest.mark.parametrize(
        ("losses", "k", "median", "low", "high"),
        [
            # Draws of two of 1, 2, 3, 4: the best is 1 in three of six, 2 in two, 3 in one.
            ([4, 1, 3, 2], 2, 1, 1, 2),
            # One of four: 1, 2, 3, 4, each a quarter.
            ([4, 1, 3, 2], 1, 2, 1, 3),
            ([4, 1, 3, 2], 4, 1, 1, 1),  # all: nothing is left to luck
            ([5, 5, 5], 2, 5, 5, 5),
            # Three of four diverged: of two, half of the draws have the one that did not.
            ([MISS, 1, MISS, MISS], 2, 1, 1, MISS),
            ([MISS, MISS], 1, MISS, MISS, MISS),
            ([7], 1, 7, 7, 7),
        ],
    )
    def test_by_hand(self, losses, k, median, low, high):
        assert best_of_k(losses, k) == Interval(median, low, high, len(losses))

    @few
    @given(st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, MISS]), min_size=1, max_size=8), st.data())
    def test_it_is_what_writing_down_every_draw_gives(self, losses, data):
        k = data.draw(st.integers(1, len(losses)))
        found = best_of_k(losses, k)
        assert [found.estimate, found.low, found.high] == best_of_all_draws(losses, k)

    def test_the_first_trial_of_32_is_their_median_and_the_best_of_32_their_best(self):
        losses = np.random.default_rng(0).permutation(np.arange(1.0, 33))
        assert best_of_k(losses, 1) == Interval(16.0, 8.0, 24.0, 32)
        assert best_of_k(losses, 32) == Interval(1.0, 1.0, 1.0, 32)

    @few
    @given(st.lists(st.floats(0, 10), min_size=2, max_size=32), st.randoms(use_true_random=False))
    def test_more_trials_never_hurt_and_their_order_does_not_matter(self, losses, random):
        found = [best_of_k(losses, k) for k in range(1, len(losses) + 1)]
        assert found == [best_of_k(random.sample(losses, len(losses)), k) for k in range(1, len(losses) + 1)]
        for one, more in itertools.pairwise(found):
            assert (more.estimate, more.low, more.high) <= (one.estimate, one.low, one.high)
            assert more.low <= more.estimate <= more.high

    @pytest.mark.parametrize("k", [0, 4, -1])
    def test_k_is_a_number_of_trials(self, k):
        with pytest.raises(ValueError, match="`k`"):
            best_of_k([1.0, 2.0, 3.0], k)

    @pytest.mark.parametrize("losses", [[math.nan], [-MISS], [], [[1.0]]])
    def test_a_trial_has_a_loss_or_diverged(self, losses):
        with pytest.raises(ValueError, match="losses"):
            best_of_k(losses, 1)


@pytest.mark.rule(2)
def test_the_best_of_k_trials_is_exact():
    # Of the trials 1, 2, 3 two are drawn: {1,2}, {1,3}, {2,3}, whose best are 1, 1, 2: the median is 1.
    assert best_of_k([3.0, 1.0, 2.0], 2).estimate == 1.0
    assert best_of_k([3.0, 1.0, 2.0], 3).estimate == 1.0
    assert best_of_k([3.0, 1.0, 2.0], 1).estimate == 2.0
    assert math.isinf(best_of_k([math.inf, math.inf, 1.0], 1).estimate)
