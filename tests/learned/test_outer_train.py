import copy
import dataclasses
import functools
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned import cards, weights
from learned import outer_train as outer_train_module
from learned.config import OuterConfig
from learned.curriculum import Stage
from learned.designs import make_design
from learned.estimators import TRUNCATED
from learned.outer_train import Engine, outer_train, save_best
from tests.helpers import assert_one_line, linear_family

# Outer-training on least squares --------------------------------------------------------------------------------------

CONFIG = OuterConfig(
    name="test",
    design="per_parameter_mlp",
    family="linear",
    stages=(Stage(10, 60),),
    design_options=(("exp_scale", 0.0), ("hidden", 4), ("step_scale", 0.1)),
    num_tasks=4,
    sigma=0.05,
    learning_rate=0.1,
    validation_num_steps=10,
    validation_num_tasks=8,
    validation_every=2,
)


class Run:
    """An outer-training run with copies of what it reported on the way."""

    def __init__(self, config=CONFIG, **kwargs):
        self.steps, self.bests, self.pools = [], [], []
        family = linear_family()

        def sample(key, pool):
            self.pools.append(pool)
            return family.sample(key, pool)

        self.theta, self.log, self.facts = outer_train(
            config,
            dataclasses.replace(family, sample=sample),
            on_step=self.steps.append,
            on_best=lambda theta, facts: self.bests.append(copy.deepcopy((jax.device_get(theta), facts))),
            **kwargs,
        )

    def validations(self):
        return {row["outer_step"]: row["outer_validation_loss"] for row in self.log if "outer_validation_loss" in row}


@pytest.fixture(scope="module")
def run():
    return Run()


@pytest.mark.slow
def test_outer_training_lowers_the_outer_loss_on_tasks_never_seen(run):
    validations = list(run.validations().values())
    assert validations[-1] < 0.8 * validations[0]


@pytest.mark.slow
def test_steps_train_on_one_pool_and_validations_use_another(run):
    # In the order of tracing: the program of the steps, then that of the validations.
    assert run.pools[0] == "outer_train"
    assert run.pools[-1] == "outer_validation"
    assert run.pools == sorted(run.pools)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_best_by_outer_validation_is_kept(run):
    best_step = min(run.validations(), key=run.validations().get)
    assert run.facts["outer_step"] == best_step
    assert run.facts["outer_validation_loss"] == round(run.validations()[best_step], 4)
    theta, facts = run.bests[-1]
    assert facts["outer_step"] == best_step
    for name, leaf in theta.items():
        np.testing.assert_array_equal(leaf, run.theta[name])


@pytest.mark.slow
def test_the_best_is_reported_whenever_it_improves_and_only_then(run):
    expected, best = [], math.inf
    for outer_step, loss in run.validations().items():
        if loss < best:
            best = loss
            expected.append(outer_step)
    assert len(expected) < len(run.validations()), "some validation must not be an improvement"
    assert [facts["outer_step"] for _, facts in run.bests] == expected


@pytest.mark.slow
def test_a_best_that_is_overtaken_by_worse_is_not_overwritten():
    # A rate this large ends in nonsense; the arrays of the best must not be those that later steps reuse.
    diverging = Run(dataclasses.replace(CONFIG, learning_rate=3.0, clip_norm=1e3, validation_every=1))
    best_step = min(diverging.validations(), key=diverging.validations().get)
    assert best_step < 60
    theta, facts = diverging.bests[-1]
    assert facts["outer_step"] == best_step
    for name, leaf in theta.items():
        np.testing.assert_array_equal(leaf, diverging.theta[name])


@pytest.mark.slow
def test_the_same_configuration_gives_the_same_theta_and_another_seed_another(run):
    again, other = Run(), Run(dataclasses.replace(CONFIG, seed=1))
    for name, leaf in run.theta.items():
        np.testing.assert_array_equal(leaf, again.theta[name])
        assert not np.array_equal(leaf, other.theta[name])
    assert [row["outer_loss"] for row in run.log] == [row["outer_loss"] for row in again.log]


@pytest.mark.slow
def test_the_end_of_a_stage_is_judged_whenever_it_is():
    config = dataclasses.replace(CONFIG, stages=(Stage(10, 2), Stage(10, 1)), validation_every=50)
    assert sorted(Run(config).validations()) == [2, 3]


