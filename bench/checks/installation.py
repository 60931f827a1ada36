"""Examines an installation: `bench doctor`."""

import dataclasses
import os
from pathlib import Path

import jax

from bench.device import select_device, unusual_settings
from bench.folders import Folders
from bench.store.provenance import device as device_facts
from bench.store.provenance import git_state, versions
from tasks import data


@dataclasses.dataclass(frozen=True)
class Finding:
    """One finding about the installation.

    Attributes:
      check: what was examined.
      status: "ok", "note" or "problem".
      found: what was found.
      remedy: what to do about it; empty if nothing.
    """

    check: str
    status: str
    found: str
    remedy: str = ""


def examine_installation(folders: Folders | None = None, *, device: str | None = None) -> list[Finding]:
    """Examines versions, devices, data and folders.

    Args:
      folders: where results, reports and data lie; by default those of the command line.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.

    Raises:
      UsageError: there is no such device.

    Example:
      >>> next(finding.status for finding in examine_installation() if finding.check == "data digits8")
      'ok'
    """
    unusual = unusual_settings()
    if not unusual:
        select_device(device)
    folders = folders or Folders()
    rows: list[Finding] = []

    def row(check: str, status: str, found: str, remedy: str = "") -> None:
        rows.append(Finding(check, status, found, remedy))

    for name, found in unusual.items():
        row(name, "problem", found, "unset it")

    for package, version in versions().items():
        missing = version == "absent"
        remedy = f"pip install {package}" if missing else ""
        row(package, "note" if missing else "ok", version, remedy)
    git = git_state()
    row(
        "source",
        "ok",
        f"commit {git['commit']}{' with changes' if git['dirty'] else ''}" if git["commit"] else "installed",
    )
    here = device_facts()
    row("device", "ok", f"{here['platform']} {here['kind']} x {here['count']}, {here['cpu']}, {here['cores']} cores")
    if jax.default_backend() == "cpu":
        row("accelerator", "note", "none", "pip install 'lopt-bench[gpu]' on a machine with a CUDA device")
    for name in data.DATA_SETS:
        place = data.locate(name, data_dir=folders.data_dir, cache_dir=folders.cache_dir)
        digest = f" digest {place['digest'][:16]}" if place["digest"] else ""
        damaged = place["cached"] is not None and place["digest"] is None
        status = "problem" if damaged else ("note" if place["remedy"] else "ok")
        row(f"data {name}", status, f"{place['status']}{digest}", place["remedy"])
    for label, folder, flag in (
        ("results folder", folders.results_dir, "--results-dir"),
        ("reports folder", folders.reports_dir, "--reports-dir"),
        ("cache folder", folders.cache_dir, "--cache-dir"),
    ):
        writable = _writable(folder)
        row(
            label,
            "ok" if writable else "problem",
            str(folder),
            "" if writable else f"not writable: choose another by {flag}",
        )
    return rows


def _writable(folder: Path) -> bool:
    """Whether the folder, or its nearest existing parent, can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
