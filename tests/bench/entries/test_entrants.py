"""Who takes part: names resolved to optimizers with their values."""

import json

import pytest

import learned
from baselines import BASELINES
from bench.entries.entrants import resolve
from bench.entries.plugins import Registry
from bench.errors import UsageError
from learned import weights
from tests.helpers import assert_one_line
from tests.learned.test_elsewhere import save_example


@pytest.mark.parametrize("name", [name for name, row in BASELINES.items() if row.values_of])
def test_a_row_that_is_not_tuned_runs_with_the_values_of_another_on_every_family(name):
    family, tuned_name = BASELINES[name].values_of
    carried, there = resolve(name, "mnist14_mlp", 1000), resolve(tuned_name, family, 1000)
    assert {**carried.identity, "tuned_on": None} == {**there.identity, "tuned_on": None}
    assert carried.identity["tuned_on"] == family != "mnist14_mlp"
    assert carried.tuned_horizon == there.tuned_horizon is not None
    assert carried.make is there.make
    assert carried.identity != resolve(tuned_name, "mnist14_mlp", 1000).identity


def test_values_set_by_hand_stand_before_tuned_ones_and_are_said():
    tuned, by_hand = (
        resolve("adam", "digits8_mlp", 500, overrides=overrides) for overrides in ({}, {"learning_rate": 0.5})
    )
    assert tuned.tuned_horizon == 500
    assert float(by_hand.variables["learning_rate"]) == 0.5 != tuned.identity["learning_rate"]
    assert by_hand.identity["set_by_hand"] == ["learning_rate"]
    assert {**by_hand.identity, "learning_rate": tuned.identity["learning_rate"]}.keys() > tuned.identity.keys()


def test_a_users_own_tuned_values_stand_before_those_that_ship(tmp_path):
    shipped = resolve("sgd_momentum", "digits8_mlp", 500)
    path = tmp_path / "digits8_mlp" / "500" / "sgd_momentum.json"
    path.parent.mkdir(parents=True)
    values = {name: shipped.identity[name] / 2 for name in BASELINES["sgd_momentum"].default}
    path.write_text(json.dumps({"hyperparameters": values, "horizon": 500}))
    found = resolve("sgd_momentum", "digits8_mlp", 500, tuned_dir=tmp_path)
    assert {name: found.identity[name] for name in values} == values
    path.write_text(json.dumps({"hyperparameters": {"rate": 1.0}, "horizon": 500}))
    with pytest.raises(UsageError, match=r"expected .* of sgd_momentum, got .*rate") as caught:
        resolve("sgd_momentum", "digits8_mlp", 500, tuned_dir=tmp_path)
    assert_one_line(caught.value)


def test_an_alias_and_a_file_of_weights_are_the_optimizer_that_they_hold(tmp_path):
    real = resolve(learned.HEADLINE, "digits8_mlp", 500)
    (alias,) = (alias for alias, name in learned.ALIASES.items() if name == learned.HEADLINE)
    assert resolve(alias, "digits8_mlp", 500).name == real.name == learned.HEADLINE
    path = tmp_path / "mine.safetensors"
    path.write_bytes((weights.WEIGHTS_DIR / f"{learned.HEADLINE}.safetensors").read_bytes())
    of_file = resolve(str(path), "digits8_mlp", 500)
    assert of_file.identity == real.identity
    assert of_file.name == f"{learned.HEADLINE}@{real.identity['theta_sha256'][:8]}"  # may be another of that name


def test_weights_of_others_are_tied_to_what_they_are(tmp_path, monkeypatch):
    monkeypatch.delenv("BENCH_WEIGHTS_DIR", raising=False)
    save_example(tmp_path, "sinv6")
    entrant = resolve("sinv6", "digits8_mlp", 500, registry=Registry(weights_dir=tmp_path))
    digest = weights.digest(entrant.variables)
    assert entrant.identity == {"design": "sinv6", "theta_sha256": digest[:16]}
    assert (entrant.name, entrant.role) == (f"sinv6@{digest[:8]}", "learned")  # not those that were published
    with pytest.raises(UsageError, match="do not ship") as caught:
        resolve("celo", "digits8_mlp", 500, registry=Registry(cache_dir=tmp_path))
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("adamm", {}, "did you mean adam"),
        ("adam", {"rate": 1.0}, "did you mean learning_rate"),
        ("learned", {"learning_rate": 1.0}, "is learned and has no hyperparameter"),
    ],
)
def test_what_is_not_known_is_one_line_with_what_is(name, overrides, words):
    with pytest.raises(UsageError, match=words) as caught:
        resolve(name, "digits8_mlp", 500, overrides=overrides)
    assert_one_line(caught.value)
