"""`bench check` of a plug-in: each check in a process, whatever the plug-in does."""

import json
import subprocess
import sys
import time

import pytest

from bench.checks.optimizers import OPTIMIZER_CHECKS
from bench.checks.plugin import check_plugin
from bench.cli import main as cli
from bench.errors import UsageError
from tests.helpers import assert_one_line

PLUGIN = """
import os, signal, time
import jax, optax
from baselines import Baseline, LogUniform

def row(update):
    space = {"learning_rate": LogUniform(1e-3, 1.0)}
    def make(h, horizon):
        scaled = optax.scale(h["learning_rate"])
        return optax.chain(optax.GradientTransformation(optax.sgd(0.1).init, update), scaled)
    return Baseline(make, space, {"learning_rate": 0.1}, "")

def sleeping(grads, state, params=None):
    time.sleep(1000)

def crashing(grads, state, params=None):
    os.kill(os.getpid(), signal.SIGSEGV)

def talking(grads, state, params=None):
    print('{"check": "all", "passed": true}', flush=True)
    return jax.tree.map(lambda g: -g, grads), state

OPTIMIZERS = {"sleeping": row(sleeping), "crashing": row(crashing), "talking": row(talking)}
"""


@pytest.mark.slow  # processes that are waited for
def test_what_hangs_or_crashes_is_a_verdict_and_the_others_go_on(tmp_path, capsys):
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    begin = time.monotonic()
    with pytest.raises(SystemExit) as done:
        cli.main(["check", str(path), "--time-limit", "20", "--json"])
    assert done.value.code == 4
    assert time.monotonic() - begin < 300
    verdicts = json.loads(capsys.readouterr().out)
    by_name = {name: [v for v in verdicts if v["name"] == name] for name in ("sleeping", "crashing", "talking")}
    assert [v["check"] for v in by_name["sleeping"]] == ["can be built", "search space", "host callbacks"]
    assert (
        by_name["sleeping"][-1]["detail"]
        == "its process was ended after 20 s: does it sleep, or need a longer --time-limit?"
    )
    assert by_name["crashing"][-1]["detail"] == "its process died, by signal SIGSEGV"
    assert [v["check"] for v in by_name["talking"]] == [
        "can be built",
        *OPTIMIZER_CHECKS,
    ]  # what it prints is no verdict
    assert all(v["passed"] for v in by_name["talking"])


@pytest.mark.slow
def test_a_sound_plugin_passes_as_a_user_would_see_it(tmp_path):
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN.split("def sleeping")[0] + PLUGIN[PLUGIN.index("def talking") :].split("OPTIMIZERS")[0])
    path.write_text(path.read_text() + 'OPTIMIZERS = {"talking": row(talking)}\n')
    done = subprocess.run([sys.executable, "-m", "bench", "check", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{1 + len(OPTIMIZER_CHECKS)} checks, 0 broken" in done.stdout


TASKS_WITH_STATE = """
import numpy as np
from flax import linen as nn
from tasks import array_task

class Net(nn.Module):
    middle: nn.Module

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(self.middle(nn.Dense(8)(x.reshape(len(x), -1))))

def task(name, middle):
    arrays = {f"{split}_images": np.zeros((9, 2, 2, 1), np.uint8) for split in ("train", "validation", "test")}
    arrays |= {name.replace("images", "labels"): np.zeros(9, np.int32) for name in arrays}
    return array_task(name, Net(middle), arrays, num_classes=2, horizon=20)

TASKS = {
    "batchnorm": lambda: task("batchnorm", nn.BatchNorm(use_running_average=False)),
    "dropout": lambda: task("dropout", nn.Dropout(0.5, deterministic=False)),
}
"""


def test_a_task_with_state_or_dropout_is_one_line_that_names_the_limit(tmp_path, capsys):
    path = tmp_path / "plugin.py"
    path.write_text(TASKS_WITH_STATE)
    with pytest.raises(SystemExit) as done:
        cli.main(["check", str(path), "--json"])
    assert done.value.code == 4
    verdicts = json.loads(capsys.readouterr().out)
    assert [(v["name"], v["check"], v["passed"]) for v in verdicts] == [
        ("batchnorm", "can be built", False),
        ("dropout", "can be built", False),
    ]
    for verdict, words in zip(
        verdicts, ("Net has state (batch_stats), and a loss is a function of", "dropout"), strict=True
    ):
        assert words in verdict["detail"]
        assert_one_line(verdict["detail"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("raise OSError('gone')", "cannot be imported: OSError: gone"),
        ("x = 1", "expected TASKS"),
        ("import os; os._exit(7)", "cannot be imported: its process died, by exit code 7"),
        ("OPTIMIZERS = {'adam': 3}", "the name 'adam' is taken"),
    ],
)
def test_a_file_that_is_no_plugin_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "plugin.py"
    path.write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        check_plugin(str(path))
    assert_one_line(caught.value)
