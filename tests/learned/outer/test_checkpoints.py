"""Checkpoints that are not as they were written, and how many are kept."""

import dataclasses
import functools
import shutil

import pytest

from learned import weights
from learned.curriculum import Stage
from learned.outer import Callbacks, RunFolder, outer_train
from learned.outer.files import read_metrics
from tests.learned.outer.linear import CONFIG, FULL, engine, run

pytestmark = pytest.mark.slow  # a program to compile in every test


@pytest.fixture(scope="module")
def with_checkpoints(tmp_path_factory):
    """(Trains, a folder with checkpoints of the first three outer steps, what the whole run comes to)."""
    go_on = functools.partial(outer_train, engine(dataclasses.replace(CONFIG, stages=(Stage(10, 6),))))
    folder = tmp_path_factory.mktemp("run")
    for _ in range(3):  # of one outer step each
        go_on(RunFolder(folder, resume=True), budget_sec=0.0)
    return go_on, folder, go_on()


@pytest.mark.parametrize("damage", ["torn metadata", "torn array", "altered array", "no facts"])
def test_a_damaged_checkpoint_is_set_aside_and_the_run_goes_on_from_the_one_before(tmp_path, damage, with_checkpoints):
    go_on, folder, (theta, log, _) = with_checkpoints
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (last,) = [path for path in (tmp_path / "checkpoints").iterdir() if path.name == "3"]
    if damage == "no facts":
        (last / "facts" / "metadata").unlink()
    elif damage == "torn metadata":
        path = last / "arrays" / "_METADATA"
        path.write_bytes(path.read_bytes()[:20])
    else:
        path = max((path for path in (last / "arrays").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
        content = bytearray(path.read_bytes())
        if damage == "torn array":
            del content[len(content) // 2 :]
        else:
            content[len(content) // 2] ^= 1
        path.write_bytes(content)
    set_aside = []
    again, log_again, _ = go_on(RunFolder(tmp_path, resume=True), callbacks=Callbacks(on_damage=set_aside.append))
    assert set_aside == [tmp_path / "checkpoints" / "3.damaged"]
    assert weights.digest(again) == weights.digest(theta)
    assert [row["outer_loss"] for row in log_again] == [row["outer_loss"] for row in log]


def test_two_checkpoints_are_kept(tmp_path):
    run(FULL, tmp_path, checkpoint_sec=0.0)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["11", "12"]
    assert [row["outer_step"] for row in read_metrics(tmp_path)] == list(range(1, 13))
