"""Provenance of a record: code, versions, device and data (protocol: provenance in each run's record)."""

import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("lopt-bench", "jax", "jaxlib", "optax", "flax", "numpy", "tensorflow-datasets")


def versions() -> dict[str, str]:
    """Versions of Python and the packages that matter; "absent" where one is not installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


@functools.cache
def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the source tree; both None where the package is installed without it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # Only changes that can change a number count: the packages, not results, tests or pages.
        status = git("status", "--porcelain", "--", "bench", "tasks", "baselines", "learned", "pyproject.toml")
        return {"commit": git("rev-parse", "HEAD")[:12], "dirty": bool(status)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


@functools.cache
def cpu_model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def num_cores() -> int | None:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def processor() -> str:
    """The processor and the number of cores that this process may use; rounding on a CPU depends on both."""
    return f"{cpu_model()}, cores used: {num_cores()}"


def default_device() -> Any:
    """The device that computations run on."""
    return getattr(jax.config, "jax_default_device", None) or jax.devices()[0]


def device() -> dict[str, Any]:
    """The default device: platform, kind, number of devices, and the host's processor."""
    default = default_device()
    return {
        "platform": default.platform,
        "kind": default.device_kind,
        "count": jax.device_count(),
        "backend_version": getattr(default.client, "platform_version", "").splitlines()[0][:100],
        "cpu": cpu_model(),
        "cores": num_cores(),
    }


def machine_of(record: str) -> str:
    """The accelerator of a cell, else its processor, from its provenance as JSON; "unknown" where none is said.

    Example:
      >>> machine_of('{"device": {"kind": "cpu", "cpu": "AMD EPYC"}}')
      'AMD EPYC'
    """
    device = json.loads(record).get("device", {})
    kind = device.get("kind", "unknown")
    return device.get("cpu", "cpu") if kind == "cpu" else kind


def timed_on(record: str) -> str:
    """`machine_of` with the number of its cores, which a clock and rounding depend on, where it is said.

    Example:
      >>> timed_on('{"device": {"kind": "cpu", "cpu": "AMD EPYC", "cores": 2}}')
      'AMD EPYC, 2 cores'
    """
    cores = json.loads(record).get("device", {}).get("cores")
    return machine_of(record) + (f", {cores} core{'s' * (cores != 1)}" if cores else "")


def without_folders(argv: Sequence[str]) -> list[str]:
    """Arguments without `--...-dir` options, since folders of a machine are no part of a result.

    Example:
      >>> without_folders(["run", "--results-dir", "/home/me/results", "--cache-dir=/tmp", "--seeds", "0-4"])
      ['run', '--seeds', '0-4']
    """
    kept, skip = [], False
    for argument in argv:
        folder = re.match(r"--[a-z]+-dir(=|$)", argument)
        if not (skip or folder):
            kept.append(argument)
        skip = bool(folder) and "=" not in argument
    return kept


def argv() -> list[str]:
    """The command that is running, without its folders."""
    return ["bench", *without_folders(sys.argv[1:])]


def provenance(data_set: dict[str, Any]) -> dict[str, Any]:
    """The provenance of a record, except the start time, which is a field of its own."""
    return {
        "git": git_state(),
        "versions": versions(),
        "device": device(),
        "flags": {
            name: os.environ[name] for name in ("XLA_FLAGS", "JAX_PLATFORMS", "OMP_NUM_THREADS") if name in os.environ
        },
        "argv": argv(),
        "data": data_set,
    }
