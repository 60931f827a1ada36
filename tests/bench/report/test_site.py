"""The board: what is published is on it, with the numbers of its report, and nothing else is touched."""

import json
import re
import shutil

import pytest

from bench.errors import UsageError
from bench.folders import Folders
from bench.report.site import INDEX, MARK, write_site
from learned.weights import shipped_names
from tests.bench.report.published import NAME
from tests.bench.report.reading import Page
from tests.helpers import assert_one_line


@pytest.fixture
def folders(root):
    return Folders(results_dir=root / "results", reports_dir=root / "reports")


def shown(page):
    """The text of a page, a space for each tag."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8")).split())


def test_the_index_has_the_verdict_and_the_headline_numbers_of_each_report(folders, tmp_path):
    path = folders.reports_dir.joinpath(*NAME, "report.json")
    screen = json.loads(path.read_text())
    screen["verdict"]["optimizer"] = "lopt"
    hard = {"estimate": 1.23456, "low": 1.2, "high": 1.3}
    screen["verdict"]["against"] = [
        {"group": "all_hand_designed", "reference": "adam", "speedup": {"hard": hard}},
        {"group": "paper_constant", "reference": "sgd", "speedup": {"hard": hard | {"estimate": 4.5, "bound": "<"}}},
    ]
    difference = {"estimate": 0.0432, "low": 0.01, "high": 0.08}
    screen["headline"] = {"test_loss": {"reference": "adam", "difference": difference}}
    path.write_text(json.dumps(screen))
    table = path.parent / "tables" / "comparison_overall_lopt.csv"
    table.write_text("baseline,holm_p\nadam,0.049\nsgd,0.051\nmuon,\n")
    index = write_site(tmp_path / "site", folders=folders)
    Page(index.read_text())  # its tags nest
    text = shown(index)
    assert f"{NAME[0]} {NAME[1]}" in text
    assert f"{screen['verdict']['word']} lopt" in text
    assert "the best hand-designed 1.23 [1.20, 1.30]" in text
    assert "constant rates &lt;4.5" in text
    assert "+0.043 [+0.010, +0.080] (adam)" in text
    assert "from 1 of 3 rows; not from sgd, muon" in text
    for name in ("report.html", "report.json", "tables/score.csv"):
        assert (index.parent.joinpath("reports", *NAME, name)).is_file()


def test_where_nothing_may_be_told_apart_for_want_of_seeds_a_dash_says_so(folders, tmp_path):
    for table in folders.reports_dir.joinpath(*NAME).glob("tables/comparison_*.csv"):
        table.write_text("baseline,holm_p\nadam,\n")
    assert "told apart by test loss" in (text := shown(write_site(tmp_path / "site", folders=folders)))
    assert "rows; not from" not in text
    assert "from 0 of" not in text


def test_every_link_leads_to_a_file_and_every_card_is_a_page(folders, tmp_path):
    index = write_site(tmp_path / "site", folders=folders)
    pages = [index, index.with_name("add_results.html"), *index.parent.glob("weights/*.html")]
    assert {page.stem for page in pages[2:]} == set(shipped_names())
    for page in pages:
        for target in re.findall(r'href="(?!data:)([^"#]+)', page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), (page, target)


def test_the_claims_are_linked_once_there_is_a_page_of_them(folders, tmp_path):
    assert "was shown" not in shown(write_site(tmp_path / "site", folders=folders))
    (folders.reports_dir / "claims" / "here").mkdir(parents=True)
    (folders.reports_dir / "claims" / "here" / "index.html").write_text("<h1>Claims</h1>")
    index = write_site(tmp_path / "site", folders=folders)
    assert "was shown" in shown(index)
    assert (index.parent / "reports" / "claims" / "here" / "index.html").is_file()


def test_a_board_is_replaced_whole_and_another_folder_is_left_alone(folders, tmp_path):
    index = write_site(tmp_path / "site", folders=folders)
    (index.parent / "old.html").write_text("of a set that is withdrawn")
    write_site(tmp_path / "site", folders=folders)
    assert {path.name for path in index.parent.iterdir()} == {INDEX, MARK, "add_results.html", "reports", "weights"}
    assert list(tmp_path.glob(".site-*")) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is no board") as caught:
        write_site(tmp_path / "mine", folders=folders)
    assert_one_line(caught.value)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("damage", ["{", None])
def test_a_report_that_cannot_be_read_is_named_in_one_line(folders, tmp_path, damage):
    if damage:
        folders.reports_dir.joinpath(*NAME, "report.json").write_text(damage)
    else:
        folders.results_dir.joinpath(*NAME, "cells.parquet").unlink()
    with pytest.raises(UsageError, match="made/machine cannot be read") as caught:
        write_site(tmp_path / "site", folders=folders)
    assert_one_line(caught.value)
    assert not (tmp_path / "site").exists()


def test_without_published_reports_there_is_no_board(folders, tmp_path):
    shutil.rmtree(folders.reports_dir)
    with pytest.raises(UsageError, match="no published report"):
        write_site(tmp_path / "site", folders=folders)
