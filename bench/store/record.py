"""A cell's record: its fields, its identity, and its row in the table of cells.

Records are JSON on disk and `Record` in code; `parse_record` is the only conversion from JSON.
"""

import enum
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import pandas as pd

VERSION = "0.2"  # Major.Minor: results of one version compare (CHANGELOG)
SCHEMA = 2
CURVE_COLUMNS = ["cell", "step", "metric", "value"]


class Status(enum.StrEnum):
    """How a cell ended."""

    OK = "ok"
    DIVERGED = "diverged"  # a loss was not finite
    ERROR = "error"  # its task or optimizer raised
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    CRASHED = "crashed"  # its process died

    @property
    def is_final(self) -> bool:
        """Whether the cell has a result. A rerun skips such cells and repeats the others."""
        return self in (Status.OK, Status.DIVERGED)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The losses of a training run (protocol rule 4); None where a loss is not finite or the run ended before it."""

    final_train_loss: float | None = None
    final_validation_loss: float | None = None
    final_test_loss: float | None = None
    mean_train_loss: float | None = None
    best_validation_step: int | None = None
    test_loss_at_best_validation: float | None = None


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a training run; `compile_sec` is None where its programs were compiled for an earlier cell."""

    train_wall_sec: float | None = None
    eval_wall_sec: float | None = None
    compile_sec: float | None = None
    total_wall_sec: float | None = None


RESULT_COLUMNS, CLOCK_COLUMNS = Result.__struct_fields__, Clock.__struct_fields__


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a cell, except its curve.

    Attributes:
      cell: name of the cell, the digest of `config`.
      config: the resolved configuration (`bench.cells`), JSON-ready.
      status: how the cell ended.
      reason: one line on why it failed; None if it did not.
      first_bad_step: first inner step with a non-finite loss, for a diverged run.
      result: losses of a training run; None if it did not start.
      clock: times of a training run; None if it did not start.
      started_at: ISO 8601, UTC.
      provenance: see `bench.store.provenance`.
      taken_from: SUITE/LABEL/CELL of the published cell of another suite that this is a copy of; else None.
      schema: version of this record's format.
      curve_sha256: digest of the rows of the curve (`curve_digest`), independent of the file that holds them.
      curve_file_sha256: digest of the curve's file.
      checksum: checksum of the record without this field.
    """

    cell: str
    config: dict[str, Any]
    status: Status
    started_at: str
    provenance: dict[str, Any]
    reason: str | None = None
    first_bad_step: int | None = None
    result: Result | None = None
    clock: Clock | None = None
    taken_from: str | None = None
    schema: int = SCHEMA
    curve_sha256: str = ""
    curve_file_sha256: str = ""
    checksum: str = ""


NO_CURVE = pd.DataFrame(columns=CURVE_COLUMNS[1:])


class Outcome(NamedTuple):
    """The outcome of a cell: the parts of its record, and its curve (step, metric, value)."""

    status: Status
    curve: pd.DataFrame = NO_CURVE
    reason: str | None = None
    first_bad_step: int | None = None
    result: Result | None = None
    clock: Clock | None = None


class OtherSchemaError(ValueError):
    """A record is of another version of its format."""


class AlteredError(ValueError):
    """A record was altered after it was stored."""


class Results(NamedTuple):
    """Cells and their curves, from which a report is made."""

    cells: pd.DataFrame  # one row a cell, see `cell_row`
    curves: pd.DataFrame  # cell, step, metric, value
    left_out: tuple[str, ...] = ()  # a line for runs of other settings that are stored and not among the cells


NO_RESULTS = Results(pd.DataFrame(columns=["cell", "status"]), pd.DataFrame(columns=CURVE_COLUMNS))


def cell_id(config: Mapping[str, Any]) -> str:
    """The digest that identifies a cell: 16 hex digits of its resolved configuration's SHA-256."""
    text = json.dumps({"schema": SCHEMA, **config}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_record(text: str | bytes) -> Record:
    """The record that JSON text holds.

    Raises:
      AlteredError: the checksum does not match.
      OtherSchemaError: it is a record of another schema.
      ValueError: the text is no record.
    """
    try:
        content = json.loads(text)
        if isinstance(content, dict) and isinstance(found := content.get("schema"), int) and found != SCHEMA:
            raise OtherSchemaError(f"expected schema {SCHEMA}, got {found}")
        record = msgspec.convert(content, Record)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if record.checksum != checksum(content):
        raise AlteredError("its record is altered, the checksum does not fit")
    return record


def record_text(record: Record, *, indent: int | None = None) -> str:
    """A record as JSON text, with its checksum; on one line without an indent."""
    content = msgspec.to_builtins(record)
    content["checksum"] = checksum(content)
    return json.dumps(content, indent=indent, sort_keys=True, allow_nan=False)


def cell_row(record: Record, label: str) -> dict[str, Any]:
    """A record as a row of the cells table; fields without a column of their own are stored as JSON."""
    config, result, clock = record.config, record.result or Result(), record.clock or Clock()
    return {
        "cell": record.cell,
        "kind": config["kind"],
        "suite": config["suite"],
        "label": label,
        "task": config.get("task"),
        "family": config.get("family"),
        "optimizer": config.get("optimizer"),
        "role": config.get("role"),
        "seed": config.get("seed"),
        "status": str(record.status),
        "reason": record.reason,
        "first_bad_step": record.first_bad_step,
        "horizon": config.get("horizon"),
        "batch_size": config.get("batch_size"),
        "num_params": config.get("num_params"),
        "chance_loss": config.get("chance_loss"),
        "hyperparameters": json.dumps(config.get("hyperparameters"), sort_keys=True),
        "tuned_horizon": config.get("tuned_horizon"),
        **msgspec.structs.asdict(result),
        **msgspec.structs.asdict(clock),
        "started_at": record.started_at,
        "checksum": record.checksum,
        "config": json.dumps(config, sort_keys=True),
        "provenance": json.dumps(record.provenance, sort_keys=True),
    }


def curve_digest(curve: pd.DataFrame) -> str:
    """Digest of a curve's rows in order, independent of the file that holds them."""
    return content_digest(*curve_content(curve), slice(None))


def curve_content(curves: pd.DataFrame) -> tuple[list[Any], list[Any], list[Any]]:
    """Steps, metrics and values of curves as lists: reading them from pandas one by one takes ten times as long."""
    steps, metrics, values = (curves[column] for column in ("step", "metric", "value"))
    return steps.tolist(), metrics.astype(object).tolist(), values.tolist()


def content_digest(steps: list[Any], metrics: list[Any], values: list[Any], where: slice) -> str:
    """`curve_digest` of the part `where` of curves."""
    rows = zip(steps[where], metrics[where], values[where], strict=True)
    lines = [f"{int(step)}\t{metric}\t{float(value)!r}\n" for step, metric, value in rows]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of the JSON of a record without its checksum."""
    kept = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
