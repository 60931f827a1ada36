"""Files that appear whole or not at all, whatever ends the process that writes them; names that are safe for them."""

import os
import re
import secrets
from pathlib import Path

# Of what becomes a part of paths, of pages and of tables in LaTeX.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SAFE_NAMES = "letters, digits, '.', '_' and '-', at most 100 of them, starting with a letter or digit"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file: under a temporary name beside it, flushed to the disk, then renamed.

    Two writers each rename a whole file.

    Raises:
      OSError: it cannot be written; what was there before stays.
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
        error.filename = error.filename or str(path)  # what fails in writing does not know where
        raise
    finally:
        temporary.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Renames what is damaged to NAME.damaged, or NAME.2.damaged and so on where that is taken; returns the new path.

    Raises:
      OSError: it cannot be renamed.
    """
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{f'.{number}' if number > 1 else ''}.damaged")):
        number += 1
    return path.rename(aside)
