"""The report as a whole: one page that stands alone, and a file of every table and figure."""

import base64
import html

import pytest

from bench.report import write_report
from tests.bench.noisy_rows import LEAN, OPTIMIZERS, PNG, TITLE, chosen, make_frames
from tests.bench.report.reading import Page, read_table, render_terminal


def test_the_page_stands_alone(full):
    *_, text = full
    assert "http" not in text
    assert "url(" not in text
    page = Page(text)
    assert not {"script", "iframe"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        if "src" in attributes:
            assert tag == "img"
            assert base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
            assert len(attributes["alt"]) > 40
        assert attributes.get("href", "#").startswith(("#", "data:,"))


def test_tables_have_captions_and_scopes(full):
    page = Page(full[-1])
    count = {tag: sum(found == tag for found, _ in page.tags) for tag in ("table", "caption", "th")}
    assert count["table"] == count["caption"] > 5
    assert all(attributes["scope"] in ("col", "row") for tag, attributes in page.tags if tag == "th")


def test_every_table_and_figure_is_a_file_too(full):
    _, _, out, text = full
    stems = {path.stem for path in (out / "tables").glob("*.csv")}
    assert stems == {path.stem for path in (out / "tables").glob("*.md")}
    assert {"overall_summary", "summary_digits_mlp", "comparison_overall_lopt", "failures", "provenance"} <= stems
    assert stems == {path.stem for path in (out / "tables").glob("*.tex")}
    figures = {path.stem for path in (out / "figures").glob("*.png")}
    for suffix in ("svg", "pdf"):
        assert figures == {path.stem for path in (out / "figures").glob(f"*.{suffix}")}
    per_task = {"train_loss_steps", "train_loss_seconds", "validation_loss_steps", "final_test_loss", "step_cost"}
    assert {f"{name}_{task}" for name in per_task for task in ("digits_mlp", "digits_conv")} <= figures
    assert text.count("<img") == len(figures)


def test_names_are_shown_not_obeyed(tmp_path, undrawn):
    evil = "<script>alert(1)</script> $\\frac | [red]_x"
    optimizers = {evil: OPTIMIZERS["lopt"], "_hidden": OPTIMIZERS["adam"], "名前": OPTIMIZERS["muon"]}
    cells, curves = make_frames(optimizers, ("../<b>task",), 1, **LEAN)
    path = write_report(cells, curves, tmp_path, title=evil, suite=evil, label=evil, description=evil, **PNG)
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>" not in text
    assert html.escape(evil, quote=False) in text
    Page(text)
    assert (tmp_path / "tables" / "summary_b-task.csv").exists()
    assert "alert(1)" in render_terminal(cells, curves, width=200)
    assert "[red]" in render_terminal(cells, curves, width=200)


def test_without_a_timing_cell_the_own_clock_is_used_and_named(tmp_path, undrawn):
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 2, timed=False, **LEAN)
    text = write_report(cells, curves, tmp_path, **TITLE, **PNG).read_text(encoding="utf-8")
    assert "own training clock" in text
    assert "no timing cell" in text
    assert not (tmp_path / "figures" / "step_cost_t.png").exists()


def test_a_timing_cell_alone_makes_a_report(tmp_path, undrawn):
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 0)
    write_report(cells, curves, tmp_path, **TITLE, **PNG)
    assert read_table(tmp_path, "summary_t")["lopt"]["role"] == "timed only"


def test_one_optimizer_is_enough(tmp_path, undrawn):
    cells, curves = make_frames(chosen("adam"), ("t",), 1, **LEAN)
    text = write_report(cells, curves, tmp_path, **TITLE, **PNG).read_text(encoding="utf-8")
    assert "Only with a learned and a hand-designed row" in text
    assert "adam" in render_terminal(cells, curves)


@pytest.mark.parametrize("status", ["error", "diverged"])
def test_when_all_runs_failed_there_is_still_a_report(tmp_path, status, undrawn):
    statuses = {("t", name, seed): status for name in ("adam", "lopt") for seed in range(2)}
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 2, statuses, timed=False, **LEAN)
    text = write_report(cells, curves, tmp_path, **TITLE, **PNG).read_text(encoding="utf-8")
    assert "4 cells not ok" in text
    assert "0 / 2" in text
    assert "0/2" in render_terminal(cells, curves)


def test_a_second_report_replaces_the_files_of_the_first(tmp_path, undrawn):
    write_report(*make_frames(chosen("adam"), ("old",), 0), tmp_path, **TITLE, **PNG)
    frames = make_frames(chosen("adam"), ("new",), 0)
    first = write_report(*frames, tmp_path, **TITLE, **PNG).read_bytes()
    assert not list(tmp_path.rglob("*old*"))
    assert write_report(*frames, tmp_path, **TITLE, **PNG).read_bytes() == first
