"""A cell's record: what is stored of it, how it is identified, and its row in the table of cells."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

SCHEMA = 2
CURVE_COLUMNS = ["cell", "step", "metric", "value"]
Record = dict[str, Any]


class Results(NamedTuple):
    """What a report is made from."""

    cells: pd.DataFrame  # one row a cell, see `cell_row`
    curves: pd.DataFrame  # cell, step, metric, value


def cell_id(config: Mapping[str, Any]) -> str:
    """The digest that identifies a cell: 16 hex digits of its resolved configuration's SHA-256."""
    text = json.dumps({"schema": SCHEMA, **config}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def curve_digest(curve: pd.DataFrame) -> str:
    """Digest of a curve's content: its rows in order, whatever file holds them."""
    rows = zip(curve["step"], curve["metric"], curve["value"], strict=True)
    lines = (f"{int(step)}\t{metric}\t{float(value)!r}\n" for step, metric, value in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def cell_row(record: Record, label: str) -> dict[str, Any]:
    """A record as a row of the cells table; what is not a column of its own stays readable as JSON."""
    config, result, clock = record["config"], record.get("result", {}), record.get("clock", {})
    return {
        "cell": record["cell"],
        "kind": config["kind"],
        "suite": config["suite"],
        "label": label,
        "task": config.get("task"),
        "family": config.get("family"),
        "optimizer": config.get("optimizer"),
        "role": config.get("role"),
        "seed": config.get("seed"),
        "status": record["status"],
        "reason": record.get("reason"),
        "first_bad_step": record.get("first_bad_step"),
        "horizon": config.get("horizon"),
        "batch_size": config.get("batch_size"),
        "num_params": config.get("num_params"),
        "chance_loss": config.get("chance_loss"),
        "hyperparameters": json.dumps(config.get("hyperparameters"), sort_keys=True),
        "tuned_horizon": config.get("tuned_horizon"),
        **{name: result.get(name) for name in RESULT_COLUMNS},
        **{name: clock.get(name) for name in CLOCK_COLUMNS},
        "started_at": record["started_at"],
        "checksum": record["checksum"],
        "config": json.dumps(config, sort_keys=True),
        "provenance": json.dumps(record["provenance"], sort_keys=True),
    }


RESULT_COLUMNS = (
    "final_train_loss",
    "final_validation_loss",
    "final_test_loss",
    "mean_train_loss",
    "best_validation_step",
    "test_loss_at_best_validation",
)
CLOCK_COLUMNS = ("train_wall_sec", "eval_wall_sec", "compile_sec", "total_wall_sec")


def checksum(record: Record) -> str:
    """SHA-256 of a record without its checksum, in hex."""
    content = {key: value for key, value in record.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
