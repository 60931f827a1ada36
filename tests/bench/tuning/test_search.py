"""Tuning: its points, its reruns, its record, and what ships of it."""

import dataclasses
import json
import math
from collections import Counter
from itertools import groupby

import jax
import numpy as np
import optax
import pytest

import tasks
from baselines import BASELINES, Baseline, LogUniform, loss_keys, read_tuned, tuned_by
from bench.training.programs import run_key
from bench.tuning import search as tuning
from bench.tuning.search import TrialRunner, dump, edges, halton, tune, tuning_tasks
from tests.helpers import BOWL, REPOSITORY, linear_task


@pytest.mark.rule(1)
def test_every_row_has_a_budget_by_its_dimensions_and_constant_and_scheduled_rates_are_rows_of_their_own():
    assert (tuning.NUM_TRIALS, tuning.NUM_TUNING_TASKS, tuning.NUM_FINALISTS, tuning.NUM_FURTHER_SEEDS) == (32, 2, 3, 3)
    assert [tuning.num_trials_of(dict.fromkeys("abcd"[:number])) for number in (1, 2, 3, 4)] == [32, 32, 32, 64]
    for name in ("sgd_momentum", "rmsprop", "adam", "muon"):
        assert not BASELINES[name].scheduled
        assert BASELINES[f"{name}_cosine"].scheduled
        assert BASELINES[f"{name}_cosine"].space == BASELINES[name].space


TUNED = sorted((REPOSITORY / "baselines" / "tuned").rglob("*.json"))


@pytest.mark.rule(1)
def test_every_shipped_value_is_the_choice_of_the_whole_budget_by_validation_loss_or_as_its_row_says():
    assert TUNED
    for path in TUNED:
        record = json.loads(path.read_text())
        by_train = path.stem.endswith("_by_train")
        assert tuned_by(record) == BASELINES[path.stem].tuned_by == ("train" if by_train else "validation"), path
        first_runs, further_runs = loss_keys(tuned_by(record))

        def mean(trial, first_runs=first_runs, further_runs=further_runs):
            losses = trial[first_runs] + trial.get(further_runs, [])
            return math.inf if None in losses else float(np.mean(losses))

        trials = record["trials"]
        assert [len(trial[first_runs]) for trial in trials] == [2] * (32 if len(record["space"]) <= 3 else 64), path
        finalists = [trial for trial in trials if further_runs in trial]
        assert [len(trial[further_runs]) for trial in finalists] == [6] * 3, path  # 3 seeds on 2 tasks
        best = min(finalists, key=mean)
        assert record["hyperparameters"] == best["hyperparameters"], path
        # The finalists are the best three by the first two runs.
        first = sorted(math.inf if None in t[first_runs] else sum(t[first_runs]) for t in trials)
        assert max(sum(trial[first_runs]) for trial in finalists) <= first[2], path
        assert record["first_seed"] >= 1000, path
        assert record["interior"] or len(record["earlier_rounds"]) == tuning.MAX_ROUNDS - 1, path


HORIZON = 3


def sgd(space):
    """Gradient descent on the bowl scales parameters by (1 - rate)^T: the best rate is 1, above 2 it diverges."""
    return Baseline(
        make=lambda h, horizon: optax.sgd(h["learning_rate"]),
        space={"learning_rate": space},
        default={"learning_rate": space.low},
        reference="none",
    )


def load_bowl(name):
    return tasks.Task(BOWL, {}, ())


def tune_bowl(space, family="digits8_mlp", **kwargs):
    return tune("sgd", sgd(space), family, HORIZON, load_bowl, **kwargs)


@pytest.fixture(autouse=True, scope="module")
def one_program():
    """All runs here train the same bowl for the same steps: one compilation for the module, as for a user's one run."""
    shared = {}
    compiling = TrialRunner.__init__

    def sharing(self, baseline, horizon, width=None):
        compiling(self, baseline, horizon, width)
        self._run = shared.setdefault((horizon, self.width), self._run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrialRunner, "__init__", sharing)
        yield


def test_the_points_are_those_of_halton_in_bases_two_three_five_and_seven():
    points = halton(dict.fromkeys("abcd", LogUniform(1.0, math.e)), 5)
    np.testing.assert_allclose([math.log(p["a"]) for p in points], [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8])
    np.testing.assert_allclose([math.log(p["b"]) for p in points], [1 / 3, 2 / 3, 1 / 9, 4 / 9, 7 / 9])
    np.testing.assert_allclose([math.log(p["c"]) for p in points], [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1 / 25])
    np.testing.assert_allclose([math.log(p["d"]) for p in points], [1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7])


