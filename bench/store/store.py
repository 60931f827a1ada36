"""The store: each cell has one record and one curve, written atomically and with a checksum.

    RESULTS/SUITE/local/CELL.json, CELL.parquet      the user's own runs, git-ignored
    RESULTS/SUITE/LABEL/{cells,curves}.parquet       published runs, packed by `bench publish`

A cell is identified by a digest of its resolved configuration, so a rerun skips complete cells. A torn, altered or
foreign file is detected, renamed and reported, and its cell is run again. Two processes can run the cells of one
folder: each claims a cell by a lock, which ends with the process, before it runs the cell.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pandas as pd

from bench.errors import UsageError
from bench.store.files import locked, safe_name, unwritable, write_atomically
from bench.store.published import LOCAL, first_altered, one_line, parquet
from bench.store.record import (
    CURVE_COLUMNS,
    SCHEMA,
    OtherSchemaError,
    Record,
    Results,
    cell_id,
    cell_row,
    curve_digest,
    parse_record,
    record_text,
)
from bench.store.settings import latest
from tasks import files

CELL_NAME = re.compile("[0-9a-f]{16}")
CLAIMS = ".claims"  # folder of the lock files of cells that are being run


class _DamagedError(Exception):
    """The files of a cell do not match each other or their checksums."""


class Store:
    """The cells of one suite under one label, in a results folder."""

    def __init__(self, results_dir: Path, suite: str, label: str = LOCAL):
        self.suite = safe_name("suite", suite)
        self.label = safe_name("label", label)
        self.folder = results_dir / self.suite / self.label
        self.set_aside: list[Path] = []

    def put(self, record: Record, curve: pd.DataFrame) -> None:
        """Stores a cell: its curve, then its record, which holds the curve's checksum and makes the cell complete.

        An earlier record is deleted first, so that it is never read together with the new curve.
        """
        curve = curve.loc[:, CURVE_COLUMNS]
        with contextlib.suppress(OSError):  # a folder that cannot be written is reported below
            (self.folder / f"{record.cell}.json").unlink()
        content = parquet(curve)
        write_atomically(self.folder / f"{record.cell}.parquet", content)
        # The digest of the rows stays valid when cells are packed; that of the file detects any damage to it.
        digests = {"curve_sha256": curve_digest(curve), "curve_file_sha256": hashlib.sha256(content).hexdigest()}
        text = record_text(msgspec.structs.replace(record, **digests), indent=1) + "\n"
        write_atomically(self.folder / f"{record.cell}.json", text.encode())

    def get(self, cell: str) -> tuple[Record, pd.DataFrame] | None:
        """A complete cell, or None; damaged files are set aside and listed in `set_aside`.

        Raises:
          UsageError: files cannot be read, or cannot be set aside.
        """
        try:
            return self._read(cell)
        except _DamagedError:
            pass
        with self.claim(
            cell
        ) as ours:  # else another process is writing the cell, and what was read may be half old, half new
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
            record = parse_record(text)
            if record.cell != cell or hashlib.sha256(content).hexdigest() != record.curve_file_sha256:
                raise _DamagedError
            cell_row(record, self.label)
            return record, pd.read_parquet(io.BytesIO(content))
        except OtherSchemaError:  # of another version of the bench, to which it is left
            return None
        except (ValueError, KeyError, TypeError):
            raise _DamagedError from None

    def _set_aside(self, cell: str) -> None:
        for path in (self.folder / f"{cell}.json", self.folder / f"{cell}.parquet"):
            try:
                self.set_aside.append(files.set_aside(path))
            except FileNotFoundError:
                continue  # only one of the two files exists, or another process has set it aside
            except OSError as error:
                raise UsageError(unwritable(path, error)) from None

    @contextlib.contextmanager
    def claim(self, cell: str, *, wait: bool = False) -> Iterator[bool]:
        """Claims a cell for this process while the context lasts; yields whether it succeeded.

        Args:
          cell: name of the cell.
          wait: whether to wait until another process releases its claim.

        Raises:
          UsageError: the folder cannot be written.
        """
        with locked(self.folder / CLAIMS / f"{cell}.lock", wait=wait) as ours:
            yield ours

    def has_file(self, cell: str) -> bool:
        """Whether there is a file of a cell, which is not read: it may be damaged, or of a cell that failed."""
        return (self.folder / f"{cell}.json").is_file()

    def is_complete(self, cell: str) -> bool:
        """Whether a cell is stored and undamaged."""
        return self.get(cell) is not None

    def read(self, cells: Iterable[str] | None = None) -> Results:
        """Cells and curves. In a local store of the named cells, or of all, those of each row's latest configuration.

        Raises:
          UsageError: nothing is stored here, or a published file is damaged.
        """
        if self.label != LOCAL:
            return self._read_published()
        names = list(cells) if cells is not None else self.names()
        found = [entry for entry in map(self.get, names) if entry is not None]
        if self.set_aside:
            damaged = ", ".join(path.name for path in self.set_aside)
            raise UsageError(
                f"damaged files set aside in {self.folder}: {damaged}; repeat the command for a report of the "
                "others, or run their cells again with `bench run`"
            )
        if not found:
            raise UsageError(f"no results of suite {self.suite} in {self.folder}; run: bench run {self.suite}")
        frame = pd.DataFrame([cell_row(r, self.label) | {"record": record_text(r)} for r, _ in found])
        curves = pd.concat([curve for _, curve in found if len(curve)] or [pd.DataFrame(columns=CURVE_COLUMNS)])
        frame, left_out = latest(frame)
        curves = curves.loc[curves["cell"].isin(frame["cell"])]
        return Results(frame.reset_index(drop=True), curves.reset_index(drop=True), tuple(map(str, left_out)))

    def names(self) -> list[str]:
        """Names of the stored cells; files of other names, or of another schema, are not ours."""
        return sorted(path.stem for path in self.folder.glob("*.json") if CELL_NAME.fullmatch(path.stem))

    def runs(self) -> set[tuple[str, str, int]]:
        """(task, optimizer, seed) of the stored training runs, whatever their configuration."""
        found = set()
        for name in self.names():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # what is damaged is told by `get`
                config = parse_record((self.folder / f"{name}.json").read_bytes()).config
                if config["kind"] == "train":
                    found.add((config["task"], config["optimizer"], config["seed"]))
        return found

    def _read_published(self) -> Results:
        try:
            cells = pd.read_parquet(self.folder / "cells.parquet")
            curves = pd.read_parquet(self.folder / "curves.parquet").astype({"cell": str, "metric": str})
            schemas = set(cells["schema"])
            if schemas != {SCHEMA}:
                raise UsageError(f"published results in {self.folder} are of another schema than {SCHEMA}")
            altered = first_altered(cells, curves)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"no readable published results in {self.folder}: {one_line(error)}") from None
        if altered:
            raise UsageError(f"{self.folder}: {altered}")
        return Results(cells.drop(columns=["record", "schema"]), curves)

    def restore(self, results_dir: Path, source: str, wanted: Iterable[str] = ()) -> int:
        """Copies published cells that are not stored yet into this local store; returns their number.

        Args:
          results_dir: folder of the published results.
          source: LABEL of this suite, or SUITE/LABEL of another one. A cell of another suite with the same
            configuration becomes a cell of this suite, with its origin in `taken_from`.
          wanted: names of the cells to take from another suite.

        Raises:
          UsageError: nothing is published there, or the published results are altered.
        """
        suite, _, label = source.rpartition("/")
        published = Store(results_dir, suite or self.suite, label)
        published.read()
        cells = pd.read_parquet(published.folder / "cells.parquet", columns=["record"])
        curves = pd.read_parquet(published.folder / "curves.parquet").astype({"cell": str, "metric": str})
        wanted = set(wanted)
        by_cell = {str(cell): curve for cell, curve in curves.groupby("cell", sort=False)}
        copied = 0
        for record in map(parse_record, cells["record"]):
            curve = by_cell.get(record.cell, pd.DataFrame(columns=CURVE_COLUMNS))
            if published.suite != self.suite:
                config = {**record.config, "suite": self.suite}
                name, origin = cell_id(config), f"{published.suite}/{label}/{record.cell}"
                if name not in wanted:
                    continue
                record = msgspec.structs.replace(record, cell=name, config=config, taken_from=origin)
                curve = curve.assign(cell=name)
            if not self.is_complete(record.cell):
                self.put(record, curve)
                copied += 1
        return copied
