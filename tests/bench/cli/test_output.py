"""What is printed, where it goes and what a terminal cannot show."""

import io
import json
import os
import re
import subprocess
import sys

import pytest

from bench.cli import main as cli
from bench.cli.terminal import bear_any_encoding, json_alone, print_json
from tests.helpers import REPOSITORY

PLUGIN = """
print("on import")
import optax
from baselines import Baseline

def make(h, horizon):
    print("on tracing")
    return optax.sgd(0.1)

OPTIMIZERS = {"talking": Baseline(make, {}, {}, "")}
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_has_not_is_replaced(encoding, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", io.TextIOWrapper(io.BytesIO(), encoding))
    bear_any_encoding()
    print("adam †‡§ – 0.5 日", file=sys.stdout)
    print("ü→", file=sys.stderr)
    sys.stdout.flush()
    said = sys.stdout.buffer.getvalue().decode(encoding)
    expected = "adam !~* - 0.5 ?\n" if encoding == "ascii" else None
    assert said == (expected or "adam !~§ - 0.5 ?\n")


def test_a_command_in_a_terminal_of_another_encoding_says_all_of_it(tmp_path):
    command = [sys.executable, "-m", "bench", "report", "quick", "--label", "cpu-2core", "--reports-dir", tmp_path]
    env = os.environ | {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode("ascii")
    assert re.search(r"\| muon_cosine +\| 5/5 \| +0\.\d+ \+/-0\.", said)
    assert said.splitlines()[-1].startswith("report:")


def test_json_is_alone_on_standard_output(capsys):
    with json_alone():
        print("noise")
        print_json({"a": 1})
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == ({"a": 1}, "noise\n")


def test_what_a_plugin_prints_is_no_part_of_the_json(tmp_path, monkeypatch, capsys, undrawn):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    monkeypatch.setenv("BENCH_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("BENCH_REPORTS_DIR", str(tmp_path / "reports"))
    part = ["-t", "digits8_mlp", "-o", "talking", "--seeds", "0", "--steps", "2", "--set", "timing_blocks=0"]
    with pytest.raises(SystemExit) as done:
        cli.main(["run", "quick", *part, "--plugin", str(tmp_path / "plugin.py"), "--no-isolate", "--json"])
    printed = capsys.readouterr()
    assert not done.value.code
    assert json.loads(printed.out)["cells"] == {"ok": 1}
    assert "on import" in printed.err
    assert "on tracing" in printed.err
