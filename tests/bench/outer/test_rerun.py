"""The beginning of a published run, run again."""

import dataclasses

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.outer.publish import publish
from bench.outer.rerun import rerun
from tests.bench.outer.stages import STAGES, compiled_once, outer_train
from tests.helpers import assert_one_line, linear_family


@pytest.mark.slow
def test_the_beginning_of_a_published_run_is_the_same_again_and_a_changed_one_is_found(tmp_path, monkeypatch):
    outer_train(tmp_path, 5)
    folder = publish(STAGES, tmp_path, "box")

    def again():
        with compiled_once():
            return rerun(STAGES, linear_family(), folder, outer_steps=100, num_devices=1)

    found = again()
    assert (found.outer_steps, found.bit_equal, found.difference, found.holds) == (3, True, 0.0, True)
    assert found.loss_change is not None
    assert found.loss_change.estimate == 0.0
    metrics = pd.read_parquet(folder / "metrics.parquet")
    metrics.loc[1, "outer_loss"] *= 1.01
    metrics.to_parquet(folder / "metrics.parquet")
    found = again()
    assert (found.bit_equal, found.same_device, found.holds) == (False, True, False)
    assert found.difference == pytest.approx(0.01 / 1.01)
    assert found.loss_change is not None
    assert found.loss_change.estimate == pytest.approx(-metrics.loc[1, "outer_loss"] * 0.01 / 1.01 / 3)
    assert not dataclasses.replace(found, same_device=False).holds
    assert dataclasses.replace(found, same_device=False, difference=5e-4).holds
    assert dataclasses.replace(found, same_device=False, bit_equal=True).holds
    monkeypatch.setattr("bench.outer.rerun.processor", lambda: "Another CPU, cores used: 2")
    assert not again().same_device
    with pytest.raises(UsageError, match=r"expected stage\.safetensors") as caught:
        rerun(STAGES, linear_family(), tmp_path / "nowhere", outer_steps=1, num_devices=1)
    assert_one_line(caught.value)
