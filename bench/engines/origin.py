"""The versions that a process computes with, and how those of a worker differ."""

from __future__ import annotations

import dataclasses
import os
import socket

from bench.engines.workers import Facts
from bench.store.provenance import cpu_model, default_device, git_state, versions


@dataclasses.dataclass(frozen=True)
class Origin:
    """What results come of, beside their configuration.

    Attributes:
      versions: of Python and the packages that matter.
      commit: of the source tree.
    """

    versions: dict[str, str]
    commit: str | None

    @classmethod
    def here(cls) -> Origin:
        """That of this process."""
        return cls(versions(), git_state()["commit"])

    def differences(self, expected: Origin) -> list[str]:
        """How this one, of a worker, differs from the one that is expected."""
        found = [
            f"its {name} is {self.versions.get(name)}, here {version}"
            for name, version in expected.versions.items()
            if self.versions.get(name) != version
        ]
        if self.commit != expected.commit:
            found.append(f"its commit is {self.commit}, here {expected.commit}")
        return found


def facts_of_worker(expected: Origin, problem: str | None) -> Facts:
    """On a worker: its facts, with why it cannot do the jobs."""
    return Facts(_device(), problem, "; ".join(Origin.here().differences(expected)), cpu_model())


def _device() -> str:
    """Name of the device and its host. Workers may see one accelerator each, all of them as the first."""
    device = default_device()
    if device.platform == "cpu":
        return f"{socket.gethostname()} cpu"
    return f"{socket.gethostname()} {device.platform} {os.environ.get('CUDA_VISIBLE_DEVICES', '')} {device.id}"
