"""What a worker finds out about itself before it gets a cell."""

import dataclasses
import functools

import pytest

import bench
from bench.engines.origin import Origin
from bench.run.isolate import Work
from bench.run.on_workers import check, digest_of, run_cell
from bench.run.suite import plan_suite
from tests.helpers import assert_one_line


def planned(tmp_path, task, **folders):
    """(a suite of an optimizer on a task, what a worker is sent, the folders)."""
    places = bench.Folders(results_dir=tmp_path / "results", **folders)
    suite = bench.choose_suite("quick", [task], ["sgd_momentum"], "0", settings=["timing_blocks=0"])
    return suite, Work.of(suite, (), places, None, 60.0), places


def test_a_worker_like_this_process_can_run_its_cells(tmp_path):
    suite, work, places = planned(tmp_path, "digits8_mlp")
    cells = plan_suite(suite, folders=places).planned
    facts = check(work, Origin.here(), digest_of(cells))
    assert (facts.problem, facts.difference) == (None, "")
    record, curve = functools.partial(run_cell, work)(cells[0].name)
    assert record.cell == cells[0].name
    assert set(curve["cell"]) == {cells[0].name}


def test_a_worker_without_the_data_says_so_in_one_line(tmp_path):
    _, work, _ = planned(tmp_path, "mnist14_mlp", cache_dir=tmp_path, data_dir=tmp_path)
    facts = check(work, Origin.here(), digest_of([]))
    assert facts.problem is not None
    assert facts.problem.startswith("mnist not found: looked in")
    assert_one_line(facts.problem)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"versions": {"jax": "0.1"}}, "its jax is "),
        ({"commit": "another"}, "its commit is "),
    ],
)
def test_a_worker_of_another_version_says_which(tmp_path, changed, words):
    suite, work, places = planned(tmp_path, "digits8_mlp")
    cells = plan_suite(suite, folders=places).planned
    facts = check(work, dataclasses.replace(Origin.here(), **changed), digest_of(cells))
    assert facts.problem is None
    assert words in facts.difference


def test_a_worker_that_plans_other_cells_cannot_run_these(tmp_path):
    _, work, _ = planned(tmp_path, "digits8_mlp")
    facts = check(work, Origin.here(), digest_of([]))
    assert facts.problem == "it plans other cells: its data, plug-ins or tuned values differ"
