"""Merging estimates with heavy tails."""

import pytest

from bench.measure import pathologies
from bench.measure.pathologies import heavy_tails, summary


@pytest.mark.slow
def test_merging_heavy_tails_is_biased_and_the_more_the_heavier():
    figures = {
        (at, name): value for at, name, value in summary._merged_bias(pathologies.measure("merged_bias", (), 8), {})
    }
    light, heavy = figures[(0.5, "mean of 128 samples merged")], figures[(3.0, "mean of 128 samples merged")]
    assert light.low < 1 < light.high
    assert heavy.high < 1
    assert heavy_tails.NUM_SAMPLES == (8, 32, 128)
