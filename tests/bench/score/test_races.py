"""A race against what its parts predict."""

import pandas as pd
import pytest

from bench.score.races import race_result
from tests.bench.pairs import CONTENDER, REFERENCE
from tests.bench.synthetic import GRID, falling


@pytest.mark.rule(9)
def test_a_race_is_predicted_from_its_parts():
    table = pd.DataFrame(
        {
            "validation_loss/lopt": falling(0.02),
            "validation_loss/adam": falling(0.01),
            "wall_time_sec/lopt": 0.5 * GRID,
            "wall_time_sec/adam": 0.4 * GRID,
        },
        index=GRID,
    )
    found = race_result("t", table, 0.5 / 0.4, CONTENDER, REFERENCE, {"hard": 2.0, "never": -5.0})
    # 50 steps of 0.5 s against 100 of 0.4 s: 40 / 25
    assert [(race.target, race.raced, race.predicted, race.missed) for race in found] == [
        ("hard", pytest.approx(1.6), pytest.approx(1.6), ()),
        ("never", None, None, (CONTENDER, REFERENCE)),  # said, not left out
    ]
    trained = table.rename(columns=lambda name: name.replace("validation", "train"))
    of_old = race_result("t", trained, 0.5 / 0.4, CONTENDER, REFERENCE, {"hard": 2.0}, "train_loss")
    assert {race.metric for race in found} == {"validation_loss"}
    assert [(race.metric, race.raced) for race in of_old] == [("train_loss", pytest.approx(1.6))]
