"""The `DataSet` type, its content digest, its cache file, and the errors a user can meet.

A cache file is one safetensors file (plain arrays, never a pickle) whose name and metadata both carry the digest of its
arrays. The digest is recomputed at every read: a record that quotes a digest is a record of exactly those pixels.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tasks.files import write_atomically

SCHEMA = "lopt-bench-data-1"
SPLITS = ("train", "validation", "test")


class MissingDataError(Exception):
    """The data set is neither cached nor prepared; the one-line message says where it looked and how to get it."""


class DamagedDataError(Exception):
    """A cache file or a prepared source is torn, altered or foreign; the one-line message says which and what to do."""


class CacheError(Exception):
    """The cache folder cannot be read or written; the one-line message names it."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Arrays of one data set with what a result row must say about them.

    `arrays` is read-only and keyed `train_images`, `train_labels`, `train_index` and so on for each of `SPLITS`:

    - `*_images`: uint8, `[N, height, width, channels]`, or `[classes, per_class, height, width, channels]`;
    - `*_labels`: int32, `[N]`; absent where the leading axis is the class;
    - `*_index`: int32, the position of each image within the source's own split;
    - `class_labels`: int32, `[classes]`, the source's label of each leading row (class-major sets only).
    """

    name: str
    version: str  # the source's version, not ours
    source: str
    note: str  # caveats a record must carry; may be empty
    digest: str  # `digest_arrays(arrays)`
    arrays: Mapping[str, np.ndarray]


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 (hex) of names, dtypes, shapes and values, independent of dict order and byte order."""
    sha = hashlib.sha256()
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key], dtype=arrays[key].dtype.newbyteorder("<"))
        sha.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        sha.update(array.data)
    return sha.hexdigest()


def freeze(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return a read-only mapping of read-only arrays, so that no task can alter the data of another."""
    for array in arrays.values():
        array.flags.writeable = False
    return MappingProxyType(dict(arrays))


def cache_path(cache_dir: Path, name: str, version: str, digest: str) -> Path:
    """Return the path of the cache file that holds these arrays."""
    return cache_dir / f"{name}-{version}-{digest[:16]}.safetensors"


def cached_files(cache_dir: Path, name: str, version: str) -> list[Path]:
    """Return the cache files of this name and version, whatever their digest (temporary files start with a dot)."""
    return sorted(cache_dir.glob(f"{name}-{version}-*.safetensors"))


def write_cache(data: DataSet, cache_dir: Path) -> Path:
    """Write `data` to its cache file and return the path.

    The file appears whole or not at all. Two processes writing at once each rename a whole file of the same content.
    """
    path = cache_path(cache_dir, data.name, data.version, data.digest)
    content = save(dict(data.arrays), metadata=_metadata(data.name, data.version, data.source, data.digest))
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CacheError(
            f"cannot write {data.name} to the cache folder {cache_dir} ({_reason(error)}); "
            f"free or allow it, or choose another with --cache-dir (or BENCH_CACHE_DIR)"
        ) from error
    return path


def read_cache(path: Path, *, name: str, version: str, source: str, note: str) -> DataSet:
    """Read a cache file and check that it is what its name, its metadata and the caller say it is."""
    metadata, arrays = _read(path, name, with_arrays=True)
    digest = digest_arrays(arrays)
    _check(path, metadata, name, version, source)
    if metadata.get("digest") != digest:
        said = f"the arrays have {digest[:16]} and the header says {metadata.get('digest')}"
        raise _damaged(path, name, f"checksum mismatch, {said}")
    return DataSet(name, version, source, note, digest, freeze(arrays))


def read_digest(path: Path, *, name: str, version: str, source: str) -> str:
    """Read the digest that a cache file's header states, without its arrays; `read_cache` is what checks those."""
    metadata, _ = _read(path, name, with_arrays=False)
    _check(path, metadata, name, version, source)
    return metadata["digest"]


def _read(path: Path, name: str, *, with_arrays: bool) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="numpy") as file:
            keys = file.keys() if with_arrays else ()
            return file.metadata() or {}, {key: file.get_tensor(key) for key in keys}
    except OSError as error:
        raise CacheError(
            f"cannot read {name} from the cache folder {path.parent} ({_reason(error)}); "
            f"allow it, or choose another with --cache-dir (or BENCH_CACHE_DIR)"
        ) from error
    # Besides its own error the reader raises KeyError, TypeError, .. on a header that names a dtype numpy lacks.
    except (SafetensorError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(path, name, f"torn or not a safetensors file ({_reason(error)})") from error


def _check(path: Path, metadata: Mapping[str, str], name: str, version: str, source: str) -> None:
    """Check that a header is of this data set, and that the file's name states the same digest."""
    digest = str(metadata.get("digest"))
    for key, expected in _metadata(name, version, source, digest).items():
        if metadata.get(key) != expected:
            raise _damaged(path, name, f"foreign file, its {key} is {metadata.get(key)!r} and not {expected!r}")
    if path.name != cache_path(path.parent, name, version, digest).name:
        said = f"the header says {digest[:16]} and the file name says otherwise"
        raise _damaged(path, name, f"checksum mismatch, {said}")


def _damaged(path: Path, name: str, what: str) -> DamagedDataError:
    return DamagedDataError(
        f"damaged cache file {path}: {what}; delete it, or replace it with: bench prepare {name} --force"
    )


def one_line(message: object) -> str:
    """Return a message of another library as one line."""
    return " ".join(str(message).split())


def _metadata(name: str, version: str, source: str, digest: str) -> dict[str, str]:
    return {"schema": SCHEMA, "name": name, "version": version, "source": source, "digest": digest}


def _reason(error: Exception) -> str:
    return one_line(getattr(error, "strerror", None) or f"{type(error).__name__}: {error}")
