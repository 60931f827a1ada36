"""Intervals over seeds and test images at once: by hand, by their invariances, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.statistics import (
    Interval,
    crossed_interval,
    t_interval,
)
from tests.bench.statistics.quantiles import T_4_975

few = settings(max_examples=30)  # each runs scipy; more examples find no more


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
