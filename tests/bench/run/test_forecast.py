"""How long cells take, by hand."""

from types import SimpleNamespace

import pandas as pd
import pytest

from bench.run.forecast import forecast


def cell(kind, task="a", optimizer="adam", horizon=100):
    family = task.partition("/")[0]
    return SimpleNamespace(
        kind=kind, config=SimpleNamespace(task=task, optimizer=optimizer, horizon=horizon, family=family)
    )


@pytest.fixture
def results(tmp_path):
    """Two tasks of a family. A run of Adam takes 10 s and compiling 4, of Muon 30 and 8; the clock takes 60."""
    rows = [
        ("train", "a", "adam", 100, "10:00:00", 9.0, 4.0),
        ("train", "a", "adam", 100, "10:00:14", 11.0, None),
        ("train", "a", "muon", 100, "10:00:25", 30.0, 8.0),
        ("time", "a", None, 100, "10:01:00", None, None),
        ("race", "a", None, 100, "10:02:00", None, None),
    ]
    frame = pd.DataFrame(
        rows, columns=["kind", "task", "optimizer", "horizon", "started_at", "total_wall_sec", "compile_sec"]
    )
    frame["started_at"] = "2026-01-02T" + frame["started_at"] + "+00:00"
    folder = tmp_path / "mine" / "machine"
    folder.mkdir(parents=True)
    frame.to_parquet(folder / "cells.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        ([cell("train")], 10 + 4),
        ([cell("train"), cell("train")], 2 * 10 + 4),  # compiled once
        ([cell("train", horizon=300)], 30 + 4),
        ([cell("train", optimizer="muon"), cell("train")], 30 + 8 + 10 + 4),
        ([cell("train", optimizer="new")], (9 + 11 + 30) / 3 + (4 + 8) / 2),  # as the others on the task
        ([cell("time")], 60),
        ([cell("time", task="b")], 60),  # as on the other task
        ([cell("race")], 0),  # nothing began after it
        ([], 0),
    ],
)
def test_cells_take_what_published_ones_took(results, cells, seconds):
    found = forecast(cells, results, "mine")
    assert found is not None
    assert (found.seconds, found.label) == (pytest.approx(seconds), "machine")


def test_what_nobody_ran_is_not_known(results):
    assert forecast([cell("train"), cell("train", task="b")], results, "mine") is None
    assert forecast([cell("train")], results, "yours") is None
    (results / "mine" / "machine" / "cells.parquet").write_bytes(b"torn")
    assert forecast([cell("train")], results, "mine") is None
