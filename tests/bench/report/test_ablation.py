"""The page of the ablation, on rows made by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from bench.measure import ablation
from bench.report import ablation as report_ablation
from bench.report.figures.ablation import runs_figure
from bench.report.measurement import write_measurement
from tests.bench.report.reading import Page, read_table

FACTORS = {"es": 1.5, "reparam": 1.2, "merged": 1.0}  # of the losses of an estimator
SECONDS = {"es": 1.0, "reparam": 2.0, "merged": 3.0}  # of an outer step


def made(estimators=tuple(FACTORS), unrolls=tuple(ablation.UNROLLS), seeds=range(ablation.SEEDS)):
    """Cells and curves of one design: 40 outer steps of 100 inner steps; growing unrolls end 0.8 times as high."""
    cells, curves = [], []
    for estimator in estimators:
        for unroll in unrolls:
            for seed in seeds:
                name = f"{estimator}.{unroll}.{seed}"
                cells.append((name, f"ablation/orthogonal/{estimator}/{unroll}/{seed}", "ok"))
                factor = FACTORS[estimator] * (0.8 if unroll == "growing" else 1.0) * (1 + 0.01 * seed)
                steps = np.arange(1, 41)
                along = {
                    "inner_steps": 100.0 * steps,
                    "seconds": SECONDS[estimator] * steps,
                    "outer_loss": factor * (1 + 1 / steps),
                    "sample_norm": 10.0 ** (steps % 3),
                    "skipped": (steps == 7) * float(estimator == "reparam"),
                    "outer_validation_loss": np.where(steps % 10 == 0, factor * (1 + 2 / steps), np.nan),
                    "merge_weight": np.full(40, 0.25 if estimator == "merged" else np.nan),
                }
                curves += [(name, s, m, x) for m, v in along.items() for s, x in zip(steps, v, strict=True) if x == x]
                for task in range(2):
                    curves.append((name, task, "final_validation_loss", factor * (1 + task)))
                    before = 10.0 if (seed, task) == (1, 0) else 2.3  # one net diverges
                    curves.append((name, task, "final_validation_loss_untrained", before))
    cells = pd.DataFrame(cells, columns=["cell", "task", "status"])
    return cells, pd.DataFrame(curves, columns=["cell", "step", "metric", "value"])


def sections(**kwargs):
    cells, curves = made(**kwargs)
    found = report_ablation.sections(ablation.table(cells, curves), cells, curves)
    return {section.anchor: section for section in found}


def test_verdicts_are_ratios_of_losses_with_their_intervals():
    found = sections()
    assert list(found) == ["verdicts", "losses", "outer-loss", "gradient-norm", "merge-weight"]
    (table,) = found["verdicts"].tables
    ratios = {row[0].text.partition(", over ")[2]: row[1].value for row in table.rows}
    assert {name: ratio.estimate for name, ratio in ratios.items()} == pytest.approx(
        {"backpropagation alone": 1 / 1.2, "ES alone": 1 / 1.5, "short unrolls": 0.8, "long unrolls": 0.8}, rel=1e-5
    )
    assert {row[2].text for row in table.rows} == {"shown"}
    assert "Shown, with the orthogonal design: merging lowers the loss" in found["verdicts"].paragraphs[1]


def test_what_a_verdict_does_not_say_stands_beside_it():
    cells, curves = made()
    words = report_ablation.beside_the_verdicts(ablation.table(cells, curves))
    assert not any("end at a higher validation loss" in text for text in words)
    assert words[0].startswith("2 statements of 2 are shown by the rule, and 2 with Holm's correction")
    assert "growing unrolls with the orthogonal design gives 0.800 [" in words[2]
    assert words[2].endswith("by the same rule shown.")
    assert "0.250 to 0.250 with the orthogonal design and short unrolls" in words[-1]
    untrained = curves["metric"] == "final_validation_loss_untrained"
    curves.loc[untrained, "value"] = np.where(curves.loc[untrained, "cell"].str.startswith("es"), 0.1, 9.0)
    (text,) = report_ablation.beside_the_verdicts(ablation.table(cells, curves))[:1]
    assert "15 of 45 runs of the orthogonal design end at a higher validation loss" in text


def test_the_heat_map_has_the_geometric_mean_of_every_estimator_and_curriculum():
    figure = sections()["losses"].figures[0]
    seeds = range(ablation.OTHER_SEEDS)  # all pairs have them
    expected = 2**0.5 * np.prod([1 + 0.01 * s for s in seeds]) ** (1 / len(seeds))
    assert f"es with short unrolls {1.5 * expected:.3g}" in figure.alt
    (axes,) = figure.draw().axes
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == len(FACTORS) * len(ablation.UNROLLS)
    assert f"{0.8 * expected:.3g}" in texts
    assert [label.get_text() for label in axes.get_yticklabels()] == ["reparam", "es", "merged"]


def test_a_cell_without_a_run_is_empty_and_there_is_no_verdict_without_all_seeds():
    found = sections(estimators=("es",), unrolls=("short",), seeds=(0,))
    assert "No claim can be judged yet" in found["verdicts"].paragraphs[1]
    assert found["losses"].tables[0].rows[0][3].value == 1
    assert found["losses"].figures == [], "one seed is not compared with three"
    before = "their loss is with the orthogonal design 2.3; 0 of 8 nets diverge (guessing gives 2.3)."
    _, papers, own = found["losses"].paragraphs
    assert papers.startswith("Not run, or not with all outer seeds, with the paper's design: tbptt, short unrolls;")
    assert own.startswith("Not run, or not with all outer seeds, with the orthogonal design: ")
    assert found["losses"].paragraphs[0].endswith(before)
    diverged = sections(estimators=("es",), unrolls=("short",), seeds=(1,))["losses"]
    assert diverged.paragraphs[0].endswith(
        "with the orthogonal design 1 of 8 nets diverge, with 1 outer seed (guessing gives 2.3)."
    )
    assert "merge-weight" not in found
    assert sections(seeds=()) == {}


def test_runs_are_binned_by_inner_steps_and_keep_their_seconds():
    runs = report_ablation.binned(*made())
    assert len(runs) == len(FACTORS) * len(ablation.UNROLLS) * ablation.SEEDS * report_ablation.NUM_BINS
    last = runs[runs["bin"] == report_ablation.NUM_BINS].set_index(["estimator", "unrolls", "seed"])
    assert last.loc[("reparam", "long", 0), "seconds"] == pytest.approx(2.0 * 39.5)  # the last bin has steps 39 and 40
    assert last.loc[("merged", "short", 3), "merge_weight"] == 0.25
    assert sections()["gradient-norm"].paragraphs[0].startswith("15 runs of 45 skipped updates")
    assert "merged 0.250" in sections()["merge-weight"].figures[0].alt


def test_figures_are_told_in_one_order_whatever_that_of_the_rows():
    runs = report_ablation.binned(*made())
    named = (runs_figure(rows, "outer_loss", "inner_steps", "outer-loss", "").alt for rows in (runs, runs[::-1]))
    first, other = named
    assert first == other
    assert first.index("short unrolls, reparam") < first.index("short unrolls, es") < first.index("growing unrolls, es")


@pytest.mark.slow
def test_the_page_is_written_with_every_figure(tmp_path):
    cells, curves = made(seeds=range(ablation.OTHER_SEEDS))
    shared = {"kind": "measure", "config": json.dumps({"measurement": "ablation"}), "provenance": "{}"}
    cells = cells.assign(**shared, started_at="2026-01-01T00:00:00")
    head = {"title": "a", "suite": "ablation", "label": "local", "description": ""}
    path = write_measurement(cells, curves, tmp_path, **head)
    Page(path.read_text(encoding="utf-8"))
    assert read_table(tmp_path, "ablation_losses")["orthogonal"]["seeds"] == "3"
    assert path.read_text(encoding="utf-8").count("data:image/webp") == 6
