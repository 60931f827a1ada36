"""Child processes for work that may crash or hang, or that is pinned to one core.

A child is `python -m MODULE`. Parent and child exchange messages, lines of JSON, over its standard input and output.
The child is killed when its parent ends, however the parent ends.
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
    """A child ended before it sent that it is done; the message says how."""


class Child:
    """A child process. Leaving the context kills it and all processes that it started.

    Args:
      module: name of the module to run.
      task: the first message to the child, JSON-ready (`first_message`).
    """

    def __init__(self, module: str, task: Any):
        # Modules are found as in this process: with `-m` alone a child would look into the working directory first.
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # a process group, so that processes it starts are killed too
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
        """Sends a message, JSON-ready. It is lost if the child has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def receive(self, timeout_sec: float = math.inf) -> dict[str, Any] | None:
        """The child's next message; None after a timeout.

        Raises:
          EndedError: the child has ended.
        """
        deadline = time.monotonic() + timeout_sec
        while True:
            # Waiting at most a second at a time lets Ctrl-C interrupt.
            left = deadline - time.monotonic()
            try:
                line = self._lines.get(timeout=min(max(left, 0.0), 1.0))
            except queue.Empty:
                if left > 0:
                    continue
                return None
            if line is None:
                self._lines.put(None)  # for the next call
                raise EndedError(f"died, by {_exit_text(self._process.wait())}")
            return json.loads(line)


def converse(module: str, task: Any, watchdog_sec: float) -> Iterator[dict[str, Any]]:
    """Runs a child and yields its messages until it is done.

    If the child does not finish, the last message is {"ended": reason, "late": whether the watchdog killed it}.

    Args:
      module: name of the module to run, see `Child`.
      task: the first message, JSON-ready.
      watchdog_sec: watchdog timeout. It starts with the child and restarts with each message "begins"; a message
        "waits" switches it off until the next "begins".
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
    """In a child: the first message. From then on the child is killed when its parent ends."""
    messages = _standard_input()
    line = messages.readline()

    def watch() -> None:
        while messages.read(1):
            pass
        os.killpg(0, signal.SIGKILL)  # the process group that `Child` started

    threading.Thread(target=watch, daemon=True).start()
    return json.loads(line)


def all_messages() -> Iterator[Any]:
    """In a child: all messages, until the parent ends."""
    messages = _standard_input()
    while line := messages.readline():
        yield json.loads(line)


def _standard_input() -> Any:
    """A copy of standard input for messages; standard input itself becomes empty, so that plug-ins cannot read them."""
    messages = os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    return messages


@contextlib.contextmanager
def speaking() -> Iterator[Callable[..., None]]:
    """In a child: yields a function that sends its keyword arguments as a message.

    Standard output is redirected to standard error, so that a plug-in's prints are not read as messages. Leaving the
    context without an error sends that the child is done.
    """
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)

        def say(**message: Any) -> None:
            out.write(json.dumps(message) + "\n")
            out.flush()

        yield say
        say(done=True)
