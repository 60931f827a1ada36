"""The suite of the pathologies: its cells, and what it refuses."""

import pytest

from bench.cells.plan import plan
from bench.entries.plugins import Registry
from bench.errors import UsageError
from bench.measure import pathologies
from bench.measure.pathologies import unrolls
from bench.suites.suite import build_suite, load_suite
from tests.helpers import assert_one_line


def test_the_suite_is_a_cell_for_each_part_and_names_what_it_is_of():
    cells = plan(load_suite("pathologies"), Registry())
    assert [cell.title for cell in cells] == [f"pathologies/{part}" for part in pathologies.parts()]
    assert len({cell.name for cell in cells}) == len(cells) == 3 * (3 + 2 * len(unrolls.LENGTHS)) + 2
    assert {cell.identity["replications"] for cell in cells} == {64}
    of_unrolls = [cell.identity for cell in cells if "theta" in cell.identity]
    assert len({config["theta_sha256"] for config in of_unrolls}) == 2
    assert {config["inner_task"] for config in of_unrolls} == {"digits4_mlp"}
    assert {(config["theta"], config.get("overstep")) for config in of_unrolls} == {
        ("initial", None),
        ("trained", None),
        ("overstepping", 30.0),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizers": ["adam"]}, "has no 'optimizers'"),
        ({"timing_blocks": 20}, "has no 'timing_blocks'"),
        ({"controls": True}, "has no 'controls'"),
        ({"replications": 3}, "whole number from 4 to"),
        ({"measurement": "update_cost", "optimizers": ["adam"], "replications": 8}, "has no 'replications'"),
    ],
)
def test_a_suite_that_times_nothing_has_replications_and_no_optimizers(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        plan(build_suite("mine", {"kind": "measure", "measurement": "pathologies"} | change), Registry())
    assert_one_line(caught.value)
