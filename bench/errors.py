"""Errors that are shown to the user (one line, no traceback), and exit codes."""

import contextlib
from collections.abc import Iterator, Sequence

EXIT_HARNESS_ERROR = 1
EXIT_USAGE = 2  # or missing input: data, files, devices, names
EXIT_FAILED_CELLS = 3  # error, out of memory or time limit; a diverged run is a recorded result
EXIT_CHECK_FAILED = 4  # a regression, or a check that failed
EXIT_INTERRUPTED = 130


class UsageError(Exception):
    """Bad or missing input; the message says what was expected, what was found and what to do."""


class OutOfTime(KeyboardInterrupt):
    """The time limit of a command is reached. What lets a Ctrl-C pass lets this pass too."""


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Converts a one-line ValueError of a lower package, or an OSError, to a `UsageError`."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        where, why = error.filename or "a file", error.strerror or error
        raise UsageError(f"cannot read or write {where}: {why}; choose another folder or free some space") from None


def is_input_error(error: Exception) -> bool:
    """Whether an error is about what the user gave, here or in the lower packages, which cannot import `UsageError`."""
    from tasks import UnknownNameError
    from tasks.data import CacheError, DamagedDataError, MissingDataError

    return isinstance(error, UsageError | UnknownNameError | CacheError | DamagedDataError | MissingDataError)


def nearest(kind: str, name: str, known: Sequence[str]) -> UsageError:
    """The error for an unknown name, with the nearest known ones."""
    from tasks.tables import UnknownNameError

    return UsageError(str(UnknownNameError(kind, name, known)))
