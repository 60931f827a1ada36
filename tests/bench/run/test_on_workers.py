"""A suite on workers and in shards: real processes, of which some are killed; every number as in one process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import bench
from bench.store.record import CLOCK_COLUMNS

pytestmark = pytest.mark.slow  # processes that train

PART = {"tasks": ["digits8_mlp"], "optimizers": ["sgd_momentum"], "seeds": "0-3", "steps": 300}
ARGUMENTS = ["run", "quick", "-t", "digits8_mlp", "-o", "sgd_momentum", "--seeds", "0-3", "--steps", "300"]
ARGUMENTS += ["--set", "timing_blocks=6"]
NUM_CELLS = 13  # an optimizer and its two controls on four seeds, and the clock


def suite():
    return bench.choose_suite("quick", **PART, settings=["timing_blocks=6"])


def folders(root):
    return bench.Folders(results_dir=root / "results", reports_dir=root / "reports")


def numbers(results):
    """(kind, optimizer, seed) -> what a cell came to, but for what hangs on the clock."""
    timed = {*CLOCK_COLUMNS, "started_at", "checksum", "provenance"}
    curves = results.curves[~results.curves["metric"].str.contains("second|wall_time")]
    by_cell = {cell: rows[["step", "metric", "value"]].to_numpy().tolist() for cell, rows in curves.groupby("cell")}
    rows = results.cells.drop(columns=[name for name in results.cells if name in timed]).to_dict("records")
    return {
        (row["kind"], row["optimizer"], row["seed"]): (json.dumps(row, sort_keys=True), str(by_cell.get(row["cell"])))
        for row in rows
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The numbers of one process."""
    done = bench.run_suite(suite(), folders=folders(tmp_path_factory.mktemp("undisturbed")))
    assert done.counts == {"ok": NUM_CELLS}
    return numbers(done.results)


@contextlib.contextmanager
def scheduler_and_workers(folder):
    """(address, scheduler, processes that watch over two workers), each started by hand as on a cluster."""
    place, log = folder / "scheduler.json", (folder / "log").open("w")
    module = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    started = [subprocess.Popen([*module, "--host", "127.0.0.1", "--port", "0", "--scheduler-file", place], stderr=log)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", place, "--nthreads", "1"]
    try:
        started += [subprocess.Popen([*worker, "--nworkers", "2", "--death-timeout", "60"], stderr=log)]
        deadline = time.monotonic() + 60
        while not place.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield json.loads(place.read_text())["address"], started[0]
    finally:
        for process in started:
            process.kill()
            process.wait()
        log.close()


def kill_worker(children_of_nanny):
    os.kill(children_of_nanny, signal.SIGKILL)
