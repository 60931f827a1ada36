"""The store: one cell, one record and one curve, written once, atomically, with a checksum.

    RESULTS/SUITE/local/CELL.json, CELL.parquet      a user's own runs, git-ignored
    RESULTS/SUITE/LABEL/{cells,curves}.parquet       published runs, packed by `bench publish`

A cell is identified by a digest of its resolved configuration, so a rerun skips what is complete. A torn, altered or
foreign file is detected, set aside under another name, reported and redone. Two runs on one folder share its cells: who
runs one has claimed it, by a lock that falls with its process.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from filelock import FileLock, Timeout

from bench.errors import UsageError
from tasks import files
from tasks.files import SAFE_NAME, SAFE_NAMES

SCHEMA = 2
LOCAL = "local"
CLAIMS = ".claims"  # folder of the lock files of cells that are being run
CURVE_COLUMNS = ["cell", "step", "metric", "value"]

Record = dict[str, Any]


class _DamagedError(Exception):
    """Files of a cell that do not fit together, or not their checksums."""


class Results(NamedTuple):
    """What a report is made from."""

    cells: pd.DataFrame  # one row a cell, see `cell_row`
    curves: pd.DataFrame  # cell, step, metric, value


def cell_id(config: Mapping[str, Any]) -> str:
    """The digest that identifies a cell: 16 hex digits of its resolved configuration's SHA-256."""
    text = json.dumps({"schema": SCHEMA, **config}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def safe_name(kind: str, name: str) -> str:
    """A suite's or label's name, refused where it could leave the results folder.

    Raises:
      UsageError: anything but a few letters, digits, dots, dashes and underscores.
    """
    if not SAFE_NAME.fullmatch(name):
        raise UsageError(f"{kind} {name!r}: expected {SAFE_NAMES}")
    return name


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
      UsageError: the folder cannot be written.
    """
    try:
        files.write_atomically(path, content)
    except OSError as error:
        raise UsageError(_unwritable(path, error)) from None


def _unwritable(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror}; choose another folder or free some space"


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether this process alone holds a lock file, while the context lasts; the lock falls with its process.

    Args:
      path: of the lock file; it is gone afterwards.
      wait: until another process that holds it lets go.

    Raises:
      UsageError: the folder cannot be written.
    """
    lock = FileLock(path, mode=0o644)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait, poll_interval=0.2)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise UsageError(_unwritable(path, error)) from None
    try:
        yield True
    finally:
        # Taken away while it is held: who opened it before and waits finds done what it was held for.
        path.unlink(missing_ok=True)
        lock.release()


