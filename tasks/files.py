"""Atomic file writes, which survive a killed process, and names that are safe for files."""

import os
import re
import secrets
from pathlib import Path

# For names that become parts of paths, pages and LaTeX tables.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SAFE_NAMES = "letters, digits, '.', '_' and '-', at most 100 of them, starting with a letter or digit"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file: under a temporary name beside it, flushed to the disk, then renamed.

    Two writers at once each rename a complete file.

    Raises:
      OSError: it cannot be written; an existing file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # errors in writing have no file name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Renames a damaged file to NAME.damaged, or NAME.2.damaged and so on if that exists; returns the new path.

    Raises:
      OSError: it cannot be renamed.
    """
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{f'.{number}' if number > 1 else ''}.damaged")):
        number += 1
    return path.rename(aside)
