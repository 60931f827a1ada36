"""Rows are checked once, where they are read."""

import dataclasses

import msgspec.structs
import numpy as np
import pandas as pd
import pytest

from bench.store.rows import read_rows, slugs
from tests.bench.noisy_rows import chosen, make_frames
from tests.bench.report.published import made_cells
from tests.bench.synthetic import diverging, failed_cell, falling, frames, rows_of, time_cell, train_cell


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
    assert sorted(set(rows.optimizers) - set(rows.compared)) == controls
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


def test_a_failed_run_stays_with_an_infinite_loss_and_a_curve_that_ends():
    cells = [train_cell("t", "adam", 0, falling(0.01)), train_cell("t", "adam", 1, diverging(50, 0.01))]
    rows = read_rows(*frames([*cells, failed_cell("t", "adam", 2)]))
    assert rows.losses("adam", ("t",), "final_train_loss")["t"].tolist() == [pytest.approx(2.0), np.inf, np.inf]
    curve = rows.curve("t", "adam", "train_loss")
    assert curve[0].notna().all()
    assert curve[1].isna().tolist() == [step > 50 for step in curve.index]
    assert 2 not in curve or curve[2].isna().all()


def test_a_loss_that_was_not_run_is_none_and_no_failure():
    rows = rows_of({"t": {"adam": [falling(0.01)]}, "u": {"sgd": [falling(0.01)]}})
    assert rows.losses("adam", ("t", "u"), "final_train_loss").isna().to_numpy().tolist() == [[False, True]]
    assert rows.curve("u", "adam", "train_loss") is None


def test_a_later_timing_replaces_an_earlier_one_and_blocks_of_two_are_never_mixed():
    (early, curve), (late, later_curve) = (time_cell("t", {"adam": [seconds] * 6}) for seconds in (1.0, 2.0))
    late = msgspec.structs.replace(late, cell="later", started_at="2026-01-03T00:00:00+00:00")
    for order in (1, -1):
        cells = [(early, curve), (late, later_curve.assign(cell="later"))][::order]
        assert read_rows(*frames(cells)).blocks["t"]["adam"].tolist() == [2.0] * 6


def test_controls_are_known_by_their_role_and_left_out_of_what_is_compared():
    runs = {name: [falling(0.01)] for name in ("adam", "adam_frozen", "lopt", "lopt_untrained")}
    roles = {"lopt": "learned", "adam_frozen": "control", "lopt_untrained": "control", "adam_again": "control"}
    rows = rows_of({"t": runs}, {"t": {"adam": [1.0] * 6, "adam_again": [1.0] * 6}}, roles)
    assert rows.compared == ("adam", "lopt")
    assert rows.controls == {"frozen": "adam", "again": "adam"}
    assert rows.untrained == {"lopt": "lopt_untrained"}
    compared = rows.without_controls()
    assert (compared.optimizers, list(compared.blocks["t"])) == (("adam", "lopt"), ["adam"])
    assert compared.curve("t", "adam_frozen", "train_loss") is None


def test_tasks_with_similar_names_have_files_of_their_own():
    cells, curves = make_frames(chosen("adam"), ("../<b>task", "..-B-task", "b-task"), 0)
    assert set(read_rows(cells, curves).slugs.values()) == {"b-task", "B-task-2", "b-task-3"}


def test_names_as_long_as_they_may_be_give_distinct_names_of_files():
    long = "/".join(["x" * 100] * 3)
    found = slugs([long, long[:-1], "short"])
    assert len(set(found.values())) == 3
    assert found["short"] == "short"
    assert all(len(f"comparison_{slug}_{'o' * 110}.csv") <= 255 for slug in found.values())
