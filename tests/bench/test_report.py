import base64
import csv
import html
import io
import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from bench.report import comparison, provenance, terminal_tables, write_report
from bench.report.table import as_written, format_interval
from bench.statistics import Interval, t_interval
from bench.store.rows import CELL_COLUMNS, LOSSES, read_rows
from tests.bench.synthetic import rows_of

PNG = {"formats": ("png",)}  # for speed
TITLE = {"title": "A report", "suite": "quick", "label": "local"}
# name -> (role, floor of the loss, rate of descent, seconds per step)
OPTIMIZERS = {
    "adam": ("hand-designed", 0.30, 6.0, 1.0e-3),
    "adam_cosine": ("hand-designed", 0.25, 7.0, 1.02e-3),
    "muon": ("hand-designed", 0.22, 8.0, 1.9e-3),
    "sgdm": ("hand-designed", 0.40, 3.0, 0.8e-3),
    "lopt": ("learned", 0.24, 12.0, 2.4e-3),
}
LEAN = {"num_points": 6, "curve_metrics": ("train_loss",)}  # fewer figures, for speed
PROVENANCE = {
    "git": {"commit": "0123abc", "dirty": False},
    "versions": {"python": "3.11", "jax": "0.10.2"},
    "device": {"kind": "cpu", "count": 1, "cpu_model": "Some CPU"},
    "data_set": {"name": "digits", "version": "1", "digest": "sha256:feed", "note": "8x8, bundled"},
    "argv": ["bench", "run"],
}


def make_frames(
    optimizers=OPTIMIZERS, tasks=("digits_mlp", "digits_conv"), num_seeds=5, statuses=None, timed=True, num_points=26,
    num_blocks=8, horizon=500, provenance=PROVENANCE, curve_metrics=("train_loss", "validation_loss"),
):  # fmt: skip
    """Cells and curves as the store hands them over; `statuses` maps (task, optimizer, seed) to a failure."""
    statuses = statuses or {}
    cells, curves = [], []

    def add(cell, steps, metric, values):
        steps, values = np.broadcast_arrays(np.atleast_1d(steps), np.asarray(values, float))
        curves.append(pd.DataFrame({"cell": cell, "step": steps, "metric": metric, "value": values}))

    def row(cell, **fields):
        empty = dict.fromkeys(CELL_COLUMNS)
        recorded = {"started_at": "2025-01-01T00:00:00", "provenance": json.dumps(provenance), "status": "ok"}
        return empty | recorded | {"cell": cell, "suite": "quick", "label": "local"} | fields

    for task in tasks:
        for name, (role, floor, rate, seconds) in optimizers.items():
            for seed in range(num_seeds):
                cell, status = f"{task}.{name}.{seed}", statuses.get((task, name, seed), "ok")
                rng = np.random.default_rng(zlib.crc32(cell.encode()))
                effect = np.random.default_rng(seed).normal(scale=0.01)  # of the seed, common to all optimizers
                steps = np.linspace(0, horizon, num_points).astype(int)
                decay = np.exp(-rate * steps / horizon)
                losses = {}
                for metric, gap in (("train_loss", 0.8), ("validation_loss", 1.0), ("test_loss", 1.03)):
                    noise = rng.normal(scale=0.003, size=num_points)
                    losses[metric] = gap * (floor + effect + noise) * (1 - decay) + 2.3 * decay
                bad = horizon // 2
                if status == "diverged":
                    for values in losses.values():
                        values[steps > bad] = np.nan
                fields = {} if status == "error" else {
                    "final_train_loss": losses["train_loss"][-1],
                    "final_validation_loss": losses["validation_loss"][-1],
                    "final_test_loss": losses["test_loss"][-1],
                    "mean_train_loss": losses["train_loss"][1:].mean(),
                    "best_validation_step": steps[np.nanargmin(losses["validation_loss"])],
                    "test_loss_at_best_validation": losses["test_loss"][np.nanargmin(losses["validation_loss"])],
                    "train_wall_sec": horizon * seconds, "eval_wall_sec": 0.4, "compile_sec": 1.5,
                }  # fmt: skip
                stretched = name == "sgdm"
                tuned = None if role == "learned" else (2000 if stretched else horizon)
                cells.append(row(
                    cell, kind="train", task=task, family="digits", optimizer=name, role=role, seed=seed, status=status,
                    reason=None if status == "ok" else f"{status} for a test",
                    first_bad_step=bad + 1 if status == "diverged" else None, horizon=horizon, batch_size=64,
                    num_params=1234, chance_loss=2.3026, tuned_horizon=tuned,
                    hyperparameters=json.dumps({} if role == "learned" else {"learning_rate": 1e-3}), **fields,
                ))  # fmt: skip
                if status == "error":
                    continue
                for metric in curve_metrics:
                    add(cell, steps, metric, losses[metric])
                add(cell, steps[1:], "inner_loss", losses["train_loss"][1:])
                add(cell, steps, "wall_time_sec", 1.1 * seconds * steps)
        if timed:
            cell = f"{task}.time"
            cells.append(row(cell, kind="time", task=task, family="digits"))
            rng = np.random.default_rng(7)
            spell = 1 + 0.05 * rng.random(num_blocks)
            for name, (_, _, _, seconds) in optimizers.items():
                noise = 1 + 0.01 * rng.random(num_blocks)
                add(cell, np.arange(num_blocks), f"seconds_per_step/{name}", seconds * spell * noise)
                add(cell, 0, f"compile_seconds/{name}", 1.25)
                add(cell, 0, f"step_bytes/{name}", 3000.0 if name == "lopt" else 2000.0)
    frame = pd.DataFrame(cells)
    for column in ("seed", "first_bad_step", "tuned_horizon", "best_validation_step"):
        frame[column] = frame[column].astype("Int64")
    empty = pd.DataFrame({"cell": [], "step": [], "metric": [], "value": []}).astype({"cell": str, "metric": str})
    return frame, pd.concat(curves, ignore_index=True) if curves else empty


