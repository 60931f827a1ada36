import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learned.curriculum import PREFERRED, Stage, num_steps_at, preferred, total_outer_steps
from tasks.tables import read_table
from tests.helpers import assert_one_line

PAPER = (Stage(10, 20_000, last_num_steps=10_000, jitter=0.2),)


def test_a_fixed_stage_stands_still_at_any_length():
    assert [num_steps_at((Stage(37, 2), Stage(41, 2)), step) for step in range(5)] == [37, 37, 41, 41, 41]


def test_a_linear_stage_by_hand():
    # 10, 20, 30, 40, 50; 40 is nearer to 50 than to 30 by ratio.
    stages = (Stage(10, 5, last_num_steps=50),)
    assert [num_steps_at(stages, step) for step in range(6)] == [10, 20, 30, 50, 50, 50]


def test_a_geometric_stage_by_hand():
    # 10, 100, 1,000: a constant ratio.
    stages = (Stage(10, 3, last_num_steps=1000, growth="geometric"), Stage(7, 1))
    assert [num_steps_at(stages, step) for step in range(4)] == [10, 100, 1000, 7]


def test_a_stage_of_one_update_is_its_first_length():
    assert num_steps_at((Stage(10, 1, last_num_steps=1000),), 0) == 10


def test_the_curriculum_of_the_paper_grows_with_jitter_in_few_lengths():
    lengths = [num_steps_at(PAPER, step, seed=3) for step in range(0, 20_000, 50)]
    assert len(set(lengths)) <= 20
    assert lengths[0] < 15
    assert lengths[-1] >= 7000
    late = lengths[350:]
    assert len(set(late)) > 1
    # The mean over the jitter follows the line: rounded by ratio, to a few per cent.
    assert sum(late) / len(late) == pytest.approx(9370, rel=0.15)


def test_lengths_are_a_pure_function_of_seed_and_outer_step():
    same, again, other = ([num_steps_at(PAPER, k, seed) for k in range(9000, 9100)] for seed in (0, 0, 1))
    assert same == again
    assert same != other


@given(st.floats(1, 1e6))
def test_a_preferred_number_is_near_and_one_of_six_a_decade(num_steps):
    found = preferred(num_steps)
    assert any(math.isclose(found, math.ceil(p * 10**k)) for p in PREFERRED for k in range(7))
    # Neighbours are at most 5 / 3 apart; below 10 halves are rounded up to whole steps.
    assert abs(math.log(found / num_steps)) <= math.log(2.0) if num_steps < 10 else math.log(5 / 3) / 2 + 1e-9
    assert preferred(found) == found


@given(
    st.lists(
        st.builds(
            Stage,
            num_steps=st.integers(1, 2000),
            outer_steps=st.integers(1, 50),
            last_num_steps=st.none() | st.integers(1, 2000),
            growth=st.sampled_from(["linear", "geometric"]),
            jitter=st.floats(0, 0.9),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 300),
)
def test_every_outer_step_has_a_length_between_the_ends_of_its_stage(stages, outer_step):
    found, left = num_steps_at(stages, outer_step), outer_step
    stage = stages[-1]
    for candidate in stages:
        if left < candidate.outer_steps:
            stage = candidate
            break
        left -= candidate.outer_steps
    ends = (stage.num_steps, stage.num_steps if stage.last_num_steps is None else stage.last_num_steps)
    assert found >= 1
    assert min(ends) * (1 - stage.jitter) / 1.7 <= found <= max(max(ends) * (1 + stage.jitter) * 1.7, 2)
    assert total_outer_steps(stages) == sum(s.outer_steps for s in stages)


@pytest.mark.parametrize(
    "stage",
    [
        {"num_steps": 0, "outer_steps": 1},
        {"num_steps": 1, "outer_steps": True},
        {"num_steps": 1, "outer_steps": 1, "last_num_steps": 0},
        {"num_steps": 1, "outer_steps": 1, "growth": "cubic"},
        {"num_steps": 1, "outer_steps": 1, "jitter": 1.0},
        {"num_steps": 1, "outer_steps": 1, "jitter": "a"},
    ],
)
def test_a_stage_that_makes_no_sense_is_refused(stage):
    with pytest.raises(ValueError, match=r"^stage: ") as caught:
        read_table("stage", stage, Stage)
    assert_one_line(caught.value)
