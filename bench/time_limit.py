"""A time limit of a whole command: it ends as by a Ctrl-C, before a queue ends it by force."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator

from bench.errors import UsageError

UNITS = {"s": 1, "m": 60, "h": 3600}


class OutOfTime(KeyboardInterrupt):
    """The time limit is reached. What lets a Ctrl-C pass lets this pass too."""


def duration_sec(text: str, option: str) -> float:
    """Seconds of a duration like 2h, 30m or 90s.

    Args:
      text: the duration.
      option: name of the option that it is a value of.

    Raises:
      UsageError: it is no such text.

    Example:
      >>> duration_sec("1.5m", "--budget")
      90.0
    """
    try:
        value = float(text[:-1]) * UNITS.get(text[-1:], math.nan)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{option} expects a time like 2h, 30m or 90s, got {text!r}")
    return value


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[Callable[[], None]]:
    """Raises `OutOfTime` in the main thread after this time, wherever the program is.

    Yields:
      A function that raises it too where the time is over. Python drops an exception that a signal raises within a
      finalizer, and no signal reaches a thread other than the main one: what takes long calls it now and then.
    """
    deadline = time.monotonic() + seconds

    def raise_when_over() -> None:
        if time.monotonic() >= deadline:
            raise OutOfTime

    def over(signum: int, frame: object) -> None:
        raise OutOfTime

    if not math.isfinite(seconds) or threading.current_thread() is not threading.main_thread():
        yield raise_when_over
        return
    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield raise_when_over
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
