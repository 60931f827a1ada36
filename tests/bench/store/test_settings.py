"""Runs of two settings are never the seeds of one row."""

import io
import json

import msgspec
import pytest

from bench.errors import UsageError
from bench.report.build import first_screen_json
from bench.report.page import terminal_tables
from bench.store.record import SCHEMA
from bench.store.settings import differences
from bench.store.store import Store
from tests.bench.synthetic import falling, time_cell, train_cell

NOW = {"device": {"platform": "cpu", "cpu": "A"}, "versions": {"jax": "1.0", "scipy": "1"}}


def stored(folder, *runs):
    """Cells of "adam" on one task, (seed, changes of the configuration, changes of the provenance), in their order."""
    store = Store(folder, "made")
    for number, (seed, config, provenance) in enumerate(runs):
        record, curve = train_cell("t", "adam", seed, falling(0.01), settings=config)
        record = msgspec.structs.replace(
            record, started_at=f"2026-01-01T00:00:{number:02}+00:00", provenance=NOW | provenance
        )
        store.put(record, curve)
    return store


OTHERS = {
    "learning_rate 0.03 and not 0.3": ({"hyperparameters": {"learning_rate": 0.03}}, {}),
    "seed 9 and not none": ({"hyperparameters": {"learning_rate": 0.3, "seed": 9}}, {}),  # of its noise, say
    "plug-in x and not none": ({"hyperparameters": {"learning_rate": 0.3, "source": "x"}}, {}),
    "weights a and not none": ({"hyperparameters": {"learning_rate": 0.3, "theta_sha256": "a"}}, {}),
    "horizon 50 and not 100": ({"horizon": 50}, {}),
    "data y and not none": ({"data_digest": "y"}, {}),
    "jax 0.9 and not 1.0": ({}, {"versions": {"jax": "0.9"}}),
    "CPU B and not A": ({}, {"device": {"platform": "cpu", "cpu": "B"}}),
}
HERE = {"hyperparameters": {"learning_rate": 0.3}}


@pytest.mark.parametrize("text", OTHERS)
def test_of_a_row_the_latest_configuration_is_kept_and_what_is_left_out_is_said(tmp_path, text):
    config, provenance = OTHERS[text]
    earlier = [(seed, HERE | config, provenance) for seed in range(5)]
    found = stored(tmp_path, *earlier, *((seed, HERE, {}) for seed in (0, 1))).read()
    assert sorted(found.cells["seed"]) == [0, 1]
    assert set(found.curves["cell"]) == set(found.cells["cell"])
    runs = 5 if provenance == {} else 3  # a cell is the same with any library, and is overwritten
    assert found.left_out == (f"t adam: {runs} earlier runs left out, {text}",)
    assert json.loads(first_screen_json(found, tmp_path, "made", "local"))["left_out"] == list(found.left_out)


def test_versions_that_change_no_result_make_no_other_row(tmp_path):
    found = stored(tmp_path, (0, HERE, {}), (1, HERE, {"versions": {"jax": "1.0", "scipy": "2"}})).read()
    assert (len(found.cells), found.left_out) == (2, ())
    assert "left_out" not in json.loads(first_screen_json(found, tmp_path, "made", "local"))


def test_a_task_has_one_horizon_for_all_its_rows_and_the_clock(tmp_path):
    store = stored(tmp_path, (0, HERE, {}))
    store.put(*time_cell("t", {"adam": [1.0] * 6}))
    record, curve = train_cell("t", "sgd", 0, falling(0.01), settings={"horizon": 50})
    store.put(msgspec.structs.replace(record, started_at="2026-02-01T00:00:00+00:00"), curve)
    found = store.read()
    assert found.cells["optimizer"].tolist() == ["sgd"]
    assert found.left_out == ("t adam: 1 earlier run left out, horizon 100 and not 50",)


def test_at_most_three_differences_are_told():
    old, new = dict.fromkeys("abcd", 1), dict.fromkeys("abcd", 2)
    assert differences(old, new) == "a 1 and not 2, b 1 and not 2, c 1 and not 2, ..."
    assert differences(old, old) == ""


def test_values_set_by_hand_have_a_mark_and_no_other_one(tmp_path):
    values = {"learning_rate": 0.3, "set_by_hand": ["learning_rate"]}
    found = stored(tmp_path, (0, {"hyperparameters": values, "tuned_horizon": 7}, {})).read()
    from rich.console import Console

    console = Console(width=100, file=io.StringIO())
    console.print(terminal_tables(found.cells, found.curves))
    text = console.file.getvalue()
    assert "adam ¶ " in text
    assert "¶ set by hand." in text
    assert "‡" not in text
    (row,) = json.loads(first_screen_json(found, tmp_path, "made", "local"))["rows"]
    assert row["set_by_hand"] == ["learning_rate"]


def test_files_of_strangers_and_of_another_schema_are_left_alone(tmp_path):
    store = stored(tmp_path, (0, HERE, {}))
    strangers = {"notes.json": "{}", "README.md": "mine", f"{'0' * 16}.json": json.dumps({"schema": SCHEMA + 1})}
    for name, text in strangers.items():
        (store.folder / name).write_text(text)
    (store.folder / f"{'0' * 16}.parquet").write_bytes(b"")
    assert len(store.read().cells) == 1
    assert {name: (store.folder / name).read_text() for name in strangers} == strangers
    with pytest.raises(UsageError, match="no results"):
        Store(tmp_path, "other").read()


def test_how_the_same_values_were_found_makes_no_other_row(tmp_path):
    by_hand = {"hyperparameters": {"learning_rate": 0.3, "set_by_hand": ["learning_rate"]}, "tuned_horizon": None}
    found = stored(tmp_path, (0, HERE, {}), (1, HERE, {}), (1, by_hand, {})).read()
    assert (sorted(found.cells["seed"]), found.left_out) == ([0, 1], ())
