"""A run that is killed, starved of disk, raced or damaged loses at most the cells in flight: real processes and files.

`LOPT_KILLS=100 pytest tests/bench/run/test_crash.py -m slow` kills a hundred times; four is what fits elsewhere.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from bench.store.store import CLAIMS, Store
from tests.helpers import REPOSITORY, bench_process

pytestmark = pytest.mark.slow  # processes that train


KILLS = int(os.environ.get("LOPT_KILLS", "4"))
SUITE = ["-t", "digits8_mlp", "-o", "sgd_momentum", "--seeds", "0-9", "--steps", "100"]
ARGUMENTS = ["run", "quick", *SUITE, "--set", "timing_blocks=0", "--json"]
NUM_CELLS = 20  # an optimizer on ten seeds, its two controls on five


def environment(root):
    places = {"BENCH_RESULTS_DIR": "results", "BENCH_REPORTS_DIR": "reports", "BENCH_CACHE_DIR": "cache"}
    return os.environ | {name: str(root / place) for name, place in places.items()}


UNDRAWN = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import pytest
from tests.bench.conftest import draw_nothing
draw_nothing(pytest.MonkeyPatch())
"""


def full_disk(blocks):
    """Words before a command: no file that it writes is longer than so many blocks of 512 bytes.

    Of the shell, since code that runs between fork and exec of a process with threads is not safe. Compiled programs
    are read but not kept: one cut short would be in the way of other tests.
    """
    return (
        "env",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=1e9",
        "sh",
        "-c",
        f'ulimit -f {blocks} && exec "$@"',
        "sh",
    )


def start(root, under=()):
    """A run as a process, of whose report nothing is drawn; `under`: words before its command."""
    python, flag, program = bench_process(ARGUMENTS)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*under, python, flag, UNDRAWN + program], env=environment(root), **pipes)


def finish(root, under=()):
    """(exit code, number of cells by status, standard error) of a run that is left alone."""
    process = start(root, under)
    out, err = process.communicate(timeout=300)
    return process.returncode, json.loads(out)["cells"] if out else {}, err


def folder_of(root):
    return root / "results" / "quick" / "local"


def numbers(root):
    """What training came to, and every table of the report, to the last digit, but for what hangs on the clock."""
    folder = root / "reports" / "quick" / "local" / "tables"
    tables = {path.name: pd.read_csv(path, dtype=str) for path in sorted(folder.glob("*.csv"))}
    assert {"summary_digits8_mlp.csv", "controls.csv", "score.csv"} <= set(tables)
    del tables["provenance.csv"]  # says how many cells were made under which commit
    text = {name: table.drop(columns="compile_seconds", errors="ignore").to_csv() for name, table in tables.items()}
    return trained(root), text


