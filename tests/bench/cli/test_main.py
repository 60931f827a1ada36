"""The command line as a whole: help at once, and one line for what it cannot do."""

import os
import subprocess
import sys
import time

import pytest


def test_help_answers_at_once():
    command = [sys.executable, "-X", "importtime", "-m", "bench", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    heavy = {"jax", "numpy", "pandas", "flax", "optax", "matplotlib", "scipy", "rich", "tensorflow_datasets", "sklearn"}
    heavy |= {"dask", "distributed"}
    assert not imported & heavy
    assert "outer-train" in done.stdout


def test_help_takes_less_than_half_a_second():
    def seconds():
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "bench", "--help"], capture_output=True, check=True, timeout=60)
        return time.perf_counter() - start

    assert any(seconds() < 0.5 for _ in range(5))  # beside another load, the first that is left alone


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
        (["run", "--plugin", "missing.py", "--no-isolate"], "a plug-in is a Python file"),
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
        (["run", "--results-dir", "~nobody-at-all/x"], "results dir '~nobody-at-all/x': there is no such home folder"),
        (["check", "~nobody-at-all/plugin.py"], "a plug-in is a Python file"),
        (["frobnicate"], "No such command"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_two(bench, args, expected):
    code, out, err = bench(*args)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("args", [["tune", "digits8_mlp", "-o", "adam"], ["freeze", "-t", "digits8_mlp", "-o", "adam"]])
def test_a_time_limit_is_a_clean_end_and_no_interruption(bench, args):
    code, out, err = bench(*args, "--time-limit", "0.1s")
    assert (code, out) == (0, "")
    assert err == "time is over; what was finished is kept; the same command goes on\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here: nothing that is always full")
def test_output_that_goes_to_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "bench", "list", "suites", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "bench: cannot write the output: No space left on device; free some space\n"
