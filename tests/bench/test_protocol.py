"""The rules of bench/PROTOCOL.md, a test each, named after it; scores are worked by hand."""

import json
import math

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from baselines import BASELINES
from bench import controls, engine, scoring, suite, targets, tune
from bench.entrants import Entrant
from bench.rows import CELL_COLUMNS, read_rows
from bench.statistics import best_of_k, holm, km_median, paired_difference, restricted_mean, wilson_interval
from tests.helpers import linear_task

GRID = np.arange(0, 101)


def falling(rate):
    """A loss that falls by `rate` a step from 3."""
    return 3.0 - rate * GRID


def rows_of(runs, blocks=None, roles=None):
    """Rows of task "t", horizon 100.

    Args:
      runs: optimizer -> train-loss curve (101,) of each seed.
      blocks: optimizer -> seconds per step of each block.
      roles: optimizer -> role; hand-designed without one.
    """
    cells, curves = [], []
    for name, by_seed in runs.items():
        for seed, losses in enumerate(by_seed):
            ok = bool(np.isfinite(losses).all())
            cell = dict.fromkeys(CELL_COLUMNS) | {
                "cell": f"{name}{seed}",
                "kind": "train",
                "task": "t",
                "family": "t",
                "optimizer": name,
                "role": (roles or {}).get(name, "hand-designed"),
                "seed": seed,
                "horizon": 100,
                "batch_size": 1,
                "status": "ok" if ok else "diverged",
                "started_at": "x",
                "config": "{}",
                "provenance": "{}",
                **{f"final_{split}_loss": losses[-1] for split in ("train", "validation", "test")},
            }
            cells.append(cell)
            for metric in ("train_loss", "validation_loss"):
                curves += [(cell["cell"], step, metric, value) for step, value in zip(GRID, losses, strict=True)]
    if blocks:
        timed = {"cell": "clock", "kind": "time", "task": "t", "status": "ok", "started_at": "x", "provenance": "{}"}
        config = json.dumps({"controls": [name for name, role in (roles or {}).items() if role == "control"]})
        cells.append(dict.fromkeys(CELL_COLUMNS) | timed | {"config": config, "horizon": 100})
        curves += [
            ("clock", block, f"seconds_per_step/{name}", value)
            for name, values in blocks.items()
            for block, value in enumerate(values)
        ]
    return read_rows(pd.DataFrame(cells), pd.DataFrame(curves, columns=["cell", "step", "metric", "value"]))


def frozen(levels, references=None):
    """Targets of task "t": optimizer -> (hard, medium, easy)."""
    by_target = {name: dict(zip(("hard", "medium", "easy"), values, strict=True)) for name, values in levels.items()}
    best = next(iter(levels))
    return {
        "t": targets.Targets(
            task="t",
            horizon=100,
            levels={name: {"train_loss": row, "validation_loss": row} for name, row in by_target.items()},
            references=references or dict.fromkeys(targets.GROUPS, best),
            made_at="",
            digest="",
            identities={},
        )
    }


def test_rule_01_every_row_has_the_same_budget_and_constant_and_scheduled_rates_are_rows_of_their_own():
    assert (tune.NUM_TRIALS, tune.NUM_TUNING_TASKS, tune.NUM_FINALISTS, tune.NUM_FURTHER_SEEDS) == (32, 2, 3, 3)
    for name in ("sgd_momentum", "rmsprop", "adam", "muon"):
        assert not BASELINES[name].scheduled
        assert BASELINES[f"{name}_cosine"].scheduled
        assert BASELINES[f"{name}_cosine"].space == BASELINES[name].space


def test_rule_02_the_best_of_k_trials_is_exact():
    # Of the trials 1, 2, 3 two are drawn: {1,2}, {1,3}, {2,3}, whose best are 1, 1, 2: the median is 1.
    assert best_of_k([3.0, 1.0, 2.0], 2).estimate == 1.0
    assert best_of_k([3.0, 1.0, 2.0], 3).estimate == 1.0
    assert best_of_k([3.0, 1.0, 2.0], 1).estimate == 2.0
    assert math.isinf(best_of_k([math.inf, math.inf, 1.0], 1).estimate)


def test_rule_03_claims_are_judged_on_the_headline_optimizer():
    roles = {"lopt_a": "learned", "lopt_b": "learned"}
    rows = rows_of({name: [falling(0.01)] for name in ("adam", "lopt_a", "lopt_b")}, roles=roles)
    assert scoring.score(rows, {}, "lopt_b").contender == "lopt_b"
    assert scoring.score(rows, {}, None).contender == "lopt_a"


def test_rule_04_the_headline_is_the_final_step_and_early_stopping_stands_beside_it():
    values = {(step, "train_loss"): loss for step, loss in ((0, 2.0), (1, 1.0), (2, 3.0))}
    values |= {(0, "validation_loss"): 2.0, (1, "validation_loss"): 0.5, (2, "validation_loss"): 3.0}
    rows = engine.whole_grid(values, [0, 1, 2])
    rows += [(1, "test_loss_at_best_validation", 1.25), (2, "final_test_loss", 3.5), (2, "final_validation_loss", 3.25)]
    found = engine.summarize(rows)
    assert (found["best_validation_step"], found["test_loss_at_best_validation"]) == (1, 1.25)
    assert (found["final_test_loss"], found["final_validation_loss"], found["final_train_loss"]) == (3.5, 3.25, 3.0)