def test_every_optimizer_gets_the_number_of_points_of_its_dimensions_inside_its_space():
    for row in BASELINES.values():
        points = halton(row.space)
        assert len(points) == (32 if len(row.space) <= 3 else 64)
        for name, rng in row.space.items():
            assert all(rng.low < point[name] < rng.high for point in points)


SPACE = {"rate": LogUniform(0.1, 10.0), "decay": LogUniform(0.01, 1.0, low_bound=0.001, high_bound=1.0)}
TRIALS = [{"rate": 0.2, "decay": 0.02}, {"rate": 1.0, "decay": 0.5}, {"rate": 8.0, "decay": 0.9}]


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        ({"rate": 1.0, "decay": 0.5}, {}),
        ({"rate": 0.2, "decay": 0.5}, {"rate": "low"}),
        ({"rate": 8.0, "decay": 0.02}, {"rate": "high", "decay": "low"}),
        ({"rate": 1.0, "decay": 0.9}, {}),  # the space ends at the natural bound
    ],
)
def test_an_optimum_with_nothing_beyond_it_is_on_an_edge(best, expected):
    assert edges(SPACE, TRIALS, best) == expected


def test_the_low_end_at_its_bound_is_no_edge():
    space = {"decay": LogUniform(0.001, 1.0, low_bound=0.001, high_bound=1.0)}
    assert edges(space, [{"decay": 0.002}, {"decay": 0.1}], {"decay": 0.002}) == {}


@pytest.mark.parametrize("family", tasks.FAMILIES)
def test_tuning_never_sees_an_evaluation_task(family):
    names = tuning_tasks(family)
    assert len(names) == 2
    for name in names:
        assert name == family or name.startswith(f"{family}/outer_validation/")
        assert (name == family) is (not tasks.FAMILIES[family].pools)


@pytest.mark.parametrize(
    ("family", "first", "reruns"),
    [
        ("imagenet8_cnn3", [("/outer_validation/0", 1000), ("/outer_validation/1", 1001)], None),
        ("digits8_mlp", [("", 1000), ("", 1001)], [1002, 1003, 1004, 1005, 1006, 1007]),
    ],
)
def test_reruns_use_fresh_seeds_none_of_them_a_reporting_seed(family, first, reruns, monkeypatch):
    calls = []

    def fake_run(self, task, key, points):
        calls.extend(key for _ in points)
        return [1.0] * len(points)

    monkeypatch.setattr(TrialRunner, "__call__", fake_run)
    monkeypatch.setattr(tuning, "run_key", lambda name, seed: (name, seed))
    monkeypatch.setattr(tuning, "MAX_ROUNDS", 1)
    ticks = []
    tune_bowl(LogUniform(0.1, 1.0), family, progress=lambda *place: ticks.append((*place, len(calls))))
    names, runs = tuning_tasks(family), calls
    calls = list(Counter(runs).items())  # a key has no more runs once another has begun
    assert [key for key, _ in groupby(runs)] == [key for key, _ in calls]
    assert calls[:2] == [((family + suffix, seed), 32) for suffix, seed in first]
    if reruns:
        assert calls[2:] == [((family, seed), 3) for seed in reruns]
    else:
        assert calls[2:] == [((name, seed), 3) for name in names for seed in (1002, 1003, 1004)]
    assert len({key for key, _ in calls}) == len(calls)
    assert all(key[1] >= 1000 for key, _ in calls)
    # Progress comes with every run, and ends where it said it would.
    assert ticks == [(done, 82, done) for done in range(1, 83)]  # 32 on two tasks, and three rerun six times


@pytest.fixture(scope="module")
def interior():
    return tune_bowl(LogUniform(1e-2, 1e2))


def test_tuning_finds_the_best_rate(interior):
    rates = [trial["hyperparameters"]["learning_rate"] for trial in interior["trials"]]
    assert interior["hyperparameters"]["learning_rate"] == min(rates, key=lambda rate: abs(1 - rate))
    assert interior["interior"]
    assert interior["on_edge"] == {}
    assert interior["earlier_rounds"] == []


