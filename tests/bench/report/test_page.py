"""The report as a whole: one page that stands alone, and a file of every table and figure."""

import base64
import html
import json
import re

import pytest

from bench.report.page import FIGURE_FORMATS, TABLE_FORMATS, write_page
from tests.bench.noisy_rows import LEAN, OPTIMIZERS, TITLE, chosen, make_frames
from tests.bench.report.reading import Page, read_table, render_terminal
from tests.helpers import REPOSITORY


def test_the_page_stands_alone(full):
    *_, text = full
    assert "http" not in text
    assert "url(" not in text
    page = Page(text)
    assert "iframe" not in {tag for tag, _ in page.tags}
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts.count({}) == 1  # the page's own; the others hold what the charts are drawn from
    assert {json.dumps(found) for found in scripts} == {"{}", '{"type": "application/json"}'}
    for tag, attributes in page.tags:
        if "src" in attributes:
            assert tag == "img"
            assert base64.b64decode(attributes["src"].removeprefix("data:image/webp;base64,")).startswith(b"RIFF")
            assert len(attributes["alt"]) > 40
        assert attributes.get("href", "#").startswith(("#", "data:,"))


def test_what_follows_the_title_of_a_rule_has_a_blank_before_words_alone(full):
    after = re.findall(r'<li id="rule-\d+"><strong>[^<]*</strong>(..)', full[-1])
    assert len(after) > 10
    assert all(text[0] in ":;," or (text[0] == " " and text[1] not in ":;,.") for text in after)


def test_tables_have_captions_and_scopes(full):
    page = Page(full[-1])
    count = {tag: sum(found == tag for found, _ in page.tags) for tag in ("table", "caption", "th")}
    assert count["table"] == count["caption"] > 5
    assert all(attributes["scope"] in ("col", "row") for tag, attributes in page.tags if tag == "th")


def names_in(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def figures_on(text):
    return set(re.findall(r'id="figure-([^"]+)"', text))


def charts_on(text):
    """What the charts are drawn from."""
    return [json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)]


def tables_on(text):
    return set(re.findall(r'id="table-([^"]+)"', text))


def test_every_table_of_the_page_is_a_csv_file_and_nothing_else_is_written(full):
    _, _, out, text = full
    tables = tables_on(text)
    assert {"overall_summary", "summary_digits_mlp", "comparison_overall_lopt", "failures", "provenance"} <= tables
    assert names_in(out) == {"report.html", "report.json", "tables"}
    assert names_in(out / "tables") == {f"{slug}.csv" for slug in tables}


def test_figures_and_tables_are_files_in_the_formats_asked_for(tmp_path, undrawn):
    frames = make_frames(chosen("adam", "lopt"), ("t",), 1, **LEAN)
    text = write_page(*frames, tmp_path, **TITLE, figures=FIGURE_FORMATS, tables=TABLE_FORMATS).read_text()
    for folder, slugs, suffixes in (
        ("figures", figures_on(text) | {"train_loss_steps_t", "step_cost_t"}, FIGURE_FORMATS),  # two left out
        ("tables", tables_on(text), TABLE_FORMATS),
    ):
        assert len(slugs) > 3
        assert names_in(tmp_path / folder) == {f"{slug}.{suffix}" for slug in slugs for suffix in suffixes}
    assert figures_on(text) == {"train_loss_seconds_t", "final_test_loss_t"}


def test_a_page_of_many_tasks_leaves_figures_to_those_who_ask_and_says_so(tmp_path, undrawn):
    frames = make_frames(chosen("adam", "lopt"), ("a", "b", "c"), 2)
    text = write_page(*frames, tmp_path, **TITLE, figures=("png",)).read_text(encoding="utf-8")
    drawn, on_page = {path.stem for path in (tmp_path / "figures").iterdir()}, figures_on(text)
    assert on_page < drawn
    for task in "abc":
        kinds = {"train_loss_seconds", "validation_loss_seconds", "final_test_loss"}
        assert {f"{kind}_{task}" for kind in kinds} == {slug for slug in on_page if slug.endswith(f"_{task}")}
    assert f"{len(drawn - on_page)} more figures of the same runs" in text
    assert "<code>bench report quick --figures png</code>" in text
    text = write_page(*frames, tmp_path, **TITLE | {"label": "box"}).read_text(encoding="utf-8")
    assert "<code>bench report quick --label box --figures png</code>" in text


