"""Cells in processes of their own: what crashes or hangs is a row, and the others go on."""

import contextlib
import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bench.cli import main as cli
from bench.cli import running
from bench.errors import EXIT_FAILED_CELLS
from bench.folders import Folders
from bench.processes import converse
from bench.report.table import plural
from bench.run.suite import plan_suite
from bench.store.store import CLAIMS, Store
from bench.suites.choose import choose_suite
from tests.helpers import bench_process

PLUGIN = """
import os, pathlib, signal, threading, time
import jax, optax
from baselines import Baseline

def exit_once_told():
    while not pathlib.Path(__file__).with_name("waits").exists():
        time.sleep(0.1)
    os._exit(3)

def row(act):
    def update(grads, state, params=None):
        act()
        return jax.tree.map(lambda g: -0.1 * g, grads), state
    return Baseline(lambda h, horizon: optax.GradientTransformation(optax.sgd(0.1).init, update), {}, {}, "")

OPTIMIZERS = {
    "crashing": row(lambda: os.kill(os.getpid(), signal.SIGSEGV)),
    "exiting": row(lambda: os._exit(0)),
    "sleeping": row(lambda: time.sleep(1000)),
    "later": row(lambda: threading.Thread(target=exit_once_told, daemon=True).start()),
    "sound": row(lambda: print('{"status": "crashed"}', flush=True)),
}
"""
ARGUMENTS = ["run", "-t", "digits8_mlp", "--seeds", "0-1", "--steps", "20", "--set", "timing_blocks=0", "--json"]


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys, undrawn):
    """Runs `bench ...` in this process, its cells in others: (exit code, printed JSON, standard error)."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    monkeypatch.setenv("BENCH_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("BENCH_REPORTS_DIR", str(tmp_path / "reports"))

    def run(*args):
        with pytest.raises(SystemExit) as done:
            cli.main([*ARGUMENTS, *args])
        captured = capsys.readouterr()
        return done.value.code or 0, captured.out and json.loads(captured.out), captured.err

    return run


def rows(tmp_path, suite="quick"):
    cells = Store(tmp_path / "results", suite).read().cells
    return {(row["optimizer"], row["seed"]): (row["status"], row["reason"]) for row in cells.to_dict("records")}


@pytest.mark.slow
def test_a_crash_is_a_row_and_the_others_go_on(bench, tmp_path):
    names = [part for name in ("crashing", "exiting", "sound") for part in ("-o", name)]
    arguments = [*names, "--seeds", "0", "--plugin", str(tmp_path / "plugin.py")]
    code, out, err = bench(*arguments)
    assert code == 3
    assert out["cells"] == {"ok": 1, "crashed": 2}
    found = rows(tmp_path)
    assert found["crashing", 0] == ("crashed", "its process died, by signal SIGSEGV")
    assert found["exiting", 0] == ("crashed", "its process died, by exit code 0")
    assert found["sound", 0][0] == "ok"
    assert "crashing seed 0: crashed" in err
    code, out, _ = bench("-o", "crashing", *arguments[4:])
    assert out["cells"] == {"stored": 1, "crashed": 1}  # a crashed cell is tried again


@pytest.mark.slow
def test_what_hangs_is_ended_after_its_time_limit(bench, tmp_path, monkeypatch):
    from bench.run import isolate

    monkeypatch.setattr(isolate.run, "__kwdefaults__", isolate.run.__kwdefaults__ | {"grace_sec": 15.0})
    names = ["-o", "sleeping", "-o", "sound", "--seeds", "0"]
    begin = time.monotonic()
    code, out, _ = bench(*names, "--plugin", str(tmp_path / "plugin.py"), "--cell-limit", "5")
    assert time.monotonic() - begin < 200
    assert (code, out["cells"]) == (3, {"ok": 1, "time_limit": 1})
    assert rows(tmp_path)["sleeping", 0] == (
        "time_limit",
        "its process was ended after 20 s: the limit of 5 s, and 15 s to compile",
    )


TASKS = """
import os, signal, time
import tasks