def test_losses_are_those_of_the_bowl(interior):
    for trial in interior["trials"]:
        rate = trial["hyperparameters"]["learning_rate"]
        for seed, loss in zip((1000, 1001), trial["validation_losses"], strict=True):
            start = np.asarray(tasks.inner_loop.init_params(load_bowl(""), run_key("digits8_mlp", seed)), np.float64)
            # The rate is a float32: 6e-8 of it is 1e-6 of 1 - rate where that is 0.1, six times over; at rate 1, zero.
            np.testing.assert_allclose(loss, 0.5 * np.sum(start**2) * (1 - rate) ** 6, rtol=1e-5, atol=1e-30)


def test_a_row_tuned_by_train_loss_is_judged_by_it_and_its_record_says_so():
    row = dataclasses.replace(sgd(LogUniform(1e-2, 1e2)), tuned_by="train")
    task, key = linear_task(), run_key("digits8_mlp", 1000)
    (found,) = TrialRunner(row, 7)(task, key, [{"learning_rate": 0.1}])
    optimizer = row.make({"learning_rate": 0.1}, 7)
    state, _ = tasks.inner_loop.unroll(task, optimizer, tasks.inner_loop.init(task, optimizer, key), key, 7)
    train, validation = (tasks.inner_loop.eval_loss(task, state.params, s, whole=True) for s in ("train", "validation"))
    assert found == pytest.approx(float(train), rel=1e-5)
    assert abs(found - float(validation)) > 1e-3
    record = tune("sgd", row, "digits8_mlp", HORIZON, load_bowl)
    best = record["trials"][record["best_trial"]]
    assert record["train_loss"] == pytest.approx(np.mean(best["train_losses"] + best["rerun_train_losses"]))
    assert "validation_loss" not in record
    assert tuned_by(record) == "train"


def test_the_three_best_trials_are_rerun_six_times(interior):
    def mean(trial):
        return np.mean(trial["validation_losses"])

    rerun = [trial for trial in interior["trials"] if "rerun_validation_losses" in trial]
    assert rerun == [t for t in interior["trials"] if mean(t) in sorted(map(mean, interior["trials"]))[:3]]
    assert [len(trial["rerun_validation_losses"]) for trial in rerun] == [6, 6, 6]


def test_the_record_is_complete_and_survives_json(interior, tmp_path):
    path = tmp_path / "sgd.json"
    path.write_text(dump(interior))
    record = read_tuned(path)
    assert record["optimizer"] == "sgd"
    assert (record["family"], record["horizon"], record["first_seed"]) == ("digits8_mlp", HORIZON, 1000)
    assert record["tasks"] == ["digits8_mlp", "digits8_mlp"]
    assert record["space"] == {"learning_rate": [0.01, 100.0]}
    assert len(record["trials"]) == 32
    assert record["hyperparameters"]["learning_rate"] == pytest.approx(
        interior["hyperparameters"]["learning_rate"], rel=1e-6
    )


def test_an_optimum_on_the_edge_widens_the_space_until_it_is_inside():
    record = tune_bowl(LogUniform(1e-3, 1e-1))
    # The high end goes 0.1, 0.4, 1.6: only the last holds the optimum at 1 with trials beyond it.
    assert [round_["space"]["learning_rate"] for round_ in record["earlier_rounds"]] == [[1e-3, 0.1], [1e-3, 0.4]]
    assert [round_["on_edge"] for round_ in record["earlier_rounds"]] == [{"learning_rate": "high"}] * 2
    assert record["space"]["learning_rate"] == pytest.approx([1e-3, 1.6])
    assert record["interior"]
    assert abs(record["hyperparameters"]["learning_rate"] - 1) < 0.15  # neighbours are a factor of 1.26 apart
    assert all(len(round_["trials"]) == 32 for round_ in record["earlier_rounds"])


def test_a_search_that_never_leaves_the_edge_says_so():
    record = tune_bowl(LogUniform(1e-6, 1e-5))
    assert not record["interior"]
    assert record["on_edge"] == {"learning_rate": "high"}
    assert len(record["earlier_rounds"]) == tuning.MAX_ROUNDS - 1


