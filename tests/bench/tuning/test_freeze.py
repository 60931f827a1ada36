"""Freezing: whose losses become targets, on which seeds, and what a later freezing keeps."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax
import pytest

import tasks
from baselines import Baseline
from bench.entries.entrants import Entrant
from bench.errors import UsageError
from bench.training.programs import run_key
from bench.tuning.freeze import freeze
from bench.tuning.search import TrialRunner
from bench.tuning.targets import read_record, write
from tests.helpers import BOWL, assert_one_line


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


def spiked(rate):
    """Gradient descent whose third step is from where the loss is infinite, and goes back to the bottom."""
    inner = optax.sgd(rate)

    def update(grads, count, params):
        moved, _ = inner.update(grads, inner.init(params), params)
        away = jax.tree.map(lambda u, p: jnp.where(count == 1, 1e30, jnp.where(count == 2, -p, u)), moved, params)
        return away, count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def test_a_run_with_a_loss_that_is_not_finite_has_diverged_wherever_it_ends():
    """As in `bench run`: it is neither a target nor, in tuning, a choice."""
    task = tasks.Task(dataclasses.replace(BOWL, horizon=8), {}, ())
    row = Entrant("spiked", "hand-designed", lambda v, horizon: spiked(0.1), {}, {})
    with pytest.raises(UsageError, match="no hand-designed optimizer finishes"):
        freeze("bowl", task, [row], 8, {}, {"task_digest": "x"})
    run = TrialRunner(Baseline(lambda h, horizon: spiked(h["learning_rate"]), {}, {}, ""), 8)
    assert run(task, run_key("bowl", 0), [{"learning_rate": 0.1}]) == [math.inf]
