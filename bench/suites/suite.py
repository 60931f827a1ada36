"""A suite is a TOML file. Its `kind` says what a cell is.

kind = "train"           a cell is (task, optimizer, seed)
description = "..."
tasks = ["imagenet32_cnn3/*", "mnist14_mlp"]
optimizers = ["adam", "learned"]
seeds = "0-9"            or a list
steps = 2000             horizon; without it, each task's own
timing_blocks = 20       interleaved blocks of the clock; 0 switches it off
controls = true          optimizers with a known outcome (bench/entries/controls.py)

kind = "measure"         a cell is a part of a measurement (bench/measure)
measurement = "update_cost"
optimizers = ["adam", "learned"]    for a measurement that times optimizers
timing_blocks = 20                  likewise
replications = 64                   for other measurements: independent replications
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from bench.errors import UsageError, nearest, usage_errors
from bench.suites.seeds import parse_seeds

SUITE_DIR = Path(__file__).parent
MOST = 10**9  # upper limit of every whole number in a suite


@dataclasses.dataclass(frozen=True)
class Suite:
    """A comparison to run.

    Attributes:
      name: name of the suite, and of its folder in results/.
      kind: kind of the cells, "train" or "measure".
      description: one line for listings and the report.
      tasks: names of tasks; for a measurement names of its parts, or none for all parts.
      optimizers: names of optimizers, in the order of tables. Ratios are taken to `adam`, or to the first optimizer if
        `adam` is not among them.
      seeds: reporting seeds.
      steps: horizon; None for each task's own.
      timing_blocks: interleaved timing blocks for each task; None for a measurement's own number.
      replications: replications of a measurement that times nothing; None for its own number.
      controls: whether the controls run too; None for a measurement's own choice.
      overrides: hyperparameters set by hand, optimizer -> name -> value.
      measurement: for kind "measure", a row of `bench.measure.MEASUREMENTS`.
    """

    name: str
    optimizers: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    kind: str = "train"
    description: str = ""
    steps: int | None = None
    timing_blocks: int | None = 20
    replications: int | None = None
    controls: bool | None = True
    overrides: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    measurement: str | None = None


def _whole_number(low: int) -> Any:
    return Annotated[int, Meta(ge=low, le=MOST, description=f"a whole number from {low} to {MOST:,}")]


# Lower limits of the whole numbers in a suite. 0 timing blocks switch timing off, which a measurement cannot do.
FEWEST = {"train": {"steps": 1, "timing_blocks": 0}, "measure": {"timing_blocks": 1, "replications": 4}}
_Names = Annotated[list[str], Meta(min_length=1, description="a list of names")]


class TrainTable(Struct, frozen=True):
    """The keys of a suite of kind "train"."""

    tasks: _Names
    optimizers: _Names
    seeds: Any  # has several forms, see `parse_seeds`
    kind: str = "train"
    description: str = ""
    steps: _whole_number(FEWEST["train"]["steps"]) | None = None  # pyright: ignore[reportInvalidTypeForm]
    timing_blocks: _whole_number(FEWEST["train"]["timing_blocks"]) = 20  # pyright: ignore[reportInvalidTypeForm]
    controls: bool = True


class MeasureTable(Struct, frozen=True):
    """The keys of a suite of kind "measure"; the measurement decides which of the last four are allowed."""

    measurement: str
    kind: str = "measure"
    description: str = ""
    optimizers: _Names | None = None
    timing_blocks: _whole_number(FEWEST["measure"]["timing_blocks"]) | None = None  # pyright: ignore[reportInvalidTypeForm]
    replications: _whole_number(FEWEST["measure"]["replications"]) | None = None  # pyright: ignore[reportInvalidTypeForm]
    controls: bool | None = None


TABLES: Mapping[str, Any] = {"train": TrainTable, "measure": MeasureTable}


def suite_names() -> list[str]:
    """Names of the suites that ship with the package."""
    return sorted(path.stem for path in SUITE_DIR.glob("*.toml"))


def load_suite(name_or_path: str) -> Suite:
    """Reads a suite by name or by the path of a TOML file.

    Raises:
      UsageError: there is no such suite, the file is not TOML, a key is unknown, or a value has the wrong type.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else SUITE_DIR / f"{name_or_path}.toml"
    if path.parent == SUITE_DIR and path.stem not in suite_names():
        raise nearest("suite", name_or_path, suite_names())
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read suite {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # invalid TOML or UTF-8, huge numbers, deep nesting
        raise UsageError(f"suite {path} is not TOML: {error}") from None
    return build_suite(path.stem, table)


def build_suite(name: str, table: Mapping[str, Any]) -> Suite:
    """A suite from a table of keys.

    Raises:
      UsageError: a key is unknown or missing, or a value has the wrong type.
    """
    from tasks.tables import read_table  # imports jax: the command line answers before it does

    kind = table.get("kind", "train")
    if kind not in list(TABLES):
        raise nearest(f"kind of suite {name}", str(kind), list(TABLES))
    with usage_errors():
        read = read_table(f"suite {name}", table, TABLES[kind])
    found = {key: getattr(read, key) for key in read.__struct_fields__}
    for key in ("tasks", "optimizers"):
        found[key] = tuple(dict.fromkeys(found.get(key) or ()))
    found["seeds"] = parse_seeds(found["seeds"]) if "seeds" in found else ()
    return Suite(name=name, **found)
