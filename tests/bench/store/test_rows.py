"""Rows are checked once, where they are read."""

import dataclasses

import pandas as pd
import pytest

from bench.store.rows import read_rows
from tests.bench.noisy_rows import chosen, make_frames
from tests.bench.report.published import made_cells
from tests.bench.synthetic import frames


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


def test_rows_without_controls_are_those_that_are_read_without_them():
    cells, curves = frames(made_cells())
    rows = read_rows(cells, curves)
    controls = ["adam_again", "adam_twice"]
    assert sorted(set(rows.optimizers) - set(rows.contenders)) == controls
    kept = curves[~curves["metric"].str.partition("/")[2].isin(controls)]
    found, expected = rows.without_controls(), read_rows(cells[~cells["optimizer"].isin(controls)], kept)
    for field in dataclasses.fields(found):
        assert_same(getattr(found, field.name), getattr(expected, field.name))


def assert_same(found, expected):
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    else:
        assert found == expected


def test_rows_of_a_cell_need_not_lie_together():
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 2, num_points=3)
    mixed = curves.sort_values("step", kind="stable")
    assert_same(read_rows(cells, mixed).series, read_rows(cells, curves).series)


def test_losses_are_by_seed_and_task_and_missing_where_there_is_no_cell():
    cells, curves = make_frames(chosen("adam"), ("a", "b"), 2, num_points=3)
    rows = read_rows(cells[(cells["task"] == "a") | (cells["seed"] != 1)], curves)
    table = rows.losses("adam", ("b", "a", "none"), "final_test_loss")
    assert list(table.columns) == ["b", "a", "none"]
    assert table.isna().to_numpy().tolist() == [[False, False, True], [True, False, True]]
    assert rows.losses("other", ("a",), "final_test_loss").empty
