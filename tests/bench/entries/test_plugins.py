"""What a plug-in may define, and under which names."""

import gc
import os
import sys
import weakref

import jax
import pytest

from bench.entries.plugin_files import failure
from bench.entries.plugins import BrokenTask, Registry, build_registry
from bench.errors import UsageError
from tests.helpers import assert_one_line, linear_task

NAMED = """
import dataclasses, tasks
from baselines import BASELINES

def task():
    task = tasks.load("digits8_mlp")
    return dataclasses.replace(task, problem=dataclasses.replace(task.problem, family={family!r}))

TASKS = {{{task!r}: task}}
OPTIMIZERS = {{{optimizer!r}: BASELINES["adam"]}}
"""
BAD_NAMES = [
    "../x",
    "..",
    ".x",
    "a/../b",
    "/x",
    "a//b",
    "x" * 101,
    "a b",
    "a|b",
    "<b>",
    "$x$",
    r"\\input{x}",
    "ü",
    "a\n",
    "",
]
SOUND_NAMES = {"task": "mine/0", "optimizer": "mine", "family": "mine"}


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("what", SOUND_NAMES)
def test_names_of_what_a_plugin_defines(tmp_path, what, name):
    """They become parts of paths, of pages and of tables in LaTeX."""
    path = tmp_path / "plugin.py"
    path.write_text(NAMED.format(**SOUND_NAMES))
    assert build_registry([str(path)]).problem("mine/0").family == "mine"
    path.write_text(NAMED.format(**SOUND_NAMES | {what: name}))
    with pytest.raises(UsageError, match=r"expected a (name|family) of letters, digits") as caught:
        build_registry([str(path)]).problem("mine/0")
    assert_one_line(caught.value)


def test_what_a_plugin_defines_is_listed_beside_what_is_built_in_and_bears_the_digest_of_its_file(tmp_path):
    path = tmp_path / "plugin.py"
    path.write_text(NAMED.format(**SOUND_NAMES))
    first = build_registry([str(path)])
    assert {"mine/0", "digits8_mlp"} <= set(first.task_names())
    assert first.baseline("mine") is first.baseline("adam")
    assert first.load("mine/0") is first.load("mine/0")  # built once
    path.write_text(path.read_text() + "# edited\n")
    second = build_registry([str(path)])
    assert first.sources["mine"] != second.sources["mine"]
    assert first.digest("mine/0") != second.digest("mine/0")  # new cells
    assert first.data_facts("mine/0") == second.data_facts("mine/0")  # of the same data


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("open('nowhere')", "error", "FileNotFoundError: "),
        ("__import__('sys').exit(3)", "error", "SystemExit: 3"),
        ("bytearray(1 << 60)", "out_of_memory", "MemoryError"),
        ("3", "error", "expected a tasks.Task, got int"),
    ],
)
def test_a_task_that_cannot_be_built_says_how_its_rows_end(tmp_path, body, status, reason):
    path = tmp_path / "plugin.py"
    path.write_text(f"TASKS = {{'mine': lambda: {body}}}\n")
    with pytest.raises(BrokenTask) as caught:
        build_registry([str(path)]).problem("mine")
    assert (caught.value.status, caught.value.reason.startswith(reason)) == (status, True)
    assert_one_line(caught.value)


@pytest.mark.parametrize("default", ["{'rate': float('nan')}", "{'rate': float('inf')}", "{1: 0.1}", "{'source': 1.0}"])
def test_hyperparameters_that_no_record_can_hold_are_refused_in_one_line(tmp_path, default):
    path = tmp_path / "plugin.py"
    path.write_text(f"from baselines import Baseline\nOPTIMIZERS = {{'mine': Baseline(None, {{}}, {default}, '')}}\n")
    with pytest.raises(UsageError, match=r"expected default of 'mine' to be|cannot have a hyperparameter") as caught:
        build_registry([str(path)])
    assert_one_line(caught.value)


NUMBERS = """
import dataclasses
import jax.numpy as jnp
import numpy as np
import tasks

def mine():
    task = tasks.load("digits8_mlp")
    return dataclasses.replace(task, problem=dataclasses.replace(task.problem, {changes}))

TASKS = {{"mine": mine}}
"""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ("horizon=0", "expected horizon to be a whole number, at least 1, got 0"),
        ("horizon=20.5", "expected horizon to be a whole number, at least 1, got 20.5"),
        ("batch_size=-4", "expected batch_size to be a whole number, at least 1, got -4"),
        ("sizes=(8, 8, 0)", "expected size of test to be a whole number, at least 1, got 0"),
        ("sizes=(8, 8)", "expected sizes to be three whole numbers, of train, validation, test, got (8, 8)"),
        ("chance_loss=float('inf')", "expected chance_loss to be a finite number, got inf"),
        ("chance_loss=None", "expected chance_loss to be a finite number, got None"),
    ],
)
def test_a_number_of_a_task_that_no_record_can_hold_is_said(tmp_path, changes, reason):
    path = tmp_path / "plugin.py"
    path.write_text(NUMBERS.format(changes=changes))
    with pytest.raises(BrokenTask) as caught:
        build_registry([str(path)]).problem("mine")
    assert (caught.value.status, caught.value.reason) == ("error", reason)


