"""The figure of a run of outer-training."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.report.figures.outer_training import outer_training_figure
from tests.bench.outer.stages import METRICS


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
