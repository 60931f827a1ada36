"""What a plug-in may define, and under which names."""

import pytest

from bench.entries.plugins import BrokenTask, build_registry, failure
from bench.errors import UsageError
from tests.helpers import assert_one_line

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


def test_a_failure_in_a_callback_is_said_in_its_own_words():
    text = "INTERNAL: CpuCallback error: Traceback (most recent call last):\n  File ...\nValueError: no such thing"
    assert failure(RuntimeError(text)) == ("error", "RuntimeError: ValueError: no such thing")
    assert failure(RuntimeError("RESOURCE_EXHAUSTED: 8 GB"))[0] == "out_of_memory"
