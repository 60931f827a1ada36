"""`bench doctor`: what is here, and what to do about what is wrong."""

import os
from pathlib import Path
from typing import Any

from bench.store.provenance import device, git_state, versions


def examine(results_dir: Path, reports_dir: Path, cache_dir: Path, data_dir: Path) -> list[dict[str, Any]]:
    """Checks of the installation.

    Returns:
      Rows of "check", "status" ("ok", "note" or "problem"), "found", "remedy".
    """
    import jax

    rows: list[dict[str, Any]] = []

    def row(check: str, status: str, found: str, remedy: str = "") -> None:
        rows.append({"check": check, "status": status, "found": found, "remedy": remedy})

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
    here = device()
    row("device", "ok", f"{here['platform']} {here['kind']} x {here['count']}, {here['cpu']}, {here['cores']} cores")
    if jax.default_backend() == "cpu":
        row("accelerator", "note", "none", "pip install 'lopt-bench[gpu]' on a machine with a CUDA device")
    import tasks.data

    for name in tasks.data.DATA_SETS:
        place = tasks.data.locate(name, data_dir=data_dir, cache_dir=cache_dir)
        digest = f" digest {place['digest'][:16]}" if place["digest"] else ""
        damaged = place["cached"] is not None and place["digest"] is None
        status = "problem" if damaged else ("note" if place["remedy"] else "ok")
        row(f"data {name}", status, f"{place['status']}{digest}", place["remedy"])
    for label, folder, flag in (
        ("results folder", results_dir, "--results-dir"),
        ("reports folder", reports_dir, "--reports-dir"),
        ("cache folder", cache_dir, "--cache-dir"),
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
    """Whether the folder, or the nearest one above it that exists, can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
