"""A time limit that comes where Python drops what a signal raises."""

import sys
import time

import pytest

from bench.errors import OutOfTime
from bench.time_limit import dropped_in_silence, time_limit


class SlowToGo:
    def __init__(self, error: type[BaseException] | None = None):
        self.error = error

    def __del__(self):
        if self.error:
            raise self.error
        time.sleep(0.3)


def test_a_limit_that_comes_in_a_finalizer_is_raised_by_the_next_who_asks_and_not_printed(capsys):
    with time_limit(0.1) as raise_when_over:
        SlowToGo()
        with pytest.raises(OutOfTime):
            raise_when_over()
    assert capsys.readouterr().err == ""


def test_other_exceptions_that_are_dropped_are_told(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with dropped_in_silence(OutOfTime):
        SlowToGo(OutOfTime)
        SlowToGo(ValueError)
    SlowToGo(OutOfTime)
    assert told == [ValueError, OutOfTime]
