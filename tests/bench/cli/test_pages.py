"""`bench open` and `bench site`."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def opened(monkeypatch):
    """What a browser was asked to open; it says whether there is one."""
    asked, there = [], [True]
    monkeypatch.setattr("webbrowser.open", lambda url: asked.append(url) or there[0])
    return asked, there


@pytest.fixture
def pages(folders):
    """Three reports; the second was written last."""
    made = []
    for age, name in ((3, "quick/cpu-2core"), (1, "quick/local"), (2, "paper/local")):
        page = Path(folders["BENCH_REPORTS_DIR"]) / name / "report.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<h1>A report</h1>")
        os.utime(page, (1e9 - age, 1e9 - age))
        made.append(page)
    return made


@pytest.mark.parametrize(("name", "which"), [((), 1), (("quick",), 1), (("quick/cpu-2core",), 0), (("paper",), 2)])
def test_the_report_written_last_is_opened(bench, pages, opened, name, which):
    assert bench("open", *name) == (0, f"report: {pages[which]}\n", "")
    assert opened[0] == [pages[which].resolve().as_uri()]


def test_without_a_browser_the_path_is_said_all_the_same(bench, pages, opened):
    opened[1][0] = False
    code, out, err = bench("open")
    assert (code, out) == (0, f"report: {pages[1]}\n")
    assert "no browser could be started" in err


def test_without_a_report_it_is_bad_input(bench, opened, tmp_path):
    code, out, err = bench("open", "--reports-dir", str(tmp_path))
    assert (code, out, opened[0]) == (2, "", [])
    assert err == f"bench: no report in {tmp_path}; run: bench run\n"
    assert "no report of paper/nobody" in bench("open", "paper/nobody", "--reports-dir", str(tmp_path))[2]


def test_a_board_needs_something_published(bench, tmp_path):
    code, _, err = bench("site", "--out", str(tmp_path / "site"), "--reports-dir", str(tmp_path / "reports"))
    assert (code, err) == (2, f"bench: no published report in {tmp_path / 'reports'}\n")