def test_names_are_shown_not_obeyed(tmp_path, undrawn):
    evil = "<script>alert(1)</script> $\\frac | [red]_x"
    optimizers = {evil: OPTIMIZERS["lopt"], "_hidden": OPTIMIZERS["adam"], "名前": OPTIMIZERS["muon"]}
    cells, curves = make_frames(optimizers, ("../<b>task",), 1, **LEAN)
    path = write_page(cells, curves, tmp_path, title=evil, suite=evil, label=evil, description=evil)
    text = path.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert "_hidden" in {line["name"] for chart in charts_on(text) for line in chart["lines"]}
    assert html.escape(evil, quote=False) in text
    Page(text)
    assert (tmp_path / "tables" / "summary_b-task.csv").exists()
    assert "alert(1)" in render_terminal(cells, curves, width=200)
    assert "[red]" in render_terminal(cells, curves, width=200)


def test_without_a_timing_cell_the_own_clock_is_used_and_named(tmp_path, undrawn):
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 2, timed=False, **LEAN)
    text = write_page(cells, curves, tmp_path, **TITLE).read_text(encoding="utf-8")
    assert "own training clock" in text
    assert "no timing cell" in text
    assert "step_cost_t" not in figures_on(text)


def test_a_timing_cell_alone_makes_a_report(tmp_path, undrawn):
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 0)
    write_page(cells, curves, tmp_path, **TITLE)
    assert read_table(tmp_path, "summary_t")["lopt"]["role"] == "timed only"


def test_one_optimizer_is_enough(tmp_path, undrawn):
    cells, curves = make_frames(chosen("adam"), ("t",), 1, **LEAN)
    text = write_page(cells, curves, tmp_path, **TITLE).read_text(encoding="utf-8")
    assert "Only with a learned and a hand-designed row" in text
    assert "adam" in render_terminal(cells, curves)


@pytest.mark.parametrize("status", ["error", "diverged"])
def test_when_all_runs_failed_there_is_still_a_report(tmp_path, status, undrawn):
    statuses = {("t", name, seed): status for name in ("adam", "lopt") for seed in range(2)}
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 2, statuses, timed=False, **LEAN)
    text = write_page(cells, curves, tmp_path, **TITLE).read_text(encoding="utf-8")
    assert "4 cells not ok" in text
    assert "0 / 2" in text
    assert "0/2" in render_terminal(cells, curves)


def test_a_second_report_replaces_the_files_of_the_first(tmp_path, undrawn):
    formats = {"figures": FIGURE_FORMATS, "tables": TABLE_FORMATS}
    write_page(*make_frames(chosen("adam"), ("old",), 0), tmp_path, **TITLE, **formats)
    assert list(tmp_path.rglob("*old*.svg"))
    frames = make_frames(chosen("adam"), ("new",), 0)
    first = write_page(*frames, tmp_path, **TITLE).read_bytes()
    assert not list(tmp_path.rglob("*old*"))
    assert write_page(*frames, tmp_path, **TITLE).read_bytes() == first


def test_the_protocol_on_the_page_has_its_points_and_what_it_was_departed_from(full):
    *_, text = full
    shown = text.partition('<section id="protocol">')[2]
    lines = (REPOSITORY / "bench" / "PROTOCOL.md").read_text().splitlines()
    points = [line.split("- ", 1)[1] for line in lines if line.lstrip().startswith("- ")]
    assert len(points) >= 9
    for point in points:
        words = html.escape(point.replace("*", "").partition("`")[0].rstrip(), quote=True).replace("&#x27;", "&#39;")
        assert words in shown, point
    assert (
        "".join(re.findall(r"<code>(learned/weights/.*?\.md)</code>", re.sub("<wbr>", "", shown)))
        == "learned/weights/*.md"
    )
