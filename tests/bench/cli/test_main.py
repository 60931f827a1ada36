"""The command line as a user meets it: in-process where that is enough, real processes where it is not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bench.cli import main as cli
from tests.helpers import bench_process


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    return {
        "BENCH_RESULTS_DIR": str(root / "results"),
        "BENCH_REPORTS_DIR": str(root / "reports"),
        "BENCH_CACHE_DIR": str(root / "cache"),
        "TFDS_DATA_DIR": str(root / "tfds"),
    }


@pytest.fixture
def bench(folders, monkeypatch, capsys):
    """Runs `bench ...` in this process: (exit code, standard output, standard error)."""
    for name, value in folders.items():
        monkeypatch.setenv(name, value)

    def run(*args):
        with pytest.raises(SystemExit) as done:
            cli.main(list(args))
        captured = capsys.readouterr()
        return done.value.code or 0, captured.out, captured.err

    return run


RUN = ["run", "quick", "-t", "digits8_mlp", "-o", "adam", "-o", "sgd_momentum", "--seeds", "0-1", "--steps", "20"]
SETTINGS = ["--set", "timing_blocks=6"]


@pytest.fixture(scope="module")
def finished(folders):
    """A small suite run once, as a real process, with the output kept."""
    command = [sys.executable, "-m", "bench", *RUN, *SETTINGS]
    return subprocess.run(command, env=os.environ | folders, capture_output=True, text=True, timeout=300)


def test_help_answers_at_once():
    command = [sys.executable, "-X", "importtime", "-m", "bench", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    heavy = {"jax", "numpy", "pandas", "flax", "optax", "matplotlib", "scipy", "rich", "tensorflow_datasets", "sklearn"}
    assert not imported & heavy
    assert "outer-train" in done.stdout


def test_help_takes_less_than_half_a_second():
    def seconds():
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "bench", "--help"], capture_output=True, check=True, timeout=60)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5


def test_run_ends_with_a_table_and_the_path_of_the_report(finished):
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.strip().splitlines()
    assert lines[-1].startswith("report: ")
    assert lines[-1].endswith("report.html")
    assert lines[-2] == "cells: 9 ok"
    assert "[1/9] digits8_mlp" in lines[0]  # plain lines where there is no terminal
    assert any("sgd_momentum" in line for line in lines[6:])


@pytest.mark.slow
def test_a_rerun_skips_what_is_stored_and_redoes_what_is_damaged(finished, folders, bench):
    code, out, _ = bench(*RUN, *SETTINGS, "--json")
    assert (code, json.loads(out)["cells"]) == (0, {"stored": 9})
    dry = json.loads(bench(*RUN, *SETTINGS, "--dry-run", "--json")[1])
    victim = next(row["cell"] for row in dry if "adam seed 0" in row["title"])
    path = Path(folders["BENCH_RESULTS_DIR"]) / "quick" / "local" / f"{victim}.json"
    before = json.loads(path.read_text())["result"]
    path.write_text(path.read_text().replace("0.", "1.", 1))
    code, out, err = bench(*RUN, *SETTINGS, "--json")
    assert (code, json.loads(out)["cells"]) == (0, {"stored": 8, "ok": 1})
    assert "damaged file set aside" in err
    assert json.loads(path.read_text())["result"] == before  # the same numbers, to the last digit


@pytest.mark.slow
def test_a_diverged_run_is_a_result_and_exits_zero(bench):
    args = [*RUN[:4], "-o", "sgd_momentum", "--seeds", "0", "--steps", "20", "--set", "timing_blocks=0"]
    code, out, _ = bench(*args, "--set", "sgd_momentum.learning_rate=1e30", "--json")
    assert (code, json.loads(out)["cells"]) == (0, {"diverged": 2, "ok": 1})  # the control at rate 0 is well


def test_a_raising_optimizer_is_a_row_and_the_others_go_on(bench, tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "import optax\nfrom baselines import Baseline\n"
        "def broken(h, horizon):\n    raise RuntimeError('no such thing\\nsecond line')\n"
        "OPTIMIZERS = {'broken': Baseline(make=broken, space={}, default={}, reference='none')}\n"
    )
    args = ["run", "-t", "digits8_mlp", "-o", "broken", "-o", "adam", "--seeds", "9", "--steps", "20"]
    code, out, _ = bench(*args, "--set", "timing_blocks=0", "--plugin", str(plugin), "--json")
    assert code == 3
    assert json.loads(out)["cells"] == {"ok": 3, "error": 1}
    assert "no such thing" in Path(json.loads(out)["report"]).read_text()


def test_time_limit_exits_three(bench):
    args = ["run", "-t", "digits8_mlp", "-o", "adam", "--seeds", "7", "--steps", "20", "--set", "timing_blocks=0"]
    code, out, _ = bench(*args, "--time-limit", "1e-6", "--json")
    assert (code, json.loads(out)["cells"]) == (3, {"time_limit": 3})


@pytest.mark.slow
def test_publish_packs_and_reports(finished, folders, bench):
    code, _, err = bench("publish", "quick", "--label", "test-machine")
    assert (code, "cells of quick are not stored" in err) == (2, True)
    code, _, err = bench("publish", *RUN[1:], *SETTINGS, "--label", "test-machine")
    assert code == 0, err
    cells = pd.read_parquet(Path(folders["BENCH_RESULTS_DIR"]) / "quick" / "test-machine" / "cells.parquet")
    assert {"adam", "sgd_momentum"} <= set(cells["optimizer"].dropna())
    assert json.loads(cells["provenance"][0])["data"]["digest"]
    assert (Path(folders["BENCH_REPORTS_DIR"]) / "quick" / "test-machine" / "report.html").exists()
    assert bench("report", "quick", "--label", "test-machine", "--json")[0] == 0
    assert "test-machine" in bench("list", "runs")[1]


def test_list_and_info_print_data(bench):
    rows = json.loads(bench("list", "tasks", "--json")[1])
    paper = next(row for row in rows if row["name"] == "imagenet32_cnn3/0")
    assert (paper["num_params"], paper["horizon"], paper["batch_size"]) == (19722, 2000, 32)
    assert {"chance_loss", "digest"} <= paper.keys()
    optimizers = json.loads(bench("list", "optimizers", "--json")[1])
    assert {"adam", "adam_cosine", "rmsprop", "sgd_momentum"} <= {row["name"] for row in optimizers}
    assert {row["name"] for row in json.loads(bench("list", "suites", "--json")[1])} >= {"quick", "paper", "ood"}
    for name in ("digits8_mlp", "imagenet32_cnn3", "adam", "learned", "paper"):
        assert json.loads(bench("info", name, "--json")[1])
    assert "19722" in bench("info", "imagenet32_cnn3")[1]


@pytest.mark.slow
def test_time_prints_the_ratio_to_the_first(bench):
    args = ["time", "-t", "digits8_mlp", "-o", "adam", "-o", "learned", "--blocks", "6", "--steps", "20", "--json"]
    found = json.loads(bench(*args)[1])
    assert found["device"]["platform"]
    first, second = found["rows"]
    assert set(first) == {"task", "optimizer", "seconds_per_step", "cost_ratio_to_first", "compile_seconds"}
    assert first["cost_ratio_to_first"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    ratio = second["cost_ratio_to_first"]
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]


def test_doctor_says_what_to_do(bench, monkeypatch):
    code, out, _ = bench("doctor", "--json")
    rows = {row["check"]: row for row in json.loads(out)}
    assert code == 0
    assert "tfds build" in rows["data imagenet32"]["remedy"]
    assert rows["data digits8"]["status"] == "ok"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["run", "quik"], "unknown suite 'quik'; did you mean quick?"),
        (["run", "-t", "digits8_mpl"], "did you mean digits8_mlp"),
        (["run", "-o", "adamm"], "did you mean adam"),
        (["run", "-t", "imagenet32_cnn3"], "is a family of tasks"),
        (["run", "--seeds", "a-b"], "expected seeds like 0-4"),
        (["run", "--set", "adam.learning_rat=1"], "did you mean learning_rate"),
        (["run", "--set", "adam"], "expects key=value"),
        (["run", "--device", "tpu9"], "--device expects cpu, gpu or gpu:i"),
        (["run", "--device", "cpu:99"], "no device 'cpu:99' here"),
        (["run", "--plugin", "missing.py"], "a plug-in is a Python file"),
        (["run", "--steps", "0"], "--steps"),
        (["run", "--no-such-flag"], "No such option"),
        (["run", "-o", "missing.safetensors"], "no such weights file"),
        (["info", "adma"], "did you mean adam"),
        (["tune", "digits9"], "unknown task family"),
        (["tune", "digits8_mlp", "-o", "adma"], "did you mean adam"),
        (["tune", "digits8_mlp", "-o", "adam_family_tuned"], "tune adam on imagenet32_cnn3"),
        (["outer-train", "nope"], "unknown outer-training config"),
        (["outer-train", "lopt_paper_small", "--budget", "soon"], "--budget expects"),
        (["report", "never-run"], "no results of suite never-run"),
        (["publish", "quick", "--label", "local"], "git-ignored"),
        (["publish", "quick", "--label", "../x"], "expected letters"),
        (["prepare", "cifar"], "unknown data set"),
        (["frobnicate"], "No such command"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_two(bench, args, expected):
    code, out, err = bench(*args)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_missing_data_names_the_data_set_the_place_and_the_command(bench, folders):
    args = ["run", "paper", "-t", "imagenet32_cnn3/0", "-o", "adam", "--seeds", "0"]
    code, _, err = bench(*args)
    assert code == 2
    assert "imagenet_resized/32x32" in err
    assert folders["TFDS_DATA_DIR"] in err
    assert "tfds build" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_an_unwritable_folder_is_one_line(folders, tmp_path):
    (tmp_path / "file").write_text("")
    command = [
        sys.executable,
        "-m",
        "bench",
        *RUN,
        "--set",
        "timing_blocks=0",
        "--results-dir",
        str(tmp_path / "file"),
    ]
    done = subprocess.run(command, env=os.environ | folders, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("bench: cannot write")
    assert done.stderr.count("\n") == 1


def test_the_project_file_stands_behind_the_environment_and_the_flag(bench, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_RESULTS_DIR")
    (tmp_path / "bench.toml").write_text('results_dir = "from_file"\n')
    assert "none in from_file" in bench("list", "runs")[1]
    monkeypatch.setenv("BENCH_RESULTS_DIR", "from_environment")
    assert "none in from_environment" in bench("list", "runs")[1]
    assert "none in from_flag" in bench("list", "runs", "--results-dir", "from_flag")[1]
    (tmp_path / "bench.toml").write_text('result_dir = "x"\n')
    code, _, err = bench("list", "runs")
    assert (code, "did you mean results_dir" in err) == (2, True)


@pytest.mark.slow
def test_interrupting_keeps_what_is_finished(folders, tmp_path):
    env = os.environ | folders | {"BENCH_RESULTS_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    args = [*RUN[:-4], "--seeds", "0-99", "--steps", "20"]
    process = subprocess.Popen(bench_process(args), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("[1/")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "what was finished is kept" in err
    assert list((tmp_path / "quick" / "local").glob("*.json"))
