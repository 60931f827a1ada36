"""What a report says of machine and versions."""

import pytest

from bench.report import provenance
from bench.store.rows import read_rows
from tests.bench.noisy_rows import chosen, make_frames


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
