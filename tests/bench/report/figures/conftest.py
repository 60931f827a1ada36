"""Rows that several files draw, made once."""

import pytest

from bench.store.rows import read_rows
from tests.bench.noisy_rows import chosen, make_frames
from tests.bench.report.figures.drawn import frozen_from


@pytest.fixture(scope="module")
def three_tasks():
    """Three tasks, three optimizers, five seeds: every kind of figure but those of tuning."""
    rows = read_rows(*make_frames(chosen("adam", "muon", "lopt"), ("a", "b", "c"), num_points=26))
    return rows, frozen_from(rows, "muon"), {"a": "out-of-distribution", "b": "held-out", "c": "held-out"}
