"""Seeds, as written and as parsed."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.statistics import paired_difference
from bench.suites.seeds import FIRST_TUNING_SEED, parse_seeds


@pytest.mark.rule(5)
def test_tuning_seeds_and_reporting_seeds_are_disjoint_and_differences_are_within_a_seed():
    with pytest.raises(UsageError, match="below 1000"):
        parse_seeds("1000")
    assert parse_seeds("999") == (999,)
    assert FIRST_TUNING_SEED == 1000
    # The seeds differ by 10, the optimizers by 1 within each: the interval knows only the 1.
    a, b = np.array([11.0, 21.0, 31.0, 41.0, 51.0]), np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    found = paired_difference(a, b)
    assert (found.estimate, found.low, found.high) == (1.0, 1.0, 1.0)


@given(st.lists(st.integers(0, 999), min_size=1, max_size=8))
def test_seeds_come_back_from_any_way_of_writing_them(seeds):
    expected = tuple(dict.fromkeys(seeds))
    assert parse_seeds(seeds) == expected
    assert parse_seeds(",".join(map(str, seeds))) == expected


@given(st.text(max_size=12))
def test_seeds_are_parsed_or_refused_in_one_line(text):
    with contextlib.suppress(UsageError):
        seeds = parse_seeds(text)
        assert seeds
        assert all(0 <= seed < 1000 for seed in seeds)
