"""Outer-training on least squares: it learns, keeps the best, ends in time, survives what is not finite."""

import copy
import dataclasses
import math

import jax
import numpy as np
import pytest

from learned import cards, weights
from learned.curriculum import Stage
from learned.estimators import TRUNCATED
from learned.outer import Callbacks, Engine, RunFolder, outer_train, save_best
from learned.outer import step as step_module
from tests.helpers import assert_one_line, linear_family
from tests.learned.outer.linear import CONFIG, Broken, train

pytestmark = pytest.mark.slow  # a program to compile in almost every test


class Run:
    """An outer-training run with copies of what it reported on the way."""

    def __init__(self, config=CONFIG, **kwargs):
        self.steps, self.bests, self.pools = [], [], []
        family = linear_family()

        def sample(key, pool):
            self.pools.append(pool)
            return family.sample(key, pool)

        callbacks = Callbacks(
            on_step=self.steps.append,
            on_best=lambda theta, facts: self.bests.append(copy.deepcopy((jax.device_get(theta), facts))),
        )
        made = Engine(config, dataclasses.replace(family, sample=sample))
        self.theta, self.log, self.facts = outer_train(made, callbacks=callbacks, **kwargs)

    def validations(self):
        return {row["outer_step"]: row["outer_validation_loss"] for row in self.log if "outer_validation_loss" in row}


@pytest.fixture(scope="module")
def run():
    return Run()


def test_outer_training_lowers_the_outer_loss_on_tasks_never_seen(run):
    validations = list(run.validations().values())
    assert validations[-1] < 0.8 * validations[0]


def test_steps_train_on_one_pool_and_validations_use_another(run):
    # In the order of tracing: the program of the steps, then that of the validations.
    assert run.pools[0] == "outer_train"
    assert run.pools[-1] == "outer_validation"
    assert run.pools == sorted(run.pools)


def test_every_outer_step_is_logged(run):
    assert [row["outer_step"] for row in run.log] == list(range(1, 61))
    assert [step.outer_step for step in run.steps] == list(range(1, 61))
    for row in run.log:
        assert row["num_steps"] == 10
        assert row["num_non_finite"] == 0
        assert 0 < row["outer_loss"] < 10
        assert row["gradient_norm"] > 0
    assert sorted(run.validations()) == list(range(2, 61, 2))
    assert run.steps[-1].inner_steps == run.facts["total_inner_steps"] == 60 * 2 * 4 * 10
    assert run.facts["total_outer_steps"] == 60


def test_the_best_by_outer_validation_is_kept(run):
    best_step = min(run.validations(), key=run.validations().get)
    assert run.facts["outer_step"] == best_step
    assert run.facts["outer_validation_loss"] == round(run.validations()[best_step], 4)
    theta, facts = run.bests[-1]
    assert facts["outer_step"] == best_step
    for name, leaf in theta.items():
        np.testing.assert_array_equal(leaf, run.theta[name])


def test_the_best_is_reported_whenever_it_improves_and_only_then(run):
    expected, best = [], math.inf
    for outer_step, loss in run.validations().items():
        if loss < best:
            best = loss
            expected.append(outer_step)
    assert len(expected) < len(run.validations()), "some validation must not be an improvement"
    assert [facts["outer_step"] for _, facts in run.bests] == expected


def test_a_best_that_is_overtaken_by_worse_is_not_overwritten():
    # A rate this large ends in nonsense; the arrays of the best must not be those that later steps reuse.
    diverging = Run(dataclasses.replace(CONFIG, learning_rate=3.0, clip_norm=1e3, validation_every=1))
    best_step = min(diverging.validations(), key=diverging.validations().get)
    assert best_step < 60
    theta, facts = diverging.bests[-1]
    assert facts["outer_step"] == best_step
    for name, leaf in theta.items():
        np.testing.assert_array_equal(leaf, diverging.theta[name])


def test_the_same_configuration_gives_the_same_theta_and_another_seed_or_name_another(run):
    again, other = Run(), Run(dataclasses.replace(CONFIG, seed=1))
    renamed = Run(dataclasses.replace(CONFIG, name="renamed", drawn_as=CONFIG.name))
    named = Run(dataclasses.replace(CONFIG, name="renamed"))
    for name, leaf in run.theta.items():
        np.testing.assert_array_equal(leaf, again.theta[name])
        np.testing.assert_array_equal(leaf, renamed.theta[name])
        assert not np.array_equal(leaf, other.theta[name])
        assert not np.array_equal(leaf, named.theta[name])
    assert [row["outer_loss"] for row in run.log] == [row["outer_loss"] for row in again.log]


def test_the_end_of_a_stage_is_judged_whenever_it_is():
    config = dataclasses.replace(CONFIG, stages=(Stage(10, 2), Stage(10, 1)), validation_every=50)
    assert sorted(Run(config).validations()) == [2, 3]


def test_a_run_out_of_budget_ends_with_what_it_has(run):
    short = Run(budget_sec=0.0)
    # The same run as far as it goes, ended by a validation.
    assert len(short.log) == 1
    assert short.log[0]["outer_loss"] == run.log[0]["outer_loss"]
    assert "outer_validation_loss" in short.log[0]
    assert short.facts["outer_step"] == 1
    assert len(short.bests) == 1


