"""What is claimed: the word of a verdict, and the groups that it is judged against."""

import json
import math

import pytest

from bench.score.first_screen import as_json, first_screen
from bench.score.speedup import Speedup
from bench.score.times_to_target import reference_text, references
from bench.score.verdict import score, verdict_word
from bench.statistics import wilson_interval
from tests.bench.pairs import CONTENDER, LEVELS, REFERENCE, ROLES, TIMED, pair, raced, rows_on, rows_on_t, targets_on_t
from tests.bench.synthetic import falling, frozen, rows_of


@pytest.mark.rule(3)
def test_claims_are_judged_on_the_headline_optimizer():
    roles = {"lopt_a": "learned", "lopt_b": "learned"}
    rows = rows_on_t({name: [falling(0.01)] for name in ("adam", "lopt_a", "lopt_b")}, roles=roles)
    assert score(rows, {}, "lopt_b").optimizer == "lopt_b"
    assert score(rows, {}, None).optimizer == "lopt_a"
    assert {row.optimizer for row in score(rows, {}, "lopt_b").rows} >= {"lopt_a"}  # shown beside it


@pytest.mark.rule(8)
def test_no_ranking_is_claimed_below_the_floor():
    found = Speedup(estimate=1.04, low=1.01, high=1.07, bound=False, num_seeds=10, steps=1.04)
    assert verdict_word(found, 0.02) == "faster"
    assert verdict_word(found, 0.05) == "no difference shown"


@pytest.mark.rule(13)
def test_the_ratio_of_step_costs_stands_in_the_row_of_the_speed_up():
    row = next(r for r in score(raced(falling(0.02), 1.25), targets_on_t(LEVELS)).rows if r.optimizer == REFERENCE)
    assert row.step_cost.estimate == 1.25
    assert row.speedups["hard"].estimate == pytest.approx(1.6)


@pytest.mark.rule(15)
def test_slower_is_said_as_plainly_as_faster():
    verdicts = [score(raced(falling(rate)), targets_on_t(LEVELS)) for rate in (0.02, 0.0125 / 2)]
    assert [found.word for found in verdicts] == ["faster", "slower"]
    assert verdicts[0].verdict.startswith("Faster.")
    assert verdicts[1].verdict.startswith("Slower.")
    screen = as_json(first_screen(raced(falling(0.02)), targets_on_t(LEVELS), "s", "l", "cpu", None))
    json.dumps(screen, allow_nan=False)
    assert screen["verdict"]["against"][0]["speedup"]["hard"]["estimate"] == pytest.approx(2.0)


class TestVerdict:
    @pytest.mark.parametrize(
        ("estimate", "low", "high", "floor", "word"),
        [
            (1.5, 1.2, 1.8, None, "faster"),
            (1.5, 1.2, 1.8, 0.02, "faster"),
            (1.5, 0.9, 2.2, 0.02, "no difference shown"),  # 1 is inside
            (1.5, 1.0, 2.2, 0.02, "no difference shown"),  # 1 is at the end
            (1.04, 1.01, 1.07, 0.05, "no difference shown"),  # closer to 1 than one optimizer is to itself
            (1.06, 1.01, 1.07, 0.05, "faster"),
            (0.5, 0.4, 0.6, 0.02, "slower"),
            (0.96, 0.93, 0.99, 0.05, "no difference shown"),  # 1 / 1.05 = 0.952
            (0.95, 0.93, 0.99, 0.05, "slower"),
            (1.5, None, None, 0.02, "no claim"),
        ],
    )
    def test_it_needs_both_the_interval_and_the_floor(self, estimate, low, high, floor, word):
        found = Speedup(estimate, low, high, bound=False, num_seeds=10, steps=1.0)
        assert verdict_word(found, floor) == word

    @pytest.mark.parametrize(
        ("estimate", "high", "floor", "word"),
        [
            (0.25, 0.3, 0.02, "slower"),
            (0.25, 1.2, 0.02, "not reached"),
            (1.4, 1.5, 0.02, "not reached"),
        ],
    )
    def test_a_bound_is_slower_only_where_it_lies_below_one_for_certain(self, estimate, high, floor, word):
        found = Speedup(estimate, 0.0, high, bound=True, num_seeds=10, steps=1.0)
        assert verdict_word(found, floor) == word

    def test_a_bound_below_the_floor_ranks_nothing(self):
        """Below 0.99 may be 0.98, which is closer to 1 than one optimizer is to itself (protocol rule 8)."""
        found = Speedup(0.99, 0.0, 0.99, bound=True, num_seeds=10, steps=1.0)
        assert verdict_word(found, 0.05) == "not reached"

    def scores(self, rate, num_seeds=5, **kwargs):
        rows = rows_on(a=pair(falling(rate), num_seeds=num_seeds))
        return score(rows, {"a": frozen(LEVELS, **kwargs)})

    @pytest.mark.parametrize(("rate", "word"), [(0.02, "faster"), (0.01, "no difference shown"), (0.001, "slower")])
    def test_its_word_is_that_of_the_strongest_group_and_begins_its_sentence(self, rate, word):
        found = self.scores(rate)
        assert found.word == word
        assert found.verdict.lower().startswith(f"{word}. speed-up of lopt")
        assert ("at most" in found.verdict) == (rate == 0.001)  # never arrives
        assert "<" not in found.verdict

    def test_below_five_seeds_nothing_is_claimed(self):
        assert self.scores(0.02, num_seeds=4).word == "no claim"

    def test_the_floor_of_the_a_a_control_is_that_of_these_rows(self):
        # lopt is 2 % faster with no spread at all; adam entered twice differs from itself by up to 5 %.
        runs = {CONTENDER: [falling(0.0102)] * 5, REFERENCE: [falling(0.01)] * 5}
        again = {"adam_again": [0.95, 1.0, 1.0, 1.0, 1.0, 1.05]}
        targets = {"a": frozen(LEVELS)}
        bare = score(rows_of({"a": runs}, {"a": TIMED}, ROLES), targets)
        floored = score(rows_of({"a": runs}, {"a": TIMED | again}, ROLES | {"adam_again": "control"}), targets)
        assert (bare.word, floored.word) == ("faster", "no difference shown")
        assert floored.controls.floor == pytest.approx(0.05)
        assert floored.against["all_hand_designed"]["hard"].estimate == pytest.approx(1.02)

    def test_without_a_learned_optimizer_there_is_nothing_to_judge(self):
        found = score(
            rows_of({"a": {REFERENCE: [falling(0.01)] * 5}}, {"a": {REFERENCE: [1.0] * 6}}), {"a": frozen(LEVELS)}
        )
        assert (found.optimizer, found.word, dict(found.against)) == (None, "no claim", {})
        assert [(row.optimizer, row.success) for row in found.rows] == [(REFERENCE, wilson_interval(5, 5))]

    def test_a_learned_optimizer_alone_has_nobody_to_be_judged_against(self):
        found = score(rows_of({"a": {CONTENDER: [falling(0.02)] * 5}}, {"a": {CONTENDER: [1.0] * 6}}, ROLES), {})
        assert (found.optimizer, found.word) == (CONTENDER, "no claim")
        assert found.rows[0].speedups == {"hard": None, "medium": None, "easy": None}

    def test_references_are_named_or_counted(self):
        assert reference_text({}) == "–"
        assert reference_text({"a": "adam", "b": "adam"}) == "adam"
        assert reference_text({"a": "sgd", "b": "adam", "c": "adam"}) == "adam on 2, sgd on 1"