TASKS = {
    "crashing": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exiting": lambda: os._exit(0),
    "sleeping": lambda: time.sleep(1000),
    "raising": lambda: open("nowhere"),
    "huge": lambda: bytearray(1 << 60),
    "another": lambda: 3,
    "sound": lambda: tasks.load("digits8_mlp"),
}
"""


@pytest.mark.slow
def test_a_task_that_cannot_be_built_is_rows_and_the_others_go_on(bench, tmp_path):
    (tmp_path / "plugin.py").write_text(TASKS)
    names = ("crashing", "exiting", "sleeping", "raising", "huge", "another", "sound")
    chosen = [part for name in names for part in ("-t", name)]
    limits = ["--seeds", "0", "--cell-limit", "15", "--plugin", str(tmp_path / "plugin.py")]
    code, _, _ = bench("-o", "sgd_momentum", *chosen, *limits)
    assert code == 3
    cells = Store(tmp_path / "results", "quick").read().cells
    found = {row["task"]: (row["status"], row["reason"]) for row in cells.to_dict("records")}
    assert [found.pop(name)[0] for name in ("sound", "digits8_mlp")] == ["ok", "ok"]
    assert found == {
        "crashing": ("crashed", "cannot be built: its process died, by signal SIGSEGV"),
        "exiting": ("crashed", "cannot be built: its process died, by exit code 0"),
        "sleeping": ("time_limit", "cannot be built: its process was ended after 15 s"),
        "raising": ("error", "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere' (plugin.py, line 9)"),
        "huge": ("out_of_memory", "MemoryError (plugin.py, line 10)"),
        "another": ("error", "expected a tasks.Task, got int"),
    }
    page = (tmp_path / "reports" / "quick" / "local" / "report.html").read_text()
    assert "cannot be built: its process died, by signal SIGSEGV" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "limit", "words"),
    [  # one that exits is among the examples of bench/BAD_INPUT.md
        ("raise KeyboardInterrupt", "60", "cannot be imported: its process died, by signal SIGINT"),
        ("import time; time.sleep(1000)", "5", "cannot be imported: its process was ended after 5 s"),
    ],
)
def test_a_plugin_that_does_not_come_to_an_end_being_imported_is_one_line(bench, tmp_path, content, limit, words):
    (tmp_path / "plugin.py").write_text(content)
    code, _, err = bench("-o", "adam", "--cell-limit", limit, "--plugin", str(tmp_path / "plugin.py"))
    assert code == 2
    (said,) = err.strip().splitlines()
    assert said.startswith("bench: plug-in")
    assert said.endswith(words)


@pytest.mark.slow
def test_isolated_cells_have_the_same_numbers(bench, tmp_path):
    code, out, _ = bench("-o", "sgd_momentum", "--isolate")
    assert (code, out["cells"]) == (0, {"ok": 6})
    isolated = Store(tmp_path / "results", "quick").read()
    os.rename(tmp_path / "results", tmp_path / "isolated")
    code, out, _ = bench("-o", "sgd_momentum", "--no-isolate")
    assert (code, out["cells"]) == (0, {"ok": 6})
    here = Store(tmp_path / "results", "quick").read()
    columns = ["cell", "status", "final_train_loss", "final_validation_loss", "final_test_loss"]
    assert isolated.cells[columns].sort_values("cell").to_numpy().tolist() == (
        here.cells[columns].sort_values("cell").to_numpy().tolist()
    )


@pytest.mark.slow
def test_what_is_stored_stays_where_its_process_dies_while_another_run_is_waited_for(bench, tmp_path, monkeypatch):
    """ "later" ends well, and takes its process with it once that waits for the other run."""
    # Without controls nothing but the cell in hand is left when "later" ends.
    suite = {"kind": "train", "controls": False, "seeds": "0"}
    suite |= {"tasks": ["digits8_mlp"], "optimizers": ["later", "sgd_momentum"]}
    (tmp_path / "mine.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in suite.items()))
    arguments = [str(tmp_path / "mine.toml"), "--seeds", "0", "--plugin", str(tmp_path / "plugin.py")]
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
        cli.main([*ARGUMENTS, *arguments, "--dry-run"])
    (cell,) = [row["cell"] for row in json.loads(out.getvalue()) if row["title"] == "digits8_mlp sgd_momentum seed 0"]
    store = Store(tmp_path / "results", "mine")
    endings = []

    with contextlib.ExitStack() as stack:
        assert stack.enter_context(store.claim(cell))

        def let_go(*args):
            for message in converse(*args):
                if "waits" in message:
                    (tmp_path / "waits").touch()
                if "ended" in message:
                    endings.append(message["ended"])
                    stack.close()  # the claim: the next process has the cell for itself
                yield message

        monkeypatch.setattr("bench.run.isolate.converse", let_go)
        code, out, err = bench(*arguments)
    assert endings == ["died, by exit code 3"]
    assert "another process is running it, waiting" in err
    assert rows(tmp_path, "mine")["later", 0][0] == "ok"
    assert (code, set(out["cells"])) == (0, {"ok"})


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_ends_with_the_one_that_told_it(tmp_path, how):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    arguments = [*ARGUMENTS, "-o", "sleeping", "--plugin", str(tmp_path / "plugin.py")]
    places = {"BENCH_RESULTS_DIR": str(tmp_path / "results"), "BENCH_REPORTS_DIR": str(tmp_path / "reports")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(bench_process(arguments), env=os.environ | places, **pipes)
    claims = tmp_path / "results" / "quick" / "local" / CLAIMS
    until(lambda: list(claims.glob("*")))  # a cell is in hand
    assert len(alive(tmp_path)) == 2
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if how is signal.SIGINT:
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert alive(tmp_path) == []  # it waited for its child
    until(lambda: not alive(tmp_path))


def alive(folder):
    """Processes whose environment names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found += [path.parent.name] if str(folder).encode() in path.read_bytes() else []
    return found