@pytest.mark.slow
def test_a_run_out_of_budget_ends_with_what_it_has(run):
    short = Run(budget_seconds=0.0)
    # The same run as far as it goes, ended by a validation.
    assert len(short.log) == 1
    assert short.log[0]["outer_loss"] == run.log[0]["outer_loss"]
    assert "outer_validation_loss" in short.log[0]
    assert short.facts["outer_step"] == 1
    assert len(short.bests) == 1


def test_what_is_saved_says_how_it_was_made(tmp_path):
    path = tmp_path / "deep" / "test.safetensors"
    theta = jax.device_get(make_design(CONFIG.design, dict(CONFIG.design_options)).init_theta(jax.random.key(0)))
    facts = {"outer_step": 3, "inner_steps": 240, "outer_validation_loss": 1.5, "device_hours": 0.1, "device": "cpu"}
    save_best(path, CONFIG, theta, facts | {"commit": "abc"})
    read, card = weights.read(path)
    np.testing.assert_array_equal(read["w1"], theta["w1"])
    assert card.design_options == dict(CONFIG.design_options)
    assert card.facts == facts | {"commit": "abc"}
    assert card.outer_training == json.loads(json.dumps(dataclasses.asdict(CONFIG)))


# Estimators, averages and what goes wrong ----------------------------------------------------------------------------


def engine(**changes):
    return Engine(dataclasses.replace(CONFIG, **changes), linear_family())


def one_step(made, state, outer_step=0):
    num_steps, horizon = made.config.lengths_at(outer_step)
    return made.step(state, made.arrays, outer_step, num_steps=num_steps, horizon=horizon)


@pytest.mark.slow
def test_an_outer_step_by_hand():
    """The mean of the samples, clipped by value and then by norm, and one step of Adam: sign times rate."""
    made = engine(clip_value=0.05, clip_norm=0.08, learning_rate=0.01, final_learning_rate=1.0, b1=0.5, ema=0.25)
    state = made.init()
    key = jax.random.fold_in(made.key, 1)
    estimate, _ = made.estimator.estimate(state.theta, (), made.arrays, key, 10, 10)
    mean = {name: np.mean(np.asarray(leaf, np.float64), axis=0) for name, leaf in estimate.gradients.items()}
    clipped = {name: np.clip(leaf, -0.05, 0.05) for name, leaf in mean.items()}
    norm = math.sqrt(sum(np.sum(leaf**2) for leaf in clipped.values()))
    assert norm > 0.08
    after, metrics = one_step(made, state)
    np.testing.assert_allclose(metrics["gradient_norm"], math.sqrt(sum(np.sum(g**2) for g in mean.values())), rtol=1e-4)
    for name, leaf in clipped.items():
        gradient = leaf * 0.08 / norm
        expected = np.asarray(state.theta[name]) - 0.01 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(after.theta[name], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            after.average[name], 0.25 * state.theta[name] + 0.75 * expected, rtol=1e-4, atol=1e-6
        )


class Broken:
    """An estimator whose gradient is NaN at chosen outer steps, as when every sample of a merge has failed."""

    name = "broken"

    def __init__(self, made, bad):
        self.made, self.bad = made, bad

    def init(self, *args):
        return jnp.zeros((1,), jnp.int32)

    def estimate(self, theta, state, arrays, key, num_steps, horizon):
        found, _ = self.made.estimate(theta, (), arrays, key, num_steps, horizon)
        bad = jnp.isin(state[0], jnp.asarray(self.bad))
        return found._replace(gradients=jax.tree.map(lambda g: jnp.where(bad, jnp.nan, g), found.gradients)), state + 1


@pytest.mark.slow
def test_an_update_that_is_not_finite_is_skipped_and_the_step_halved():
    made = engine()
    made.estimator = Broken(made.estimator, [1, 2])
    state, factors = made.init(), []
    for outer_step in range(5):
        before = state
        state, metrics = one_step(made, state, outer_step)
        factors.append(float(metrics["step_factor"]))
        same = np.array_equal(state.theta["w1"], before.theta["w1"])
        assert same == bool(metrics["skipped"]) == (outer_step in (1, 2))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((state.theta, state.opt_state)))
    np.testing.assert_allclose(factors, [1.0, 1.0, 0.5, 0.25, 0.275], rtol=1e-6)


