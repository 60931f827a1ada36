"""A time limit of a whole command: it ends as by a Ctrl-C, before a queue ends it by force."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator

from bench.errors import OutOfTime


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