def trained(root):
    """(optimizer, seed) -> losses and curve."""
    results = Store(root / "results", "quick").read()
    curves = results.curves[~results.curves["metric"].isin(["wall_time_sec"])]
    by_cell = {cell: rows[["step", "metric", "value"]].to_numpy().tolist() for cell, rows in curves.groupby("cell")}
    columns = ["status", "final_train_loss", "final_validation_loss", "final_test_loss", "mean_train_loss"]
    return {
        (row["optimizer"], row["seed"]): ([row[column] for column in columns], str(by_cell[row["cell"]]))
        for row in results.cells.to_dict("records")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that nothing happened to, and its seconds."""
    root = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    code, counts, err = finish(root)
    assert (code, counts) == (0, {"ok": NUM_CELLS}), err
    return root, time.monotonic() - begin


@pytest.fixture(scope="module")
def undisturbed(finished):
    """Its numbers."""
    return numbers(finished[0])


def complete(root):
    """Names of the cells that are stored whole, without touching a file."""
    found = set()
    for path in folder_of(root).glob("*.json"):
        with contextlib.suppress(ValueError):
            found.add(json.loads(path.read_text())["cell"])
    return found


def test_a_run_killed_again_and_again_loses_nothing_that_was_finished(finished, undisturbed, tmp_path):
    """A run that comes to its end before it is killed is compared, and the kills go on in a new folder."""
    rng = random.Random(0)
    kills = 0
    for number in itertools.count():
        root = tmp_path / str(number)
        ended, known, some = False, set(), 0
        while not ended and kills < KILLS:
            process = start(root)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.0, finished[1]))
            ended = process.poll() is not None
            process.kill()
            process.communicate()
            now = complete(root)
            assert known <= now
            kills += not ended
            some += not ended and bool(now)
            known = now
        code, counts, err = finish(root)
        assert code == 0, err
        assert "damaged" not in err  # a kill tears no file
        assert counts.get("stored", 0) == len(known)
        assert sum(counts.values()) == NUM_CELLS
        assert numbers(root) == undisturbed
        if kills == KILLS:
            print(f"{kills} kills in {number + 1} folders, {some} of the last one with cells stored")
            return


def test_two_runs_on_one_folder_share_its_cells(undisturbed, tmp_path):
    runs = [start(tmp_path) for _ in range(2)]
    outputs = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    ran = [json.loads(out)["cells"].get("ok", 0) for out, _ in outputs]
    assert sum(ran) == NUM_CELLS  # none twice
    assert min(ran) > 0
    assert numbers(tmp_path) == undisturbed
    assert not list((folder_of(tmp_path) / CLAIMS).glob("*"))


CLAIMING = """
import sys, time
from pathlib import Path
from bench.store.store import Store

with Store(Path(sys.argv[1]), "s").claim("c") as ours:
    print(ours, flush=True)
    time.sleep(100)
"""


def test_a_cell_whose_run_was_killed_is_claimed_by_the_next(tmp_path):
    store = Store(tmp_path, "s")
    process = subprocess.Popen([sys.executable, "-c", CLAIMING, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    with store.claim("c") as ours:
        assert not ours
    with store.claim("another") as ours:
        assert ours
    process.kill()
    process.communicate()
    with store.claim("c", wait=True) as ours:
        assert ours


def test_files_damaged_by_a_loss_of_power_are_named_and_made_again(finished, undisturbed, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)  # keeps the times of the files
    records = sorted(folder_of(tmp_path).glob("*.json"), key=lambda path: path.stat().st_mtime)[-4:]  # the last cells
    torn, altered, empty, gone = [(record, record.with_suffix(".parquet")) for record in records]
    for path in torn:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for path in altered:
        content, middle = path.read_bytes(), path.stat().st_size // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    for path in empty:
        path.write_bytes(b"")
    for path in gone:
        path.unlink()
    code, counts, err = finish(tmp_path)
    assert (code, counts) == (0, {"stored": NUM_CELLS - 4, "ok": 4})
    for path in (*torn, *altered, *empty):
        assert f"{path.name}.damaged" in err
    assert not any(path.name in err for path in gone)
    assert numbers(tmp_path) == undisturbed


def test_a_full_disk_is_one_line_and_the_rerun_finishes(undisturbed, tmp_path):
    code, _, err = finish(tmp_path, under=full_disk(6))
    assert code == 2
    assert_one_error(err, "cannot write")
    code, counts, err = finish(tmp_path)
    assert (code, sum(counts.values())) == (0, NUM_CELLS), err
    assert numbers(tmp_path) == undisturbed


OUTER = """
name = "mine"
design = "per_parameter_mlp"
family = "digits4_mlp"
estimator = ["es"]
num_tasks = 2
validation_num_steps = 3
validation_num_tasks = 2
stages = [{ num_steps = 3, outer_steps = 4 }]
"""


def test_outer_training_on_a_full_disk_is_one_line_and_goes_on_elsewhere(tmp_path):
    (tmp_path / "mine.toml").write_text(OUTER)
    command = bench_process(["outer-train", str(tmp_path / "mine.toml"), "--resume"])
    for under, code in ((full_disk(8), 2), ((), 0)):
        done = subprocess.run(
            [*under, *command], env=environment(tmp_path), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == code, done.stderr
        if code:
            assert_one_error(done.stderr, "mine")
    assert (tmp_path / "results" / "outer-train" / "local" / "mine" / "mine.safetensors").is_file()


def assert_one_error(err, words):
    lines = [line for line in err.splitlines() if line.startswith("bench: ")]
    assert len(lines) == 1, err
    assert words in lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_keeps_what_is_finished(undisturbed, tmp_path, times):
    process = start(tmp_path)
    deadline = time.monotonic() + 120
    while len(complete(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    for _ in range(times):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "what was finished is kept" in err
    known = complete(tmp_path)
    assert len(known) >= 2
    if times == 2:
        return
    code, counts, err = finish(tmp_path)
    assert (code, counts["stored"]) == (0, len(known)), err
    assert numbers(tmp_path) == undisturbed
