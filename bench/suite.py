"""Suites are data: a TOML file with a `kind` that says what a cell of it is.

kind = "train"           a cell is (task, optimizer, seed)
description = "..."
tasks = ["imagenet32_cnn3/*", "mnist14_mlp"]
optimizers = ["adam", "learned"]
seeds = "0-9"            or a list
steps = 2000             horizon; without it, each task's own
timing_blocks = 20       interleaved blocks of the clock; 0 switches it off
controls = true          the rows whose outcome is known (bench/controls.py)

kind = "measure"         a cell is a part of a measurement (bench/measure)
measurement = "update_cost"
optimizers = ["adam", "learned"]    of one that times them,
timing_blocks = 20
replications = 64                   else the independent replications
"""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bench.errors import UsageError, nearest

SUITE_DIR = Path(__file__).parent / "suites"
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


def parse_seeds(text: str | Sequence[int] | int) -> tuple[int, ...]:
    """Seeds from "0-4", "0,2,5-7", a number or a list of numbers.

    Raises:
      UsageError: anything else, or seeds from 1000 up, which are for tuning (protocol rule 5).
    """
    from bench.tune import FIRST_TUNING_SEED

    expected = UsageError(f"expected seeds like 0-4 or 0,2,5, below {FIRST_TUNING_SEED}, got {text!r}")
    parts = [str(item) for item in text] if isinstance(text, list | tuple) else str(text).split(",")
    seeds: list[int] = []
    for part in parts:
        low, dash, high = part.strip().partition("-")
        if not (low.isdecimal() and (high.isdecimal() if dash else not high)) or len(low) > 4 or len(high) > 4:
            raise expected
        seeds += range(int(low), int(high if dash else low) + 1)
    if not seeds or max(seeds) >= FIRST_TUNING_SEED:
        raise expected
    return tuple(dict.fromkeys(seeds))


def expand_tasks(patterns: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Task names, with `FAMILY/*` standing for a family's tasks (a star does not cross a slash).

    Raises:
      UsageError: a name or pattern that fits no task.
    """
    names: list[str] = []
    for pattern in patterns:
        if "*" in pattern:
            fit = [name for name in known if fnmatchcase(name, pattern) and name.count("/") == pattern.count("/")]
        else:
            fit = [pattern] if pattern in known else []
        if not fit:
            families = [name for name in known if name.startswith(f"{pattern}/")]
            if families:
                raise UsageError(
                    f"{pattern} is a family of tasks; name one, for instance {families[0]}, or {pattern}/*"
                )
            raise nearest("task", pattern, known)
        names += fit
    return tuple(dict.fromkeys(names))


def apply_settings(suite: Suite, settings: Sequence[str]) -> Suite:
    """Applies `--set key=value`: `OPTIMIZER.HYPERPARAMETER=NUMBER`, or a key of the suite that is a number.

    Raises:
      UsageError: not key=value, an unknown key, or a value that is no number.
    """
    overrides: dict[str, dict[str, float]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UsageError(f"--set expects key=value, got {setting!r}")
        optimizer, dot, name = key.rpartition(".")
        if not dot:
            fewest = FEWEST[suite.kind]
            if key not in fewest:
                raise nearest("key for --set", key, [*fewest, *(f"{o}.learning_rate" for o in suite.optimizers)])
            if not text.isdecimal() or len(text) > len(str(MOST)) or not fewest[key] <= int(text) <= MOST:
                raise UsageError(
                    f"--set {key}: expected a whole number from {fewest[key]} to {MOST:,}, got {text[:20]!r}"
                )
            suite = dataclasses.replace(suite, **{key: int(text)})
            continue
        if optimizer not in suite.optimizers:
            raise nearest("optimizer in --set", optimizer, list(suite.optimizers))
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise UsageError(f"--set {key}: expected a finite number, got {text!r}")
        overrides.setdefault(optimizer, {})[name] = value
    return dataclasses.replace(suite, overrides=overrides)
