"""Real images for the tasks, as numpy arrays: `load("digits8")`, `load("mnist28")`, `load("imagenet32")`.

`digits8` is always there. The other two are decoded once from prepared TFDS data into one cached array file; from then
on neither TFDS nor the prepared data is needed.
"""

import os
from pathlib import Path
from typing import TypedDict

from tasks.data.cache import (
    SPLITS,
    CacheError,
    DamagedDataError,
    DataSet,
    MissingDataError,
    cached_files,
    digest_arrays,
    read_cache,
    read_digest,
    write_cache,
)
from tasks.data.sources import (
    DATA_SETS,
    EVALUATION,
    OUTER_TRAIN,
    OUTER_VALIDATION,
    POOLS,
    Progress,
    Source,
    decode,
    source_problem,
)

__all__ = [
    "DATA_SETS",
    "EVALUATION",
    "OUTER_TRAIN",
    "OUTER_VALIDATION",
    "POOLS",
    "SPLITS",
    "CacheError",
    "DamagedDataError",
    "DataSet",
    "Location",
    "MissingDataError",
    "default_cache_dir",
    "default_data_dir",
    "digest_arrays",
    "facts",
    "load",
    "locate",
    "prepare",
]


class Location(TypedDict):
    """Where a data set is, for `bench doctor`."""

    name: str
    source: str
    cached: str | None  # the cache file, even a damaged one
    digest: str | None  # of the cached or embedded arrays, checked
    source_dir: str | None  # the prepared TFDS folder, if complete
    status: str  # "embedded", "cached", "available" (decoded at the first load) or "missing"
    remedy: str  # what to do; empty if nothing is needed


def load(name: str, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None) -> DataSet:
    """Load a data set: embedded, else from its cache file, else decoded from prepared TFDS data and then cached.

    Args:
      name: a key of `DATA_SETS`.
      data_dir: the folder TFDS prepared data in; `default_data_dir()` if None. Not looked at once the data is cached.
      cache_dir: the folder of cached array files; `default_cache_dir()` if None.

    Raises:
      MissingDataError: neither cached nor prepared.
      DamagedDataError: the cache file or the prepared data is torn, altered or foreign.
      CacheError: the cache folder cannot be read or written.
      ValueError: no such data set.

    Example:
      >>> load("digits8").arrays["train_images"].shape
      (1197, 8, 8, 1)
    """
    row, data_dir, cache_dir = _resolve(name, data_dir, cache_dir)
    if row.builder is None:
        return decode(name, row, data_dir, None)
    cached = _read_cached(name, row, cache_dir)
    if cached is not None:
        return cached[1]
    data = _decode(name, row, data_dir, cache_dir, None)
    write_cache(data, cache_dir)
    return data


def facts(name: str, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None) -> dict[str, str]:
    """Say which data set this is: its name, version, source, digest and note.

    A cached data set is not read: its file's header states the digest, which `load` checks against the arrays.

    Args:
      name: a key of `DATA_SETS`.
      data_dir: as for `load`.
      cache_dir: as for `load`.

    Raises:
      The errors of `load`.
    """
    row, data_dir, cache_dir = _resolve(name, data_dir, cache_dir)
    path = None if row.builder is None else _cached_file(name, row, cache_dir)
    if path is not None:
        digest = read_digest(path, name=name, version=row.version, source=row.source)
    else:
        digest = load(name, data_dir=data_dir, cache_dir=cache_dir).digest
    return {"name": name, "version": row.version, "source": row.source, "digest": digest, "note": row.note}


