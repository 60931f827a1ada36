"""Settings of JAX that change results are refused before anything runs."""

import json
import os
import subprocess
import sys

import jax
import pytest

from bench.cli import main as cli
from bench.errors import EXIT_CHECK_FAILED, EXIT_USAGE
from tests.helpers import REPOSITORY, assert_one_line


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_disable_jit", True),
        ("jax_debug_nans", True),
        ("jax_default_matmul_precision", "bfloat16"),
        ("jax_threefry_partitionable", False),
        ("jax_numpy_dtype_promotion", "strict"),
    ],
)
def test_a_setting_that_changes_results_is_refused_in_one_line_and_told_by_doctor(setting, value, capsys):
    usual = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        with pytest.raises(SystemExit) as done:
            cli.main(["run", "quick", "-t", "digits8_mlp", "-o", "adam", "--seeds", "0"])
        assert done.value.code == EXIT_USAGE
        said = capsys.readouterr().err.strip()
        assert_one_line(said)
        assert said == (
            f"bench: {setting.upper()} is {value}, and results are made with {usual}: "
            "unset it, in the environment or wherever it is set"
        )
        with pytest.raises(SystemExit) as done:
            cli.main(["doctor", "--json"])
        assert done.value.code == EXIT_CHECK_FAILED
        rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
        assert rows[setting.upper()]["status"] == "problem"
    finally:
        jax.config.update(setting, usual)


@pytest.mark.parametrize(
    "command",
    [["doctor"], ["doctor", "--device", "gpu"], ["run", "quick", "-t", "digits8_mlp", "-o", "adam", "--seeds", "0"]],
)
def test_a_platform_that_is_not_here_is_said_in_one_line(command, tmp_path):
    env = os.environ | {"JAX_PLATFORMS": "nonsense", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_USAGE
    assert done.stdout == ""
    assert_one_line(done.stderr.strip())
    assert "JAX finds no device: JAX_PLATFORMS is nonsense, which is not here" in done.stderr
    assert not any(tmp_path.rglob("*.json")), "nothing has run"
