import dataclasses
import json
import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks
from bench.clock.engine import evaluation_grid
from bench.entries.entrants import Entrant
from bench.errors import UsageError
from bench.statistics.crossing import SMOOTHING, smooth, steps_to
from bench.tuning.freeze import freeze
from bench.tuning.targets import (
    GROUPS,
    METRICS,
    SHIPPED_DIR,
    levels_of,
    load,
    needed_steps,
    read,
    read_record,
    target_path,
    write,
)
from tests.helpers import BOWL, assert_one_line

GRID = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


class TestSmoothing:
    def test_a_running_median_removes_a_spike(self):
        # around the spike {4, 3, 9, 1, .5} -> 3, before it {5, 4, 3, 9, 1} -> 4, after it {3, 9, 1, .5, .2} -> 1
        smoothed = smooth([5.0, 4.0, 3.0, 9.0, 1.0, 0.5, 0.2])
        np.testing.assert_array_equal(smoothed, [5.0, 4.0, 4.0, 3.0, 1.0, 0.5, 0.2])

    @given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
    def test_a_monotone_curve_stays_as_it_is(self, values):
        falling = sorted(values, reverse=True)
        np.testing.assert_array_equal(smooth(falling), falling)

    def test_what_comes_after_the_end_of_a_run_counts_as_infinite(self):
        # around the third point {4, 3, 2, 1, inf} -> 3, around the fourth {3, 2, 1, inf, inf} -> 3
        smoothed = smooth([4.0, 3.0, 2.0, 1.0, math.nan, math.nan, math.nan])
        np.testing.assert_array_equal(smoothed, [4, 3, 3, 3, math.inf, math.inf, math.inf])

    def test_seeds_are_smoothed_apart(self):
        both = np.array([[3.0, 1.0], [9.0, 1.0], [2.0, 1.0]])
        np.testing.assert_array_equal(smooth(both)[:, 0], smooth(both[:, 0]))


class TestStepsToTarget:
    """Protocol rule 10, worked by hand on falling curves, which smoothing leaves alone."""

    def test_between_two_points_the_loss_is_linear(self):
        # 2.0 at step 10, 1.0 at step 20: 1.25 is three quarters of the way
        assert steps_to(1.25, [0, 10, 20], [3.0, 2.0, 1.0]) == pytest.approx(17.5)

    def test_a_level_that_is_a_point_is_reached_at_that_point(self):
        assert steps_to(2.0, [0, 10, 20], [3.0, 2.0, 1.0]) == 10.0

    def test_a_start_below_the_level_is_step_zero(self):
        assert steps_to(3.0, [0, 10, 20], [3.0, 2.0, 1.0]) == 0.0

    def test_a_miss_is_infinite(self):
        assert math.isinf(steps_to(0.5, [0, 10, 20], [3.0, 2.0, 1.0]))

    def test_one_lucky_point_is_no_arrival(self):
        losses = [3.0, 3.0, 3.0, 0.1, 3.0, 3.0, 3.0]
        assert math.isinf(steps_to(1.0, GRID[:7], losses))

    def test_a_run_that_arrives_and_then_diverges_has_arrived(self):
        losses = [4.0, 3.0, 2.0, 1.0, 0.9, 0.8, 0.7, math.nan, math.nan, math.nan, math.nan]
        assert steps_to(1.0, GRID, losses) == 30.0

    def test_a_run_that_diverges_on_the_way_misses(self):
        losses = [4.0, 3.0, 2.0] + [math.nan] * 8
        assert math.isinf(steps_to(1.0, GRID, losses))


