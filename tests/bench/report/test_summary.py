"""The tables of losses, failures and step costs are those of the rows."""

import csv

import numpy as np
import pytest

from bench.report.page import write_page
from bench.report.table import as_written, format_interval
from bench.statistics import t_interval
from bench.store.rows import LOSSES
from tests.bench.noisy_rows import LEAN, TITLE, chosen, make_frames
from tests.bench.report.reading import read_table


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
            assert f"{estimate} <small>{bounds}</small>" in text


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


def test_two_seeds_give_points_without_intervals(tmp_path, undrawn):
    cells, curves = make_frames(chosen("adam", "lopt"), ("t",), 2, **LEAN)
    text = write_page(cells, curves, tmp_path, **TITLE).read_text(encoding="utf-8")
    assert "without intervals: they need 5 seeds" in text
    assert "range over seeds (fewer than 5)" in text
    assert read_table(tmp_path, "summary_t")["lopt"]["final_test_loss_low"] == ""
    assert "2 seeds, 5 needed" in text
    assert "<strong>+" not in text
    assert "<strong>-" not in text
