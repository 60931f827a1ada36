import json
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.store.published import publish, stored_runs
from bench.store.record import CURVE_COLUMNS, Results, cell_id, checksum
from bench.store.store import Store
from tests.helpers import assert_one_line


def record(cell="0123456789abcdef", **config):
    config = {"kind": "train", "suite": "s", "task": "t", "family": "t", "optimizer": "adam", "seed": 0} | config
    return {
        "cell": cell,
        "config": config,
        "status": "ok",
        "result": {"final_test_loss": 0.25},
        "started_at": "2026-01-01T00:00:00+00:00",
        "provenance": {},
    }


def curve(cell="0123456789abcdef"):
    return pd.DataFrame({"cell": cell, "step": [0, 1], "metric": "test_loss", "value": [2.0, 0.25]})


def test_a_stored_cell_comes_back(tmp_path):
    kept = Store(tmp_path, "s")
    kept.put(record(), curve())
    found = kept.get("0123456789abcdef")
    assert found is not None
    assert found[0]["result"] == {"final_test_loss": 0.25}
    pd.testing.assert_frame_equal(found[1], curve()[CURVE_COLUMNS])
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
@pytest.mark.parametrize("damage", ["truncate", "alter", "foreign"])
def test_a_damaged_cell_is_set_aside_and_counts_as_missing(tmp_path, suffix, damage):
    kept = Store(tmp_path, "s")
    kept.put(record(), curve())
    path = kept.folder / f"0123456789abcdef{suffix}"
    content = path.read_bytes()
    middle = len(content) // 2
    altered = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes({"truncate": content[:middle], "alter": altered, "foreign": b"something else"}[damage])
    assert not kept.is_complete("0123456789abcdef")
    assert any(path.name in aside.name for aside in kept.set_aside)
    assert not path.exists()
    kept.put(record(), curve())
    assert kept.is_complete("0123456789abcdef")


def test_a_record_without_its_curve_is_incomplete(tmp_path):
    kept = Store(tmp_path, "s")
    kept.put(record(), curve())
    (kept.folder / "0123456789abcdef.parquet").unlink()
    assert not kept.is_complete("0123456789abcdef")


def test_the_cell_is_named_by_its_whole_configuration():
    base = record()["config"]
    assert cell_id(base) == cell_id(dict(reversed(base.items())))
    assert cell_id(base) != cell_id(base | {"seed": 1})
    assert cell_id(base) != cell_id(base | {"hyperparameters": {"learning_rate": 0.1}})


def test_reading_keeps_the_latest_of_one_task_optimizer_and_seed(tmp_path):
    kept = Store(tmp_path, "s")
    kept.put(record("a" * 16), curve("a" * 16))
    kept.put(record("b" * 16) | {"started_at": "2026-02-01T00:00:00+00:00"}, curve("b" * 16))
    assert kept.read().cells["cell"].tolist() == ["b" * 16]
    assert set(kept.read().curves["cell"]) == {"b" * 16}
    assert kept.read(["a" * 16]).cells["cell"].tolist() == ["a" * 16]


def published_store(tmp_path, seeds=(0, 1)):
    """Cells named by their configuration, as `bench run` names them, published under "machine"."""
    kept = Store(tmp_path, "s")
    names = [cell_id(record(seed=seed)["config"]) for seed in seeds]
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
    config = {**record["config"], "suite": "t"}
    wanted = cell_id(config)
    other = Store(tmp_path / "elsewhere", "t")
    assert other.restore(tmp_path, "s/machine", [wanted, "of another configuration"]) == 1
    taken, taken_curve = other.get(wanted)
    assert (taken["config"], taken["result"]) == (config, record["result"])
    assert taken["taken_from"] == f"s/machine/{names[1]}"
    pd.testing.assert_frame_equal(taken_curve, curve.assign(cell=wanted))
    assert other.restore(tmp_path, "s/machine", [wanted]) == 0
    assert [path.stem for path in other.folder.glob("*.json")] == [wanted]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b"])
def test_names_cannot_leave_the_results_folder(tmp_path, name):
    with pytest.raises(UsageError, match="expected letters"):
        Store(tmp_path, name)
    with pytest.raises(UsageError):
        publish(tmp_path, "s", name, Results(pd.DataFrame(), pd.DataFrame()))


def test_nothing_stored_says_what_to_run(tmp_path):
    with pytest.raises(UsageError, match="bench run s"):
        Store(tmp_path, "s").read()
    with pytest.raises(UsageError, match="no readable published results"):
        Store(tmp_path, "s", "machine").read()


def test_a_folder_that_is_a_file_cannot_be_written(tmp_path):
    (tmp_path / "s").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write"):
        Store(tmp_path, "s").put(record(), curve())


def broken(kind, folder, name):
    path = folder / f"{name}.json"
    if kind == "nested":
        path.write_text("[" * 200_000)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
        (path / "file").touch()
    elif kind == "no config":
        found = json.loads(path.read_text())
        del found["config"], found["checksum"]
        path.write_text(json.dumps({**found, "checksum": checksum(found)}))
    else:
        path.with_suffix(".parquet").unlink()


@pytest.mark.parametrize("kind", ["nested", "folder", "no config", "no curve"])
def test_what_is_no_cell_is_set_aside_however_it_came_about(tmp_path, kind):
    kept = Store(tmp_path, "s")
    name = record()["cell"]
    for number in ("", ".2"):
        kept.put(record(), curve())
        broken(kind, kept.folder, name)
        assert kept.get(name) is None
        assert kept.set_aside[0].name == f"{name}.json{number}.damaged"
        kept.set_aside.clear()
    kept.put(record(), curve())
    assert kept.is_complete(name)


def test_what_another_run_has_in_hand_is_left_alone(tmp_path):
    """Its record is gone, or does not fit its curve yet: no damage."""
    kept = Store(tmp_path, "s")
    kept.put(record(), curve())
    name = record()["cell"]
    with Store(tmp_path, "s").claim(name):
        (kept.folder / f"{name}.parquet").write_bytes(b"half")
        assert kept.get(name) is None
        assert kept.set_aside == []
    assert kept.get(name) is None
    assert len(kept.set_aside) == 2


def test_what_may_not_be_read_is_no_damage(tmp_path, monkeypatch):
    kept = Store(tmp_path, "s")
    kept.put(record(), curve())
    path = kept.folder / f"{record()['cell']}.json"

    def refused(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(UsageError, match=r"cannot read .*: Permission denied"):
        kept.get(record()["cell"])
    assert path.is_file()


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
