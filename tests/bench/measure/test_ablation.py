"""The ablation of estimators and curricula: its runs, its table and its verdicts."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.measure import ablation
from bench.statistics import t_interval
from learned.outer import inner_steps_of
from tests.helpers import linear_family


def test_every_run_takes_the_same_inner_steps_within_one_outer_step():
    for estimator, unrolls in itertools.product(ablation.ESTIMATORS, ablation.UNROLLS):
        config = ablation.config_of("orthogonal", estimator, unrolls, 0)
        costs = [inner_steps_of(config, config.lengths_at(step)[0]) for step in range(config.outer_steps)]
        assert sum(costs) <= ablation.BUDGET < sum(costs) + 2 * costs[-1], (estimator, unrolls)
        assert max(config.lengths_at(step)[1] for step in range(config.outer_steps)) < ablation.HORIZON


def test_parts_differ_by_design_estimator_unrolls_and_seed():
    parts = ablation.parts()
    assert len(parts) == 2 * (5 * ablation.SEEDS + 13 * ablation.OTHER_SEEDS), "five pairs are judged"
    assert len({str(facts) for facts in parts.values()}) == len(parts)


def test_runs_of_a_design_and_seed_begin_alike_and_share_their_draws():
    configs = [
        ablation.config_of("orthogonal", *pair, 1) for pair in itertools.product(ablation.ESTIMATORS, ablation.UNROLLS)
    ]
    assert {config.drawn_as for config in configs} == {"ablation/orthogonal"}
    assert {(config.seed, config.learning_rate) for config in configs} == {(1, ablation.RATES["orthogonal"])}
    whole = [config for config in configs if not config.truncated]
    assert len({config.outer_steps for config in whole}) == len(ablation.UNROLLS), "merging costs no further unrolls"


def rows(losses):
    """A table of `merged` and its rivals for one design: (estimator, unrolls) -> losses over seeds."""
    found = [
        {"design": "orthogonal", "estimator": e, "unrolls": u, "seed": seed, "final_validation_loss": loss}
        for (e, u), values in losses.items()
        for seed, loss in enumerate(values)
    ]
    return pd.DataFrame(found)


def verdicts(**changed):
    noise = np.exp(0.01 * np.arange(ablation.SEEDS))
    losses = {
        ("merged", "growing"): 1.0 * noise,
        ("reparam", "growing"): 1.2 * noise[::-1],
        ("es", "growing"): 1.5 * noise,
        ("merged", "short"): 1.1 * noise[::-1],
        ("merged", "long"): 0.8 * noise[::-1],
    }
    names = {f"{estimator}_{unrolls}": (estimator, unrolls) for estimator, unrolls in losses}
    return {v.claim: v for v in ablation.verdicts(rows(losses | {names[name]: v for name, v in changed.items()}))}


@pytest.mark.rule(16)
def test_verdicts_follow_from_the_differences_over_seeds():
    found = verdicts()
    assert (found["estimator"].status, found["unrolls"].status) == ("shown", "contradicted")
    assert found["estimator"].differences["es"].estimate == pytest.approx(-math.log(1.5), rel=1e-5)
    assert list(found["unrolls"].differences) == ["short", "long"]


def test_a_difference_that_may_be_zero_shows_nothing():
    found = verdicts(es_growing=np.exp(0.1 * np.array([-2, -1, 0, 1, 2])))
    assert found["estimator"].status == "not shown"


def test_a_net_that_diverges_leaves_no_difference_to_judge():
    alike = {"design": "orthogonal", "estimator": "merged", "unrolls": "growing", "untrained": 2.0}
    known = {"diverged": 0, "untrained_diverged": 0}
    runs = [alike | known | {"seed": s, "final_validation_loss": 1.0 + s / 10} for s in range(ablation.SEEDS)]
    gain = ablation.gains(pd.DataFrame(runs))["orthogonal"]
    expected = np.mean(np.log(1 + np.arange(ablation.SEEDS) / 10)) - math.log(2.0)
    assert gain.difference.estimate == pytest.approx(expected)
    assert (gain.untrained_diverged, gain.diverged) == (0, 0)
    runs[3] |= {"untrained_diverged": 2}
    gain = ablation.gains(pd.DataFrame(runs))["orthogonal"]
    assert (gain.untrained_diverged, gain.diverged, gain.difference.n) == (2, 0, 4)
    assert gain.difference.low is None, "four seeds have no interval"
    assert ablation.gains(pd.DataFrame([run | {"diverged": 1} for run in runs]))["orthogonal"].difference is None
    assert ablation.gains(pd.DataFrame(runs[1:])) == {}


def test_runs_that_end_above_their_beginning_are_counted_by_design():
    table = pd.DataFrame({"design": ["orthogonal"] * 3, "final_validation_loss": [1.0, 2.0, 3.0], "untrained": 2.0})
    assert ablation.raised(table.assign(untrained_diverged=[0, 0, 1])) == {"orthogonal": (1, 3)}
    assert ablation.raised(table.assign(untrained_diverged=[0, ablation.NUM_TASKS, 0])) == {"orthogonal": (1, 2)}


@pytest.mark.rule(16)
def test_claims_that_are_shown_have_a_p_adjusted_for_all_that_are_judged():
    noise = 0.1 * np.arange(5)
    steady, loose, none = (t_interval(np.array(x)) for x in (-1 - noise, -2 - 10 * noise, noise))
    claims = [("shown", [steady, loose]), ("shown", [steady, steady]), ("not shown", [steady, none])]
    found = [ablation.Verdict("c", "d", dict(enumerate(over)), status) for status, over in claims]
    p_loose, p_steady = (stats.ttest_1samp(x, 0.0).pvalue for x in (-2 - 10 * noise, -1 - noise))
    assert ablation.adjusted(found) == pytest.approx([2 * p_loose, 3 * p_steady])
    assert ablation.adjusted(found[:1]) == pytest.approx([p_loose])
    assert ablation.adjusted(found[2:]) == []


def test_pairs_without_all_their_outer_seeds_are_named():
    every = pd.DataFrame(
        [part.split("/") for part in ablation.parts()], columns=["design", "estimator", "unrolls", "seed"]
    ).astype({"seed": int})
    assert ablation.missing(every) == {}
    gone = (every["design"] == "orthogonal") & (every["estimator"] == "es") & (every["unrolls"] == "short")
    assert ablation.missing(every[~gone]) == {"orthogonal": ["es, short unrolls"]}
    assert ablation.missing(every[~gone | (every["seed"] > 0)]) == {"orthogonal": ["es, short unrolls"]}


def test_without_all_seeds_there_is_no_verdict():
    assert "unrolls" not in verdicts(merged_long=[1.0] * (ablation.SEEDS - 1))


@pytest.mark.slow
def test_a_part_is_outer_trained_and_evaluated(monkeypatch):
    monkeypatch.setattr("tasks.load_family", lambda name: linear_family())
    for name, value in {
        "BUDGET": 640,
        "HORIZON": 30,
        "NUM_TASKS": 2,
        "NUM_VALIDATIONS": 2,
        "POOL": "outer_validation",
    }.items():
        monkeypatch.setattr(ablation, name, value)
    monkeypatch.setattr(ablation, "UNROLLS", {"growing": ablation.Unrolls(10, 20)})
    curve = ablation.measure("orthogonal/merged/growing/0", (), 1).assign(cell="c")
    cells = pd.DataFrame({"cell": ["c"], "task": ["ablation/orthogonal/merged/growing/0"], "status": ["ok"]})
    (row,) = ablation.table(cells, curve).to_dict("records")
    config = ablation.config_of("orthogonal", "merged", "growing", 0)
    assert row["outer_steps"] == config.outer_steps == 5
    assert row["inner_steps"] <= 640
    assert row["skipped"] == 0
    assert 0 < row["final_validation_loss"] < 10
    assert row["final_validation_loss"] != row["untrained"]
    assert set(curve["metric"]) == {*ablation.FOLLOWED, "inner_steps", "seconds",
        "final_validation_loss", "final_validation_loss_untrained"}  # fmt: skip
