"""Tuning a family: an optimizer that cannot go on does not stop the others, and leaves what was there."""

import json
import math

import pytest

from baselines import BASELINES
from bench.cli import main as cli
from bench.entries.plugins import build_registry
from bench.errors import EXIT_FAILED_CELLS, EXIT_USAGE
from bench.store.settings import PACKAGES
from bench.tuning import family, search
from tests.helpers import assert_one_line

PLUGIN = """
import sys

import jax
import jax.numpy as jnp
import optax
from baselines import Baseline, LogUniform

def row(make, low, high):
    return Baseline(make, {"learning_rate": LogUniform(low, high)}, {"learning_rate": low}, "")

def raising(h, horizon):
    raise RuntimeError("no such thing")

def leaving(h, horizon):
    sys.exit(0)

def no_such_thing(x):
    raise RuntimeError("no such thing")

def raising_late(h, horizon):
    def update(grads, state, params=None):
        factor = jax.pure_callback(no_such_thing, jax.ShapeDtypeStruct((), jnp.float32), 1.0)
        return jax.tree.map(lambda g: -factor * g, grads), state
    return optax.GradientTransformation(lambda params: (), update)

OPTIMIZERS = {
    "partial": Baseline(lambda h, horizon: optax.sgd(h["a"]), {"a": LogUniform(0.1, 1)}, {"a": 0.1, "b": 0.9}, ""),
    "leaving": row(leaving, 0.1, 1.0),
    "raising_late": row(raising_late, 0.1, 1.0),
    "wild": row(lambda h, horizon: optax.sgd(h["learning_rate"]), 1e25, 1e30),
    "raising": row(raising, 0.1, 1.0),
    "sound": row(lambda h, horizon: optax.sgd(h["learning_rate"]), 0.1, 1.0),
}
"""


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Runs `bench ...` with a plug-in: (exit code, standard output, standard error)."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    monkeypatch.setenv("BENCH_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setattr(search, "NUM_TRIALS", 4)
    monkeypatch.setattr(search, "MAX_ROUNDS", 1)

    def run(*args):
        with pytest.raises(SystemExit) as done:
            cli.main([*args, "--plugin", str(tmp_path / "plugin.py"), "--steps", "10"])
        captured = capsys.readouterr()
        return done.value.code or 0, captured.out, captured.err

    return run


def test_what_cannot_be_tuned_is_said_and_written_nowhere_and_the_others_go_on(bench, tmp_path):
    folder = tmp_path / "results" / "tuned" / "digits8_mlp" / "10"
    names = ("wild", "raising", "leaving", "raising_late", "partial", "sound")
    code, out, err = bench("tune", "digits8_mlp", *(part for name in names for part in ("-o", name)), "--json")
    assert code == EXIT_FAILED_CELLS
    found = {row["optimizer"]: row for row in json.loads(out)}
    assert found["wild"]["failure"] == "all 4 trials diverged"
    assert found["raising"]["failure"] == "RuntimeError: no such thing (plugin.py, line 13)"
    expected = "ValueError: the search space has ['a'], and the default ['a', 'b']"
    assert found["partial"]["failure"] == expected
    assert found["leaving"]["failure"] == "SystemExit: 0 (plugin.py, line 16)"
    assert found["raising_late"]["failure"].endswith("RuntimeError: no such thing")
    assert "wild: not tuned, nothing written: all 4 trials diverged" in err
    assert "failure" not in found["sound"]
    assert sorted(path.name for path in folder.glob("*.json")) == ["sound.json"]
    assert math.isfinite(json.loads((folder / "sound.json").read_text())["validation_loss"])


def test_targets_are_frozen_without_what_raises_and_not_at_all_where_nothing_finishes(bench, tmp_path):
    path = tmp_path / "results" / "targets" / "digits8_mlp" / "10.json"
    code, _, err = bench("freeze", "quick", "-t", "digits8_mlp", "-o", "wild")
    assert code == EXIT_USAGE
    assert_one_line(err.strip())
    assert "digits8_mlp: no hand-designed optimizer finishes on half of the seeds: nothing to freeze" in err
    assert not path.exists()
    names = ("raising", "leaving", "raising_late", "sound")
    code, out, _ = bench("freeze", "quick", "-t", "digits8_mlp", *(part for name in names for part in ("-o", name)))
    assert code == 0
    assert "digits8_mlp: without leaving: SystemExit: 0" in out
    assert "digits8_mlp: without raising_late: JaxRuntimeError: RuntimeError: no such thing" in out
    assert "digits8_mlp: without raising: RuntimeError: no such thing" in out
    assert json.loads(path.read_text())["optimizers"].keys() == {"sound"}


def test_a_search_that_was_stopped_is_not_resumed_with_another_version_of_the_plugin(bench, tmp_path, monkeypatch):
    plugin, runs = tmp_path / "plugin.py", search.TrialRunner.__call__
    left = tmp_path / "results" / "tuned" / "digits8_mlp" / "10" / "sound.runs"

    def stop(self, task, key, points):
        if left.exists():
            raise KeyboardInterrupt
        return runs(self, task, key, points)

    def stopped():
        with monkeypatch.context() as patch:
            patch.setattr(search.TrialRunner, "__call__", stop)
            bench("tune", "digits8_mlp", "-o", "sound")

    stopped()
    assert "sound: resuming after 1 runs" in bench("tune", "digits8_mlp", "-o", "sound")[1]
    stopped()
    plugin.write_text(plugin.read_text().replace('sgd(h["learning_rate"])', 'adam(h["learning_rate"])'))
    code, out, _ = bench("tune", "digits8_mlp", "-o", "sound")
    assert (code, "resuming" in out) == (0, False)


def test_losses_of_another_optax_or_of_rows_written_otherwise_are_not_reused(tmp_path, monkeypatch):
    registry, row = build_registry(()), BASELINES["adam"]

    def identity():
        return family._identity("adam", row, "digits8_mlp", 10, registry)

    before = identity()
    assert before == identity()
    monkeypatch.setattr(family, "versions", lambda: dict.fromkeys(PACKAGES, "0"))
    assert identity() != before
    monkeypatch.undo()
    for name in ("registry.py", "soap.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr("baselines.__file__", str(tmp_path / "__init__.py"))
    assert identity() != before
