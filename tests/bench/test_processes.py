"""A process that says how it goes."""

import pytest

from bench.processes import converse

TALKER = """
import sys, time, os
from bench.processes import first_message, speaking
what = first_message()
with speaking() as say:
    print("noise", flush=True)
    os.write(1, b"more noise\\n")
    say(begins="a")
    if what == "hang":
        time.sleep(100)
    if what == "die":
        os.abort()
    say(result=1)
"""


@pytest.mark.parametrize(
    ("what", "last"),
    [
        ("end", {"result": 1}),
        ("hang", {"ended": "was ended after 5 s", "late": True}),
        ("die", {"ended": "died, by signal SIGABRT", "late": False}),
    ],
)
def test_a_process_says_how_it_goes_and_what_it_prints_is_not_taken_for_it(tmp_path, monkeypatch, what, last):
    (tmp_path / "talker.py").write_text(TALKER)
    monkeypatch.syspath_prepend(tmp_path)  # a process finds modules as this one does
    messages = list(converse("talker", what, 5.0))
    assert messages == [{"begins": "a"}, last]
