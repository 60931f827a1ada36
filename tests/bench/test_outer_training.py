import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench import outer_training
from bench.errors import UsageError
from bench.report.figures.outer_training import outer_training_figure
from learned.config import OuterConfig
from learned.curriculum import Stage
from learned.outer_train import Progress
from tests.helpers import assert_one_line, linear_family
from tests.learned.test_outer_train import CONFIG

MERGED = OuterConfig("mine", "per_parameter_mlp", "linear", (Stage(10, 200),), estimator=("reparam", "es"))
METRICS = {
    "outer_step": 50.0,
    "num_steps": 10.0,
    "horizon": 10.0,
    "outer_loss": 2.0,
    "gradient_norm": 0.25,
    "skipped": 0.0,
    "signal_to_noise/reparam": 4.0,
    "signal_to_noise/es": 1.0,
    "merge_weight": 0.75,
}


def test_the_progress_line_says_what_matters():
    # 50 outer steps in 100 s: 150 more in 300 s. 8,000 inner steps in 100 s.
    line = outer_training.progress_line(MERGED, Progress(50, 10, METRICS, 100.0, 8000, skipped=2))
    assert line == (
        "outer step 50/200  length 10  loss 2.0000  gradient norm 0.25  signal-to-noise reparam 4, es 1  "
        "weight of reparam 0.75  2 skipped  80 inner steps/s  about 5 min left"
    )
    judged = METRICS | {"outer_validation_loss": 1.5}
    line = outer_training.progress_line(MERGED, Progress(50, 10, judged, 100.0, 8000), budget_seconds=130.0)
    assert "validation 1.5000" in line
    assert line.endswith("about 30 s left")


@pytest.mark.parametrize(("seconds", "text"), [(42.0, "42 s"), (179.0, "3 min"), (7500.0, "2 h 05 min")])
def test_a_duration_in_words(seconds, text):
    assert outer_training.duration(seconds) == text


@pytest.mark.parametrize("num_rows", [1, 60])
def test_the_figure_of_a_run_is_drawn_from_its_first_step_on(num_rows):
    rows = [METRICS | {"outer_step": step + 1.0, "outer_loss": 2.0 - step / 100} for step in range(num_rows)]
    rows[-1] |= {"outer_validation_loss": 1.25, "skipped": 1.0}
    figure = outer_training_figure("mine", pd.DataFrame(rows))
    assert f"after {num_rows} outer steps: loss {rows[-1]['outer_loss']:.4f}" in figure.alt
    assert "1.2500" in figure.alt
    image = np.asarray(Image.open(io.BytesIO(figure.png)).convert("RGB"))
    assert image.shape[0] > 500
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 5


@pytest.mark.slow
def test_the_cost_of_an_inner_step_is_that_of_an_outer_step_over_its_inner_steps():
    found = outer_training.measure(CONFIG, linear_family(), num_devices=1, num_blocks=6)
    assert found.keys() == {
        "config",
        "inner_steps_per_second",
        "adam_step_seconds",
        "cost_ratio_to_adam",
        "outer_step_seconds",
        "compile_seconds",
        "peak_memory_bytes",
        "devices",
    }
    # 4 tasks, both signs, 10 steps.
    rate = found["inner_steps_per_second"]
    assert rate["low"] <= rate["median"] <= rate["high"]
    assert found["outer_step_seconds"] * rate["median"] == pytest.approx(80, rel=0.05)
    ratio = found["cost_ratio_to_adam"]["median"]
    assert ratio == pytest.approx(1 / rate["median"] / found["adam_step_seconds"], rel=0.5)
    assert found["peak_memory_bytes"] > 2**20


def test_a_run_that_is_not_resumed_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(outer_training.outer, "has_checkpoint", lambda folder: 7)
    facts = {"name": "linear", "version": "1", "digest": "0" * 16}
    with pytest.raises(UsageError, match="holds a run at outer step 7: go on with --resume") as caught:
        outer_training.run(
            CONFIG,
            linear_family(),
            facts,
            tmp_path,
            resume=False,
            num_devices=1,
            budget_seconds=1.0,
            log=print,
            advance=print,
        )
    assert_one_line(caught.value)
