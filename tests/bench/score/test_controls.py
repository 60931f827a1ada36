"""Controls read from their rows."""

import json

import numpy as np
import pytest

from bench.report import verify_report
from bench.report.controls import controls_table
from bench.score.controls import Controls, read_controls
from bench.score.first_screen import as_json, first_screen
from bench.score.times_to_target import mean_restricted_steps
from bench.statistics import Interval
from bench.suites.suite import load_suite
from tests.bench.pairs import (
    CONTENDER,
    FLAT,
    LEVELS,
    REFERENCE,
    controlled,
    learning,
    pair,
    rows_on,
    rows_on_t,
    suite_rows,
    targets_on_t,
)
from tests.bench.synthetic import diverging, falling, frozen
from tests.helpers import REPOSITORY


@pytest.mark.rule(14)
def test_controls_are_read_from_their_rows():
    rows = controlled(falling(0.005))
    found = read_controls(rows, targets_on_t(LEVELS))
    assert rows.compared == (REFERENCE,)
    assert (found.aa.estimate, found.double_step.estimate) == (pytest.approx(1.0), 2.0)
    assert found.floor == pytest.approx(0.01)
    assert found.zero_rate_rank == (2, 2)
    assert found.zero_rate_success.estimate == 0.0
    assert found.tenfold.estimate == pytest.approx(0.5)
    assert found.tenfold.excludes(0.0)


@pytest.mark.rule(14)
def test_a_diverged_tenfold_rate_is_worse_and_in_no_mean():
    found = read_controls(controlled(diverging(3)), targets_on_t(LEVELS))
    assert (found.tenfold, found.tenfold_failed) == (None, 5)


@pytest.mark.rule(14)
def test_controls_of_a_base_that_failed_claim_nothing():
    failed, sound = [diverging(3)] * 5, [falling(0.01)] * 5
    runs = {REFERENCE: failed, "adam_10x": failed, "adam_frozen": failed, "rmsprop": sound}
    rows = rows_on_t(runs, roles=dict.fromkeys(("adam_frozen", "adam_10x"), "control"))
    found = read_controls(rows, targets_on_t(LEVELS))
    assert (found.tenfold, found.tenfold_failed) == (None, 0)
    assert (found.zero_rate_rank, found.zero_rate_success) == (None, None)
    held = {
        row[0].text.partition(":")[0]: row[3].text
        for row in controls_table(first_screen(rows, targets_on_t(LEVELS), "s", "l", "cpu", None)).rows
    }
    assert set(held.values()) == {"–"}


@pytest.mark.rule(14)
def test_what_was_learned_is_the_ratio_of_steps_before_and_after_outer_training():
    # The hard level is reached by a rate of 0.02 in 50 steps, at 0.04 in 25, at 0.0125 in 80.
    rows = learning([falling(0.02)] * 5, [falling(0.04)] * 5)
    found = read_controls(rows, targets_on_t(LEVELS))
    assert (rows.compared, rows.untrained) == ((REFERENCE, CONTENDER), {CONTENDER: f"{CONTENDER}_untrained"})
    assert found.untrained[CONTENDER].estimate == pytest.approx(2.0)
    assert found.untrained_misses == {CONTENDER: (0, 0)}
    uneven = read_controls(
        learning([falling(0.02)] * 5, [falling(0.04)] * 4 + [falling(0.0125)]), targets_on_t(LEVELS)
    ).untrained[CONTENDER]
    assert uneven.estimate == pytest.approx((2.0**4 * 50 / 80) ** (1 / 5))
    assert uneven.low < 1 < uneven.high


@pytest.mark.rule(14)
def test_a_beginning_that_never_arrives_counts_as_the_horizon():
    found = read_controls(learning([falling(0)] * 5, [falling(0.02)] * 5), targets_on_t(LEVELS))
    assert found.untrained[CONTENDER].estimate == pytest.approx(2.0)  # 100 steps over 50
    assert found.untrained_misses == {CONTENDER: (5, 0)}
    rows = learning([falling(0)] * 5, [falling(0.02)] * 5)
    screen = as_json(first_screen(rows, targets_on_t(LEVELS), "s", "l", "cpu", None))
    assert screen["controls"]["untrained"][CONTENDER]["misses_untrained"] == 5


