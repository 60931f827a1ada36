"""Rows are checked once, where they are read."""

import pandas as pd
import pytest

from bench.store.rows import read_rows
from tests.bench.noisy_rows import chosen, make_frames


def test_two_cells_for_one_seed_are_refused_by_name():
    cells, curves = make_frames(chosen("adam"), ("t",), 1, num_points=3)
    twin = cells[cells["kind"] == "train"].assign(cell="twin")
    with pytest.raises(ValueError, match=r"t\.adam\.0, twin"):
        read_rows(pd.concat([cells, twin]), curves)


def test_missing_columns_and_rows_are_refused():
    cells, curves = make_frames(chosen("adam"), ("t",), 1, num_points=3)
    with pytest.raises(ValueError, match="provenance"):
        read_rows(cells.drop(columns="provenance"), curves)
    with pytest.raises(ValueError, match="no cell"):
        read_rows(cells.iloc[:0], curves)
