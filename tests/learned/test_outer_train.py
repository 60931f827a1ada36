import copy
import dataclasses
import json
import math
import tomllib

import jax
import numpy as np
import pytest

import tasks
from learned import weights
from learned.designs import make_design
from learned.outer_train import (
    CONFIG_DIR,
    OuterConfig,
    Stage,
    config_names,
    load_config,
    outer_train,
    save_best,
    write_atomically,
)
from tests.helpers import assert_one_line, linear_family

# Configurations -------------------------------------------------------------------------------------------------------

MINIMAL = """
name = "mine"
design = "per_parameter_mlp"
family = "imagenet8_cnn3"
stages = [{ num_steps = 10, outer_steps = 3 }, { num_steps = 20, outer_steps = 2 }]
"""


@pytest.mark.parametrize("name", config_names())
def test_a_shipped_configuration_loads_as_it_is_written(name):
    config = load_config(name)
    table = tomllib.loads((CONFIG_DIR / f"{name}.toml").read_text())
    assert config.name == name
    assert config.outer_steps == sum(stage["outer_steps"] for stage in table.pop("stages"))
    assert dict(config.design_options) == table.pop("design_options", {})
    for key, value in table.items():
        assert getattr(config, key) == value
    assert tasks.FAMILIES[config.family].pools, "outer-training draws tasks from a pool"
    hash(config)


@pytest.mark.parametrize("name", weights.shipped_names())
def test_shipped_weights_were_made_by_a_shipped_configuration(name):
    assert name in config_names()


def test_a_configuration_of_ones_own_loads_by_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL + "[design_options]\nhidden = 8\n")
    config = load_config(str(path))
    assert config == OuterConfig(
        name="mine",
        design="per_parameter_mlp",
        family="imagenet8_cnn3",
        stages=(Stage(10, 3), Stage(20, 2)),
        design_options=(("hidden", 8),),
    )


def test_the_unroll_length_follows_the_stages():
    config = OuterConfig("mine", "per_parameter_mlp", "imagenet8_cnn3", (Stage(10, 3), Stage(20, 2)))
    assert config.outer_steps == 5
    assert [config.num_steps_at(outer_step) for outer_step in range(6)] == [10, 10, 10, 20, 20, 20]


def without(key):
    return "".join(line for line in MINIMAL.splitlines(keepends=True) if not line.startswith(key))


def replaced(key, value):
    return without(key) + f"{key} = {value}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not TOML"),
        ("\udcff", "not TOML"),
        (without("name"), "expected keys name"),
        (without("stages"), "expected keys stages"),
        (MINIMAL + "learnin_rate = 1e-3\n", "unknown key 'learnin_rate'; did you mean learning_rate"),
        (MINIMAL + 'sigma = "small"\n', "expected a number > 0 for sigma, got 'small'"),
        (MINIMAL + "sigma = 0\n", "expected a number > 0 for sigma, got 0"),
        (MINIMAL + "sigma = nan\n", "expected a number > 0 for sigma, got nan"),
        (MINIMAL + "learning_rate = -1e-3\n", "expected a number >= 0 for learning_rate"),
        (MINIMAL + "num_tasks = 0\n", "expected a whole number > 0 for num_tasks, got 0"),
        (MINIMAL + "num_tasks = 2.5\n", "expected a whole number > 0 for num_tasks, got 2.5"),
        (MINIMAL + "num_tasks = true\n", "expected a whole number > 0 for num_tasks, got True"),
        (MINIMAL + "validation_every = 0\n", "expected a whole number > 0 for validation_every, got 0"),
        (MINIMAL + "seed = -1\n", "expected a whole number >= 0 for seed, got -1"),
        (MINIMAL + 'objective = "test"\n', "expected objective train or validation, got 'test'"),
        (replaced("name", 3), "expected text for name, got 3"),
        (replaced("design", 3), "expected text for design, got 3"),
        (replaced("design", '"per_parameter"'), "unknown design 'per_parameter'; did you mean per_parameter_mlp"),
        (replaced("family", '"imagenet9_cnn3"'), "unknown task 'imagenet9_cnn3'; did you mean imagenet"),
        (replaced("stages", 3), "stages are tables of num_steps and outer_steps"),
        (replaced("stages", "[]"), "stages are tables of num_steps and outer_steps"),
        (replaced("stages", "[{ num_steps = 10 }]"), "stages are tables of num_steps and outer_steps"),
        (
            replaced("stages", '[{ num_steps = "a", outer_steps = 1 }]'),
            "stages are tables of num_steps and outer_steps",
        ),
        (replaced("stages", "[{ num_steps = 0, outer_steps = 1 }]"), "stages are tables of num_steps and outer_steps"),
        (MINIMAL + "[design_options]\nhiden = 8\n", "unknown option of per_parameter_mlp 'hiden'; did you mean hidden"),
        (MINIMAL + '[design_options]\nhidden = "8"\n', "expected a number for design option hidden, got '8'"),
        (MINIMAL + "design_options = 3\n", "design_options"),
    ],
    ids=lambda value: value.strip().splitlines()[-1] if value.strip() else "empty",
)
def test_a_mistake_in_a_configuration_is_answered_in_one_line(text, words, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are compared below, not as a pattern)
        load_config(str(path))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert_one_line(caught.value)


def test_an_unknown_configuration_answers_with_the_nearest():
    with pytest.raises(tasks.UnknownNameError, match="did you mean lopt_paper_small"):
        load_config("lopt_paper_smal")


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
    save_best(path, CONFIG, theta, facts, {"commit": "abc"})
    read, card = weights.read(path)
    np.testing.assert_array_equal(read["w1"], theta["w1"])
    assert card.design_options == dict(CONFIG.design_options)
    assert card.facts == facts | {"commit": "abc"}
    assert card.outer_training == json.loads(json.dumps(dataclasses.asdict(CONFIG)))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text is not bytes")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