def prepare(
    name: str,
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the cache file of a data set, unless it is there and sound, and return its path.

    Args:
      name: a key of `DATA_SETS`.
      data_dir: as for `load`.
      cache_dir: as for `load`.
      force: decode again and replace every cache file of this name and version, damaged or not.
      progress: called as `progress(done, total)`, in examples, while decoding.

    Raises:
      The errors of `load`.
    """
    row, data_dir, cache_dir = _resolve(name, data_dir, cache_dir)
    if not force:
        cached = _read_cached(name, row, cache_dir)
        if cached is not None:
            return cached[0]
    path = write_cache(_decode(name, row, data_dir, cache_dir, progress), cache_dir)
    if force:
        for other in cached_files(cache_dir, name, row.version):
            if other.name != path.name:
                try:
                    other.unlink(missing_ok=True)
                except OSError as error:
                    raise CacheError(
                        f"cannot delete {other} ({error.strerror}); delete it or use --cache-dir"
                    ) from error
    return path


def locate(name: str, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None) -> Location:
    """Say where a data set is and what to do if it is not there; decodes nothing, raises for an unknown name only.

    A cache file is read and its digest checked, which takes up to a second.
    """
    row, data_dir, cache_dir = _resolve(name, data_dir, cache_dir)
    location = Location(
        name=name, source=row.source, cached=None, digest=None, source_dir=None, status="missing", remedy=""
    )
    if row.builder is None:
        return {**location, "digest": decode(name, row, data_dir, None).digest, "status": "embedded"}
    problem = source_problem(row, data_dir)
    if problem is None:
        location["source_dir"] = str(data_dir / row.builder / row.version)
        location["status"] = "available"
        location["remedy"] = f"bench prepare {name}"
    else:
        location["remedy"] = str(_missing(row, cache_dir, problem))
    try:
        cached = _read_cached(name, row, cache_dir)
    except (DamagedDataError, CacheError) as error:
        files = cached_files(cache_dir, name, row.version)
        return {**location, "cached": str(files[0]) if files else None, "remedy": str(error)}
    if cached is None:
        return location
    return {**location, "cached": str(cached[0]), "digest": cached[1].digest, "status": "cached", "remedy": ""}


def default_cache_dir() -> Path:
    """Return BENCH_CACHE_DIR, else XDG_CACHE_HOME/lopt-bench, else ~/.cache/lopt-bench."""
    if os.environ.get("BENCH_CACHE_DIR"):
        return Path(os.environ["BENCH_CACHE_DIR"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lopt-bench"


def default_data_dir() -> Path:
    """Return TFDS_DATA_DIR, else ~/tensorflow_datasets, as TFDS itself does."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _resolve(name: str, data_dir: str | Path | None, cache_dir: str | Path | None) -> tuple[Source, Path, Path]:
    if name not in DATA_SETS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATA_SETS)}")
    return (
        DATA_SETS[name],
        default_data_dir() if data_dir is None else Path(data_dir).expanduser(),
        default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser(),
    )


def _cached_file(name: str, row: Source, cache_dir: Path) -> Path | None:
    files = cached_files(cache_dir, name, row.version)
    if not files:
        return None
    if len(files) > 1:
        # Picking one would let results depend on which copies of a source a machine has seen.
        raise DamagedDataError(
            f"ambiguous cache: {cache_dir} holds {', '.join(file.name for file in files)}; "
            f"delete all but one, or replace them with: bench prepare {name} --force"
        )
    return files[0]


def _read_cached(name: str, row: Source, cache_dir: Path) -> tuple[Path, DataSet] | None:
    path = _cached_file(name, row, cache_dir)
    return path and (path, read_cache(path, name=name, version=row.version, source=row.source, note=row.note))


def _decode(name: str, row: Source, data_dir: Path, cache_dir: Path, progress: Progress | None) -> DataSet:
    problem = None if row.builder is None else source_problem(row, data_dir)
    if problem is not None:
        raise _missing(row, cache_dir, problem)
    return decode(name, row, data_dir, progress)


def _missing(row: Source, cache_dir: Path, problem: tuple[str, str]) -> MissingDataError:
    found, command = problem
    return MissingDataError(f"{row.source} not found: {found}, and in cache {cache_dir}; get it with: {command}")
