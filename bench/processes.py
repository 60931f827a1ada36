"""Processes for what may crash or hang: they say on standard output, a line of JSON each, what they do."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


def converse(module: str, what: Any, silence: float) -> Iterator[dict[str, Any]]:
    """Messages of `python -m MODULE`, which hears what to do (`hearing`) and ends where this process does.

    A last message, {"ended": why, "late": whether it was ended from here}, where it did not come to its own end, which
    it says by {"done": true}.

    Args:
      module: what to run.
      what: that it hears; JSON-ready.
      silence: seconds after the beginning, or after a message that something begins, until it has to say so again; none
        after one that it waits.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # so that what it started ends with it
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()

    def read(stream: Any) -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(what) + "\n")
            process.stdin.flush()
        deadline = time.monotonic() + silence
        while True:
            # A queue is not waited for without end: a Ctrl-C has to come through.
            left = deadline - time.monotonic()
            try:
                line = lines.get(timeout=min(max(left, 0.0), 1.0))
            except queue.Empty:
                if left > 0:
                    continue
                yield {"ended": f"was ended after {silence:g} s", "late": True}
                return
            if line is None:
                yield {"ended": f"died, by {_exit_text(process.wait())}", "late": False}
                return
            message = json.loads(line)
            if message.get("done"):
                return
            if "begins" in message:
                deadline = time.monotonic() + silence
            elif "waits" in message:
                deadline = math.inf
            yield message
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return f"signal {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
    return f"signal {-code}"


def hearing() -> Any:
    """What this process is to do. It ends with the one that told it, however that ends: nobody else would end it."""
    told = os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    line = told.readline()

    def watch() -> None:
        while told.read(1):
            pass
        os.killpg(0, signal.SIGKILL)  # the group that `converse` has begun

    threading.Thread(target=watch, daemon=True).start()
    return json.loads(line)


@contextlib.contextmanager
def speaking() -> Iterator[Callable[..., None]]:
    """A function that says a message, a keyword each, to the process that listens; what others print is no message."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)

        def say(**message: Any) -> None:
            out.write(json.dumps(message) + "\n")
            out.flush()

        yield say
        say(done=True)