def test_rule_05_tuning_seeds_and_reporting_seeds_are_disjoint_and_differences_are_within_a_seed():
    with pytest.raises(Exception, match="below 1000"):
        suite.parse_seeds("1000")
    assert tune.FIRST_TUNING_SEED == 1000
    # The seeds differ by 10, the optimizers by 1 within each: the interval knows only the 1.
    a, b = np.array([11.0, 21.0, 31.0, 41.0, 51.0]), np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    found = paired_difference(a, b)
    assert (found.estimate, found.low, found.high) == (1.0, 1.0, 1.0)


def test_rule_06_and_14_a_step_performed_twice_is_the_same_training():
    """What it costs is measured by the control on every suite; that nothing else changes is proved here."""
    variables = {"learning_rate": jnp.float32(0.1)}
    identity = {"learning_rate": 0.1}
    base = Entrant("adam", "hand-designed", lambda v, horizon: optax.sgd(v["learning_rate"]), variables, identity)
    task, key = linear_task(), engine.run_key("t", 0)
    states = []
    for entrant in (base, controls.timed_controls(base)[1]):
        program = engine.compile_program(entrant, task, 4, [4])
        states.append(program.chunks[4](task, entrant.variables, program.init(task, entrant, key), key)[0])
    assert controls.timed_controls(base)[1].repeats == 2
    np.testing.assert_allclose(states[0].params["w"], states[1].params["w"], rtol=1e-6)
    assert states[1].inner_step == 4


def test_rule_07_ratios_are_taken_within_a_block():
    # A slow second block doubles both: the ratio is 2 in each.
    rows = rows_of({"adam": [falling(0.01)]}, {"adam": [1.0, 2.0, 1.0], "muon": [2.0, 4.0, 2.0]})
    np.testing.assert_array_equal(scoring.block_ratio(rows, "t", "muon", "adam"), [2.0, 2.0, 2.0])


def test_rule_08_no_ranking_is_claimed_below_the_floor():
    found = scoring.Speedup(estimate=1.04, low=1.01, high=1.07, bound=False, num_seeds=10, steps=1.04)
    assert scoring.verdict_word(found, 0.02) == "faster"
    assert scoring.verdict_word(found, 0.05) == "no difference shown"


CONTENDER, REFERENCE = "lopt", "adam"
# The reference falls by .01 a step: 2.0, 2.5, 2.75 at 100, 50, 25 steps. The contender falls twice as fast.
LEVELS = {REFERENCE: (2.0, 2.5, 2.75)}


def raced(contender, seconds=1.0, num_seeds=5):
    return rows_of(
        {CONTENDER: [contender] * num_seeds, REFERENCE: [falling(0.01)] * num_seeds},
        {CONTENDER: [seconds] * 6, REFERENCE: [1.0] * 6},
        {CONTENDER: "learned"},
    )


def test_rule_09_time_to_target_is_steps_times_seconds_per_step():
    # Half the steps at 1.25 times the cost: 2 / 1.25 = 1.6 in seconds, 2 in steps.
    found = scoring.speedup(raced(falling(0.02), 1.25), frozen(LEVELS), ["t"], CONTENDER, {"t": REFERENCE}, "hard")
    assert (found.estimate, found.steps) == (pytest.approx(1.6), pytest.approx(2.0))
    assert (found.low, found.high) == (pytest.approx(1.6), pytest.approx(1.6))


def test_rule_09_a_race_is_predicted_from_its_parts():
    table = pd.DataFrame(
        {
            "train_loss/lopt": falling(0.02),
            "train_loss/adam": falling(0.01),
            "wall_time_sec/lopt": 0.5 * GRID,
            "wall_time_sec/adam": 0.4 * GRID,
        },
        index=GRID,
    )
    per_step = {CONTENDER: 0.5, REFERENCE: 0.4}
    found = scoring.race_result("t", table, per_step, CONTENDER, REFERENCE, {"hard": 2.0, "never": -5.0})
    # 50 steps of 0.5 s against 100 of 0.4 s: 40 / 25
    assert [(race.target, race.raced, race.predicted) for race in found] == [
        ("hard", pytest.approx(1.6), pytest.approx(1.6))
    ]


@pytest.mark.parametrize(("target", "steps"), [("hard", 50.0), ("medium", 25.0), ("easy", 12.5)])
def test_rule_10_speed_up_is_the_references_share_of_the_horizon_over_the_median_time(target, steps):
    found = scoring.speedup(raced(falling(0.02)), frozen(LEVELS), ["t"], CONTENDER, {"t": REFERENCE}, target)
    assert found.estimate == pytest.approx(targets.SHARES[target] * 100 / steps) == pytest.approx(2.0)
    assert not found.bound


