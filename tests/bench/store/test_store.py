"""The store of a user's own results: what is damaged is set aside, and nothing else is lost."""

import json
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.store.published import publish
from bench.store.record import CURVE_COLUMNS, Results, checksum
from bench.store.store import Store
from tests.bench.store.cells import curve, record


def test_a_stored_cell_comes_back(tmp_path):
    kept = Store(tmp_path, "s")
    kept.put(record(), curve())
    found = kept.get("0123456789abcdef")
    assert found is not None
    assert found[0].result == record().result
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


def test_reading_keeps_the_latest_of_one_task_optimizer_and_seed(tmp_path):
    kept = Store(tmp_path, "s")
    kept.put(record("a" * 16), curve("a" * 16))
    kept.put(record("b" * 16, "2026-02-01T00:00:00+00:00"), curve("b" * 16))
    assert kept.read().cells["cell"].tolist() == ["b" * 16]
    assert set(kept.read().curves["cell"]) == {"b" * 16}
    assert kept.read(["a" * 16]).cells["cell"].tolist() == ["a" * 16]


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
    name = record().cell
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
    name = record().cell
    with Store(tmp_path, "s").claim(name):
        (kept.folder / f"{name}.parquet").write_bytes(b"half")
        assert kept.get(name) is None
        assert kept.set_aside == []
    assert kept.get(name) is None
    assert len(kept.set_aside) == 2


def test_what_may_not_be_read_is_no_damage(tmp_path, monkeypatch):
    kept = Store(tmp_path, "s")
    kept.put(record(), curve())
    path = kept.folder / f"{record().cell}.json"

    def refused(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(UsageError, match=r"cannot read .*: Permission denied"):
        kept.get(record().cell)
    assert path.is_file()
