"""`bench verify`: rows with one value altered are refused, and their cell is named."""

import hashlib
import json

import msgspec
import numpy as np
import pandas as pd
import pytest

from bench.store.record import CURVE_COLUMNS, Record, cell_row, curve_digest
from bench.tuning import targets
from tests.bench.report.published import parts, repack, report, the_cell, verdict
from tests.bench.synthetic import HORIZON


@pytest.mark.parametrize("metric", ["train_loss", "final_test_loss", "test_block_loss", "wall_time_sec"])
def test_one_altered_value_of_a_curve_is_named_by_its_cell(root, metric):
    cells, curves = parts(root)
    name = cells["cell"][the_cell(cells)]
    index = curves[(curves["cell"] == name) & (curves["metric"] == metric)].index[-1]
    curves.loc[index, "value"] = np.nextafter(curves.loc[index, "value"], 10)  # the smallest change there is
    repack(root, curves=curves)
    problem = verdict(root)
    assert f"cell {name} (b, adam, seed 2" in problem
    assert "its curve is altered" in problem


def test_an_altered_timing_block_is_named_by_its_cell(root):
    cells, curves = parts(root)
    name = cells[(cells["kind"] == "time") & (cells["task"] == "a")]["cell"].item()
    curves.loc[curves[curves["cell"] == name].index[0], "value"] *= 0.9
    repack(root, curves=curves)
    assert f"cell {name} (a, " in verdict(root)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("final_test_loss", 0.125),
        ("final_train_loss", 0.125),
        ("test_loss_at_best_validation", 0.125),
        ("status", "diverged"),
        ("seed", 7.0),
        ("horizon", 50),
        ("role", "learned"),
        ("train_wall_sec", 0.5),
        ("hyperparameters", '{"learning_rate": 0.1}'),
        ("started_at", "2025-01-01T00:00:00+00:00"),
    ],
)
def test_one_altered_column_is_named_by_its_cell(root, column, value):
    cells, _ = parts(root)
    index = the_cell(cells)
    cells.loc[index, column] = value
    repack(root, cells=cells)
    problem = verdict(root)
    assert f"cell {cells['cell'][index]} (b, " in problem
    assert f"column {column} is {value!r}" in problem