def until(holds, seconds=60.0):
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_plugin_that_does_not_begin_is_one_line(bench, tmp_path):
    (tmp_path / "plugin.py").write_text("OPTIMIZERS = 3")
    code, _, err = bench("-o", "adam", "--plugin", str(tmp_path / "plugin.py"))
    assert code == 2
    assert err.strip().splitlines()[-1].startswith("bench: plug-in")


def test_a_damaged_file_is_told_and_its_cell_is_made_again(bench, tmp_path):
    plugin = str(tmp_path / "plugin.py")
    args = ("-o", "sound", "--plugin", plugin, "--seeds", "0")
    assert bench(*args)[0] == 0
    cells = tmp_path / "results" / "quick" / "local"
    damaged = next(cells.glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    code, page, err = bench(*args)
    assert (code, page["cells"]["ok"], Path(page["report"]).is_file()) == (0, 1, True)
    before = len(list(cells.glob("*.json"))) - 1
    assert "quick: 1 cell to run" + (f", {before} stored before" if before else "") in err
    assert f"damaged file set aside: {damaged}.damaged" in err


def test_what_failed_and_all_that_is_run_again_counts_as_to_be_run(bench, tmp_path):
    lines, folders = [], Folders(results_dir=tmp_path / "results")
    args = ("-o", "exiting", "-o", "sound", "--plugin", str(tmp_path / "plugin.py"), "--seeds", "0")
    assert bench(*args)[0] == EXIT_FAILED_CELLS
    suite = choose_suite("quick", ["digits8_mlp"], ["exiting", "sound"], "0", 20, ["timing_blocks=0"])
    plan = plan_suite(suite, folders=folders, plugins=[str(tmp_path / "plugin.py")])
    for again in (False, True):
        running._announce(plan, again=again, folders=folders, log=lines.append)
    failed = [cell for cell in plan.cells if "exiting" in cell.title]
    others = len(plan.cells) - len(failed)
    assert [line for line in lines if line.startswith("quick: ")] == [
        f"quick: {plural(len(failed), 'cell')} to run, {others} stored before (1 task, 1 seed)",
        f"quick: {len(plan.cells)} cells to run (1 task, 1 seed)",
    ]
