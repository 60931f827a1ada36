import dataclasses
import tomllib

import pytest

import tasks
from learned import weights
from learned.config import CONFIG_DIR, OuterConfig, config_names, load_config
from learned.curriculum import Stage
from tests.helpers import assert_one_line

STAGES = "expected stages to be tables of num_steps and outer_steps"
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
    while inherited := table.pop("inherits", None):
        table = tomllib.loads((CONFIG_DIR / f"{inherited}.toml").read_text()) | table
    assert config.name == name
    assert config.outer_steps == sum(stage["outer_steps"] for stage in table.pop("stages"))
    assert dict(config.design_options) == table.pop("design_options", {})
    names = table.pop("estimator", "es")
    assert list(config.estimator) == ([names] if isinstance(names, str) else names)
    for key, value in table.items():
        assert getattr(config, key) == (tuple(value) if isinstance(value, list) else value)
    for row in (*tasks.members(config.family), *tasks.members(config.validation_family or config.family)):
        assert row.pools, "outer-training draws tasks from a pool"
    hash(config)


@pytest.mark.parametrize("name", weights.known_names())
def test_shipped_weights_were_made_by_a_shipped_configuration(name):
    assert name in config_names()


@pytest.mark.parametrize("key", ["relative", "late"])
def test_relative_and_late_losses_need_whole_unrolls(key, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL + f'{key} = true\nestimator = "pes"\nwindow = 5\n')
    with pytest.raises(ValueError, match="over full unrolls for relative or late"):
        load_config(str(path))


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
    assert isinstance(config.design_options[0][1], int), "a width stays a whole number"


def test_a_configuration_inherits_what_it_does_not_say_itself(tmp_path):
    path, heir = tmp_path / "mine.toml", tmp_path / "heir.toml"
    path.write_text(MINIMAL + "seed = 3\nsigma = 0.5\n")
    heir.write_text(f'inherits = "{path}"\nname = "heir"\nseed = 4\n')
    assert load_config(str(heir)) == dataclasses.replace(load_config(str(path)), name="heir", seed=4)
    for text, words in (
        (f'inherits = "{heir}"\nname = "heir"\n', "inherits from itself"),
        (f'inherits = "{path}"\n', "expected a non-empty 'name'"),
        ("inherits = 3\n", "expected a name or path for inherits, got 3"),
        ('inherits = "lopt_paper_smal"\nname = "a"\n', "did you mean lopt_paper_small"),
    ):
        heir.write_text(text)
        with pytest.raises(ValueError, match=words) as caught:
            load_config(str(heir))
        assert_one_line(caught.value)


def test_fields_that_were_added_later_leave_earlier_configurations_as_they_were_stored():
    config = OuterConfig("mine", "per_parameter_mlp", "imagenet8_cnn3", (Stage(10, 3),))
    assert not {"untold", "validation_family"} & config.as_dict().keys()
    assert dataclasses.replace(config, untold=0.5).as_dict() == config.as_dict() | {"untold": 0.5}


def test_every_family_of_a_mixture_comes_once_in_a_cycle():
    config = OuterConfig("mine", "normalized", "imagenet_small_nets", (Stage(4000, 16),))
    cycles = [[config.member_at(8 * cycle + place, 8) for place in range(8)] for cycle in range(2)]
    assert [sorted(cycle) for cycle in cycles] == [list(range(8))] * 2
    assert cycles[0] != cycles[1]
    assert config.lengths_at(0, longest=200) == (200, 200)
    assert config.lengths_at(0, longest=5000) == (4000, 4000)


def test_full_unrolls_are_as_long_as_the_curriculum_says():
    config = OuterConfig("mine", "per_parameter_mlp", "imagenet8_cnn3", (Stage(10, 3), Stage(20, 2)))
    assert config.outer_steps == 5
    assert [config.lengths_at(outer_step) for outer_step in range(6)] == [(10, 10)] * 3 + [(20, 20)] * 3
    assert not config.truncated


def test_truncated_unrolls_take_windows_of_what_the_curriculum_says():
    stages = (Stage(10, 1), Stage(95, 1), Stage(300, 1))
    config = OuterConfig("mine", "per_parameter_mlp", "imagenet8_cnn3", stages, estimator=("pes",), window=20)
    assert config.truncated
    assert [config.lengths_at(outer_step) for outer_step in range(3)] == [(20, 20), (20, 100), (20, 300)]


def without(key):
    return "".join(line for line in MINIMAL.splitlines(keepends=True) if not line.startswith(key))


