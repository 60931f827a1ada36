"""Files of a results folder: safe names, whole writes, and locks that fall with their process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import UsageError
from tasks import files
from tasks.files import SAFE_NAME, SAFE_NAMES


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
        raise UsageError(unwritable(path, error)) from None


def unwritable(path: Path, error: OSError) -> str:
    """What is said of a file that cannot be written."""
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
        raise UsageError(unwritable(path, error)) from None
    try:
        yield True
    finally:
        # Taken away while it is held: who opened it before and waits finds done what it was held for.
        path.unlink(missing_ok=True)
        lock.release()
