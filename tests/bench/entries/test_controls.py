"""The controls that a suite brings: what they are, and that they do what they are for."""

import numpy as np
import optax
import pytest

import learned
import tasks
import tasks.inner_loop
from bench.entries import controls, entrants
from bench.statistics import ratio_interval
from bench.training.programs import compile_program, run_key
from bench.training.step_times import time_entrants
from tests.bench.least_squares import descent, planned, run
from tests.helpers import linear_task


@pytest.mark.rule(8)
def test_the_control_is_the_same_optimizer_with_a_program_of_its_own():
    base = descent("adam", 0.1, optax.adam)
    again = controls.timed_controls(base)[0]
    assert again.name == "adam_again"
    assert (again.variables, again.make, again.repeats) == (base.variables, base.make, 1)
    assert again.program == ""  # compiled anew: what compilation changes by chance belongs to the floor
    timed = next(cell for cell in planned() if cell.identity["kind"] == "time")
    assert [entrant.name for entrant in timed.entrants] == ["adam", "sgd_momentum", "adam_again", "adam_twice"]


@pytest.mark.rule(14)
def test_the_headline_optimizer_brings_its_beginning(monkeypatch):
    monkeypatch.setattr(learned, "HEADLINE", "lopt_paper_small")
    adam, trained = (entrants.resolve(name, "digits8_mlp", 50) for name in ("adam", "lopt_paper_small"))
    (control,) = controls.untrained_controls([adam, trained])
    assert (control.name, control.role) == ("lopt_paper_small_untrained", "control")
    assert control.identity["theta_sha256"] != trained.identity["theta_sha256"]
    monkeypatch.setattr(learned, "HEADLINE", "another")
    assert controls.untrained_controls([entrants.resolve("lopt_paper_small", "digits8_mlp", 50)]) == []


@pytest.mark.rule(14)
def test_the_controls_of_a_suite_are_planned_beside_its_optimizers():
    trained = {cell.identity["optimizer"]: cell for cell in planned() if cell.identity["kind"] == "train"}
    assert set(trained) == {"adam", "sgd_momentum", "adam_frozen", "adam_10x"}
    rate = trained["adam"].identity["hyperparameters"]["learning_rate"]
    assert trained["adam_frozen"].identity["hyperparameters"]["learning_rate"] == 0.0
    assert trained["adam_10x"].identity["hyperparameters"]["learning_rate"] == pytest.approx(10 * rate)
    assert {trained[name].identity["role"] for name in ("adam_frozen", "adam_10x")} == {"control"}


@pytest.mark.rule(14)
def test_at_rate_zero_no_parameter_moves():
    frozen_adam = controls.trained_controls(descent("adam", 0.1, optax.adam))[0]
    curve = run(frozen_adam, linear_task())[0].curve
    assert curve.loc[curve["metric"] == "train_loss", "value"].nunique() == 1


@pytest.mark.rule(14)
def test_a_step_performed_twice_is_the_same_training():
    """What it costs is measured by the control on every suite; that nothing else changes is proved here."""
    base = descent("adam", 0.1)
    task, key = linear_task(), run_key("t", 0)
    states = []
    for entrant in (base, controls.timed_controls(base)[1]):
        program = compile_program(entrant, task, 4, [4])
        states.append(program.chunks[4](task, entrant.variables, program.init(task, entrant, key), key, 1)[0])
    assert controls.timed_controls(base)[1].repeats == 2
    np.testing.assert_allclose(states[0].params["w"], states[1].params["w"], rtol=1e-6)
    assert states[1].inner_step == 4


@pytest.mark.rule(8)
@pytest.mark.rule(14)
@pytest.mark.slow
def test_the_controls_of_the_clock_hold_on_a_quick_task():
    """The same optimizer twice is within 3 % of 1, half-width 5 % at most; every step twice costs 1.7 to 2.3 times.

    Beside another load 40 blocks show it in a third of the measurements, 120 did in all of four. Another load may still
    spoil one, not three.
    """
    task, base = tasks.load("digits8_cnn3"), descent("adam", 1e-3, optax.adam)
    again, twice = controls.timed_controls(base)
    programs = {e.name: compile_program(e, task, 40, [1]) for e in (base, again, twice)}
    for _ in range(3):
        seconds = time_entrants(
            [base, again, twice], task, 40, num_blocks=120, compile_for=lambda entrant: programs[entrant.name]
        ).seconds_per_step
        same, double = (ratio_interval(seconds[:, i], seconds[:, 0]) for i in (1, 2))
        half = (same.high - same.low) / 2
        if abs(same.estimate - 1) <= 0.03 and half <= 0.05 and 1.7 <= double.estimate <= 2.3:
            return
    pytest.fail(f"three times: again {same}, twice {double}")
