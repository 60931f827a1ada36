"""Curves, final losses, tuning, targets and races are of the parameters that an optimizer says to evaluate.

A schedule-free run, worked out by hand on least squares in three dimensions; Defazio et al., arXiv 2405.15682.
"""

import functools

import jax
import numpy as np
import optax.contrib
import pytest

from baselines import of_optax
from bench.training import race as race_
from bench.training.programs import run_key
from bench.tuning.freeze import freeze
from bench.tuning.search import TrialRunner
from tests.bench.least_squares import descent, program_of, run
from tests.helpers import LINEAR, LINEAR_SIZES, linear_arrays, linear_task

RATE, B1, HORIZON = 0.2, 0.9, 5


def schedule_free(key):
    """The run in float64: (parameters of the gradients, average) after each step, from the start on.

    y = (1 - b1) z + b1 x, z -= rate grad(y), x = mean of z_1 ... z_t, since at a constant rate all weigh the same.
    """
    arrays = linear_arrays(np.float64)
    start = linear_task().init(jax.random.fold_in(key, 0))
    z = np.append(np.asarray(start["w"], np.float64), np.float64(start["b"]))
    x, y = z.copy(), z.copy()
    points = [(y, x)]
    for step in range(1, HORIZON + 1):
        batch_key, _ = jax.random.split(jax.random.fold_in(key, step))
        indices = np.asarray(jax.random.randint(batch_key, (LINEAR.batch_size,), 0, LINEAR_SIZES["train"]))
        inputs = np.column_stack([arrays["train_inputs"][indices], np.ones(len(indices))])
        z = z - RATE * inputs.T @ (inputs @ y - arrays["train_targets"][indices]) / len(indices)
        x = x + (z - x) / step
        y = (1 - B1) * z + B1 * x
        points.append((y, x))
    return points


def loss(point, split):
    arrays = linear_arrays(np.float64)
    residual = arrays[f"{split}_inputs"] @ point[:3] + point[3] - arrays[f"{split}_targets"]
    return np.mean(residual**2) / 2


def losses(seed, split="validation", task="linear"):
    """At the average after each step; those of where gradients are taken differ visibly."""
    points = schedule_free(run_key(task, seed))
    assert abs(loss(points[-1][0], split) / loss(points[-1][1], split) - 1) > 1e-3
    return [loss(x, split) for _, x in points]


def entrant(name="schedule_free"):
    return descent(name, RATE, optax.contrib.schedule_free_sgd)


@pytest.mark.rule(4)
def test_the_curve_and_the_final_losses_are_at_the_average_of_a_schedule_free_run():
    outcome = run(entrant(), linear_task(), seed=2, horizon=HORIZON)[0]
    values = outcome.curve.pivot_table(index="step", columns="metric", values="value")
    # Float32 against float64 over five steps, and the average is a difference divided by b1.
    for split in ("train", "validation"):
        np.testing.assert_allclose(values[f"{split}_loss"].dropna(), losses(2, split), rtol=1e-5)
    result = outcome.result
    assert result.final_validation_loss == pytest.approx(losses(2)[-1], rel=1e-5)
    assert result.final_test_loss == pytest.approx(losses(2, "test")[-1], rel=1e-5)
    assert result.test_loss_at_best_validation == pytest.approx(losses(2, "test")[int(np.argmin(losses(2)))], rel=1e-5)


@pytest.mark.rule(1)
def test_tuning_is_by_the_loss_at_the_average():
    row = of_optax("optax.contrib.schedule_free_sgd")
    (found,) = TrialRunner(row, HORIZON)(linear_task(), run_key("linear", 1000), [{"learning_rate": RATE}])
    assert found == pytest.approx(losses(1000)[-1], rel=1e-5)


@pytest.mark.rule(10)
def test_targets_are_losses_at_the_average():
    found = freeze("linear", linear_task(), [entrant()], HORIZON, {}, {})["optimizers"]["schedule_free"]
    by_hand = [losses(seed)[-1] for seed in (1000, 1001, 1002)]
    np.testing.assert_allclose(found["final_validation_losses"], by_hand, rtol=1e-5)
    assert found["levels"]["validation_loss"]["hard"] == pytest.approx(np.median(by_hand), rel=1e-5)


@pytest.mark.rule(9)
def test_a_race_is_to_a_loss_at_the_average(monkeypatch):
    monkeypatch.setattr(race_, "MIN_RACE_SEC", 0.0)
    compiled = functools.partial(program_of, horizon=HORIZON)
    table = race_.race(
        [entrant("a"), entrant("b")], linear_task(), run_key("linear", 0), HORIZON, -1.0, compile_for=compiled
    )
    for name in ("a", "b"):
        rows = table[table["metric"] == f"validation_loss/{name}"].sort_values("step")
        np.testing.assert_allclose(rows["value"], losses(0), rtol=1e-5)


def test_before_the_first_step_all_optimizers_have_one_loss():
    first = [run(e, linear_task(), seed=2, horizon=HORIZON)[0].curve for e in (entrant(), descent())]
    at_start = [
        curve.loc[(curve["step"] == 0) & (curve["metric"] == "validation_loss"), "value"].item() for curve in first
    ]
    assert at_start[0] == pytest.approx(at_start[1], rel=1e-6)
