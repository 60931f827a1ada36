"""The package as it is installed: the wheel holds its data, and the examples of the docstrings run."""

import doctest
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("tasks", "baselines", "learned", "bench")
WITH_EXAMPLES = sorted(
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_every_docstring_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.slow
def test_the_wheel_works_outside_the_clone(tmp_path):
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--quiet",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    env = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")} | {
        "PYTHONPATH": str(site)
    }

    def python(*args):
        command = [sys.executable, *args]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = python("-c", "import bench, learned; learned.load(); print(bench.__file__)")
    assert where.strip().startswith(str(site))
    args = ["-t", "digits8_mlp", "-o", "adam", "-o", "learned", "--seeds", "0", "--steps", "20", "--json"]
    assert json.loads(python("-m", "bench", "run", *args))["cells"] == {"ok": 6}
    assert (tmp_path / "reports" / "quick" / "local" / "report.html").exists()
