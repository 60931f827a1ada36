"""Reports of what is stored: what they write, and where."""

import json

import pytest

from bench.cli import main as cli
from bench.folders import Folders
from bench.report import figures, stored
from tests.bench.report.published import NAME, report


def tree(folder):
    """Every file below a folder, its content and when it was written."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_report_as_json_draws_and_writes_nothing(original, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nothing is to be drawn")

    for name in figures.__all__:
        if name.endswith("_figures"):
            monkeypatch.setattr(figures, name, refuse)
    before = tree(original)
    folders = ("--results-dir", str(original / "results"), "--reports-dir", str(original / "reports"))
    with pytest.raises(SystemExit) as done:
        cli.main(["report", NAME[0], "--label", NAME[1], "--json", *folders])
    assert not done.value.code
    assert capsys.readouterr().out == (report(original) / "report.json").read_text(encoding="utf-8")
    assert tree(original) == before


def test_a_report_replaces_an_earlier_one_and_leaves_other_files(root):
    folder = report(root)
    old, own, kept = folder / "tables" / "old.csv", folder / "figures" / "old.png", folder / "notes.txt"
    own.parent.mkdir(exist_ok=True)
    for path in (old, own, kept, folder / "report.json"):
        path.write_text("old")
    page = stored.write_report(*NAME, folders=Folders(root / "results", root / "reports"), draw=False)
    assert page == folder / "report.html"
    assert (old.exists(), own.exists(), kept.exists()) == (False, False, True)
    assert json.loads((folder / "report.json").read_text())["suite"] == NAME[0]
    assert [path.name for path in folder.parent.iterdir()] == [NAME[1]]


def test_files_of_figures_and_tables_that_an_earlier_report_has_are_made_anew(root, undrawn):
    folder, folders = report(root), Folders(root / "results", root / "reports")
    kept = {folder / "figures" / "train_loss_steps_a.png", folder / "tables" / "summary_a.md"}
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    stored.write_report(*NAME, folders=folders)
    assert all(path.read_bytes() != b"old" for path in kept)
    assert {path for path in folder.rglob("*.*") if path.suffix in (".png", ".svg", ".pdf", ".md", ".tex")} == kept
    stored.write_report(*NAME, folders=folders, figures=("svg",), tables=("tex",))
    assert (folder / "figures" / "step_cost_b.svg").exists()
    assert (folder / "tables" / "summary_b.tex").exists()
    assert not (folder / "tables" / "summary_b.md").exists()
