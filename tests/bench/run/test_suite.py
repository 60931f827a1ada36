"""A part of a suite replaces neither the report nor the published runs of the whole."""

import dataclasses

import pytest

from bench.errors import UsageError
from bench.folders import Folders
from bench.run.suite import publish_suite, run_suite
from bench.score.compare import compare_results
from bench.suites.choose import choose_suite
from tests.helpers import assert_one_line


def test_a_part_replaces_neither_the_report_nor_the_published_runs_of_the_whole(tmp_path):
    folders = Folders(results_dir=tmp_path / "results")
    chosen = ("quick", ["digits8_mlp"], ["sgd_momentum"])
    whole = dataclasses.replace(choose_suite(*chosen, "0-1", 2, ["timing_blocks=0"]), controls=False)
    part = dataclasses.replace(whole, seeds=(0,))
    assert run_suite(whole, folders=folders).report_label == "local"
    found = run_suite(part, folders=folders)
    assert (found.report_label, found.counts) == ("part", {"stored": 1})
    assert run_suite(whole, folders=folders).report_label == "local"
    assert run_suite(part, folders=folders, again=True).counts == {"ok": 1}
    publish_suite(whole, "x", folders=folders)
    with pytest.raises(UsageError, match=r"quick/x has 1 runs that these lack, such as .* seed 1: publish") as caught:
        publish_suite(part, "x", folders=folders)
    assert_one_line(caught.value)
    assert not compare_results("quick", "quick/x", folders=folders).only
    publish_suite(part, "x", folders=folders, force=True)
    assert len(compare_results("quick", "quick/x", folders=folders).only) == 1
    with pytest.raises(UsageError, match="label 'part' is a user's own runs"):
        publish_suite(whole, "part", folders=folders)
