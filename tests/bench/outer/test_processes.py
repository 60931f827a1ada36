"""Outer-training over processes on loopback: what one process with as many devices does; killed, it goes on."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from bench.folders import Folders
from bench.outer.processes import join_launched, number_launched
from bench.outer.run import outer_train
from learned.outer import RunFolder
from learned.outer.storage import Storage
from tests.helpers import REPOSITORY, assert_one_line
from tests.learned.outer.linear import FULL, engine

STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({}, 1),
        (STEP | {"SLURM_STEP_NUM_TASKS": "4"}, 4),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, 1),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, 1),  # the script of a job, outside srun
    ],
)
def test_processes_of_a_step_of_slurm_are_told_from_the_script_of_a_job(environment, number):
    assert number_launched(environment) == number


def test_another_number_of_processes_than_slurm_started_is_one_line(monkeypatch):
    for name, value in (STEP | {"SLURM_STEP_NUM_TASKS": "4"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="--processes 2: srun started 4 processes") as caught:
        join_launched(2, 1, None)
    assert_one_line(caught.value)


CONFIG = """
name = "mine"
design = "per_parameter_mlp"
family = "digits4_mlp"
estimator = ["pes"]
window = 2
num_tasks = 2
validation_num_steps = 2
validation_num_tasks = 2
validation_every = 4
learning_rate = 0.01
stages = [{ num_steps = 4, outer_steps = 4 }, { num_steps = 4, outer_steps = 8 }]
"""
# One process with two devices: the outer gradient of a step, and the metrics of twelve.
ONE = """
import json, sys
from bench.outer.run import outer_train
from bench.folders import Folders
from pathlib import Path
outer_train(sys.argv[1], num_devices=2, folders=Folders(results_dir=Path(sys.argv[2])))
"""


def folder_of(results):
    return results / "outer-train" / "local" / "mine"


def metrics_of(results):
    return pd.read_parquet(folder_of(results) / "metrics.parquet")


@pytest.mark.slow
def test_two_processes_do_what_two_devices_do_and_go_on_after_a_kill(tmp_path):
    config, one, two, fewer = (tmp_path / name for name in ("mine.toml", "one", "two", "fewer"))
    config.write_text(CONFIG)
    command = [sys.executable, "-c", ONE, str(config), str(one)]
    alone = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    said, killed, lines, told = [], [], [], []

    def advance(share, line):
        said.append(line)
        if len(said) == 6:  # after the end of the first stage, in the second
            killed.append(max(children_of(os.getpid()) - {alone.pid}))
            os.kill(killed[0], signal.SIGKILL)

    how = {"num_processes": 2, "folders": Folders(results_dir=two)}
    with pytest.raises(UsageError, match=r"process 1 of 2 died, by signal SIGKILL.* go on with --resume") as caught:
        outer_train(str(config), **how, advance=advance)
    assert_one_line(caught.value)
    shutil.copytree(two, fewer)
    done = outer_train(str(config), **how, resume=True, advance=lambda share, line: lines.append(line))
    assert lines[0].startswith("outer step 5/12")  # the first stage ended with a checkpoint
    assert done.facts["total_outer_steps"] == 12
    # From the end of a stage another number of processes goes on, and says so.
    outer_train(str(config), resume=True, folders=Folders(results_dir=fewer), log=told.append)
    assert told[0] == "from outer step 4 on 1 in place of 2 processes: rounding changes"
    _, err = alone.communicate(timeout=300)
    assert alone.returncode == 0, err
    expected = metrics_of(one)
    for found in (metrics_of(two), metrics_of(fewer)):
        assert list(found) == list(expected)
        # The gradient of the first outer step; and of the others, what they make of its rounding.
        np.testing.assert_allclose(found["gradient_norm"][0], expected["gradient_norm"][0], rtol=1e-5)
        np.testing.assert_allclose(found["outer_loss"], expected["outer_loss"], rtol=1e-3)
        np.testing.assert_allclose(found["gradient_norm"], expected["gradient_norm"], rtol=1e-2)


def children_of(parent):
    """Processes that a process has started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.add(int(path.parent.name))
    return found


def test_within_a_stage_another_number_of_processes_is_refused_in_one_line(tmp_path):
    with Storage(RunFolder(tmp_path), engine(FULL)) as storage:
        facts = {"record": {"outer_step": 6}, "processes": 2}
        assert storage._of_other_processes(facts) == "from outer step 6 on 1 in place of 2 processes: rounding changes"
        with pytest.raises(ValueError, match="go on with 2 until the stage ends at outer step 12") as caught:
            storage._of_other_processes({"record": {"outer_step": 7}, "processes": 2})
    assert_one_line(caught.value)