class TestGroups:
    def test_each_group_is_judged_by_its_own_reference_on_each_task(self):
        # On a adam is the best of all and of the scheduled, sgd of the constant ones; on b it is sgd everywhere.
        runs = {CONTENDER: [falling(0.02)] * 5, REFERENCE: [falling(0.01)] * 5, "sgd": [falling(0.005)] * 5}
        timed = TIMED | {"sgd": [1.0] * 6}
        rows = rows_of({"a": runs, "b": runs}, {"a": timed, "b": timed}, ROLES)
        levels = LEVELS | {"sgd": (2.5, 2.75, 2.875)}
        targets = {
            "a": frozen(
                levels, {"all_hand_designed": REFERENCE, "paper_scheduled": REFERENCE, "paper_constant": "sgd"}
            ),
            "b": frozen(levels, dict.fromkeys(("all_hand_designed", "paper_scheduled", "paper_constant"), "sgd")),
        }
        found = score(rows, targets)
        # Against adam 2; against sgd, whose 2.5 lopt has after 25 steps, 4.
        hard = {group: by_target["hard"].estimate for group, by_target in found.against.items()}
        assert hard == pytest.approx(
            {"all_hand_designed": math.sqrt(8), "paper_scheduled": math.sqrt(8), "paper_constant": 4.0}
        )
        assert references(rows, targets, "paper_constant") == {"a": "sgd", "b": "sgd"}

    def test_a_group_without_a_reference_is_no_comparison(self):
        rows = rows_on(a=pair(falling(0.02)))
        found = score(rows, {"a": frozen(LEVELS, {"all_hand_designed": REFERENCE})})
        assert found.against["paper_constant"]["hard"] is None
        assert found.against["all_hand_designed"]["hard"].estimate == pytest.approx(2.0)

    def test_the_row_over_all_tasks_comes_first_where_there_are_several(self):
        found = score(rows_on(a=pair(falling(0.02)), b=pair(falling(0.08))), dict.fromkeys("ab", frozen(LEVELS)))
        assert [(row.task, row.optimizer) for row in found.rows] == [
            (scope, name) for scope in ("all", "a", "b") for name in (CONTENDER, REFERENCE)
        ]
        by_scope = {row.task: row.speedups["hard"].estimate for row in found.rows if row.optimizer == REFERENCE}
        assert by_scope == pytest.approx({"all": 4.0, "a": 2.0, "b": 8.0})
        # Of the learned one against the reference of each task, which is adam on both: the same.
        assert found.rows[0].speedups["hard"].estimate == pytest.approx(4.0)

    def test_an_optimizer_without_a_task_has_no_row_there_and_no_score_over_all(self):
        runs, blocks = pair(falling(0.02))
        rows = rows_of({"a": runs | {"sgd": [falling(0.005)] * 5}, "b": runs}, {"a": blocks, "b": blocks}, ROLES)
        found = score(rows, dict.fromkeys("ab", frozen(LEVELS)))
        assert [row.task for row in found.rows if row.optimizer == "sgd"] == ["all", "a"]
        assert next(row for row in found.rows if row.optimizer == "sgd").speedups["hard"] is None
        assert next(row for row in found.rows if row.optimizer == REFERENCE).speedups["hard"].estimate == pytest.approx(
            2.0
        )
