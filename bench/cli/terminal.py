"""What commands print: tables, JSON and progress; and how a Ctrl-C reaches them."""

import codecs
import contextlib
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from bench.time_limit import dropped_in_silence

Log = Callable[[str], None]
TOLD_EVERY_SEC = 60.0  # where there is no bar: in a pipe, a file, a terminal that cannot move its cursor
NARROW = 80  # columns below which the bar has neither title nor elapsed time

# Characters that tables, marks and sentences have, for terminals and pipes that cannot show them.
_PLAIN = {"†": "!", "‡": "~", "§": "*", "¶": "#", "–": "-", "±": "+/-", "×": "x", "…": ".", "·": "."}
_standard_output: list[Any] = []  # where `print_json` prints, while all else goes to standard error


def bear_any_encoding() -> None:
    """Sees to it that what standard output or error cannot encode is replaced, as by `LC_ALL=de_DE.ISO-8859-1`."""

    def replaced(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return "".join(_PLAIN.get(char, "?") for char in error.object[error.start : error.end]), error.end

    codecs.register_error("bench", replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="bench")


@contextlib.contextmanager
def json_alone() -> Iterator[None]:
    """Sends all to standard error, also what plug-ins print, but what `print_json` prints."""
    _standard_output.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _standard_output.pop()


def print_table(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows as a table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    columns = columns or list(rows[0])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = all(isinstance(row[column], int | float) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns), style=None)
    # A pipe has no width: nothing there is worth folding for.
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


def print_json(value: Any) -> None:
    """A value as JSON on standard output; text is JSON already."""
    text = value if isinstance(value, str) else json.dumps(value, indent=1)
    click.echo(text.rstrip("\n"), file=_standard_output[-1] if _standard_output else None)


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Sees to it that no Ctrl-C is lost.

    Python may drop a KeyboardInterrupt (`dropped_in_silence`). The next call of what this yields, or the end, raises it
    again.
    """
    pending = False

    def interrupt(signum: int, frame: Any) -> None:
        nonlocal pending
        pending = True
        raise KeyboardInterrupt

    def raise_pending() -> None:
        if pending:
            raise KeyboardInterrupt

    # A signal that is ignored (a shell's background job) or another's stays so; only the main thread may set one.
    unhandled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ours = unhandled and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        with dropped_in_silence(KeyboardInterrupt) if ours else contextlib.nullcontext():
            yield raise_pending
        raise_pending()
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def duration_text(seconds: float) -> str:
    """A rough duration in words.

    Example:
      >>> [duration_text(seconds) for seconds in (4, 52, 95, 5000, 40000)]
      ['5 s', '50 s', '2 min', '1.4 h', '11 h']
    """
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if seconds < 3570:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 35000 else f"{round(seconds / 3600)} h"


@contextlib.contextmanager
def progress_bar(total: float, title: str, console: Any) -> Iterator[tuple[Log, Callable[..., None]]]:
    """A progress bar with time left on a terminal; elsewhere plain lines, once a minute with the time left.

    Yields:
      (log, advance): log prints a line; advance moves the bar, and may tell a line to show beside it from then on.

    Raises:
      KeyboardInterrupt: from `advance` at the latest, where one was lost.
    """
    with contextlib.ExitStack() as stack:
        raise_pending = stack.enter_context(_interruptible())
        bar = None
        if console.is_terminal and not console.is_dumb_terminal and not console.quiet:
            bar = stack.enter_context(_bar(console))
            bar.add_task(title, total=total, line="")
        done, begun = 0.0, time.monotonic()
        told = begun

        def log(line: str) -> None:  # while a bar is shown, its console prints lines above it
            console.print(line, highlight=False, soft_wrap=not console.is_terminal, markup=False)

        def advance(amount: float, line: str | None = None) -> None:
            nonlocal done, told
            raise_pending()
            done += amount
            if bar is not None:
                fields: dict[str, Any] = {} if line is None else {"line": line}
                bar.update(bar.task_ids[0], advance=amount, **fields)
            elif 0 < done < total and (now := time.monotonic()) - told >= TOLD_EVERY_SEC:
                told = now
                left = duration_text((now - begun) / done * (total - done))
                log(f"{title}: {done / total:.0%} done, about {left} left")

        yield log, advance


def _bar(console: Any) -> Any:
    """A bar that fits the terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    share, left = TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn()
    if console.width < NARROW:
        return Progress(BarColumn(bar_width=None), share, left, TextColumn("left"), console=console, transient=True)
    columns = (TextColumn("{task.description}"), BarColumn(), share, TimeElapsedColumn(), left, TextColumn("left"))
    return Progress(*columns, TextColumn("{task.fields[line]}", markup=False), console=console, transient=True)
