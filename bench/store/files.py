"""Files of a results folder: safe names, atomic writes, and locks that are released when their process ends."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import UsageError
from tasks import files
from tasks.files import SAFE_NAME, SAFE_NAMES


def safe_name(kind: str, name: str) -> str:
    """The name of a suite or label, if it is safe as the name of a folder.

    Raises:
      UsageError: the name has other characters than letters, digits, dots, dashes and underscores, or is too long.
    """
    if not SAFE_NAME.fullmatch(name):
        raise UsageError(f"{kind} {name!r}: expected {SAFE_NAMES}")
    return name


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
      UsageError: the folder cannot be written.
    """
    try:
        files.write_atomically(path, content)
    except OSError as error:
        raise UsageError(unwritable(path, error)) from None


def unwritable(path: Path, error: OSError) -> str:
    """The message about a file that cannot be written."""
    return f"cannot write {path}: {error.strerror}; choose another folder or free some space"


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds a lock file while the context lasts; yields whether it was acquired. The lock ends with the process.

    Args:
      path: path of the lock file, which is removed afterwards.
      wait: whether to wait until another process releases the lock.

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
        # Removed while the lock is held. A process that waits for it then sees the finished work.
        path.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def alone(path: Path, refusal: str) -> Iterator[None]:
    """Holds a lock file while the context lasts.

    Args:
      path: path of the lock file, see `locked`.
      refusal: the message where another process holds it.

    Raises:
      UsageError: another process holds it, or the folder cannot be written.
    """
    with locked(path) as ours:
        if not ours:
            raise UsageError(refusal)
        yield
