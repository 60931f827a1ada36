"""Suites are data: a TOML file with a `kind` that says what a cell of it is.

kind = "train"           a cell is (task, optimizer, seed)
description = "..."
tasks = ["imagenet32_cnn3/*", "mnist14_mlp"]
optimizers = ["adam", "learned"]
seeds = "0-9"            or a list
steps = 2000             horizon; without it, each task's own
timing_blocks = 20       interleaved blocks of the clock; 0 switches it off
controls = true          the rows whose outcome is known (bench/entries/controls.py)

kind = "measure"         a cell is a part of a measurement (bench/measure)
measurement = "update_cost"
optimizers = ["adam", "learned"]    of one that times them,
timing_blocks = 20
replications = 64                   else the independent replications
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import UsageError, nearest
from bench.suites.seeds import parse_seeds

SUITE_DIR = Path(__file__).parent
KEYS = {
    "train": ("kind", "description", "tasks", "optimizers", "seeds", "steps", "timing_blocks", "controls"),
    "measure": ("kind", "description", "measurement", "optimizers", "timing_blocks", "replications", "controls"),
}
NEEDED = {"train": ("tasks", "optimizers", "seeds"), "measure": ("measurement",)}
# Whole numbers of a suite and the least they can be: the clock can be switched off, but not in a measurement.
FEWEST = {"train": {"steps": 1, "timing_blocks": 0}, "measure": {"timing_blocks": 1, "replications": 4}}
MOST = 10**9  # of any of them


@dataclasses.dataclass(frozen=True)
class Suite:
    """A comparison to run.

    Attributes:
      name: of the suite; a folder of results/.
      kind: what a cell is.
      description: one line for listings and the report.
      tasks: task names; of a measurement the parts, all without one.
      optimizers: optimizer names, in the order of tables; ratios are taken to `adam` where it is there, else to the
        first.
      seeds: reporting seeds.
      steps: horizon, or None for each task's own.
      timing_blocks: interleaved timing blocks a task.
      replications: of a measurement that times nothing.
      controls: whether the controls run beside the optimizers.
      overrides: hyperparameters set by hand, optimizer -> name -> value.
      measurement: of a suite of kind "measure", a row of `bench.measure.MEASUREMENTS`.
    """

    name: str
    optimizers: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    kind: str = "train"
    description: str = ""
    steps: int | None = None
    timing_blocks: int = 20
    replications: int = 64
    controls: bool = True
    overrides: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    measurement: str | None = None


def suite_names() -> list[str]:
    """Names of the suites that ship with the package."""
    return sorted(path.stem for path in SUITE_DIR.glob("*.toml"))


def load_suite(name_or_path: str) -> Suite:
    """Reads a suite by name or by the path of a TOML file.

    Raises:
      UsageError: no such suite, not TOML, an unknown key, or a value of the wrong kind.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else SUITE_DIR / f"{name_or_path}.toml"
    if path.parent == SUITE_DIR and path.stem not in suite_names():
        raise nearest("suite", name_or_path, suite_names())
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read suite {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of numbers and nesting beyond reason
        raise UsageError(f"suite {path} is not TOML: {error}") from None
    return build_suite(path.stem, table)


def build_suite(name: str, table: Mapping[str, Any]) -> Suite:
    """A suite from a table of keys, checked.

    Raises:
      UsageError: an unknown or missing key, or a value of the wrong kind.
    """
    kind = table.get("kind", "train")
    if not isinstance(kind, str) or kind not in KEYS:
        raise nearest(f"kind of suite {name}", str(kind), list(KEYS))
    for key in table:
        if key not in KEYS[kind]:
            raise nearest(f"key of suite {name}", key, KEYS[kind])
    for key in NEEDED[kind]:
        if not table.get(key):
            raise UsageError(f"suite {name}: expected a non-empty {key!r}")
    for key in ("tasks", "optimizers"):
        value = table.get(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"suite {name}: expected {key} to be a list of names, got {value!r}")
    if kind == "measure":
        from bench.measure import MEASUREMENTS

        if table["measurement"] not in list(MEASUREMENTS):
            raise nearest(f"measurement of suite {name}", str(table["measurement"]), list(MEASUREMENTS))
        timed = MEASUREMENTS[table["measurement"]].timed
        if timed and not table.get("optimizers"):
            raise UsageError(f"suite {name}: expected a non-empty 'optimizers'")
        for key in ("replications",) if timed else ("optimizers", "timing_blocks", "controls"):
            if key in table:
                raise UsageError(f"suite {name}: {table['measurement']} has no {key!r}; leave it out")
    for key, low in FEWEST[kind].items():
        value = table.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MOST):
            raise UsageError(f"suite {name}: expected {key} to be a whole number from {low} to {MOST:,}, got {value!r}")
    controls = table.get("controls", True)
    if not isinstance(controls, bool):
        raise UsageError(f"suite {name}: expected controls to be true or false, got {controls!r}")
    description = table.get("description", "")
    if not isinstance(description, str):
        raise UsageError(f"suite {name}: expected description to be text, got {description!r}")
    return Suite(
        name=name,
        kind=kind,
        description=description,
        tasks=tuple(dict.fromkeys(table.get("tasks", ()))),
        optimizers=tuple(dict.fromkeys(table.get("optimizers", ()))),
        seeds=parse_seeds(table["seeds"]) if "seeds" in table else (),
        steps=table.get("steps"),
        timing_blocks=table.get("timing_blocks", Suite.timing_blocks),
        replications=table.get("replications", Suite.replications),
        controls=controls,
        measurement=table.get("measurement"),
    )
