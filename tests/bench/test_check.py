"""`bench check`: what is sound passes, and what is broken is named for what it is."""

import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from baselines import BASELINES, Baseline, LogUniform
from bench.checks.contract import examine
from bench.checks.optimizers import OPTIMIZER_CHECKS, OptimizerSubject
from bench.checks.plugin import check_plugin
from bench.checks.tasks import TASK_CHECKS, TaskSubject
from bench.cli import main as cli
from bench.errors import UsageError
from tasks.base import Problem, Task
from tests.helpers import assert_one_line

RATE = LogUniform(1e-4, 1.0)


def row(make, default=0.01):
    return Baseline(make, {"learning_rate": RATE}, {"learning_rate": default}, "")


def changed(change, init=None):
    """SGD whose (updates, state) go through a function."""
    sgd = optax.sgd(0.01)

    def update(grads, state, params=None):
        del params
        return change(jax.tree.map(lambda g: -0.01 * g, grads), state)

    return row(lambda h, horizon: optax.GradientTransformation(init or sgd.init, update))


def to_all(function):
    return lambda updates, state: (jax.tree.map(function, updates), state)


def noisy(updates, state):
    return jax.tree.map(lambda u: u + float(np.random.default_rng().normal()), updates), state  # at every trace


def printing(updates, state):
    jax.debug.print("{}", jax.tree.leaves(updates)[0].sum())
    return updates, state


def growing(updates, state):
    return updates, jnp.concatenate([state, jnp.zeros(1)])


def raising(updates, state):
    raise RuntimeError("no such thing")


# Name of a broken optimizer -> (row, the checks that have to say so, words of one of them).
BROKEN_OPTIMIZERS = {
    "raises": (changed(raising), {"structure, shapes, dtypes", "descends"}, "raises RuntimeError: no such thing"),
    "NaN": (changed(to_all(lambda u: u * jnp.nan)), {"finite", "descends"}, "an update is not finite"),
    "huge": (changed(to_all(lambda u: u * 1e12)), {"finite"}, "an update is as large as"),
    "retraces": (changed(growing, lambda params: jnp.zeros(1)), {"retraces"}, "were traced 4 times"),
    "callback": (changed(printing), {"host callbacks"}, "calls back to Python from inside the step"),
    "random": (changed(noisy), {"deterministic", "jit = eager"}, "traced twice, differ"),
    "half": (changed(to_all(lambda u: u.astype(jnp.float16))), {"structure, shapes, dtypes"}, "float16"),
    "uphill": (changed(to_all(lambda u: -u)), {"descends"}, "take the loss from"),
    "heavy": (
        changed(lambda u, s: (u, s), lambda params: jax.tree.map(lambda p: jnp.zeros((40, *p.shape)), params)),
        {"cost"},
        "bytes of state per parameter",
    ),
    "unread": (row(lambda h, horizon: optax.sgd(0.01)), {"hyperparameters"}, "does `make` read it?"),
    "default": (row(lambda h, horizon: optax.sgd(h["learning_rate"]), 3.0), {"search space"}, "lies outside"),
}


def broken(checks, subject):
    return {name: detail for name, passed, detail in examine(checks, subject) if not passed}


@pytest.mark.parametrize("name", BROKEN_OPTIMIZERS)
def test_a_broken_optimizer_is_named_for_what_it_is(name):
    made, expected, words = BROKEN_OPTIMIZERS[name]
    with np.errstate(all="ignore"):
        found = broken(OPTIMIZER_CHECKS, OptimizerSubject(made))
    assert expected <= set(found), found
    assert any(words in detail for detail in found.values()), found
    for detail in found.values():
        assert_one_line(detail)


@pytest.mark.parametrize("name", BROKEN_OPTIMIZERS)
def test_what_is_not_broken_about_it_is_not_named(name):
    """A finding that follows from another one is fine; one about something else is not."""
    unrelated = {"NaN": "retraces", "huge": "retraces", "callback": "descends", "half": "deterministic"}
    made, expected, _ = BROKEN_OPTIMIZERS[name]
    check_name = unrelated.get(name, "NaN")
    if name != "raises":
        assert OPTIMIZER_CHECKS[check_name](OptimizerSubject(made))
    assert check_name not in expected


