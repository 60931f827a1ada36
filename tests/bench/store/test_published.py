"""Published results: two files, whose altered rows are refused by name."""

import json

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.store.published import publish, stored_runs
from bench.store.record import cell_id
from bench.store.store import Store
from tests.bench.store.cells import curve, record
from tests.helpers import assert_one_line


def published_store(tmp_path, seeds=(0, 1)):
    """Cells named by their configuration, as `bench run` names them, published under "machine"."""
    kept = Store(tmp_path, "s")
    names = [cell_id(record(seed=seed).config) for seed in seeds]
    for name, seed in zip(names, seeds, strict=True):
        kept.put(record(name, seed=seed), curve(name))
    folder = publish(tmp_path, "s", "machine", kept.read(names))
    return folder, names


def test_published_results_are_two_files_with_the_same_rows(tmp_path):
    folder, names = published_store(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["cells.parquet", "curves.parquet"]
    published = Store(tmp_path, "s", "machine").read()
    assert published.cells["label"].tolist() == ["machine"] * 2
    assert published.cells["cell"].tolist() == names
    assert json.loads(published.cells["config"][0])["optimizer"] == "adam"
    assert published.curves["value"].tolist() == [2.0, 0.25] * 2
    assert {row["label"]: row["cells"] for row in stored_runs(tmp_path)} == {"local": 2, "machine": 2}


@pytest.mark.parametrize("column", ["final_test_loss", "status", "hyperparameters", "record"])
def test_an_altered_published_row_is_refused_and_its_cell_named(tmp_path, column):
    folder, names = published_store(tmp_path)
    cells = pd.read_parquet(folder / "cells.parquet")
    value = {"final_test_loss": 0.2, "record": cells.loc[1, "record"].replace("0.25", "0.20")}.get(column, "other")
    cells.loc[1, column] = value
    cells.to_parquet(folder / "cells.parquet")
    with pytest.raises(UsageError, match=f"{names[1]}.*adam, seed 1"):
        Store(tmp_path, "s", "machine").read()


def test_an_altered_published_curve_is_refused_and_its_cell_named(tmp_path):
    folder, names = published_store(tmp_path)
    curves = pd.read_parquet(folder / "curves.parquet")
    curves.loc[3, "value"] += 1e-12
    curves.to_parquet(folder / "curves.parquet")
    with pytest.raises(UsageError, match=f"{names[1]}.*curve is altered"):
        Store(tmp_path, "s", "machine").read()


def test_a_removed_published_row_leaves_a_curve_without_one(tmp_path):
    folder, names = published_store(tmp_path)
    pd.read_parquet(folder / "cells.parquet").iloc[:1].to_parquet(folder / "cells.parquet")
    with pytest.raises(UsageError, match=f"not among the rows: {names[1]}"):
        Store(tmp_path, "s", "machine").read()


def test_published_cells_are_restored_as_they_were(tmp_path):
    """So that a suite can go on from what another machine, or an earlier day, has published."""
    _, names = published_store(tmp_path)
    fresh = Store(tmp_path / "elsewhere", "s")
    assert fresh.restore(tmp_path, "machine") == 2
    assert all(fresh.is_complete(name) for name in names)
    kept = Store(tmp_path, "s")
    for name in names:
        (old, old_curve), (new, new_curve) = kept.get(name), fresh.get(name)
        assert old == new
        pd.testing.assert_frame_equal(old_curve, new_curve)
    assert fresh.restore(tmp_path, "machine") == 0


def test_cells_of_another_suite_are_taken_where_only_its_name_differs(tmp_path):
    """A suite that adds rows to another's need not run the rows of that again; what it has no use for stays behind."""
    _, names = published_store(tmp_path)
    record, curve = Store(tmp_path, "s").get(names[1])
    config = {**record.config, "suite": "t"}
    wanted = cell_id(config)
    other = Store(tmp_path / "elsewhere", "t")
    assert other.restore(tmp_path, "s/machine", [wanted, "of another configuration"]) == 1
    taken, taken_curve = other.get(wanted)
    assert (taken.config, taken.result) == (config, record.result)
    assert taken.taken_from == f"s/machine/{names[1]}"
    pd.testing.assert_frame_equal(taken_curve, curve.assign(cell=wanted))
    assert other.restore(tmp_path, "s/machine", [wanted]) == 0
    assert [path.stem for path in other.folder.glob("*.json")] == [wanted]


@pytest.mark.parametrize("columns", [["cell", "metric", "value"], ["cell", "step", "metric"], []])
def test_published_tables_of_another_shape_are_one_line(tmp_path, columns):
    folder, _ = published_store(tmp_path)
    path = folder / "curves.parquet"
    pd.read_parquet(path)[columns].to_parquet(path)
    with pytest.raises(UsageError, match="no readable published results") as caught:
        Store(tmp_path, "s", "machine").read()
    assert_one_line(caught.value)
    (folder / "cells.parquet").write_bytes(b"nothing")
    assert {"suite": "s", "label": "machine", "cells": "not readable"} in stored_runs(tmp_path)