@pytest.mark.slow
def test_after_too_many_of_them_theta_goes_back_to_the_best(monkeypatch):
    make = outer_train_module.make_estimator
    monkeypatch.setattr(outer_train_module, "make_estimator", lambda *args: Broken(make(*args), [5, 6, 7]))
    thetas = []
    config = dataclasses.replace(CONFIG, stages=(Stage(10, 8),), patience=3, validation_every=1, learning_rate=3.0)
    back_to = Engine.back_to

    def noted(self, theta, state):
        thetas.append(theta)
        return back_to(self, theta, state)

    monkeypatch.setattr(Engine, "back_to", noted)
    _, log, facts = outer_train(config, linear_family())
    assert [row["skipped"] for row in log] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert (facts["skipped_updates"], facts["restored"]) == (3, 1)
    assert len(thetas) == 1
    best = min(log[:7], key=lambda row: row["outer_validation_loss"])
    assert log[7]["outer_validation_loss"] == best["outer_validation_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("names", [("nres",), ("reparam", "es")])
def test_every_kind_of_estimator_lowers_the_outer_loss(names):
    window = 5 if names[0] in TRUNCATED else None
    config = dataclasses.replace(CONFIG, estimator=names, window=window, num_tasks=8, learning_rate=0.03)
    _, log, facts = outer_train(config, linear_family())
    curve = [loss for _, _, loss in facts["outer_validation_curve"]]
    assert min(curve) < 0.9 * curve[0]
    noise = [name.partition("/")[2] for name in log[0] if name.startswith("signal_to_noise/")]
    assert sorted(noise) == sorted({"+".join(names), *names})
    if len(names) == 2:
        assert all(0 <= row["merge_weight"] <= 1 for row in log)


# Files that are not as they were written ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_checkpoints(tmp_path_factory):
    """(Goes on with a run from a folder, one with checkpoints of its first three outer steps, what it comes to)."""
    config, folder = dataclasses.replace(CONFIG, stages=(Stage(10, 6),)), tmp_path_factory.mktemp("run")
    engine = Engine(config, linear_family())
    go_on = functools.partial(outer_train, config, linear_family(), engine=engine, resume=True)
    for _ in range(3):  # of one outer step each
        go_on(folder=folder, budget_seconds=0.0)
    return go_on, folder, go_on()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["torn metadata", "torn array", "altered array", "no facts"])
