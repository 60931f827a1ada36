"""One row of a report is one configuration: which of a folder's cells belong together.

Runs of two settings, of two versions of a plug-in or a library, or of two kinds of CPU are no seeds of one optimizer.
Of each row the latest configuration is kept, and of each task the latest definition and horizon; what is left out is
said.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from bench.store.rows import Frame

PACKAGES = ("jax", "jaxlib", "optax", "flax")  # whose versions change results
# Parts of a configuration that the cells of a task share.
OF_TASK = ("version", "task_digest", "data_digest", "family", "horizon", "batch_size", "num_params", "device_kind")
APART = ("seed", "suite", "hyperparameters", "tuned_horizon")
HOW_FOUND = ("set_by_hand", "tuned_on")  # beside the hyperparameters, which may have any other name
NAMES = {"source": "plug-in", "theta_sha256": "weights", "task_digest": "task", "data_digest": "data"}


class LeftOut(NamedTuple):
    """Stored runs that are left out of a row.

    Attributes:
      task: name.
      optimizer: name.
      seeds: of these runs.
      differs: how their configuration differs from that of the row.
    """

    task: str
    optimizer: str
    seeds: tuple[int, ...]
    differs: str

    def __str__(self) -> str:
        runs = "1 earlier run" if len(self.seeds) == 1 else f"{len(self.seeds)} earlier runs"
        return f"{self.task} {self.optimizer}: {runs} left out, {self.differs}"


def setting_of(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """All that the result of a training run depends on but its seed, as a flat table; not how values were found."""
    flat = {name: value for name, value in config.items() if name not in APART}
    values = config.get("hyperparameters") or {}
    flat |= {name: value for name, value in values.items() if name not in HOW_FOUND}
    versions, device = provenance.get("versions", {}), provenance.get("device", {})
    flat |= {package: versions.get(package) for package in PACKAGES}
    return flat | ({"CPU": device.get("cpu")} if device.get("platform") == "cpu" else {})


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How two settings differ: "learning_rate 0.3 and not 0.03", at most three differences."""
    found = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    told = [_told(name, old.get(name), new.get(name)) for name in found]
    return ", ".join(told[:3]) + (", ..." if len(told) > 3 else "")


def _told(name: str, old: Any, new: Any) -> str:
    return f"{NAMES.get(name, name)} {_short(old)} and not {_short(new)}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)[:40]


class _Cell(NamedTuple):
    index: Any  # in the table
    seed: int
    of_task: dict[str, Any]  # the part of its configuration that all cells of the task share
    setting: dict[str, Any]


def latest(cells: Frame) -> tuple[Frame, tuple[LeftOut, ...]]:
    """The cells of the latest configuration of each row, and the runs that are left out.

    The latest cell of a task says how it is defined and at which horizon it is run, for all of its rows. Of a clock, a
    race or a measurement the latest cell is kept.

    Args:
      cells: rows of the table of cells.
    """
    rows: dict[tuple[str, str, str], list[_Cell]] = {}
    tasks: dict[str, dict[str, Any]] = {}
    for index, row in cells.sort_values("started_at", kind="stable").iterrows():
        config = json.loads(row["config"])
        tasks[row["task"]] = shared = {name: config.get(name) for name in OF_TASK}
        train = row["kind"] == "train"
        cell = _Cell(index, row["seed"], shared, setting_of(config, json.loads(row["provenance"])) if train else {})
        rows.setdefault((row["task"], row["kind"], row["optimizer"] if train else ""), []).append(cell)
    kept, left_out = set(), []
    for (task, kind, optimizer), found in rows.items():
        own = [cell for cell in found if cell.of_task == tasks[task]]
        mine = [cell for cell in own if cell.setting == own[-1].setting] if kind == "train" else own[-1:]
        kept |= {cell.index for cell in {cell.seed: cell for cell in mine}.values()}
        seeds: dict[str, list[int]] = {}
        for cell in found if kind == "train" else ():
            if cell not in own:
                seeds.setdefault(differences(cell.of_task, tasks[task]), []).append(int(cell.seed))
            elif cell not in mine:
                seeds.setdefault(differences(cell.setting, own[-1].setting), []).append(int(cell.seed))
        left_out += [LeftOut(task, optimizer, tuple(sorted(which)), text) for text, which in seeds.items()]
    return cells[cells.index.isin(list(kept))], tuple(left_out)