class TestLevels:
    """Protocol rule 10: the reference's median smoothed loss at 100 %, 50 % and 25 % of the horizon."""

    def test_they_are_medians_over_seeds_at_shares_of_the_horizon(self):
        steps = evaluation_grid(100)
        falling = np.linspace(2.0, 1.0, 101)
        curves = np.stack([falling, falling + 0.5, falling + 5.0], axis=1)
        levels = levels_of(steps, curves, 100)
        assert levels == pytest.approx({"hard": 1.5, "medium": 2.0, "easy": 2.25})

    def test_a_diverged_seed_is_the_worst_of_three(self):
        steps = evaluation_grid(100)
        falling = np.linspace(2.0, 1.0, 101)
        curves = np.stack([falling, falling + 0.5, np.full(101, math.nan)], axis=1)
        assert levels_of(steps, curves, 100)["hard"] == pytest.approx(1.5)

    def test_where_most_seeds_diverge_there_is_no_finite_level(self):
        curves = np.stack([np.ones(101), np.full(101, math.nan), np.full(101, math.nan)], axis=1)
        assert math.isinf(levels_of(evaluation_grid(100), curves, 100)["easy"])

    @pytest.mark.parametrize("horizon", [6, 100, 200, 2000])
    def test_the_needed_points_are_all_that_the_levels_read(self, horizon):
        grid = evaluation_grid(horizon)
        curve = np.random.default_rng(0).normal(size=(len(grid), 3))
        sparse = np.where(np.isin(grid, needed_steps(grid, horizon))[:, None], curve, np.nan)
        assert levels_of(grid, sparse, horizon) == levels_of(grid, curve, horizon)
        assert len(needed_steps(grid, horizon)) <= 2 * SMOOTHING + 1


def record(**changes):
    levels = {"hard": 1.0, "medium": 2.0, "easy": 3.0}
    row = {"hyperparameters": {"learning_rate": 0.1}, "final_validation_losses": [1.0, math.inf, 2.0]}
    row["levels"] = {"train_loss": levels, "validation_loss": {**levels, "hard": math.inf}}
    base = {"task": "t", "horizon": 10, "optimizers": {"adam": row}, "references": {"all_hand_designed": "adam"}}
    return base | {"made_at": "2020-01-01T00:00:00+00:00"} | changes


class TestFiles:
    def test_what_is_written_is_read(self, tmp_path):
        path = target_path(tmp_path, "family/3", 10)
        write(path, record(task="family/3"))
        found = load("family/3", 10, local_dir=tmp_path)
        assert found is not None
        assert found.levels["adam"]["train_loss"] == {"hard": 1.0, "medium": 2.0, "easy": 3.0}
        assert math.isinf(found.levels["adam"]["validation_loss"]["hard"])
        assert (found.task, found.horizon, found.references) == ("family/3", 10, {"all_hand_designed": "adam"})
        assert len(found.digest) == 64

    def test_frozen_targets_are_not_overwritten(self, tmp_path):
        path = tmp_path / "10.json"
        write(path, record())
        with pytest.raises(UsageError, match="frozen") as error:
            write(path, record(horizon=11))
        assert_one_line(error.value)

    def test_an_altered_level_is_noticed(self, tmp_path):
        path = tmp_path / "10.json"
        write(path, record())
        content = json.loads(path.read_text())
        content["optimizers"]["adam"]["levels"]["train_loss"]["hard"] = 1.5
        path.write_text(json.dumps(content))
        with pytest.raises(UsageError, match="altered") as error:
            read(path)
        assert_one_line(error.value)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": 3}'])
    def test_a_foreign_file_is_one_line(self, tmp_path, text):
        path = tmp_path / "10.json"
        path.write_text(text)
        with pytest.raises(UsageError) as error:
            read(path)
        assert_one_line(error.value)

    def test_a_task_without_targets_has_none(self, tmp_path):
        assert load("nothing", 10, local_dir=tmp_path) is None


SHIPPED = sorted(SHIPPED_DIR.rglob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=[str(p.relative_to(SHIPPED_DIR)) for p in SHIPPED])
def test_every_shipped_file_is_whole_and_in_its_place(path):
    found = read(path)
    assert path == target_path(SHIPPED_DIR, found.task, found.horizon)
    for group, reference in found.references.items():
        members = GROUPS[group]
        assert members is None or reference in members
        for metric in METRICS:
            level = found.levels[reference][metric]
            assert level["hard"] <= level["medium"] <= level["easy"]


