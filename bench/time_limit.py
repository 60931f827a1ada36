"""A time limit of a whole command: it ends as by a Ctrl-C, before a queue ends it by force."""

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.errors import OutOfTime


@contextlib.contextmanager
def dropped_in_silence(kind: type[BaseException]) -> Iterator[None]:
    """Keeps Python from printing an exception of this kind that it drops, for it is raised again elsewhere.

    It drops what a signal raises where nothing can be raised: in a finalizer, or in the callback that JAX has the
    garbage collector call.
    """
    tell = sys.unraisablehook

    def tell_others(lost: Any) -> None:
        if not issubclass(lost.exc_type, kind):
            tell(lost)

    sys.unraisablehook = tell_others
    try:
        yield
    finally:
        sys.unraisablehook = tell


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[Callable[[], None]]:
    """Raises `OutOfTime` in the main thread after this time, wherever the program is.

    Yields:
      A function that raises it too where the time is over. Python may drop what a signal raises, and no signal reaches
      a thread other than the main one: what takes long calls it now and then.
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
        with dropped_in_silence(OutOfTime):
            yield raise_when_over
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
