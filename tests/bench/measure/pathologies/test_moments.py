"""Moments over replications, by hand."""

import numpy as np
import pytest
from scipy import stats

from bench.measure.pathologies import moments


def test_products_leave_each_replication_out_of_the_mean_that_it_meets():
    # Of 1, 2, 6: 1 * (2 + 6) / 2, 2 * (1 + 6) / 2, 6 * (1 + 2) / 2; all pairs average 20 / 3.
    values = moments.products([[1.0], [2.0], [6.0]])
    np.testing.assert_allclose(values, [4, 7, 9])
    assert values.mean() == pytest.approx((1 * 2 + 1 * 6 + 2 * 6) / 3)
    np.testing.assert_allclose(moments.products([[1.0], [2.0]], [[3.0], [5.0]]), [5, 6])


def test_products_of_noise_estimate_the_square_of_its_mean_without_its_variance():
    rng = np.random.default_rng(0)
    found = [moments.products(rng.normal(0.1, 1.0, (8, 50))).mean() for _ in range(2000)]
    assert abs(np.mean(found) - 50 * 0.1**2) < 4 * np.std(found) / np.sqrt(2000)
    assert (
        np.mean(rng.normal(0.1, 1.0, (2000, 8, 50)).mean(axis=1) ** 2) * 50 > 5
    )  # the square of the mean: mostly noise


def test_deviations_average_to_the_summed_variance():
    values = np.random.default_rng(1).normal(size=(9, 4))
    assert moments.deviations(values).mean() == pytest.approx(values.var(axis=0, ddof=1).sum())


def test_the_jackknife_of_a_mean_is_its_t_interval():
    values = np.array([1.0, 4.0, 2.0, 7.0])
    found = moments.jackknife(np.asarray, (values, 1))
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    np.testing.assert_allclose([found.estimate, found.low, found.high], [3.5, 3.5 - half, 3.5 + half])


def test_the_jackknife_leaves_whole_replications_out_of_products():
    """Products of degree 2: what is left out of their mean is every pair that the replication is in."""
    vectors = np.random.default_rng(2).normal(1.0, 1.0, (6, 3))
    found = moments.jackknife(np.asarray, (moments.products(vectors), 2))
    left_out = np.array([moments.products(np.delete(vectors, i, axis=0)).mean() for i in range(6)])
    error = np.sqrt(5 / 6 * np.sum((left_out - left_out.mean()) ** 2))
    assert found.high - found.estimate == pytest.approx(stats.t.ppf(0.975, 5) * error)


def test_the_jackknife_of_a_ratio_covers_it_and_of_what_is_not_finite_has_no_bounds():
    rng, inside = np.random.default_rng(3), 0
    for _ in range(400):
        a, b = (moments.deviations(rng.normal(0, scale, (64, 20))) for scale in (2.0, 1.0))
        found = moments.jackknife(lambda x, y: x / y, (a, 1), (b, 1), log=True)
        inside += found.low < 4.0 < found.high
    assert inside / 400 > 0.91
    infinite = moments.jackknife(np.asarray, (np.array([1.0, np.inf, 2.0]), 1), log=True)
    assert (infinite.estimate, infinite.low, infinite.high) == (np.inf, None, None)