def test_diverged_trials_are_kept_as_infinite_and_written_as_null():
    record = tune_bowl(LogUniform(1e-2, 1e14))
    diverged = [t for t in record["trials"] if math.inf in t["validation_losses"]]
    assert diverged
    assert len(record["trials"]) == 32
    assert math.isfinite(record["validation_loss"])
    written = json.loads(dump(record))
    assert [t["validation_losses"] for t in written["trials"]].count([None, None]) == len(diverged)


def test_not_a_number_counts_as_infinite():
    runner = TrialRunner(sgd(LogUniform(0.1, 1.0)), HORIZON)
    losses = runner(load_bowl(""), jax.random.key(0), [{"learning_rate": math.nan}, {"learning_rate": 1.0}])
    assert losses == [math.inf, 0.0]


@pytest.mark.parametrize("num_points", [3, 4, 5])
def test_trials_side_by_side_equal_trials_one_by_one(num_points):
    baseline = sgd(LogUniform(1e-2, 1e2))
    points = halton(baseline.space, num_points)
    one = TrialRunner(baseline, HORIZON, width=1)(load_bowl(""), jax.random.key(0), points)
    many = TrialRunner(baseline, HORIZON, width=4)(load_bowl(""), jax.random.key(0), points)
    np.testing.assert_allclose(many, one, rtol=1e-5)


class Stopped(Exception):
    pass


def test_a_search_that_was_stopped_goes_on_to_the_same_record(tmp_path):
    """Stopped in its second round, after a rerun: what is known is not run again, and the record is the same."""
    space, identity, path = LogUniform(1e-4, 1e-1), {"space": [1e-4, 1e-1]}, tmp_path / "sgd.runs"
    whole, runs = tune_bowl(space), []

    def keep(losses):
        runs.append(len(losses))
        path.write_text(tuning.dump_known(identity, losses))
        if len(losses) == 90:
            raise Stopped

    with pytest.raises(Stopped):
        tune_bowl(space, on_run=keep)
    known = tuning.read_known(path, identity)
    assert len(known) == 90
    begun = len(runs)
    done = []
    again = tune_bowl(space, known=known, on_run=keep, progress=lambda *place: done.append(place))
    assert len(whole["earlier_rounds"]) >= 1
    assert runs[begun:] == list(range(91, 91 + len(runs) - begun))
    assert done.count((82, 82)) == len(whole["earlier_rounds"]) + 1
    assert {**again, "made_at": ""} == {**whole, "made_at": ""}


def test_what_an_earlier_search_left_is_used_for_the_same_search_alone(tmp_path):
    path = tmp_path / "sgd.runs"
    assert tuning.read_known(path, {"horizon": 3}) == {}
    path.write_text(tuning.dump_known({"horizon": 3}, {"a": 1 / 3, "b": math.inf}))
    assert tuning.read_known(path, {"horizon": 3}) == {"a": 1 / 3, "b": math.inf}
    assert tuning.read_known(path, {"horizon": 4}) == {}
    for text in ("", "{", "[]", '{"identity": {"horizon": 3}}', '{"identity": {"horizon": 3}, "losses": {"a": "x"}}'):
        path.write_text(text)
        assert tuning.read_known(path, {"horizon": 3}) == {}


@pytest.mark.parametrize(
    ("space", "words"),
    [((1e25, 1e30), "all 32 trials diverged"), ((0.1, 1.0), "none of the best 3 of 32 trials finishes with all seeds")],
)
def test_a_search_in_which_nothing_finishes_says_so(space, words, monkeypatch):
    """Every rate from 1e25 up diverges on all seeds; any other on the seeds of the reruns."""
    monkeypatch.setattr(tuning, "run_key", lambda task, seed: seed)

    def run(self, task, key, points):
        return [math.inf if point["learning_rate"] > 1e20 or key > 1001 else 1.0 for point in points]

    monkeypatch.setattr(TrialRunner, "__call__", run)
    row = Baseline(lambda h, horizon: optax.sgd(h["learning_rate"]), {"learning_rate": LogUniform(*space)}, {}, "")
    with pytest.raises(tuning.NothingFinishes, match=words):
        tune("sgd", row, "digits8_mlp", HORIZON, load_bowl)


def test_dump_keeps_seven_digits_and_no_infinities():
    text = dump({"a": 1 / 3, "b": [math.inf, math.nan, -1.5], "c": {"d": (1, True, "x")}})
    assert json.loads(text) == {"a": 0.3333333, "b": [None, None, -1.5], "c": {"d": [1, True, "x"]}}
