"""Published results: the cells of a suite, packed in two files that can be committed."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UsageError
from bench.store.files import locked, safe_name, write_atomically
from bench.store.record import (
    SCHEMA,
    AlteredError,
    Results,
    cell_id,
    cell_row,
    content_digest,
    curve_content,
    parse_record,
)
from bench.store.rows import curves_by_cell

LOCAL = "local"
PUBLISHED_LEVEL = 19  # of compression: slow to write, and every checkout holds them
CURVES_ENCODING = {"step": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}  # a quarter smaller
PART = "part"  # label of the report of a run of a part of what is stored, beside that of the whole


def first_altered(cells: pd.DataFrame, curves: pd.DataFrame) -> str | None:
    """A message about the first published cell that was altered after it was stored; None if there is none.

    Checks each record against its checksum and the digest of its configuration, each column against the record, and
    each curve against its digest in the record.
    """
    ordered, by_cell = curves_by_cell(curves)
    content = curve_content(ordered)
    rows: list[dict[str, Any]] = cells.to_dict("records")  # pyright: ignore[reportAssignmentType]
    for row in rows:
        what = row["kind"] if pd.isna(row["optimizer"]) else row["optimizer"]
        name = f"cell {row['cell']} ({row['task']}, {what}, seed {row['seed']})"
        try:
            record = parse_record(row["record"])
            if record.cell != cell_id(record.config):
                return f"{name}: its configuration is altered, its digest is {cell_id(record.config)}"
            expected = cell_row(record, row["label"])
        except AlteredError as error:
            return f"{name}: {error}"
        except (ValueError, KeyError, TypeError):
            return f"{name}: its record does not parse"
        for column, value in expected.items():
            stored: Any = row.get(column)
            if not (stored == value or (pd.isna(stored) and pd.isna(value))):
                return f"{name}: column {column} is {stored!r}, its record says {value!r}"
        if content_digest(*content, by_cell.pop(row["cell"], slice(0))) != record.curve_sha256:
            return f"{name}: its curve is altered, the digest does not fit"
    if by_cell:
        return f"curves of cells that are not among the rows: {', '.join(list(by_cell)[:3])}"
    return None


def published_label(label: str) -> str:
    """The label, if results can be published under it.

    Raises:
      UsageError: it is `local`, `part` or not a plain name.
    """
    if safe_name("label", label) in (LOCAL, PART):
        raise UsageError(f"label {label!r} is a user's own runs and git-ignored; name the machine instead")
    return label


def publish(results_dir: Path, suite: str, label: str, results: Results) -> Path:
    """Packs cells into RESULTS/SUITE/LABEL/{cells,curves}.parquet: two files instead of thousands.

    Raises:
      UsageError: the label is `local` or not a plain name.
    """
    folder = results_dir / safe_name("suite", suite) / published_label(label)
    curves = parquet(
        results.curves.astype({"metric": "category", "cell": "category"}), PUBLISHED_LEVEL, CURVES_ENCODING
    )
    cells = results.cells.assign(label=label, schema=SCHEMA).sort_values(["kind", "task", "optimizer", "seed"])
    with locked(folder / ".lock", wait=True):
        write_atomically(folder / "curves.parquet", curves)
        write_atomically(folder / "cells.parquet", parquet(cells.reset_index(drop=True), PUBLISHED_LEVEL))
    return folder


def stored_runs(results_dir: Path) -> list[dict[str, Any]]:
    """Suite, label and number of cells (or "not readable") of all stored results, for `bench list runs`."""
    rows = []
    for folder in sorted(results_dir.glob("*/*")):
        if not folder.is_dir():
            continue
        published = folder / "cells.parquet"
        try:
            stored = published.exists()
            count = len(pd.read_parquet(published, columns=["cell"]) if stored else list(folder.glob("*.json")))
        except (OSError, ValueError, KeyError):
            count = "not readable"
        if count:
            rows.append({"suite": folder.parent.name, "label": folder.name, "cells": count})
    return rows


def parquet(frame: pd.DataFrame, level: int | None = None, encoding: Mapping[str, str] | None = None) -> bytes:
    """A table as the bytes of a Parquet file, at a level of compression from 1 to 22; encoding: of columns, by name."""
    buffer = io.BytesIO()
    encoded = dict(encoding or {})
    frame.to_parquet(
        buffer,
        index=False,
        compression="zstd",
        compression_level=level,
        use_dictionary=[name for name in frame if name not in encoded],
        column_encoding=encoded,
    )
    return buffer.getvalue()


def one_line(error: BaseException) -> str:
    """The first line of an error's message; its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