def replaced(key, value):
    return without(key) + f"{key} = {value}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not TOML"),
        ("\udcff", "not TOML"),
        (without("name"), "expected a non-empty 'name'"),
        (without("stages"), "expected a non-empty 'stages'"),
        (MINIMAL + "learnin_rate = 1e-3\n", "unknown key 'learnin_rate'; did you mean learning_rate"),
        (MINIMAL + 'sigma = "small"\n', "expected sigma to be a number > 0, got 'small'"),
        (MINIMAL + "sigma = 0\n", "expected sigma to be a number > 0, got 0"),
        (MINIMAL + "sigma = nan\n", "expected sigma to be a number > 0, got nan"),
        (MINIMAL + "learning_rate = -1e-3\n", "expected learning_rate to be a number >= 0"),
        (MINIMAL + "num_tasks = 0\n", "expected num_tasks to be a whole number > 0, got 0"),
        (MINIMAL + "num_tasks = 2.5\n", "expected num_tasks to be a whole number > 0, got 2.5"),
        (MINIMAL + "num_tasks = true\n", "expected num_tasks to be a whole number > 0, got True"),
        (MINIMAL + "validation_every = 0\n", "expected validation_every to be a whole number > 0, got 0"),
        (MINIMAL + "seed = -1\n", "expected seed to be a whole number >= 0, got -1"),
        (MINIMAL + 'objective = "test"\n', "expected objective to be train or validation, got 'test'"),
        (MINIMAL + "score_every = 2\n", "expected score_every = 1: the inner batch's own loss"),
        (MINIMAL + "outer_batch = true\nscore_every = 0\n", "expected score_every to be a whole number > 0, got 0"),
        (MINIMAL + 'parts = ["columns"]\n', "unknown part of per_parameter_mlp 'columns'"),
        (MINIMAL + 'begin_from = "nowhere"\n', "unknown learned optimizer 'nowhere'"),
        (MINIMAL + "begin_from = 3\n", "expected begin_from to be text, got 3"),
        (MINIMAL + 'begin_from = "lopt_ortho_small"\n', "expected weights of per_parameter_mlp with options {}, got"),
        (
            'begin_from = "lopt_paper_small"\n'
            + replaced("family", '"digits8_cnn3"')
            + "[design_options]\nstep_scale = 1e-2\n",
            "expected begin_from weights that saw digits8, got imagenet32",
        ),
        (replaced("name", 3), "expected name to be text, got 3"),
        (replaced("design", 3), "expected design to be text, got 3"),
        (replaced("design", '"per_parameter"'), "unknown design 'per_parameter'; did you mean per_parameter_mlp"),
        (replaced("family", '"imagenet9_cnn3"'), "unknown task family 'imagenet9_cnn3'; did you mean imagenet"),
        (replaced("stages", 3), STAGES),
        (replaced("stages", "[]"), "expected a non-empty 'stages'"),
        (replaced("stages", "[{ num_steps = 10 }]"), STAGES),
        (
            replaced("stages", '[{ num_steps = "a", outer_steps = 1 }]'),
            STAGES,
        ),
        (
            replaced("stages", "[{ num_steps = 0, outer_steps = 1 }]"),
            STAGES,
        ),
        (MINIMAL + 'estimator = "rp"\n', "unknown estimator 'rp'; did you mean reparam"),
        (MINIMAL + "estimator = 3\n", "expected estimator to be one estimator, or two to merge, got 3"),
        (MINIMAL + "estimator = []\n", "expected one estimator, or two to merge, got []"),
        (MINIMAL + 'estimator = ["es", "reparam", "es"]\n', "expected one estimator, or two to merge"),
        (MINIMAL + 'estimator = ["es", "pes"]\nwindow = 5\n', "two estimators over full unrolls or two over windows"),
        (MINIMAL + 'estimator = ["tbptt", "pes"]\nwindow = 5\n', "expected two perturbed estimators to merge"),
        (MINIMAL + 'estimator = ["es", "reparam"]\nnum_tasks = 1\n', "expected num_tasks >= 2"),
        (MINIMAL + 'estimator = "pes"\n', "expected a window, in inner steps: pes"),
        (MINIMAL + "window = 5\n", "expected no window: es go"),
        (MINIMAL + "window = 0\n", "expected window to be a whole number > 0, got 0"),
        (MINIMAL + "outer_batch = 1\n", "expected outer_batch to be true or false, got 1"),
        (MINIMAL + "ema = 1.5\n", "expected ema to be a number from 0 to 1, got 1.5"),
        (MINIMAL + "seed = false\n", "expected seed to be a whole number >= 0, got False"),
        (
            replaced("stages", "[{ num_steps = 1, outer_steps = 1, jitter = 1 }]"),
            "`float` < 1.0 - at `$.stages[0].jitter`",
        ),
        (
            replaced("stages", '[{ num_steps = 1, outer_steps = 1, growth = "cubic" }]'),
            "'cubic' - at `$.stages[0].growth`",
        ),
        (MINIMAL + "[design_options]\nhiden = 8\n", "unknown option of per_parameter_mlp 'hiden'; did you mean hidden"),
        (
            MINIMAL + '[design_options]\nhidden = "8"\n',
            "design_options to be a table of numbers: Expected `int | float`, got `str`",
        ),
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