# Estimators, averages and what goes wrong ----------------------------------------------------------------------------


def test_after_too_many_of_them_theta_goes_back_to_the_best(monkeypatch):
    make = step_module.make_estimator
    monkeypatch.setattr(step_module, "make_estimator", lambda *args: Broken(make(*args), [5, 6, 7]))
    thetas = []
    config = dataclasses.replace(CONFIG, stages=(Stage(10, 8),), patience=3, validation_every=1, learning_rate=3.0)
    back_to = Engine.back_to

    def noted(self, theta, state):
        thetas.append(theta)
        return back_to(self, theta, state)

    monkeypatch.setattr(Engine, "back_to", noted)
    _, log, facts = outer_train(Engine(config, linear_family()))
    assert [row["skipped"] for row in log] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert (facts["skipped_updates"], facts["restored"]) == (3, 1)
    assert len(thetas) == 1
    best = min(log[:7], key=lambda row: row["outer_validation_loss"])
    assert log[7]["outer_validation_loss"] == best["outer_validation_loss"]


@pytest.mark.parametrize("names", [("nres",), ("reparam", "es")])
def test_every_kind_of_estimator_lowers_the_outer_loss(names):
    window = 5 if names[0] in TRUNCATED else None
    config = dataclasses.replace(CONFIG, estimator=names, window=window, num_tasks=8, learning_rate=0.03)
    _, log, facts = train(config)
    curve = [loss for _, _, loss in facts["outer_validation_curve"]]
    assert min(curve) < 0.9 * curve[0]
    noise = [name.partition("/")[2] for name in log[0] if name.startswith("signal_to_noise/")]
    assert sorted(noise) == sorted({"+".join(names), *names})
    if len(names) == 2:
        assert all(0 <= row["merge_weight"] <= 1 for row in log)


# Beginning from other weights -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights_to_begin_from(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "before.safetensors"
    theta, _, facts = train(dataclasses.replace(CONFIG, name="before", stages=(Stage(10, 4),)))
    save_best(path, dataclasses.replace(CONFIG, name="before"), theta, facts)
    return path


def test_a_run_begins_from_given_weights_and_its_card_tells_their_story(weights_to_begin_from, tmp_path):
    config = dataclasses.replace(CONFIG, begin_from=str(weights_to_begin_from), stages=(Stage(10, 2),))
    before, card_before = weights.read(weights_to_begin_from)
    still, _, facts = train(dataclasses.replace(config, learning_rate=0.0))
    assert weights.digest(still) == weights.digest(before) == facts["begun_from"]["theta_sha256"]
    theta, _, facts = train(config)
    assert weights.digest(theta) != weights.digest(before)
    save_best(tmp_path / "test.safetensors", config, theta, facts)
    _, card = weights.read(tmp_path / "test.safetensors")
    assert cards.ancestors(card) == [card_before]
    page = (tmp_path / "test.md").read_text()
    assert page.index("# test") < page.index(f"| begun from | `before` ({weights.digest(before)[:16]}), below |")
    assert page.index("## Begun from: before") < page.index("Made by `bench outer-train before`")


def test_a_run_may_begin_at_another_scale_of_the_step_which_its_card_says(weights_to_begin_from, tmp_path):
    options = (("exp_scale", 0.0), ("hidden", 4), ("step_scale", 0.05))
    config = dataclasses.replace(CONFIG, begin_from=str(weights_to_begin_from), design_options=options)
    config = dataclasses.replace(config, learning_rate=0.0, stages=(Stage(10, 1),))
    theta, _, facts = train(config)
    assert weights.digest(theta) == weights.digest(weights.read(weights_to_begin_from)[0])
    save_best(tmp_path / "test.safetensors", config, theta, facts)
    _, card = weights.read(tmp_path / "test.safetensors")
    assert [one.design_options["step_scale"] for one in (card, *cards.ancestors(card))] == [0.05, 0.1]


def test_a_run_does_not_go_on_where_the_weights_it_began_from_have_changed(weights_to_begin_from, tmp_path):
    path = tmp_path / "before.safetensors"
    path.write_bytes(weights_to_begin_from.read_bytes())
    config = dataclasses.replace(CONFIG, begin_from=str(path), stages=(Stage(10, 2),))
    outer_train(Engine(config, linear_family()), RunFolder(tmp_path / "run"), budget_sec=0.0)
    theta, card = weights.read(path)
    path.write_bytes(weights.save_bytes({**theta, "b2": theta["b2"] + 1}, card))
    changed = Engine(config, linear_family())
    with pytest.raises(ValueError, match="made with the weights it begins from = '") as caught:
        outer_train(changed, RunFolder(tmp_path / "run", resume=True))
    assert_one_line(caught.value)


def test_weights_of_other_shapes_are_no_beginning(weights_to_begin_from):
    options = (("exp_scale", 0.0), ("hidden", 8), ("step_scale", 0.1))
    config = dataclasses.replace(CONFIG, begin_from=str(weights_to_begin_from), design_options=options)
    with pytest.raises(ValueError, match=r"expected weights of per_parameter_mlp with options .*8.*got .*4") as caught:
        Engine(config, linear_family())
    assert_one_line(caught.value)