def test_numbers_of_numpy_and_jax_are_numbers_of_a_task(tmp_path):
    path = tmp_path / "plugin.py"
    changes = "horizon=np.int64(20), batch_size=np.int32(4), chance_loss=jnp.float32(2.5)"
    path.write_text(NUMBERS.format(changes=changes))
    registry = build_registry([str(path)])
    problem = registry.problem("mine")
    found = [problem.horizon, problem.batch_size, problem.chance_loss]
    assert (found, list(map(type, found))) == ([20, 4, 2.5], [int, int, float])
    assert registry.load("mine").problem == problem


def test_a_failure_in_a_callback_is_said_in_its_own_words():
    text = "INTERNAL: CpuCallback error: Traceback (most recent call last):\n  File ...\nValueError: no such thing"
    assert failure(RuntimeError(text)) == ("error", "RuntimeError: ValueError: no such thing")
    assert failure(RuntimeError("RESOURCE_EXHAUSTED: 8 GB"))[0] == "out_of_memory"


AS_PEOPLE_WRITE_THEM = """
from __future__ import annotations

import dataclasses

import optax
from flax import linen as nn

from baselines import Baseline, LogUniform

print("hello from a plug-in")


@dataclasses.dataclass
class Settings:
    rate: float = 0.1


class Net(nn.Module):
    width: int = 8


OPTIMIZERS = {
    "mine": Baseline(
        lambda h, horizon: optax.sgd(h["learning_rate"]),
        {"learning_rate": LogUniform(1e-3, 1.0)},
        {"learning_rate": Settings().rate},
        "mine",
    )
}
"""


def test_postponed_annotations_dataclasses_modules_and_prints(tmp_path, capsys):
    path = tmp_path / "plugin.py"
    path.write_text("\ufeff" + AS_PEOPLE_WRITE_THEM, encoding="utf-8")  # with the mark of some editors
    assert build_registry([str(path)]).baseline("mine").default == {"learning_rate": 0.1}
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello from a plug-in\n")


WITH_NEIGHBOURS = """
import package.rule
from constants import RATE
from baselines import Baseline, LogUniform

OPTIMIZERS = {
    "mine": Baseline(package.rule.make, {"learning_rate": LogUniform(1e-3, 1.0)}, {"learning_rate": RATE}, "mine")
}
"""