def chosen(*names):
    return {name: OPTIMIZERS[name] for name in names}


FAILURES = {("digits_mlp", "adam", 3): "diverged", ("digits_mlp", "muon", 0): "error"}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Three optimizers, one with a diverged run and one with an errored run, two tasks, five seeds."""
    cells, curves = make_frames(chosen("adam", "muon", "lopt"), statuses=FAILURES)
    out = tmp_path_factory.mktemp("report")
    path = write_report(cells, curves, out, description="What it is about.", **TITLE)
    return cells, curves, out, path.read_text(encoding="utf-8")


def read_table(out, slug):
    rows = list(csv.DictReader(io.StringIO((out / "tables" / f"{slug}.csv").read_text(encoding="utf-8"))))
    return {row[next(iter(row))]: row for row in rows}


class Page(HTMLParser):
    """Collects tags, and checks that they nest."""

    VOID = {"meta", "link", "img", "br", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def render_terminal(cells, curves, width=80):
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(terminal_tables(cells, curves))
    return console.export_text()


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


def test_losses_on_the_page_are_those_of_the_rows(full):
    cells, _, out, text = full
    for task in ("digits_mlp", "digits_conv"):
        summary = read_table(out, f"summary_{task}")
        for metric in LOSSES:
            expected = t_interval(cells.query("task == @task and optimizer == 'lopt'")[metric].astype(float))
            row = summary["lopt"]
            got = [float(row[metric + part]) for part in ("", "_low", "_high")]
            assert got == [as_written(x) for x in (expected.estimate, expected.low, expected.high)]
            estimate, _, bounds = format_interval(expected).partition(" ")
            assert f'{estimate} <span class="bounds">{bounds}</span>' in text


def test_a_row_with_a_failed_run_has_no_interval_is_marked_and_sorted_last(full):
    cells, _, out, text = full
    summary = read_table(out, "summary_digits_mlp")
    assert list(summary) == ["lopt", "muon", "adam"]  # muon would lead by the mean of the runs that finished
    finished = cells.query("task == 'digits_mlp' and optimizer == 'muon' and status == 'ok'")
    assert float(summary["muon"]["final_test_loss"]) == pytest.approx(finished["final_test_loss"].mean())
    assert summary["muon"]["final_test_loss_low"] == ""
    assert summary["muon"]["runs_ok"] == summary["adam"]["runs_ok"] == "4 / 5"
    assert "muon †" in text
    assert list(read_table(out, "summary_digits_conv")) == ["muon", "lopt", "adam"]


def test_overall_losses_average_the_tasks_within_each_seed(full):
    cells, _, out, _ = full
    per_seed = cells.query("optimizer == 'lopt'").astype({"final_test_loss": float}).groupby("seed")["final_test_loss"]
    expected = t_interval(per_seed.mean())
    row = read_table(out, "overall_summary")["lopt"]
    assert float(row["final_test_loss_low"]) == pytest.approx(expected.low)
    assert int(row["final_test_loss_n"]) == 5


def test_differences_are_paired_by_seed_and_bold_only_without_zero(full):
    cells, _, out, text = full
    on_task = cells.query("task == 'digits_conv' and kind == 'train'").astype({"final_test_loss": float})
    on_task = on_task.pivot(index="seed", columns="optimizer", values="final_test_loss")
    table = read_table(out, "comparison_digits_conv_lopt")
    for baseline in ("adam", "muon"):
        expected = t_interval(on_task["lopt"] - on_task[baseline])
        got = table[baseline]
        assert float(got["final_test_loss_difference"]) == pytest.approx(expected.estimate)
        assert float(got["final_test_loss_difference_high"]) == pytest.approx(expected.high)
        estimate = format_interval(expected, sign=True).partition(" ")[0]
        assert (f"<strong>{estimate} <" in text) == expected.excludes(0.0)
        wins = int((on_task["lopt"] < on_task[baseline]).sum())
        assert got["final_test_loss_wins"] == f"{wins} / 5"


def test_a_failed_run_loses_its_pair_and_withholds_the_interval(full):
    _, _, out, _ = full
    row = read_table(out, "comparison_digits_mlp_lopt")["adam"]
    assert row["pairs_used"] == "4 / 5"
    assert row["final_test_loss_difference_low"] == ""
    assert row["withheld"] == "failed runs: 1 of adam"
    assert row["final_test_loss_wins"] == "5 / 5"


def test_wins_count_failures_against_the_side_that_failed():
    statuses = {("t", "lopt", 0): "diverged", ("t", "adam", 1): "error", ("t", "lopt", 2): "error",
                ("t", "adam", 2): "diverged"}  # fmt: skip
    results = read_rows(*make_frames(chosen("adam", "lopt"), ("t",), 5, statuses, num_points=3))
    found = comparison.compare(results, "lopt", "adam", ("t",), "final_test_loss")
    assert (found.wins, found.losses) == (3, 1)  # seeds 1, 3, 4 against seed 0; seed 2 is nobody's
    assert (found.num_pairs, found.num_pairs_used) == (5, 2)
    assert (found.failed_a, found.failed_b) == (2, 2)
    assert found.withheld == "failed runs: 2 of lopt, 2 of adam"
    verdict = comparison.verdicts(results, ("t",))[0]
    assert verdict.word == "no claim"


def test_verdicts_say_worse_and_slower_as_readily_as_better(full):
    *_, text = full
    results = read_rows(*make_frames(chosen("adam", "muon", "lopt"), ("t",), num_points=26))
    words = {verdict.question: verdict.word for verdict in comparison.verdicts(results, ("t",))}
    assert words == {
        "final test loss": "worse",
        "final train loss": "worse",
        "mean train loss": "better",
        "seconds per step": "slower",
    }
    worse = [v for v in comparison.verdicts(results, ("t",)) if v.word == "worse"]
    assert all("muon" in verdict.text for verdict in worse)  # the best baseline, not the most convenient one
    looks = re.findall(r'<span class="([^"]+)">(?:better|worse|slower|faster|no claim)', text)
    assert len(looks) >= 8
    assert set(looks) == {"word"}  # one look for every verdict


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ([1.2, 1.2, 1.2, 1.2, 1.2, 900.0], "worse in every run"),  # by the sign test p = 2 / 2^6 = 0.031
        ([1.2, 1.2, 1.2, 1.2, 900.0], "no difference shown"),  # 2 / 2^5 = 0.063
        ([1.2, 1.2, 1.2, 1.2, 0.9, 900.0], "no difference shown"),  # one run is better
        ([1.2, 1.2, 1.2, 1.2, 1.0, 900.0], "no difference shown"),  # one is a tie
        ([0.8, 0.8, 0.8, 0.8, 0.8, -900.0], "better in every run"),
        ([1.2, 1.3, 1.2, 1.3, 1.2, 1.3], "worse"),  # the mean's interval says it
    ],
)
def test_a_run_that_all_but_diverges_does_not_hide_that_every_run_is_worse(ends, word):
    # Constant curves; Adam is at 1. One outlier of 900 makes the interval of the mean some 900 wide.
    runs = {"adam": [np.ones(11)] * len(ends), "lopt": [np.full(11, end) for end in ends]}
    results = rows_of({"t": runs}, roles={"lopt": "learned"})
    words = {found.question: found.word for found in comparison.verdicts(results, ("t",))}
    assert words["final train loss"] == words["final test loss"] == words["mean train loss"] == word


def test_step_costs_are_medians_over_blocks_and_ratios_within_them(full):
    _, curves, out, _ = full
    blocks = curves[curves["cell"] == "digits_mlp.time"].pivot(index="step", columns="metric", values="value")
    lopt, adam = blocks["seconds_per_step/lopt"], blocks["seconds_per_step/adam"]
    row = read_table(out, "summary_digits_mlp")["lopt"]
    assert float(row["seconds_per_step"]) == pytest.approx(np.median(lopt))
    assert float(row["step_cost_ratio"]) == pytest.approx(np.median(lopt / adam))
    assert float(row["step_cost_ratio_low"]) == pytest.approx(np.min(lopt / adam))  # 8 blocks: min to max
    assert row["compile_seconds"] == "1.25"
    assert row["memory_ratio"] == "1.5"


def test_failures_are_listed_with_reason_and_step(full):
    _, _, out, _ = full
    with (out / "tables" / "failures.csv").open(encoding="utf-8") as file:
        rows = {row["optimizer"]: row for row in csv.DictReader(file)}
    assert rows["adam"]["status"] == "diverged"
    assert rows["adam"]["first_bad_step"] == "251"
    assert rows["muon"]["reason"] == "error for a test"


def test_provenance_and_accelerator_are_stated(full):
    *_, text = full
    assert "accelerator: not yet measured" in text
    for value in ("0123abc", "sha256:feed", "8x8, bundled", "Some CPU", "learning_rate = 0.001"):
        assert value in text


@pytest.mark.parametrize("device", [{"kind": "NVIDIA H200", "platform": "gpu"}, {"kind": "TPU v4"}])
def test_an_accelerator_that_was_used_is_not_called_missing(device):
    frames = make_frames(chosen("adam"), ("t",), 1, num_points=3, provenance={"device": device})
    assert provenance.page_warnings(read_rows(*frames)) == []


def test_an_accelerator_on_the_command_line_only_is_not_measured():
    record = {"argv": ["bench", "run", "--device", "gpu"], "device": {"kind": "cpu"}, "git": {"dirty": True}}
    frames = make_frames(chosen("adam"), ("t",), 1, num_points=3, provenance=record)
    warnings = provenance.page_warnings(read_rows(*frames))
    assert [warning.split()[0] for warning in warnings] == ["accelerator:", "Some"]


def test_two_seeds_give_points_without_intervals(tmp_path):
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 2, **LEAN)
    text = write_report(cells, curves, tmp_path, **TITLE, **PNG).read_text(encoding="utf-8")
    assert "without intervals: they need 5 seeds" in text
    assert "range over seeds (fewer than 5)" in text
    assert read_table(tmp_path, "summary_t")["lopt"]["final_test_loss_low"] == ""
    assert "2 seeds, 5 needed" in text
    assert "<strong>+" not in text
    assert "<strong>-" not in text


def test_names_are_shown_not_obeyed(tmp_path):
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


def test_tasks_with_similar_names_have_files_of_their_own():
    cells, curves = make_frames(chosen("adam"), ("../<b>task", "..-B-task", "b-task"), 0)
    assert set(read_rows(cells, curves).slugs.values()) == {"b-task", "B-task-2", "b-task-3"}


def test_without_a_timing_cell_the_own_clock_is_used_and_named(tmp_path):
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 2, timed=False, **LEAN)
    text = write_report(cells, curves, tmp_path, **TITLE, **PNG).read_text(encoding="utf-8")
    assert "own training clock" in text
    assert "no timing cell" in text
    assert not (tmp_path / "figures" / "step_cost_t.png").exists()


def test_a_timing_cell_alone_makes_a_report(tmp_path):
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 0)
    write_report(cells, curves, tmp_path, **TITLE, **PNG)
    assert read_table(tmp_path, "summary_t")["lopt"]["role"] == "timed only"


def test_one_optimizer_is_enough(tmp_path):
    cells, curves = make_frames(chosen("adam"), ("t",), 1, **LEAN)
    text = write_report(cells, curves, tmp_path, **TITLE, **PNG).read_text(encoding="utf-8")
    assert "Only with a learned and a hand-designed row" in text
    assert "adam" in render_terminal(cells, curves)


@pytest.mark.parametrize("status", ["error", "diverged"])
def test_when_all_runs_failed_there_is_still_a_report(tmp_path, status):
    statuses = {("t", name, seed): status for name in ("adam", "lopt") for seed in range(2)}
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 2, statuses, timed=False, **LEAN)
    text = write_report(cells, curves, tmp_path, **TITLE, **PNG).read_text(encoding="utf-8")
    assert "4 cells not ok" in text
    assert "0 / 2" in text
    assert "0/2" in render_terminal(cells, curves)


def test_a_second_report_replaces_the_files_of_the_first(tmp_path):
    write_report(*make_frames(chosen("adam"), ("old",), 0), tmp_path, **TITLE, **PNG)
    frames = make_frames(chosen("adam"), ("new",), 0)
    first = write_report(*frames, tmp_path, **TITLE, **PNG).read_bytes()
    assert not list(tmp_path.rglob("*old*"))
    assert write_report(*frames, tmp_path, **TITLE, **PNG).read_bytes() == first


def test_two_cells_for_one_seed_are_refused_by_name():
    cells, curves = make_frames(chosen("adam"), ("t",), 1, num_points=3)
    twin = cells[cells["kind"] == "train"].assign(cell="twin")
    with pytest.raises(ValueError, match=r"t\.adam\.0, twin"):
        read_rows(pd.concat([cells, twin]), curves)


def test_missing_columns_and_rows_are_refused():
    cells, curves = make_frames(chosen("adam"), ("t",), 1, num_points=3)
    with pytest.raises(ValueError, match="provenance"):
        read_rows(cells.drop(columns="provenance"), curves)
    with pytest.raises(ValueError, match="no cell"):
        read_rows(cells.iloc[:0], curves)


def test_the_terminal_table_fits_80_columns(full):
    cells, curves, *_ = full
    text = render_terminal(cells, curves)
    assert max(map(len, text.splitlines())) <= 80
    assert "4/5" in text


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.123456, 0.1201, 0.1268, 5), "0.1235 [0.1201, 0.1268]"),
        (Interval(12.3456, 10.0, 14.7, 5), "12.3 [10.0, 14.7]"),
        (Interval(0.5, None, None, 3), "0.5"),
        (None, "–"),
    ],
)
def test_decimals_follow_the_width_of_the_interval(interval, text):
    assert format_interval(interval) == text
