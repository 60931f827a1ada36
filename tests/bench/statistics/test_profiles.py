"""Performance profiles and their bands: by their definition, by hand, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.statistics import performance_profile, performance_profile_bands

few = settings(max_examples=30)  # each runs scipy; more examples find no more
MISS = math.inf


def profiles_by_definition(times, ratios):
    """rho of Dolan and More, loop by loop."""
    num_tasks, num_optimizers, num_seeds = times.shape
    rho = np.zeros((num_optimizers, len(ratios)))
    for task in range(num_tasks):
        medians = [sorted(times[task, o])[math.ceil(num_seeds / 2) - 1] for o in range(num_optimizers)]
        best = min(medians)
        for o in range(num_optimizers):
            for j, ratio in enumerate(ratios):
                for seed in range(num_seeds):
                    reached = math.isfinite(best) and times[task, o, seed] / best <= ratio
                    rho[o, j] += reached / (num_tasks * num_seeds)
    return rho


# (tasks, optimizers, seeds) of small whole times, one in five a miss; ties everywhere.
time_tables = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(0, 10**6)).map(
    lambda shape: np.random.default_rng(shape[3]).choice([1.0, 2.0, 3.0, 4.0, MISS], size=shape[:3])
)
RATIOS = [1.0, 1.5, 2.0, 4.0]


class TestPerformanceProfile:
    def test_two_optimizers_on_two_tasks_by_hand(self):
        # Task 1: medians 2 and 4, the best is 2: ratios (1/2, 1, 2) and (1, 2, miss).
        # Task 2: medians 6 and 3, the best is 3: ratios (1, 2, 3) and (1, 1, 1).
        times = [[[1.0, 2.0, 4.0], [2.0, 4.0, MISS]], [[3.0, 6.0, 9.0], [3.0, 3.0, 3.0]]]
        found = performance_profile(times, [1.0, 2.0, 3.0])
        np.testing.assert_allclose(found, [[3 / 6, 5 / 6, 6 / 6], [4 / 6, 5 / 6, 5 / 6]])

    def test_optimizers_that_tie_have_the_same_profile(self):
        found = performance_profile([[[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]]], RATIOS)
        np.testing.assert_array_equal(found[0], found[1])

    def test_one_optimizer_with_one_seed_is_the_best_on_every_task(self):
        np.testing.assert_array_equal(performance_profile([[[5.0]], [[7.0]]], [0.5, 1.0]), [[0.0, 1.0]])

    def test_where_nobody_arrives_every_run_is_a_miss_and_the_profile_stays_below_one(self):
        # On the second task half of the runs of neither arrive, so that there is no best; one run of the first does.
        times = [[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [[2.0, MISS, MISS], [MISS, MISS, MISS]]]
        np.testing.assert_array_equal(performance_profile(times, [1.0, 1e9]), [[0.5, 0.5], [0.5, 0.5]])

    @few
    @given(time_tables)
    def test_it_is_its_definition(self, times):
        # Sums of sixths: rounding only.
        np.testing.assert_allclose(
            performance_profile(times, RATIOS), profiles_by_definition(times, RATIOS), atol=1e-12
        )

    @few
    @given(time_tables, st.randoms(use_true_random=False))
    def test_the_unit_of_a_task_the_order_of_seeds_and_of_ratios_do_not_matter(self, times, random):
        expected = performance_profile(times, RATIOS)
        units = np.array([random.choice([0.25, 2.0, 1024.0]) for _ in times])
        np.testing.assert_array_equal(performance_profile(times * units[:, None, None], RATIOS), expected)
        seeds = random.sample(range(times.shape[2]), times.shape[2])
        np.testing.assert_array_equal(performance_profile(times[:, :, seeds], RATIOS), expected)
        np.testing.assert_array_equal(performance_profile(times, RATIOS[::-1]), expected[:, ::-1])

    @few
    @given(time_tables)
    def test_it_rises_with_the_ratio_between_zero_and_one(self, times):
        found = performance_profile(times, RATIOS)
        assert (np.diff(found, axis=1) >= 0).all()
        assert (found >= 0).all()
        assert (found <= 1).all()

    @pytest.mark.parametrize(
        ("times", "ratios"),
        [
            ([[[1.0, math.nan]]], [1.0]),
            ([[[1.0, -math.inf]]], [1.0]),
            ([[[0.0]]], [1.0]),
            ([[[1.0]]], [0.0]),
            ([[[1.0]]], [math.inf]),
            ([[1.0]], [1.0]),
            ([[[1.0]]], []),
        ],
    )
    def test_times_are_positive_and_ratios_finite(self, times, ratios):
        for function in (performance_profile, performance_profile_bands):
            with pytest.raises(ValueError, match=r"times|ratios|positive"):
                function(times, ratios)


class TestProfileBands:
    def test_they_are_order_statistics_of_resampled_profiles(self):
        # The same resamples through the literal definition: of 40, the lowest and the highest are 2.5 % at each end.
        times = np.random.default_rng(3).choice([1.0, 2.0, 3.0, MISS], size=(2, 2, 5))
        low, high = performance_profile_bands(times, RATIOS, num_resamples=40, seed=7)
        drawn = np.random.default_rng(7).integers(0, 5, (40, 2, 5))
        profiles = [
            profiles_by_definition(np.stack([times[task][:, seeds[task]] for task in range(2)]), RATIOS)
            for seeds in drawn
        ]
        np.testing.assert_allclose(low, np.min(profiles, axis=0), atol=1e-12)
        np.testing.assert_allclose(high, np.max(profiles, axis=0), atol=1e-12)

    def test_seeds_that_agree_have_bands_without_width(self):
        times = np.array([[[1.0] * 5, [2.0] * 5]])
        low, high = performance_profile_bands(times, RATIOS, num_resamples=50)
        np.testing.assert_array_equal(low, high)
        np.testing.assert_array_equal(low, performance_profile(times, RATIOS))

    def test_an_optimizer_entered_twice_has_one_band(self):
        """The same seeds are drawn for all optimizers of a task."""
        row = [1.0, 2.0, 3.0, 4.0, MISS]
        low, high = performance_profile_bands([[row, row]], RATIOS, num_resamples=100)
        np.testing.assert_array_equal(low[0], low[1])
        np.testing.assert_array_equal(high[0], high[1])

    def test_the_same_seed_gives_the_same_bands_and_they_hold_the_profile(self):
        times = np.random.default_rng(0).exponential(size=(3, 3, 10)) + 0.1
        one, other = (performance_profile_bands(times, RATIOS, num_resamples=200) for _ in range(2))
        np.testing.assert_array_equal(one, other)
        profile = performance_profile(times, RATIOS)
        assert (one[0] <= profile).all()
        assert (profile <= one[1]).all()

    def test_below_five_seeds_there_are_none(self):
        assert performance_profile_bands(np.ones((2, 2, 4)), RATIOS) is None
        with pytest.raises(ValueError, match="num_resamples"):
            performance_profile_bands(np.ones((2, 2, 5)), RATIOS, num_resamples=0)