class Store:
    """The cells of one suite under one label, in a results folder."""

    def __init__(self, results_dir: Path, suite: str, label: str = LOCAL):
        self.suite = safe_name("suite", suite)
        self.label = safe_name("label", label)
        self.folder = results_dir / self.suite / self.label
        self.set_aside: list[Path] = []

    def put(self, record: Record, curve: pd.DataFrame) -> None:
        """Stores a cell: its curve first, then the record, which makes it complete and names the curve's checksum.

        An earlier record goes first, so that nobody ever reads it beside another curve.
        """
        curve = curve.loc[:, CURVE_COLUMNS]
        with contextlib.suppress(OSError):  # what cannot be written is said below
            (self.folder / f"{record['cell']}.json").unlink()
        content = _parquet(curve)
        write_atomically(self.folder / f"{record['cell']}.parquet", content)
        # The digest of the rows outlives their packing with others; that of the file tells any damage to it.
        digests = {"curve_sha256": curve_digest(curve), "curve_file_sha256": hashlib.sha256(content).hexdigest()}
        record = {**record, "schema": SCHEMA, **digests}
        record["checksum"] = _checksum(record)
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n"
        write_atomically(self.folder / f"{record['cell']}.json", text.encode())

    def get(self, cell: str) -> tuple[Record, pd.DataFrame] | None:
        """A complete cell, or None; what is damaged is set aside and listed in `set_aside`.

        Raises:
          UsageError: files that cannot be read, or not be set aside.
        """
        try:
            return self._read(cell)
        except _DamagedError:
            pass
        with self.claim(cell) as ours:  # else another run has it in hand, and what was read was half old, half new
            try:
                return self._read(cell) if ours else None
            except _DamagedError:
                self._set_aside(cell)
                return None

    def _read(self, cell: str) -> tuple[Record, pd.DataFrame] | None:
        path = self.folder / f"{cell}.json"
        try:
            text = path.read_bytes()
            content = path.with_suffix(".parquet").read_bytes()
        except NotADirectoryError:
            return None
        except FileNotFoundError as error:
            if Path(error.filename) == path:
                return None
            raise _DamagedError from None
        except IsADirectoryError:
            raise _DamagedError from None
        except OSError as error:
            raise UsageError(f"cannot read {error.filename}: {error.strerror}; allow it, or delete it") from None
        try:
            record = json.loads(text)
            if record["checksum"] != _checksum(record) or record["cell"] != cell or record["schema"] != SCHEMA:
                raise _DamagedError
            if hashlib.sha256(content).hexdigest() != record["curve_file_sha256"]:
                raise _DamagedError
            cell_row(record, self.label)
            return record, pd.read_parquet(io.BytesIO(content))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _DamagedError from None

    def _set_aside(self, cell: str) -> None:
        for path in (self.folder / f"{cell}.json", self.folder / f"{cell}.parquet"):
            try:
                self.set_aside.append(files.set_aside(path))
            except FileNotFoundError:
                continue  # its twin alone is there, or another run has set it aside
            except OSError as error:
                raise UsageError(_unwritable(path, error)) from None

    @contextlib.contextmanager
    def claim(self, cell: str, *, wait: bool = False) -> Iterator[bool]:
        """Whether this process alone has a cell in hand, while the context lasts.

        Args:
          cell: its name.
          wait: until another process that has claimed it lets go.

        Raises:
          UsageError: the folder cannot be written.
        """
        with locked(self.folder / CLAIMS / f"{cell}.lock", wait=wait) as ours:
            yield ours

    def is_complete(self, cell: str) -> bool:
        """Whether a cell is stored and undamaged."""
        return self.get(cell) is not None

    def read(self, cells: Iterable[str] | None = None) -> Results:
        """Cells and curves; of a local store either the named ones or the latest of each (kind, task, optimizer, seed).

        Raises:
          UsageError: nothing is stored here, or a published file is damaged.
        """
        if self.label != LOCAL:
            return self._read_published()
        names = list(cells) if cells is not None else sorted(p.stem for p in self.folder.glob("*.json"))
        found = [entry for entry in map(self.get, names) if entry is not None]
        if self.set_aside:
            damaged = ", ".join(path.name for path in self.set_aside)
            raise UsageError(
                f"damaged files set aside in {self.folder}: {damaged}; say it again for a report of the others, or "
                "`bench run`, which makes their cells again"
            )
        if not found:
            raise UsageError(f"no results of suite {self.suite} in {self.folder}; run: bench run {self.suite}")
        frame = pd.DataFrame([cell_row(r, self.label) | {"record": json.dumps(r, sort_keys=True)} for r, _ in found])
        curves = pd.concat([curve for _, curve in found if len(curve)] or [pd.DataFrame(columns=CURVE_COLUMNS)])
        if cells is None:
            frame = frame.sort_values("started_at").drop_duplicates(["kind", "task", "optimizer", "seed"], keep="last")
            curves = curves.loc[curves["cell"].isin(frame["cell"])]
        return Results(frame.reset_index(drop=True), curves.reset_index(drop=True))

    def _read_published(self) -> Results:
        try:
            cells = pd.read_parquet(self.folder / "cells.parquet")
            curves = pd.read_parquet(self.folder / "curves.parquet").astype({"cell": str, "metric": str})
            schemas = set(cells["schema"])
            if schemas != {SCHEMA}:
                raise UsageError(f"published results in {self.folder} are of another schema than {SCHEMA}")
            altered = first_altered(cells, curves)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"no readable published results in {self.folder}: {_one_line(error)}") from None
        if altered:
            raise UsageError(f"{self.folder}: {altered}")
        return Results(cells.drop(columns=["record", "schema"]), curves)

    def restore(self, results_dir: Path, source: str, wanted: Iterable[str] = ()) -> int:
        """Copies published cells that are not stored yet into this local store; returns their number.

        Args:
          results_dir: where they are published.
          source: LABEL of this suite, or SUITE/LABEL of another: what that has run of the same configuration becomes a
            cell of this one, and its record says where it was `taken_from`.
          wanted: names of the cells to take from another suite.

        Raises:
          UsageError: nothing is published there, or it is altered.
        """
        suite, _, label = source.rpartition("/")
        published = Store(results_dir, suite or self.suite, label)
        published.read()
        cells = pd.read_parquet(published.folder / "cells.parquet", columns=["record"])
        curves = pd.read_parquet(published.folder / "curves.parquet").astype({"cell": str, "metric": str})
        wanted = set(wanted)
        by_cell = {str(cell): curve for cell, curve in curves.groupby("cell", sort=False)}
        copied = 0
        for record in map(json.loads, cells["record"]):
            curve = by_cell.get(record["cell"], pd.DataFrame(columns=CURVE_COLUMNS))
            if published.suite != self.suite:
                config = {**record["config"], "suite": self.suite}
                name, origin = cell_id(config), f"{published.suite}/{label}/{record['cell']}"
                if name not in wanted:
                    continue
                record |= {"cell": name, "config": config, "taken_from": origin}
                curve = curve.assign(cell=name)
            if not self.is_complete(record["cell"]):
                self.put(record, curve)
                copied += 1
        return copied


