"""Groups of optimizers that cannot be told apart by test loss."""

import numpy as np
import pytest

from bench.score.groups import significance_groups
from tests.bench.synthetic import diverging, falling, rows_of

NOISE = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])


def rows(**finals):
    """Optimizer -> final loss of each of five seeds, or its mean, to which noise in common is added."""
    runs = {name: [falling(0.01, 1.0 + x) for x in np.broadcast_to(values, 5)] for name, values in finals.items()}
    return rows_of({"t": runs})


@pytest.mark.rule(12)
def test_a_group_begins_with_the_first_that_can_be_told_from_the_one_before():
    found = rows(a=NOISE, b=NOISE[::-1], c=0.05 + NOISE, d=0.06 + NOISE[::-1], e=1.0 + NOISE)
    assert significance_groups(found, ["a", "b", "c", "d", "e"]) == {"a": 1, "b": 1, "c": 2, "d": 2, "e": 3}


def test_one_that_failed_is_in_no_group_and_does_not_part_the_others():
    runs = {name: [falling(0.01, 1.0 + x) for x in NOISE] for name in ("a", "b", "c")}
    runs["b"] = [diverging(50, 0.01)] * 2 + runs["b"][2:]
    found = rows_of({"t": runs})
    assert significance_groups(found, ["a", "b", "c"]) == {"a": 1, "c": 1}
    assert significance_groups(found, ["b", "c", "a"]) == {"c": 1, "a": 1}