def test_a_damaged_checkpoint_is_set_aside_and_the_run_goes_on_from_the_one_before(tmp_path, damage, with_checkpoints):
    go_on, folder, (theta, log, _) = with_checkpoints
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (last,) = [path for path in (tmp_path / "checkpoints").iterdir() if path.name == "3"]
    if damage == "no facts":
        (last / "facts" / "metadata").unlink()
    elif damage == "torn metadata":
        path = last / "arrays" / "_METADATA"
        path.write_bytes(path.read_bytes()[:20])
    else:
        path = max((path for path in (last / "arrays").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
        content = bytearray(path.read_bytes())
        if damage == "torn array":
            del content[len(content) // 2 :]
        else:
            content[len(content) // 2] ^= 1
        path.write_bytes(content)
    set_aside = []
    again, log_again, _ = go_on(folder=tmp_path, on_damage=set_aside.append)
    assert set_aside == [tmp_path / "checkpoints" / "3.damaged"]
    assert weights.digest(again) == weights.digest(theta)
    assert [row["outer_loss"] for row in log_again] == [row["outer_loss"] for row in log]


@pytest.mark.slow
def test_damaged_metrics_and_ends_of_stages_are_one_line(tmp_path):
    config = dataclasses.replace(CONFIG, stages=(Stage(10, 1), Stage(10, 2)))
    outer_train(config, linear_family(), folder=tmp_path)
    for name, words in (("metrics.parquet", "damaged"), ("stage.safetensors", "expected the end of a stage")):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=words) as caught:
            outer_train_module.stage_end(tmp_path, config)
        assert name in str(caught.value)
        assert_one_line(caught.value)
        (tmp_path / name).write_bytes(content)
    content = bytearray(content)
    content[-1] ^= 1
    (tmp_path / "stage.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="the checksum does not fit"):
        outer_train_module.stage_end(tmp_path, config)


# Beginning from other weights -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights_to_begin_from(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "before.safetensors"
    theta, _, facts = outer_train(dataclasses.replace(CONFIG, name="before", stages=(Stage(10, 4),)), linear_family())
    save_best(path, dataclasses.replace(CONFIG, name="before"), theta, facts)
    return path


@pytest.mark.slow
def test_a_run_begins_from_given_weights_and_its_card_tells_their_story(weights_to_begin_from, tmp_path):
    config = dataclasses.replace(CONFIG, begin_from=str(weights_to_begin_from), stages=(Stage(10, 2),))
    before, card_before = weights.read(weights_to_begin_from)
    still, _, facts = outer_train(dataclasses.replace(config, learning_rate=0.0), linear_family())
    assert weights.digest(still) == weights.digest(before) == facts["begun_from"]["theta_sha256"]
    theta, _, facts = outer_train(config, linear_family())
    assert weights.digest(theta) != weights.digest(before)
    save_best(tmp_path / "test.safetensors", config, theta, facts)
    _, card = weights.read(tmp_path / "test.safetensors")
    assert cards.ancestors(card) == [card_before]
    page = (tmp_path / "test.md").read_text()
    assert page.index("# test") < page.index(f"| begun from | `before` ({weights.digest(before)[:16]}), below |")
    assert page.index("## Begun from: before") < page.index("Made by `bench outer-train before`")


@pytest.mark.slow
def test_a_run_may_begin_at_another_scale_of_the_step_which_its_card_says(weights_to_begin_from, tmp_path):
    options = (("exp_scale", 0.0), ("hidden", 4), ("step_scale", 0.05))
    config = dataclasses.replace(CONFIG, begin_from=str(weights_to_begin_from), design_options=options)
    config = dataclasses.replace(config, learning_rate=0.0, stages=(Stage(10, 1),))
    theta, _, facts = outer_train(config, linear_family())
    assert weights.digest(theta) == weights.digest(weights.read(weights_to_begin_from)[0])
    save_best(tmp_path / "test.safetensors", config, theta, facts)
    _, card = weights.read(tmp_path / "test.safetensors")
    assert [one.design_options["step_scale"] for one in (card, *cards.ancestors(card))] == [0.05, 0.1]


@pytest.mark.slow
def test_a_run_does_not_go_on_where_the_weights_it_began_from_have_changed(weights_to_begin_from, tmp_path):
    path = tmp_path / "before.safetensors"
    path.write_bytes(weights_to_begin_from.read_bytes())
    config = dataclasses.replace(CONFIG, begin_from=str(path), stages=(Stage(10, 2),))
    outer_train(config, linear_family(), folder=tmp_path / "run", budget_seconds=0.0)
    theta, card = weights.read(path)
    path.write_bytes(weights.save_bytes({**theta, "b2": theta["b2"] + 1}, card))
    with pytest.raises(ValueError, match="made with the weights it begins from = '") as caught:
        outer_train(config, linear_family(), folder=tmp_path / "run", resume=True)
    assert_one_line(caught.value)


@pytest.mark.slow
def test_weights_of_other_shapes_are_no_beginning(weights_to_begin_from):
    options = (("exp_scale", 0.0), ("hidden", 8), ("step_scale", 0.1))
    config = dataclasses.replace(CONFIG, begin_from=str(weights_to_begin_from), design_options=options)
    with pytest.raises(ValueError, match=r"expected weights of per_parameter_mlp with options .*8.*got .*4") as caught:
        Engine(config, linear_family())
    assert_one_line(caught.value)


def test_each_sample_is_clipped_before_the_mean():
    one = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}
    found = outer_train_module.clipped(one, 1.0)
    np.testing.assert_allclose(found["a"], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found["b"], 0.8, rtol=1e-6)
    assert outer_train_module.clipped(one, 6.0) == {name: pytest.approx(np.asarray(leaf)) for name, leaf in one.items()}


@pytest.mark.slow
def test_one_chaotic_sample_does_not_outweigh_the_others_where_samples_are_clipped():
    """With every sample clipped to next to nothing, no update is longer than that."""
    still = Engine(dataclasses.replace(CONFIG, clip_sample=1e-30, clip_norm=0.0), linear_family())
    free = Engine(CONFIG, linear_family())
    norms = []
    for engine in (still, free):
        _, metrics = engine.step(engine.init(), engine.arrays, 0, num_steps=10, horizon=10)
        norms.append(float(metrics["gradient_norm"]))
    assert norms[0] <= 1e-30 < norms[1]
