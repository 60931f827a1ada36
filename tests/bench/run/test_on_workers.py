"""A suite on workers and in shards: real processes, of which some are killed; every number as in one process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from distributed import Client

import bench
from bench.engines.workers import LostSchedulerError
from bench.store.record import CLOCK_COLUMNS
from bench.store.store import CLAIMS
from tests.helpers import bench_process

pytestmark = pytest.mark.slow  # processes that train

PART = {"tasks": ["digits8_mlp"], "optimizers": ["sgd_momentum"], "seeds": "0-3", "steps": 100}
ARGUMENTS = ["run", "quick", "-t", "digits8_mlp", "-o", "sgd_momentum", "--seeds", "0-3", "--steps", "100"]
ARGUMENTS += ["--set", "timing_blocks=0"]
NUM_CELLS = 12  # an optimizer and its two controls on four seeds


def suite(**part):
    return bench.choose_suite("quick", **(part or PART), settings=["timing_blocks=0"])


def folders(root):
    return bench.Folders(results_dir=root / "results", reports_dir=root / "reports")


def numbers(results):
    """(kind, task, optimizer, seed) -> what a cell came to, but for what hangs on the clock."""
    timed = {*CLOCK_COLUMNS, "started_at", "checksum", "provenance", "record"}
    curves = results.curves[~results.curves["metric"].str.contains("second|wall_time")]
    by_cell = {cell: rows[["step", "metric", "value"]].to_numpy().tolist() for cell, rows in curves.groupby("cell")}
    rows = results.cells.drop(columns=[name for name in results.cells if name in timed]).to_dict("records")
    return {
        (row["kind"], row["task"], row["optimizer"], row["seed"]): (
            json.dumps(row, sort_keys=True),
            str(by_cell.get(row["cell"])),
        )
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


def kill_a_worker_in_mid_cell(scheduler_address):
    """Kills a worker that does a cell; returns its process, or None if each worker has just ended one.

    It is stopped before it is asked after, so that its cell cannot end in between.
    """
    with Client(scheduler_address, set_as_default=False, timeout=60) as client:
        for address, process in client.run(os.getpid).items():
            os.kill(process, signal.SIGSTOP)
            time.sleep(0.2)  # for what it has sent to arrive
            if client.processing()[address]:
                os.kill(process, signal.SIGKILL)
                return process
            os.kill(process, signal.SIGCONT)
    return None


def test_a_worker_and_the_scheduler_are_killed_and_nothing_is_lost(undisturbed, tmp_path):
    said, killed = [], {}
    with scheduler_and_workers(tmp_path) as (address, scheduler):
        with Client(address, set_as_default=False, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)

        def log(line):
            said.append(line)
            stored = sum(line.startswith("[") for line in said)
            if stored >= 2 and "worker" not in killed and (process := kill_a_worker_in_mid_cell(address)):
                killed["worker"] = process
            if stored >= 6 and any("its worker died" in line for line in said) and "scheduler" not in killed:
                killed["scheduler"] = scheduler.pid
                scheduler.kill()

        with pytest.raises(LostSchedulerError, match="what has ended is stored, the same command goes on"):
            bench.run_suite(suite(), folders=folders(tmp_path), cluster=bench.Cluster(address), log=log)
    assert set(killed) == {"worker", "scheduler"}
    assert sum("its worker died, it is done again" in line for line in said) == 1, said
    stored = sum(line.startswith("[") for line in said)
    assert 6 <= stored < NUM_CELLS
    shares, told = [], []
    done = bench.run_suite(
        suite(), folders=folders(tmp_path), cluster=bench.Cluster(workers=2), advance=shares.append, told=told.append
    )
    assert done.counts == {"stored": stored, "ok": NUM_CELLS - stored}
    assert sum(shares) == pytest.approx(1.0)
    assert any(line.startswith("2 workers") for line in told)
    assert numbers(done.results) == undisturbed
    assert not list((tmp_path / "results" / "quick" / "local" / CLAIMS).glob("*"))


def test_all_of_quick_on_two_workers_is_that_of_one_process_cell_by_cell(tmp_path):
    """Each task, optimizer and control; by one seed and fewer steps than users run, since the test has to be short."""
    whole = suite(seeds="0", steps=30)
    alone = bench.run_suite(whole, folders=folders(tmp_path / "alone")).results
    done = bench.run_suite(whole, folders=folders(tmp_path / "workers"), cluster=bench.Cluster(workers=2))
    assert set(alone.cells["task"]) == set(whole.tasks)
    assert done.counts == {"ok": len(alone.cells)}
    assert numbers(done.results) == numbers(alone)


def test_three_shards_in_three_processes_add_up_to_one_run(undisturbed, tmp_path):
    environment = os.environ | {
        "BENCH_RESULTS_DIR": str(tmp_path / "results"),
        "BENCH_REPORTS_DIR": str(tmp_path / "reports"),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    shards = [subprocess.Popen(bench_process([*ARGUMENTS, "--json", "--shard", f"{k}/3"]), **pipes) for k in (1, 2, 3)]
    outputs = [shard.communicate(timeout=300) for shard in shards]
    assert [shard.returncode for shard in shards] == [0, 0, 0], outputs
    assert [json.loads(out)["cells"] for out, _ in outputs] == [{"ok": 4}] * 3
    assert not (tmp_path / "reports").exists()
    done = bench.run_suite(suite(), folders=folders(tmp_path))
    assert done.counts == {"stored": NUM_CELLS}
    assert numbers(done.results) == undisturbed


def test_a_run_whose_time_is_over_ends_cleanly_and_goes_on(undisturbed, tmp_path):
    said = []

    def log(line):
        said.append(line)
        if len(said) == 3:
            time.sleep(100)  # which the end of the time interrupts

    done = bench.run_suite(suite(), folders=folders(tmp_path), time_limit_sec=8.0, log=log)
    assert done.counts == {"stored": 3}
    assert len(done.left) == NUM_CELLS - 3
    assert len(done.results.cells) == 3
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    done = bench.run_suite(suite(), folders=folders(tmp_path))
    assert done.counts == {"stored": 3, "ok": NUM_CELLS - 3}
    assert numbers(done.results) == undisturbed
