"""The files of a run, as they were written and otherwise."""

import dataclasses

import jax
import numpy as np
import pytest

from learned import weights
from learned.curriculum import Stage
from learned.designs import make_design
from learned.outer.files import METRICS_FILE, STAGE_FILE, read_metrics, save_best, stage_end, write_metrics
from tests.helpers import assert_one_line
from tests.learned.outer.linear import CONFIG, FULL, run


def test_metrics_are_read_as_they_were_written_without_what_a_row_does_not_have(tmp_path):
    metrics = [{"outer_step": 1, "outer_loss": 0.1}, {"outer_step": 2, "outer_loss": 1 / 3, "merge_weight": 0.5}]
    write_metrics(tmp_path, metrics)
    assert read_metrics(tmp_path) == metrics


def test_what_is_saved_says_how_it_was_made(tmp_path):
    path = tmp_path / "deep" / "test.safetensors"
    theta = jax.device_get(make_design(CONFIG.design, dict(CONFIG.design_options)).init_theta(jax.random.key(0)))
    facts = {"outer_step": 3, "inner_steps": 240, "outer_validation_loss": 1.5, "device_hours": 0.1, "device": "cpu"}
    save_best(path, CONFIG, theta, facts | {"commit": "abc"})
    read, card = weights.read(path)
    np.testing.assert_array_equal(read["w1"], theta["w1"])
    assert card.design_options == dict(CONFIG.design_options)
    assert card.facts == facts | {"commit": "abc"}
    assert card.outer_training == CONFIG.as_dict()


@pytest.mark.slow
def test_damaged_metrics_and_ends_of_stages_are_one_line(tmp_path):
    config = dataclasses.replace(CONFIG, stages=(Stage(10, 1), Stage(10, 2)))
    assert run(config, tmp_path) is not None
    for name, words in ((METRICS_FILE, "damaged"), (STAGE_FILE, "expected the end of a stage")):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=words) as caught:
            stage_end(tmp_path, config)
        assert name in str(caught.value)
        assert_one_line(caught.value)
        (tmp_path / name).write_bytes(content)
    content = bytearray(content)
    content[-1] ^= 1
    (tmp_path / STAGE_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="the checksum does not fit"):
        stage_end(tmp_path, config)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "expected stage.safetensors, which a run writes at the end of a stage"), (b"no", "expected the end of")],
)
def test_a_folder_without_a_readable_end_of_a_stage_is_named(content, message, tmp_path):
    if content is not None:
        (tmp_path / STAGE_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        stage_end(tmp_path, FULL)
    assert_one_line(caught.value)


@pytest.mark.slow
def test_the_end_of_a_stage_of_another_configuration_is_refused(tmp_path):
    run(FULL, tmp_path, 6)
    with pytest.raises(ValueError, match=r"made with sigma = 0\.05, the configuration has 0\.5") as caught:
        stage_end(tmp_path, dataclasses.replace(FULL, sigma=0.5))
    assert_one_line(caught.value)