def first_altered(cells: pd.DataFrame, curves: pd.DataFrame) -> str | None:
    """What is wrong with the first published cell that is not as it was stored; None if all are.

    Checked: each record against its checksum and its configuration's digest, each column against the record, each
    curve against the record's digest of it.
    """
    by_cell = {str(cell): curve for cell, curve in curves.groupby("cell", sort=False)}
    rows: list[dict[str, Any]] = cells.to_dict("records")  # pyright: ignore[reportAssignmentType]
    for row in rows:
        what = row["kind"] if pd.isna(row["optimizer"]) else row["optimizer"]
        name = f"cell {row['cell']} ({row['task']}, {what}, seed {row['seed']})"
        try:
            record = json.loads(row["record"])
            if record["checksum"] != _checksum(record):
                return f"{name}: its record is altered, the checksum does not fit"
            if record["cell"] != cell_id(record["config"]):
                return f"{name}: its configuration is altered, its digest is {cell_id(record['config'])}"
            expected = cell_row(record, row["label"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return f"{name}: its record does not parse"
        for column, value in expected.items():
            stored: Any = row.get(column)
            if not (stored == value or (pd.isna(stored) and pd.isna(value))):
                return f"{name}: column {column} is {stored!r}, its record says {value!r}"
        if curve_digest(by_cell.pop(row["cell"], pd.DataFrame(columns=CURVE_COLUMNS))) != record["curve_sha256"]:
            return f"{name}: its curve is altered, the digest does not fit"
    if by_cell:
        return f"curves of cells that are not among the rows: {', '.join(list(by_cell)[:3])}"
    return None


def curve_digest(curve: pd.DataFrame) -> str:
    """Digest of a curve's content: its rows in order, whatever file holds them."""
    rows = zip(curve["step"], curve["metric"], curve["value"], strict=True)
    lines = (f"{int(step)}\t{metric}\t{float(value)!r}\n" for step, metric, value in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def published_label(label: str) -> str:
    """The label, refused where it is `local` or not a plain name.

    Raises:
      UsageError: see above.
    """
    if safe_name("label", label) == LOCAL:
        raise UsageError(f"label {LOCAL!r} is a user's own runs and git-ignored; name the machine instead")
    return label


def publish(results_dir: Path, suite: str, label: str, results: Results) -> Path:
    """Packs cells into RESULTS/SUITE/LABEL/{cells,curves}.parquet: two files rather than thousands.

    Raises:
      UsageError: a label that is `local` or not a plain name.
    """
    folder = results_dir / safe_name("suite", suite) / published_label(label)
    curves = _parquet(results.curves.astype({"metric": "category", "cell": "category"}))
    cells = results.cells.assign(label=label, schema=SCHEMA).sort_values(["kind", "task", "optimizer", "seed"])
    with locked(folder / ".lock", wait=True):
        write_atomically(folder / "curves.parquet", curves)
        write_atomically(folder / "cells.parquet", _parquet(cells.reset_index(drop=True)))
    return folder


def stored_runs(results_dir: Path) -> list[dict[str, Any]]:
    """What `bench list runs` prints: suite, label, number of cells, or that they cannot be read."""
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


def _checksum(record: Record) -> str:
    content = {key: value for key, value in record.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def _one_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
