"""A run of outer-training: its progress line, its folder, and that nobody else is in it."""

import subprocess
import sys

import pytest

from bench.errors import UsageError
from bench.outer.folders import alone, run_folder
from bench.outer.run import duration, progress_line, run
from learned.config import OuterConfig
from learned.curriculum import Stage
from learned.outer import Progress
from tests.bench.outer.stages import FACTS, METRICS
from tests.helpers import assert_one_line, linear_family
from tests.learned.outer.linear import CONFIG

MERGED = OuterConfig("mine", "per_parameter_mlp", "linear", (Stage(10, 200),), estimator=("reparam", "es"))


def test_the_progress_line_says_what_matters():
    # 50 outer steps in 100 s: 150 more in 300 s. 8,000 inner steps in 100 s.
    line = progress_line(MERGED, Progress(50, 10, METRICS, 100.0, 8000, skipped=2))
    assert line == (
        "outer step 50/200  length 10  loss 2.0000  gradient norm 0.25  signal-to-noise reparam 4, es 1  "
        "weight of reparam 0.75  2 skipped  80 inner steps/s  about 5 min left"
    )
    judged = METRICS | {"outer_validation_loss": 1.5}
    line = progress_line(MERGED, Progress(50, 10, judged, 100.0, 8000), budget_left=30.0)
    assert "validation 1.5000" in line
    assert line.endswith("about 30 s left")


@pytest.mark.parametrize(("seconds", "text"), [(42.0, "42 s"), (179.0, "3 min"), (7500.0, "2 h 05 min")])
def test_a_duration_in_words(seconds, text):
    assert duration(seconds) == text


def test_a_run_that_is_not_resumed_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.outer.folders.outer.outer_step_reached", lambda folder: 7)
    with pytest.raises(UsageError, match="holds a run at outer step 7: go on with --resume") as caught:
        for_a_second(tmp_path)
    assert_one_line(caught.value)


def for_a_second(results_dir, resume=False):
    settings = {"resume": resume, "num_devices": 1, "budget_sec": 1.0, "log": print, "advance": print}
    return run(CONFIG, linear_family(), FACTS, results_dir, **settings)


HOLDING = """
import sys, time
from pathlib import Path
from bench.store.files import locked

with locked(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    time.sleep(100)
"""


def test_two_processes_do_not_outer_train_in_one_folder(tmp_path):
    folder = run_folder(tmp_path, CONFIG)
    lock = folder.with_name(f".{folder.name}.lock")
    process = subprocess.Popen([sys.executable, "-c", HOLDING, lock], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    for resume in (False, True):
        with pytest.raises(UsageError, match="another process outer-trains in") as caught:
            for_a_second(tmp_path, resume)
        assert_one_line(caught.value)
    assert not folder.exists()
    process.kill()
    process.communicate()
    with alone(folder):  # the lock of a process that was killed holds nobody up
        assert lock.exists()
    assert not lock.exists()