@pytest.mark.parametrize("name", ["adam", "muon_cosine"])
def test_a_sound_optimizer_passes(name):
    assert broken(OPTIMIZER_CHECKS, OptimizerSubject(BASELINES[name])) == {}


# Tasks ----------------------------------------------------------------------------------------------------------------

SIZES = (64, 16, 16)


def linear_task(loss=None, init=None, take=None, **changes):
    """Linear regression on rows that no two splits share."""
    rng = np.random.default_rng(0)
    arrays = {"x": jnp.asarray(rng.normal(size=(sum(SIZES), 5)), jnp.float32)}
    begins = dict(zip(("train", "validation", "test"), np.cumsum([0, *SIZES]), strict=False))

    def default_take(arrays, cfg, split, indices):
        x = arrays["x"][indices + int(begins[split])]
        return x, jnp.sum(x, axis=1)

    fields = {
        "family": "linear",
        "init": init or (lambda key: {"w": jax.random.normal(key, (5,))}),
        "loss": loss or (lambda params, batch: jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2)),
        "take": take or default_take,
        "sizes": SIZES,
        "horizon": 10,
        "batch_size": 8,
        "chance_loss": 5.0,
    }
    return Task(Problem(**fields | changes), arrays)


def swallowing(params, batch):
    return jnp.mean(jnp.nan_to_num(batch[0] @ params["w"] - batch[1]) ** 2)


def shared_take(arrays, cfg, split, indices):
    x = arrays["x"][indices]
    return x, jnp.sum(x, axis=1)


def printed_loss(params, batch):
    jax.debug.print("loss")
    return jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2)


def random_init(key):
    del key
    return {"w": jnp.asarray(np.random.default_rng().normal(size=5), jnp.float32)}


BROKEN_TASKS = {
    "shared": (linear_task(take=shared_take), {"splits disjoint"}, "examples are in train and in validation alike"),
    "swallows": (linear_task(loss=swallowing), {"NaN"}, "a diverged run would not be seen"),
    "callback": (linear_task(loss=printed_loss), {"host callbacks"}, "calls back to Python"),
    "random": (linear_task(init=random_init), {"deterministic"}, "randomness outside of its key"),
    "constant": (linear_task(init=lambda key: {"w": jnp.ones(5) * 0.3}), {"deterministic"}, "draw the same params"),
    "vector": (linear_task(loss=lambda p, b: (b[0] @ p["w"] - b[1]) ** 2), {"structure, shapes, dtypes"}, "scalar"),
    "flat": (linear_task(loss=lambda p, b: 0.0 * jnp.sum(p["w"]) + 1.0), {"trains"}, "take the train loss from 1 to 1"),
    "huge": (linear_task(loss=lambda p, b: jnp.sum(p["w"] ** 2) * 1e9), {"finite"}, "a hundred times that of chance"),
    "raises": (linear_task(loss=lambda p, b: {}["w"]), {"trains"}, "raises KeyError"),
    "horizon": (linear_task(horizon=0), {"sizes"}, "horizon is 0"),
    "chance": (linear_task(chance_loss=float("nan")), {"sizes"}, "chance_loss is nan"),
}


@pytest.mark.parametrize("name", BROKEN_TASKS)
def test_a_broken_task_is_named_for_what_it_is(name):
    task, expected, words = BROKEN_TASKS[name]
    found = broken(TASK_CHECKS, TaskSubject(task))
    assert expected <= set(found), found
    assert any(words in detail for detail in found.values()), found
    for detail in found.values():
        assert_one_line(detail)


def test_a_sound_task_passes():
    assert broken(TASK_CHECKS, TaskSubject(linear_task())) == {}


# Real processes -------------------------------------------------------------------------------------------------------

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
        cli.main(["check", str(path), "--time-limit", "40", "--json"])
    assert done.value.code == 4
    assert time.monotonic() - begin < 300
    verdicts = json.loads(capsys.readouterr().out)
    by_name = {name: [v for v in verdicts if v["name"] == name] for name in ("sleeping", "crashing", "talking")}
    assert [v["check"] for v in by_name["sleeping"]] == ["can be built", "search space", "host callbacks"]
    assert (
        by_name["sleeping"][-1]["detail"]
        == "its process was ended after 40 s: does it sleep, or need a longer --time-limit?"
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