@pytest.fixture
def neighbours(tmp_path):
    """A plug-in of several files."""
    for name, content in {
        "plugin.py": WITH_NEIGHBOURS,
        "constants.py": "RATE = 0.1\n",
        "package/__init__.py": "",
        "package/rule.py": "import optax\nfrom . import of_rate\nmake = of_rate.make\n",
        "package/of_rate.py": "import optax\ndef make(h, horizon):\n    return optax.sgd(h['learning_rate'])\n",
        "unrelated.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize("edited", ["constants.py", "package/__init__.py", "package/of_rate.py", "unrelated.py"])
def test_the_digest_of_a_plugin_covers_the_neighbours_that_it_imports(neighbours, edited):
    path = str(neighbours / "plugin.py")
    first = build_registry([path])
    file = neighbours / edited
    file.write_text(file.read_text().replace("0.1", "0.2") + "\n")
    second = build_registry([path])
    assert (first.sources["mine"] == second.sources["mine"]) == (edited == "unrelated.py")
    if edited == "constants.py":  # not what was imported before
        assert second.baseline("mine").default == {"learning_rate": 0.2}


def test_imports_that_are_not_run_or_are_caught_are_no_hindrance(neighbours, monkeypatch):
    (neighbours / "package" / "rule.py").write_text(
        "from typing import TYPE_CHECKING\nfrom . import of_rate\nif TYPE_CHECKING:\n    import broken.sub\n"
        "def make(h, horizon):\n    try:\n        from ... import settings\n    except ImportError:\n"
        "        settings = None\n    return of_rate.make(h, horizon)\n"
    )
    (neighbours / "elsewhere" / "broken").mkdir(parents=True)
    (neighbours / "elsewhere" / "broken" / "__init__.py").write_text("raise RuntimeError('needs a GPU')\n")
    sub = neighbours / "elsewhere" / "broken" / "sub.py"
    sub.write_text("")
    monkeypatch.syspath_prepend(str(neighbours / "elsewhere"))
    path = str(neighbours / "plugin.py")
    first = build_registry([path])
    assert first.baseline("mine").make({"learning_rate": 0.1}, 10)
    sub.write_text("RATE = 1\n")
    assert build_registry([path]).sources["mine"] != first.sources["mine"], "what it may import counts"


@pytest.mark.parametrize("module", ["installed", "installed.row"])
def test_the_digest_of_an_entry_point_covers_what_it_imports_relatively(tmp_path, monkeypatch, module):
    for name, content in {
        "installed/__init__.py": "from .row import row\n",
        "installed/row.py": "from baselines import Baseline\n"
        "from .rule import make\nrow = Baseline(make, {}, {}, '')\n",
        "installed/rule.py": "import optax\ndef make(h, horizon):\n    return optax.sgd(0.1)\n",
        "installed-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n",
        "installed-1.0.dist-info/entry_points.txt": f"[bench.optimizers]\nmine = {module}:row\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        first = build_registry([]).sources["mine"]
        assert build_registry([]).sources["mine"] == first
        rule = tmp_path / "installed" / "rule.py"
        rule.write_text(rule.read_text().replace("0.1", "0.2"))
        assert build_registry([]).sources["mine"] != first
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "installed"]:
            del sys.modules[name]


def test_neighbours_of_one_name_are_each_their_own(neighbours, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "plugin.py").write_text("import constants\n" + NAMED.format(**SOUND_NAMES | {"optimizer": "second"}))
    (other / "constants.py").write_text("raise ValueError('here')\n")
    with pytest.raises(UsageError, match=r"ValueError: here \(constants.py, line 1\)") as caught:
        build_registry([str(neighbours / "plugin.py"), str(other / "plugin.py")])
    assert_one_line(caught.value)


def test_what_raises_is_said_with_the_line_of_the_plugin(tmp_path):
    path = tmp_path / "plugin.py"
    path.write_text("import json\n\nsettings = json.loads('{')\n")
    with pytest.raises(UsageError, match=r"JSONDecodeError: .* \(plugin.py, line 3\)$"):
        build_registry([str(path)])


@pytest.mark.parametrize("base", ["Exception", "BaseException"])
def test_an_exception_without_a_message_that_can_be_read_is_said(tmp_path, base):
    file = tmp_path / "mute.py"
    file.write_text(f"class Mute({base}):\n    def __str__(self):\n        raise ValueError('no')\nraise Mute\n")
    with pytest.raises(UsageError) as caught:
        build_registry((str(file),))
    assert str(caught.value).endswith("cannot be imported: Mute: its message cannot be read (mute.py, line 4)")


def test_a_name_that_is_not_utf8_is_no_hindrance(tmp_path):
    file = os.path.join(os.fsencode(tmp_path), b"caf\xe9.py")
    try:
        with open(file, "w") as stream:
            stream.write("from baselines import BASELINES\nOPTIMIZERS = {'mine': BASELINES['adam']}\nint('x')\n")
    except OSError:
        pytest.skip("this file system holds names in UTF-8 alone")
    with pytest.raises(UsageError, match=r"invalid literal for int.* \(caf\\udce9.py, line 3\)"):
        build_registry((os.fsdecode(file),))


def test_a_message_that_breaks_off_at_a_colon_goes_on():
    text = "carry input and carry output must have equal types, but they differ:\n\nThe input has type int32[]"
    assert failure(TypeError(text))[1].endswith("but they differ: The input has type int32[]")


def test_of_several_tasks_the_data_of_one_is_held(monkeypatch):
    """Planning asks for the facts of all: each is built for them once, and again when it is its turn to be loaded."""
    built, kept = [], {}

    def builder(name):
        def build():
            built.append(name)
            task = linear_task()
            kept[name] = weakref.ref(jax.tree.leaves(task.arrays)[0])
            return task

        return build

    registry = Registry(task_builders={name: builder(name) for name in "abc"})
    for name in "abc" * 2:
        assert registry.problem(name).family == "linear"
        assert len(registry.digest(name)) == 16
        assert registry.data_facts(name)["digest"]
    assert built == ["a", "b", "c"]
    gc.collect()
    assert [ref() is not None for ref in kept.values()] == [False, False, True]
    registry.load("a")
    assert built == ["a", "b", "c", "a"]
    registry.forget()
    gc.collect()
    assert not any(ref() is not None for ref in kept.values())


def test_a_plugin_that_sets_jax_so_that_results_are_others_is_refused(tmp_path):
    path = tmp_path / "plugin.py"
    path.write_text("import jax\njax.config.update('jax_enable_x64', True)\n" + NAMED.format(**SOUND_NAMES))
    try:
        with pytest.raises(UsageError, match="JAX_ENABLE_X64 is True, and results are made with False"):
            build_registry([str(path)])
    finally:
        jax.config.update("jax_enable_x64", False)