def test_rule_10_a_median_never_reached_is_a_bound():
    rows = raced(np.full(101, 2.9), 2.0)
    found = scoring.speedup(rows, frozen(LEVELS), ["t"], CONTENDER, {"t": REFERENCE}, "medium")
    # The whole horizon at twice the cost is not enough for what the reference does in half of it: below 0.25.
    assert (found.bound, found.estimate, found.low) == (True, pytest.approx(0.25), 0.0)
    assert scoring.format_speedup(found) == "<0.25"
    assert scoring.verdict_word(found, 0.02) == "slower"


def test_rule_11_a_miss_is_censored_at_the_horizon_and_a_divergence_before_it_too():
    broken = np.where(GRID > 20, np.nan, falling(0.02))
    rows = rows_of({REFERENCE: [falling(0.01), broken, np.full(101, 3.0)]}, {REFERENCE: [2.0] * 6})
    times, events, budget = scoring.survival(rows, frozen(LEVELS), "t", REFERENCE, REFERENCE, "medium")
    assert (times.tolist(), events.tolist(), budget) == ([100.0, 200.0, 200.0], [True, False, False], 200.0)
    found = scoring.success_rate(rows, frozen(LEVELS), ["t"], REFERENCE, {"t": REFERENCE}, "medium")
    assert found == wilson_interval(1, 3)
    # One arrival at 100, two misses at 200: 100 + 2/3 of the other 100.
    assert restricted_mean(times, events, budget).estimate == pytest.approx(100 + 200 / 3)
    assert math.isinf(km_median(times, events).estimate)


@pytest.mark.parametrize("arrivals", [5, 6, 7, 10])
def test_rule_11_the_order_statistic_is_the_kaplan_meier_median(arrivals):
    steps = np.array([*np.arange(1.0, arrivals + 1), *[math.inf] * (10 - arrivals)])
    events = np.isfinite(steps)
    assert scoring.median_steps(steps) == km_median(np.where(events, steps, 100.0), events).estimate == 5.0


def test_rule_12_holm_multiplies_the_smallest_by_the_number_of_comparisons():
    # .01 x 3, .02 x 2, .04 x 1, each at least as large as the one before
    assert holm({"a": 0.01, "b": 0.04, "c": 0.02, "d": None}) == pytest.approx(
        {"a": 0.03, "b": 0.04, "c": 0.04, "d": None}
    )


def test_rule_12_below_five_seeds_there_are_points_without_intervals():
    rows = raced(falling(0.02), num_seeds=4)
    found = scoring.speedup(rows, frozen(LEVELS), ["t"], CONTENDER, {"t": REFERENCE}, "hard")
    assert (found.low, found.high) == (None, None)
    assert scoring.verdict_word(found, 0.0) == "no claim"
    assert scoring.loss(rows, ["t"], CONTENDER, "final_train_loss")[0].low is None


def test_rule_13_the_ratio_of_step_costs_stands_in_the_row_of_the_speed_up():
    row = next(r for r in scoring.score(raced(falling(0.02), 1.25), frozen(LEVELS)).rows if r.optimizer == REFERENCE)
    assert row.step_cost.estimate == 1.25
    assert row.speedups["hard"].estimate == pytest.approx(1.6)


def controlled(tenfold):
    runs = {REFERENCE: [falling(0.01)] * 5, "adam_frozen": [falling(0)] * 5, "adam_10x": [tenfold] * 5}
    blocks = {REFERENCE: [1.0] * 6, "adam_again": [1.01] * 6, "adam_twice": [2.0] * 6}
    return rows_of(runs, blocks, dict.fromkeys(("adam_frozen", "adam_10x", "adam_again", "adam_twice"), "control"))


def test_rule_14_controls_are_read_from_their_rows():
    rows = controlled(falling(0.005))
    found = scoring.read_controls(rows, frozen(LEVELS))
    assert rows.contenders == (REFERENCE,)
    assert (found.aa.estimate, found.double_step.estimate) == (pytest.approx(1.01), 2.0)
    assert found.floor == pytest.approx(0.01)
    assert found.frozen_rank == (2, 2)
    assert found.frozen_success.estimate == 0.0
    assert found.tenfold.estimate == pytest.approx(0.5)
    assert found.tenfold.excludes(0.0)


def test_rule_14_a_diverged_tenfold_rate_is_worse_and_in_no_mean():
    found = scoring.read_controls(controlled(np.where(GRID > 3, np.nan, 3.0)), frozen(LEVELS))
    assert (found.tenfold, found.tenfold_failed) == (None, 5)


def test_rule_15_slower_is_said_as_plainly_as_faster():
    verdicts = [scoring.score(raced(falling(rate)), frozen(LEVELS)) for rate in (0.02, 0.0125 / 2)]
    assert [found.word for found in verdicts] == ["faster", "slower"]
    assert verdicts[0].verdict.startswith("Faster.")
    assert verdicts[1].verdict.startswith("Slower.")
    screen = scoring.first_screen(raced(falling(0.02)), frozen(LEVELS), "s", "l", "cpu", None)
    json.dumps(screen, allow_nan=False)
    assert screen["verdict"]["against"][0]["speedup"]["hard"]["estimate"] == pytest.approx(2.0)
