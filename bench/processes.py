"""Child processes for what may crash or hang, or needs a core of its own.

A child is `python -m MODULE`. Parent and child exchange messages, lines of JSON, on its standard input and output. The
child ends with its parent, however that ends.
"""

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
from typing import Any, Self


class EndedError(Exception):
    """A child has ended before it said that it was done; the text says how."""


class Child:
    """A child process, ended together with all that it started when the context is left.

    Args:
      module: what to run.
      task: the first message to it, JSON-ready (`first_message`).
    """

    def __init__(self, module: str, task: Any):
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # so that what it started ends with it
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(task)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdout, self._process.stdin):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def send(self, message: Any) -> None:
        """Sends a message, JSON-ready; to a child that has ended it is lost."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def receive(self, timeout_sec: float = math.inf) -> dict[str, Any] | None:
        """The child's next message; None where none comes in time.

        Raises:
          EndedError: the child has ended.
        """
        deadline = time.monotonic() + timeout_sec
        while True:
            # The queue is not waited for without end: a Ctrl-C has to come through.
            left = deadline - time.monotonic()
            try:
                line = self._lines.get(timeout=min(max(left, 0.0), 1.0))
            except queue.Empty:
                if left > 0:
                    continue
                return None
            if line is None:
                raise EndedError(f"died, by {_exit_text(self._process.wait())}")
            return json.loads(line)


def converse(module: str, task: Any, watchdog_sec: float) -> Iterator[dict[str, Any]]:
    """The messages of a child until it says that it is done.

    The last message is {"ended": why, "late": whether this process ended it} where the child did not come to its own
    end.

    Args:
      module: what to run, see `Child`.
      task: what it has to do, JSON-ready.
      watchdog_sec: the child is ended if it takes longer than this to its first message that something begins, or from
        one such message to the next; a message that it waits for another process stops the watchdog.
    """
    with Child(module, task) as child:
        deadline = time.monotonic() + watchdog_sec
        while True:
            try:
                message = child.receive(deadline - time.monotonic())
            except EndedError as ended:
                yield {"ended": str(ended), "late": False}
                return
            if message is None:
                yield {"ended": f"was ended after {watchdog_sec:g} s", "late": True}
                return
            if message.get("done"):
                return
            if "begins" in message:
                deadline = time.monotonic() + watchdog_sec
            elif "waits" in message:
                deadline = math.inf
            yield message


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return f"signal {name}" + (", as when memory runs out" if name == "SIGKILL" else "")
    return f"signal {-code}"


def first_message() -> Any:
    """In a child: what it has to do. From then on it is killed as soon as its parent is gone."""
    told = _standard_input()
    line = told.readline()

    def watch() -> None:
        while told.read(1):
            pass
        os.killpg(0, signal.SIGKILL)  # the group that `Child` has begun

    threading.Thread(target=watch, daemon=True).start()
    return json.loads(line)


def all_messages() -> Iterator[Any]:
    """In a child that answers: message after message, until the parent is gone."""
    told = _standard_input()
    while line := told.readline():
        yield json.loads(line)


def _standard_input() -> Any:
    """Standard input for messages alone: what a plug-in reads is empty."""
    told = os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    return told


@contextlib.contextmanager
def speaking() -> Iterator[Callable[..., None]]:
    """In a child: a function that sends a message, a keyword each; what a plug-in prints is no message.

    Where the context is left without an error the parent is told that the child is done.
    """
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)

        def say(**message: Any) -> None:
            out.write(json.dumps(message) + "\n")
            out.flush()

        yield say
        say(done=True)
