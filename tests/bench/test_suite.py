import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks
from bench.errors import UsageError
from bench.suites.choose import apply_settings, expand_tasks
from bench.suites.seeds import parse_seeds
from bench.suites.suite import build_suite, load_suite, suite_names
from learned import weights

TABLE = {"tasks": ["digits8_mlp"], "optimizers": ["adam"], "seeds": "0-4"}


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_names_known_tasks_and_optimizers(name):
    from bench.entries.entrants import optimizer_names

    suite = load_suite(name)
    assert suite.kind == "measure" or expand_tasks(suite.tasks, tasks.task_names())
    assert set(suite.optimizers) <= {*optimizer_names(), *weights.known_names()}
    assert suite.description


def test_the_paper_suite_is_the_ten_evaluation_tasks():
    suite = load_suite("paper")
    names = expand_tasks(suite.tasks, tasks.task_names())
    assert names == tuple(f"imagenet32_cnn3/{k}" for k in range(10))
    assert (suite.steps, suite.seeds) == (2000, tuple(range(10)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimisers": ["adam"]}, "did you mean optimizers"),
        ({"tasks": []}, "non-empty 'tasks'"),
        ({"tasks": "digits8_mlp"}, "list of names"),
        ({"seeds": "5-"}, "seeds like"),
        ({"seeds": "1000"}, "below 1000"),
        ({"seeds": [0.5]}, "seeds like"),
        ({"steps": 0}, "steps to be a whole number"),
        ({"steps": "many"}, "steps to be a whole number"),
        ({"steps": True}, "steps to be a whole number"),
        ({"timing_blocks": -1}, "timing_blocks"),
        ({"kind": "trian"}, "did you mean train"),
        ({"description": 3}, "description to be text"),
    ],
)
def test_a_bad_key_or_value_gets_one_clear_line(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        build_suite("mine", TABLE | change)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_suites(tmp_path):
    with pytest.raises(UsageError, match="did you mean quick"):
        load_suite("quik")
    with pytest.raises(UsageError, match="cannot read suite"):
        load_suite(str(tmp_path / "none.toml"))
    (tmp_path / "torn.toml").write_bytes(b"tasks = [\xff")
    with pytest.raises(UsageError, match="is not TOML"):
        load_suite(str(tmp_path / "torn.toml"))


@given(st.lists(st.integers(0, 999), min_size=1, max_size=8))
def test_seeds_come_back_from_any_way_of_writing_them(seeds):
    expected = tuple(dict.fromkeys(seeds))
    assert parse_seeds(seeds) == expected
    assert parse_seeds(",".join(map(str, seeds))) == expected


@given(st.text(max_size=12))
def test_seeds_are_parsed_or_refused_in_one_line(text):
    with contextlib.suppress(UsageError):
        seeds = parse_seeds(text)
        assert seeds
        assert all(0 <= seed < 1000 for seed in seeds)


def test_task_patterns():
    known = tasks.task_names()
    assert len(expand_tasks(["imagenet16_cnn3/*"], known)) == 10
    assert len(expand_tasks(["imagenet16_cnn3/outer_validation/*"], known)) == 5
    with pytest.raises(UsageError, match="is a family of tasks"):
        expand_tasks(["imagenet16_cnn3"], known)
    with pytest.raises(UsageError, match="did you mean"):
        expand_tasks(["digits8_mpl"], known)


def test_settings():
    suite = build_suite("mine", TABLE)
    changed = apply_settings(suite, ["adam.learning_rate=1e-2", "steps=7", "timing_blocks=0"])
    assert (changed.overrides, changed.steps, changed.timing_blocks) == ({"adam": {"learning_rate": 0.01}}, 7, 0)
    for setting, message in [
        ("steps", "expects key=value"),
        ("stepz=3", "did you mean steps"),
        ("steps=three", "whole number"),
        ("adma.learning_rate=1", "did you mean adam"),
        ("adam.learning_rate=fast", "finite number"),
        ("adam.learning_rate=nan", "finite number"),
    ]:
        with pytest.raises(UsageError, match=message):
            apply_settings(suite, [setting])
