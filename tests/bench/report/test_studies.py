"""Pages of measurements of outer-training: words, figure and table of what the rows give."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from bench.measure import feedback, gradient_norms, objectives
from bench.report.measurement import write_measurement


def cells_of(measurement, tasks):
    """Cells of a measurement, a letter for each part."""
    names = [chr(ord("a") + i) for i in range(len(tasks))]
    config = {"kind": "measure", "measurement": measurement, "device_kind": "cpu"}
    columns = {"cell": names, "task": tasks, "kind": "measure", "status": "ok", "provenance": "{}"}
    return pd.DataFrame(columns | {"config": [json.dumps(config | {"task": task}) for task in tasks]})


def norms(cells, grown):
    """The i-th of eight norms is 1 + i / 10, times `grown` at 2,000 steps of lopt_paper, trained."""
    rows = []
    for cell, task in zip(cells["cell"], cells["task"], strict=True):
        last = grown if task.endswith("lopt_paper/trained") else 2.0
        for steps, norm in ((5, 1.0), (2000, last)):
            rows += [(cell, steps, f"gradient_norm/{i}", norm * (1 + i / 10)) for i in range(8)]
    return pd.DataFrame(rows, columns=["cell", "step", "metric", "value"])


def of_gradient_norms(grown=1000.0):
    parts = [f"gradient_norms/{n}/{t}" for n in gradient_norms.OPTIMIZERS for t in gradient_norms.THETAS]
    cells = cells_of("gradient_norms", parts)
    return cells, norms(cells, grown)


def of_objectives(gain=0.5):
    parts = [
        f"objectives/{design}/{objective}/{seed}"
        for design in objectives.DESIGNS
        for objective in objectives.OBJECTIVES
        for seed in range(objectives.SEEDS)
    ]
    cells, rows = cells_of("objectives", parts), []
    for cell, task in zip(cells["cell"], parts, strict=True):
        _, design, objective, seed = task.split("/")
        loss = (1 + int(seed) / 10) * (gain if (design, objective) == ("normalized", "validation") else 1.0)
        rows += [(cell, 1, "seconds", 9.0)]
        rows += [(cell, k, name, loss) for k in range(2) for name in (*objectives.LOSSES, objectives.BEFORE)]
    return cells, pd.DataFrame(rows, columns=["cell", "step", "metric", "value"])


def of_feedback(worse=0.1):
    parts = [f"feedback/family/{k}" for k in range(feedback.NUM_TASKS)]
    cells, rows = cells_of("feedback", parts), []
    for k, cell in enumerate(cells["cell"]):
        for way, more in (("closed", 0.0), ("open", worse + 0.01 * k), ("swapped", 0.01 * (k - 2))):
            rows += [(cell, seed, f"{way}/{score}", 1.0 + more) for seed in range(2) for score in feedback.SCORES]
    return cells, pd.DataFrame(rows, columns=["cell", "step", "metric", "value"])


def page(tmp_path, cells, curves, **more):
    head = {"title": "t (mine)", "suite": "s", "label": "mine", "description": "what"}
    return " ".join(write_measurement(cells, curves, tmp_path, **head, **more).read_text().split())


def test_norms_are_told_with_their_growth_and_their_spread(tmp_path):
    text = page(tmp_path, *of_gradient_norms())
    assert "lopt_paper, trained: the median grows 1" in text
    assert "nearest to each other it grows by more than 100 times of lopt_paper, trained." in text
    assert "After it they do: the largest norm of an unroll, at any length, is 1.70e+03 of lopt_paper" in text
    assert "Before outer-training they do not" in text, "all have norms of the same size"
    table = pd.read_csv(tmp_path / "table.csv").query("optimizer == 'lopt_paper' and theta == 'trained' and steps == 5")
    (row,) = table.to_dict("records")
    assert (row["quarter"], row["three_quarters"], row["largest"]) == pytest.approx((1.1, 1.5, 1.7))
    assert "no median is known to grow" in page(tmp_path, *of_gradient_norms(2.0))


def test_the_objective_that_ends_lower_is_named_and_one_that_is_alike_is_not(tmp_path):
    text = page(tmp_path, *of_objectives())
    assert "the design of lopt_home (normalized) ends at 0.5" in text
    assert "after outer-training on train loss: lower." in text
    assert "after outer-training on train loss: no difference shown." in text
    assert "the test loss of the design of lopt_home after 24 steps of outer-training is 1.00 [" in text
    assert "All of per_parameter_mlp begin from the weights of lopt_paper" in text
    cells, curves = of_objectives()
    assert "No difference can be told yet" in page(tmp_path, cells[::2], curves)


def test_a_schedule_in_place_of_feedback_is_worse_only_where_the_interval_says_so(tmp_path):
    text = page(tmp_path, *of_feedback())
    assert re.search(r"mean schedule of other tasks the difference in final test loss is \+0.12[^:]*: higher\.", text)
    assert re.search(r"feedback of another run the difference in final test loss is [^:]*: no difference shown\.", text)


def test_a_run_that_diverged_counts_in_the_schedule_too(tmp_path):
    cells, curves = of_feedback()
    curves.loc[curves["metric"].eq("open/final_test_loss") & curves["cell"].eq("a"), "value"] = 10.0
    page(tmp_path, cells, curves)
    table = pd.read_csv(tmp_path / "table.csv")
    row = table[(table["score"] == "final_test_loss") & (table["way"] == "open")].iloc[0]
    assert row["difference"] == pytest.approx(np.mean([9.0, 0.11, 0.12, 0.13, 0.14]))


@pytest.mark.slow
@pytest.mark.parametrize("made", [of_gradient_norms, of_objectives, of_feedback])
def test_the_figure_is_drawn(made, tmp_path):
    page(tmp_path, *made(), figures=("png",))
    assert [path.suffix for path in (tmp_path / "figures").iterdir()] == [".png"]
