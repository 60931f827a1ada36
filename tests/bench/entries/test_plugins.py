"""What a plug-in may define, and under which names."""

import pytest

from bench.entries.plugins import build_registry
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