def alter_record(cells, index, change, fix_up):
    """Changes a record; `fix_up` brings checksum and columns in line, as one who wants to be believed would."""
    record = json.loads(cells.loc[index, "record"])
    change(record)
    if fix_up:
        content = {key: value for key, value in record.items() if key != "checksum"}
        record["checksum"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        for column, value in cell_row(msgspec.convert(record, Record), "machine").items():
            cells.at[index, column] = value
    cells.at[index, "record"] = json.dumps(record, sort_keys=True)


RECORD_CHANGES = {
    "result": lambda record: record["result"].update(final_test_loss=0.125),
    "mean": lambda record: record["result"].update(mean_train_loss=record["result"]["mean_train_loss"] * (1 + 1e-12)),
    "best step": lambda record: record["result"].update(best_validation_step=5),
    "no result": lambda record: record["result"].update(final_train_loss=None),
    "clock": lambda record: record["clock"].update(train_wall_sec=0.5),
    "status": lambda record: record.update(status="diverged", reason="loss not finite from step 90", first_bad_step=90),
    "seed": lambda record: record["config"].update(seed=7),
    "hyperparameters": lambda record: record["config"].update(hyperparameters={"learning_rate": 0.1}),
}


@pytest.mark.parametrize("fix_up", [False, True], ids=["as it is", "checksum fixed up"])
@pytest.mark.parametrize("field", RECORD_CHANGES)
def test_one_altered_field_of_a_record_is_named_by_its_cell(root, field, fix_up):
    cells, _ = parts(root)
    index = the_cell(cells)
    name = cells["cell"][index]
    alter_record(cells, index, RECORD_CHANGES[field], fix_up)
    repack(root, cells=cells)
    problem = verdict(root)
    assert f"cell {name} (b, adam, seed" in problem
    assert ("checksum does not fit" in problem) is not fix_up


def with_altered_curve(root):
    """Cells, curves with a final test loss of 0.125 in a cell, the cell's index, and its curve's new digest."""
    cells, curves = parts(root)
    index = the_cell(cells)
    of_cell = curves["cell"] == cells["cell"][index]
    curves.loc[curves[of_cell & (curves["metric"] == "final_test_loss")].index[0], "value"] = 0.125
    return cells, curves, index, curve_digest(curves[of_cell].astype({"metric": str}))


def test_a_new_digest_for_an_altered_curve_does_not_help(root):
    cells, curves, index, digest = with_altered_curve(root)
    name = cells["cell"][index]
    alter_record(cells, index, lambda record: record.update(curve_sha256=digest), fix_up=True)
    repack(root, cells, curves)
    problem = verdict(root)
    assert f"cell {name} (b, adam, seed 2.0): final_test_loss is " in problem
    assert "its curve gives 0.125" in problem


def test_rows_altered_throughout_no_longer_give_the_published_page(root):
    """Curve, record, columns and digests agree: the rows are another run's, and the page is not theirs."""
    cells, curves, index, digest = with_altered_curve(root)

    def change(record):
        record.update(curve_sha256=digest)
        record["result"].update(final_test_loss=0.125)

    alter_record(cells, index, change, fix_up=True)
    repack(root, cells, curves)
    problem = verdict(root)
    assert problem.startswith(f"{report(root)}")
    assert "the rows give" in problem


def test_a_dropped_cell_leaves_a_curve_that_names_it(root):
    cells, _ = parts(root)
    index = the_cell(cells)
    repack(root, cells=cells.drop(index))
    assert f"curves of cells that are not among the rows: {cells['cell'][index]}" in verdict(root)


def test_a_cell_dropped_with_its_curve_is_missed_on_the_page(root):
    cells, curves = parts(root)
    index = the_cell(cells)
    repack(root, cells.drop(index), curves[curves["cell"] != cells["cell"][index]])
    assert verdict(root).startswith(f"{report(root)}")


def test_a_failed_cell_cannot_be_dropped_either(root):
    cells, _ = parts(root)
    repack(root, cells=cells.drop(the_cell(cells, "a", "sgd", 4)))
    assert verdict(root).startswith(f"{report(root)}")


def test_a_cell_without_its_curve_is_named(root):
    cells, curves = parts(root)
    index = the_cell(cells)
    name = cells["cell"][index]
    repack(root, curves=curves[curves["cell"] != name])
    assert f"cell {name} (b, adam, seed 2.0): its curve is altered" in verdict(root)
    digest = curve_digest(pd.DataFrame(columns=CURVE_COLUMNS))
    alter_record(cells, index, lambda record: record.update(curve_sha256=digest), fix_up=True)
    repack(root, cells=cells)
    assert f"cell {name} (b, adam, seed 2.0): its status is ok and it has no curve" in verdict(root)


def test_an_added_curve_is_named(root):
    _, curves = parts(root)
    extra = pd.DataFrame({"cell": ["f" * 16], "step": [0], "metric": ["train_loss"], "value": [1.0]})
    repack(root, curves=pd.concat([curves.astype({"cell": str, "metric": str}), extra]))
    assert f"curves of cells that are not among the rows: {'f' * 16}" in verdict(root)


def test_a_row_added_to_a_curve_is_named_by_its_cell(root):
    cells, curves = parts(root)
    name = cells["cell"][the_cell(cells)]
    repack(root, curves=pd.concat([curves, curves[curves["cell"] == name].tail(1)]))
    assert f"cell {name} (b, adam, seed 2.0): its curve is altered" in verdict(root)


@pytest.mark.parametrize("which", [("b", "adam", 2), ("a", "sgd", 4)], ids=["finished", "failed"])
def test_a_cell_that_is_there_twice_is_named(root, which):
    cells, _ = parts(root)
    index = the_cell(cells, *which)
    repack(root, cells=pd.concat([cells, cells.loc[[index]]], ignore_index=True))
    assert cells["cell"][index] in verdict(root)


def test_altered_targets_are_named(root):
    path = targets.target_path(root / "results" / "targets", "a", HORIZON)
    path.write_text(path.read_text().replace("2.5", "2.4", 1))
    assert verdict(root).startswith(f"{path}: altered since it was frozen")


@pytest.mark.parametrize("damage", ["truncated", "missing", "foreign"])
@pytest.mark.parametrize("name", ["cells.parquet", "curves.parquet"])
def test_a_damaged_file_is_one_line(root, name, damage):
    path = root / "results" / "made" / "machine" / name
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "missing": b"", "foreign": b"no such table"}[damage])
    if damage == "missing":
        path.unlink()
    problem = verdict(root)
    assert "no readable published results" in problem
    assert "\n" not in problem
