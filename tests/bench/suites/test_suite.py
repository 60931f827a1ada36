"""Suites: what ships, and what is refused."""

import pytest

import tasks
from bench.errors import UsageError
from bench.suites.choose import expand_tasks
from bench.suites.suite import build_suite, load_suite, suite_names
from learned import weights


@pytest.mark.rule(5)
def test_there_are_ten_reporting_seeds_and_five_in_quick():
    found = {name: load_suite(name) for name in suite_names()}
    seeds = {name: len(chosen.seeds) for name, chosen in found.items() if chosen.kind == "train"}
    assert (seeds.pop("quick"), seeds.pop("paper_4000"), seeds.pop("paper_10000")) == (5, 5, 5)
    assert seeds.pop("outer_seeds") == 3  # and three seeds of outer-training, each on ten tasks
    assert set(seeds.values()) == {10}


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