def test_freezing_uses_tuning_seeds_and_takes_the_best_by_validation():
    """Two rates on a bowl: gradient descent at 1 is at the bottom after one step, at 0.1 it is on its way."""
    task = tasks.Task(dataclasses.replace(BOWL, horizon=8), {}, ())

    def entrant(name, rate):
        return Entrant(
            name, "hand-designed", lambda v, horizon: optax.sgd(v["rate"]), {"rate": jnp.float32(rate)}, {"rate": rate}
        )

    rows = [entrant("adam", 0.1), entrant("sgd_momentum", 0.5), entrant("adam_cosine", 3.0)]
    found = freeze("bowl", task, rows, 8, {}, {"task_digest": "x"})
    assert found["seeds"] == [1000, 1001, 1002]
    # (1 - 0.5)^2 a step beats (1 - 0.1)^2; rate 3 grows fourfold a step and is finite still
    assert found["references"] == {
        "paper_constant": "sgd_momentum",
        "paper_scheduled": "adam_cosine",
        "all_hand_designed": "sgd_momentum",
    }
    levels = found["optimizers"]["sgd_momentum"]["levels"]["train_loss"]
    # the loss falls by 1/4 a step: between 25 % and 50 % of 8 steps lie 2 steps, to 100 % 4 more
    assert levels["medium"] / levels["easy"] == pytest.approx(0.25**2, rel=1e-4)
    assert levels["hard"] / levels["medium"] == pytest.approx(0.25**4, rel=1e-4)


def test_extending_runs_what_is_not_frozen_and_keeps_what_is(tmp_path):
    path, facts = tmp_path / "t" / "8.json", {"task_digest": "x", "data_digest": "y", "commit": "c"}
    task = tasks.Task(dataclasses.replace(BOWL, horizon=8), {}, ())

    def frozen(rates, earlier=None):
        ticks = []
        rows = [
            Entrant(
                name,
                "hand-designed",
                lambda v, horizon: optax.sgd(v["rate"]),
                {"rate": jnp.float32(rate)},
                {"rate": rate},
            )
            for name, rate in rates.items()
        ]
        record = freeze("t", task, rows, 8, {}, facts, earlier=earlier, tick=lambda: ticks.append(1))
        return record, len(ticks)

    record, _ = frozen({"adam": 0.1})
    write(path, record)
    first = read_record(path, facts)
    with pytest.raises(UsageError, match="frozen in"):
        write(path, frozen({"adam": 0.1, "muon": 0.5})[0])
    record, ran = frozen({"adam": 0.1, "muon": 0.5}, first)
    assert ran == 3  # seeds of one optimizer
    assert record["optimizers"]["adam"] == first["optimizers"]["adam"]
    assert record["references"]["all_hand_designed"] == "muon"
    assert frozen({"muon": 0.5}, first)[0]["optimizers"].keys() == {"adam", "muon"}  # of a part of the rows: all stay
    # Of rows frozen before each had a date the record's own: no later one is theirs.
    undated = {name: {k: v for k, v in row.items() if k != "made_at"} for name, row in first["optimizers"].items()}
    later, _ = frozen(
        {"adam": 0.1, "muon": 0.5}, first | {"optimizers": undated, "made_at": "2020-01-01T00:00:00+00:00"}
    )
    assert later["optimizers"]["adam"]["made_at"] == "2020-01-01T00:00:00+00:00"
    assert later["optimizers"]["muon"]["made_at"] == later["made_at"] > "2020-01-01"
    assert record["extends"] == [{key: first[key] for key in ("digest", "made_at", "commit")}]
    write(path, record)
    assert frozen({"adam": 0.2}, read_record(path, facts))[1] == 3  # tuned anew since
    with pytest.raises(UsageError, match=r"frozen with task_digest x, this is z") as caught:
        read_record(path, facts | {"task_digest": "z"})
    assert_one_line(caught.value)
