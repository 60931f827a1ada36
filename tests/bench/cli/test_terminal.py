"""Progress on a terminal, a narrow one, one without colours, and in a pipe."""

import io
import itertools
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench.cli import terminal

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|38|9[0-7])[;m]")


@pytest.fixture
def passing(monkeypatch):
    """A clock that goes on by ten seconds whenever it is read."""
    now = itertools.count(step=10.0)
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(now)))


def shown(*, width=80, steps=4, **how):
    """What is printed while a suite of some steps runs, each with a line."""
    file = io.StringIO()
    with terminal.progress_bar(1.0, "bench run quick", Console(file=file, width=width, **how)) as (log, advance):
        for step in range(steps):
            log(f"[{step + 1}/{steps}] a cell that ended well, with a word or two about its losses")
            advance(1 / steps)
    return file.getvalue()


@pytest.mark.parametrize("width", [30, 40, 79, 80, 120])
def test_the_bar_fits_the_terminal_and_says_what_is_left(width):
    text = shown(width=width, force_terminal=True, color_system="truecolor")
    lines = [line for part in CODES.sub("", text).splitlines() for line in part.split("\r")]
    assert max(map(len, lines)) <= width
    assert any("left" in line and "%" in line for line in lines)
    assert any("bench run quick" in line and "%" in line for line in lines) == (width >= terminal.NARROW)
    assert "two about its losses" in " ".join(" ".join(lines).split())  # wrapped between words


def test_no_color_is_heeded(monkeypatch):
    assert COLOURS.search(shown(force_terminal=True, color_system="truecolor"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOURS.search(shown(force_terminal=True, color_system="truecolor"))


def test_a_pipe_gets_whole_lines_without_codes_and_once_a_minute_the_time_left(passing):
    text = shown(width=30, steps=20)  # a clock of ten seconds a step
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "[1/20] a cell that ended well, with a word or two about its losses"
    told = [line for line in lines if line.startswith("bench run quick: ")]
    assert told[0] == "bench run quick: 30% done, about 2 min left"  # 60 s for 6 of 20 steps
    assert len(told) == 3


def test_a_terminal_that_cannot_move_its_cursor_is_a_pipe(passing, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert "30% done" in shown(steps=20, force_terminal=True)


def test_a_quiet_console_stays_silent(passing):
    assert shown(steps=20, quiet=True) == ""
    assert shown(quiet=True, force_terminal=True) == ""
