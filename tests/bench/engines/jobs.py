"""Jobs for workers that import next to nothing: what a job does is in its name."""

import os
import signal
import time
from pathlib import Path

from bench.engines.workers import Facts
from bench.errors import UsageError


def check(problem=None, difference=""):
    """On a worker: what is known of it."""
    return Facts("here", problem, difference, "cpu")


def perform(folder, name):
    """On a worker: (begin, end) of a job, seconds. A file has the process of every time that it was tried."""
    path, kind = Path(folder) / name, name.partition("-")[0]
    with path.open("a") as tries:
        tries.write(f"{os.getpid()}\n")
    if kind == "dies" or (kind == "once" and path.read_text().count("\n") == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "refuses":
        raise UsageError("there is no such data")
    begin = time.monotonic()
    time.sleep(1000 if kind == "hangs" else 0.1)
    return begin, time.monotonic()