@pytest.mark.rule(8)
@pytest.mark.rule(14)
@pytest.mark.parametrize(("suite_name", "label"), verify_report.published_reports(REPOSITORY / "reports"))
def test_the_controls_hold_on_what_is_published(suite_name, label):
    """On committed results the clock's floor is 2 % and every step twice costs 1.9 to 2.1 times."""
    screen = json.loads((REPOSITORY / "reports" / suite_name / label / "report.json").read_text())
    if isinstance(screen, list):
        pytest.skip("a measurement: it ranks nothing")
    if not load_suite(suite_name).controls:  # then nothing is claimed on the clock
        assert screen["verdict"]["word"] == "no claim"
        return
    found = screen["controls"]
    same = found["aa"]
    assert abs(same["estimate"] - 1) <= 0.03
    assert (same["high"] - same["low"]) / 2 <= 0.02
    assert 1.9 <= found["double_step"]["estimate"] <= 2.1
    assert found["frozen_rank"]["rank"] == found["frozen_rank"]["of"]
    assert found["frozen_success"]["estimate"] == (0 if screen["targets"] else None)  # else there is nothing to reach
    tenfold = found["adam_10x_minus_adam"]  # without an interval below five seeds, and only there
    few = len(load_suite(suite_name).seeds) < 5
    assert (tenfold["estimate"] if few else tenfold["low"]) > 0


class TestControls:
    def test_blocks_of_all_tasks_count_together(self):
        found = read_controls(suite_rows(), dict.fromkeys("ab", frozen(LEVELS)))
        # Ten ratios of 1 and two of 1.01; the third of twelve from either end is 1, but for 12 the bounds are the
        # third smallest and the third largest.
        assert (found.aa.estimate, found.aa.n) == (1.0, 12)
        assert found.floor == 0.0
        assert (found.double_step.estimate, found.double_step.low, found.double_step.high) == (2.0, 2.0, 2.0)

    def test_the_floor_is_the_end_further_from_one(self):
        made = Controls(REFERENCE, Interval(1.0, 0.97, 1.02, 12), None, None, None, None, 0)
        assert made.floor == pytest.approx(0.03)
        assert Controls(REFERENCE, Interval(1.0, None, None, 3), None, None, None, None, 0).floor is None

    def test_the_frozen_one_is_last_and_an_optimizer_that_does_no_better_shares_its_place(self):
        targets = dict.fromkeys("ab", frozen(LEVELS))
        assert read_controls(suite_rows(), targets).zero_rate_rank == (3, 3)
        # lopt gets nowhere either: both are censored at the horizon on every target.
        assert read_controls(suite_rows(FLAT), targets).zero_rate_rank == (3, 3)

    def test_an_optimizer_of_which_a_run_diverged_has_no_place(self):
        diverging = falling(0.02).copy()
        diverging[-1] = np.nan
        targets = dict.fromkeys("ab", frozen(LEVELS))
        for known in (targets, {}):
            assert read_controls(suite_rows(diverging), known).zero_rate_rank == (2, 2)

    def test_a_control_that_beats_an_optimizer_is_not_last(self):
        # adam at rate 0 cannot fall; lopt that rises is no better by time to target, but is by the final loss.
        targets = dict.fromkeys("ab", frozen(LEVELS))
        assert read_controls(suite_rows(falling(-0.01)), targets).zero_rate_rank == (3, 3)
        assert read_controls(suite_rows(falling(-0.01)), {}).zero_rate_rank == (2, 3)

    def test_restricted_mean_steps_by_hand(self):
        # adam on its own targets: 100, 50 and 25 steps of 100; rate 0: 100 each.
        rows, targets = suite_rows(), dict.fromkeys("ab", frozen(LEVELS))
        reference = dict.fromkeys("ab", REFERENCE)
        assert mean_restricted_steps(rows, targets, REFERENCE, reference) == pytest.approx(1.75 / 3)
        assert mean_restricted_steps(rows, targets, "adam_frozen", reference) == pytest.approx(1.0)

    def test_without_controls_nothing_is_read(self):
        assert read_controls(rows_on(a=pair(falling(0.02))), {}) is None
