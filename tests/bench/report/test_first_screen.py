"""The tables of the first screen: scores, controls and races."""

import dataclasses
import json

import pytest

from bench.report import controls, first_screen
from bench.report.table import NONE_TEXT
from bench.score import headline
from bench.score.first_screen import first_screen as screen_of
from bench.score.races import Race
from bench.score.speedup import Speedup
from bench.statistics import Interval
from bench.tuning.targets import GROUPS
from tests.bench.pairs import CONTENDER, LEVELS, REFERENCE, SLOW, learning, raced, targets_on_t
from tests.bench.report.reading import entries
from tests.bench.synthetic import falling, rows_of


@pytest.mark.rule(14)
@pytest.mark.parametrize(
    ("seeds", "before", "after", "held"),
    [(5, 0.02, 0.04, "yes"), (5, 0.04, 0.02, "no"), (3, 0.02, 0.04, NONE_TEXT), (3, 0.04, 0.02, "no")],
)
def test_what_was_learned_is_as_expected_only_with_an_interval(seeds, before, after, held):
    rows = learning([falling(before)] * seeds, [falling(after)] * seeds)
    screen = screen_of(rows, targets_on_t(LEVELS), "s", "l", "cpu", None)
    row = next(row for row in controls.controls_table(screen).rows if "before outer-training: steps" in row[0].text)
    assert row[3].text == held


@pytest.mark.rule(14)
def test_what_was_learned_shows_in_the_test_loss_too():
    rows = learning([falling(0.01)] * 5, [falling(0.02)] * 5)
    screen = screen_of(rows, targets_on_t(LEVELS), "s", "l", "cpu", None)
    found = screen.scores.controls.untrained_test[CONTENDER]
    assert (found.estimate, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))  # 2 before, 1 after
    row = next(
        row for row in controls.controls_table(screen).rows if "before outer-training: final test" in row[0].text
    )
    assert (row[1].text, row[2].text, row[3].text) == ("above 0", "1.00 [1.00, 1.00]", "yes")


@pytest.mark.rule(14)
@pytest.mark.parametrize(
    ("seeds", "before", "after", "held"),
    [(5, 0.01, 0.02, "yes"), (5, 0.02, 0.01, "no"), (3, 0.01, 0.02, NONE_TEXT), (3, 0.02, 0.01, "no")],
)
def test_the_headline_is_to_have_learned_a_lower_test_loss_and_others_are_not(seeds, before, after, held):
    rows = learning([falling(before)] * seeds, [falling(after)] * seeds)
    screen = screen_of(rows, targets_on_t(LEVELS), "s", "l", "cpu", None)
    other = dataclasses.replace(screen, scores=dataclasses.replace(screen.scores, optimizer="another"))
    for shown, expected in ((screen, held), (other, NONE_TEXT)):
        table = {
            row[0].text.partition("before outer-training: ")[2]: row for row in controls.controls_table(shown).rows
        }
        assert table["final test loss, minus that after it"][3].text == expected
    assert table["steps to the hard target, over those after it"][3].text == NONE_TEXT


def screen_of_race(contender=None, seconds=1.0):
    rows = raced(falling(0.02) if contender is None else contender, seconds)
    return screen_of(rows, targets_on_t(LEVELS), "s", "l", "cpu", None)


def test_the_first_table_has_the_learned_row_first_and_bold_where_the_interval_excludes_one():
    table = first_screen.score_table(screen_of_race(), "t", "score")
    assert [row[0].value for row in table.rows] == [CONTENDER, REFERENCE]
    hard = entries(table, REFERENCE)["hard_speedup"]
    assert (hard.text, hard.bold) == ("2.00 [2.00, 2.00]", True)
    assert entries(table, REFERENCE)["success_rate"].value.estimate == 1.0
    # Equal curves: a speed-up of 1 is no difference.
    equal = entries(first_screen.score_table(screen_of_race(falling(0.01)), "t", "score"), REFERENCE)["hard_speedup"]
    assert (equal.text, equal.bold) == ("1.00 [1.00, 1.00]", False)


def test_a_speed_up_that_is_only_a_bound_is_marked_and_bold_below_one():
    hard = entries(first_screen.score_table(screen_of_race(SLOW, 2.0), "t", "score"), REFERENCE)["hard_speedup"]
    # Never reached in the whole horizon, each step twice as dear: below 1 / 2.
    assert (hard.text, hard.bold) == ("<0.500", True)


def test_a_lower_end_of_zero_is_explained_where_there_is_one():
    screen = screen_of_race()
    assert not any("lower end of 0" in note for note in first_screen.score_table(screen, "t", "score").notes)
    ending = dataclasses.replace(screen.scores.rows[1].speedups["hard"], low=0.0)
    changed = dataclasses.replace(screen.scores.rows[1], speedups=screen.scores.rows[1].speedups | {"hard": ending})
    scores = dataclasses.replace(screen.scores, rows=(screen.scores.rows[0], changed))
    table = first_screen.score_table(dataclasses.replace(screen, scores=scores), "t", "score")
    assert "A lower end of 0: in some resamples half of the runs never arrive." in table.notes


def test_misses_before_outer_training_make_the_ratio_a_lower_bound():
    for before, after, words in ((5, 0, "so the ratio is a lower bound"), (5, 5, "misses count as the horizon: 5")):
        found = with_controls(untrained={"a": Interval(2.0, 1.5, 2.5, 5)}, untrained_misses={"a": (before, after)})
        assert words in controls.controls_table(found).rows[-1][-1].text


def test_controls_that_did_not_run_are_dashes_and_races_are_counted():
    table = controls.controls_table(screen_of_race())
    assert [[entry.text for entry in row[2:]] for row in table.rows[:5]] == [["–", "–", "–"]] * 5
    races = tuple(Race(task, "a", "b", "hard", 2.0, 2.0 * ratio) for task, ratio in (("t", 0.95), ("u", 1.08)))
    found = dataclasses.replace(screen_of_race(), races=races)
    last = controls.controls_table(found).rows[-1]
    assert [entry.text for entry in last[2:]] == [
        *("0.950 to 1.08", "yes"),
        "2 targets reached by both on 2 tasks; raced: a to the validation loss of b",
    ]
    assert [row[-2].text for row in controls.races_table(found).rows] == ["0.950", "1.08"]
    slower = dataclasses.replace(races[0], predicted=2.0 * 0.89)
    assert controls.controls_table(dataclasses.replace(found, races=(slower,))).rows[-1][3].text == "no"


@pytest.mark.rule(14)
@pytest.mark.parametrize(("shift", "held"), [(0.0, "yes"), (0.05, "no")])
def test_a_rival_over_itself_is_as_fast_as_itself_and_where_its_noise_brings_it_there_early_it_says_so(shift, held):
    """Targets above what the runs end at: all arrive at the same step before the horizon."""
    levels = {name: tuple(value + shift for value in own) for name, own in LEVELS.items()}
    screen = screen_of(raced(falling(0.02)), targets_on_t(levels), "s", "l", "cpu", None)
    rows = [row for row in controls.controls_table(screen).rows if "over itself" in row[0].text]
    assert [row[3].text for row in rows] == [held] * 3
    assert all((row[2].value.estimate == 1.0) == (held == "yes") for row in rows)
    assert [row[4].text for row in rows] == [REFERENCE] * 3


def test_a_race_that_nobody_decides_is_said():
    race = Race("t", "a", "b", "hard", None, None, ("a",))
    found = dataclasses.replace(screen_of_race(), races=(race,))
    assert "no race is decided" in controls.controls_table(found).rows[-1][-1].text
    assert [entry.text for entry in controls.races_table(found).rows[0]][-4:] == ["–", "–", "–", "a"]


@pytest.mark.parametrize(("headline", "said"), [("a", False), (CONTENDER, True)])
def test_races_say_who_was_raced_to_which_loss_and_whether_the_headline_was(headline, said):
    race = Race("t", "a", "b", "hard", 2.0, 2.0, metric="train_loss")
    screen = screen_of_race()
    scores = dataclasses.replace(screen.scores, optimizer=headline)
    table = controls.races_table(dataclasses.replace(screen, scores=scores, races=(race,)))
    assert table.caption == "Races, a to the train loss of b: wall-clock speed-up"
    assert ("was not raced" in table.notes[-1]) == said


def with_controls(**fields):
    """The screen of a race whose controls measured this."""
    found = screen_of_race()
    measured = dataclasses.replace(controls.NO_CONTROLS, **fields)
    return dataclasses.replace(found, scores=dataclasses.replace(found.scores, controls=measured, over_itself={}))


def test_failed_runs_at_ten_times_the_rate_are_worse_than_any():
    for others, text in ((None, "–"), (Interval(0.5, None, None, 2), "0.500")):
        found = with_controls(tenfold=others, tenfold_failed=3)
        last = [entry.text for entry in controls.controls_table(found).rows[-1]]
        assert last[2:] == [text, "yes", "3 runs failed, in no mean"]


def test_a_control_that_is_not_as_expected_says_so():
    found = with_controls(aa=Interval(1.04, 1.0, 1.1, 5), zero_rate_rank=(2, 3))
    held = {row[0].text.partition(":")[0]: row[3].text for row in controls.controls_table(found).rows}
    assert held["the same optimizer entered twice"] == "no"
    assert [row[3].text for row in controls.controls_table(found).rows].count("no") == 2  # the rank is not last


def leading(names, learned="lopt"):
    """Rows of equal curves, and a screen of them."""
    rows = rows_of({"t": {name: [falling(0.01)] * 5 for name in names}}, roles={learned: "learned"})
    return rows, screen_of(rows, targets_on_t(LEVELS), "s", "l", "cpu", learned)


def test_the_table_of_leaders_has_six_columns_and_says_how_many_rows_more_there_are():
    names = ("adam", "muon", "sgd_momentum", "rmsprop", "lion", "adafactor", "ema", "soap", "lopt")
    rows, screen = leading(names)
    leaders = first_screen.leaders(rows, screen.targets)
    # Equal curves, so that the best are the first by name.
    assert set(leaders) == {"adam", "adafactor", "lopt"}
    table = first_screen.leaders_table(screen, rows, leaders, "t")
    assert len(table.columns) == 6
    assert {row[0].value for row in table.rows} == set(leaders)
    assert entries(table, "lopt")["test_loss_group"].text == "1"  # equal curves are told apart by nothing
    assert "6 rows more" in table.notes[1]
    assert "numbers count all 9 rows" in table.notes[0]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_leaders_that_were_trained_on_another_kind_of_processor_are_named(elsewhere):
    rows, screen = leading(("adam", "muon", "lopt"))
    kinds = {"muon": "Kind B"} if elsewhere else {}
    runs = {
        name: frame.assign(provenance=json.dumps({"device": {"kind": "cpu", "cpu": kinds.get(name, "Kind A")}}))
        for name, frame in rows.runs_by_optimizer.items()
    }
    rows = dataclasses.replace(rows, runs_by_optimizer=runs)
    notes = first_screen.leaders_table(screen, rows, ["adam", "muon", "lopt"], "t").notes
    said = "Not trained on the same kinds of processors as lopt: muon."
    assert (said in notes) == elsewhere
    assert elsewhere or not any("processors" in note for note in notes)


def test_the_contender_has_no_speed_up_over_itself_and_a_bound_is_not_a_number():
    for seconds, shown in ((2.0, "never reached [at most 0.500]"), (0.5, "never reached [at most 2.00]")):
        screen = screen_of_race(SLOW, seconds)
        table = first_screen.leaders_table(screen, raced(SLOW, seconds), [CONTENDER, REFERENCE], "t")
        own, other = (entries(table, name) for name in (CONTENDER, REFERENCE))
        assert (own["hard_speedup"].text, own["step_cost_ratio"].text) == (NONE_TEXT, NONE_TEXT)
        assert (other["hard_speedup"].text, other["hard_speedup"].bold) == (shown, False)
        assert other["step_cost_ratio"].value.estimate == pytest.approx(seconds)
        assert other["hard_speedup"].value.estimate == pytest.approx(1 / seconds)  # in files the bound stays
        assert table.columns[2].header == "step cost, lopt / row"


def test_where_some_tasks_are_never_reached_it_says_how_many():
    curves = {
        "t": {"lopt": [SLOW] * 5, "adam": [falling(0.01)] * 5},
        "u": {name: [falling(0.01)] * 5 for name in ("lopt", "adam")},
    }
    rows = rows_of(curves, {task: {"lopt": [1.0] * 6, "adam": [1.0] * 6} for task in "tu"}, {"lopt": "learned"})
    levels = targets_on_t(LEVELS)["t"]
    screen = screen_of(rows, {"t": levels, "u": levels}, "s", "l", "cpu", "lopt")
    table = first_screen.leaders_table(screen, rows, ["adam"], "all")
    assert entries(table, "adam")["hard_speedup"].text == "never reached on 1 of 2 tasks [at most 1.00]"


def test_the_lead_is_the_verdict_against_the_strongest_in_one_sentence():
    text = first_screen.lead_sentence(screen_of_race())
    assert text.startswith("Faster: lopt comes to the final validation loss of the best hand-designed optimizer (adam)")
    assert "at 2.00 [2.00, 2.00] times its speed" in text
    slow = first_screen.lead_sentence(screen_of_race(SLOW, 2.0))
    assert slow.startswith("Slower: ")
    assert "is at most 0.500 times as fast as the best hand-designed optimizer (adam)" in slow
    assert "since on some task half of the runs never arrive" in slow
    rows = rows_of({"t": {"adam": [falling(0.01)] * 5}})
    assert first_screen.lead_sentence(screen_of(rows, {}, "s", "l", "cpu", None)).startswith("No learned optimizer")


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Interval(-0.2, -0.3, -0.1, 5), "is lower than that of adam (difference -0.200 [-0.300, -0.100])"),
        (Interval(0.2, 0.1, 0.3, 5), "is above that of adam (difference 0.200 [0.100, 0.300])"),
        (Interval(0.2, -0.1, 0.3, 5), "is not shown to differ from that of adam"),
        (Interval(0.2, None, None, 2), "is not judged against that of adam (difference 0.200)"),
    ],
)
def test_the_lead_says_how_the_test_loss_compares(difference, words):
    screen = screen_of_race()
    claims = headline.Headline("lopt", (), {}, headline.TestLoss("adam", difference, 0, 1), ())
    assert words in first_screen.lead_sentence(dataclasses.replace(screen, headline=claims))


def test_speed_ups_by_architecture_stand_in_wall_clock_and_in_steps_over_every_group():
    screen = screen_of_race()
    assert first_screen.architectures_table(screen) is None
    steps = Interval(4.0, 0.0, 4.5, 5)
    found = Speedup(2.0, 0.0, 2.2, True, 5, steps)
    groups = tuple(headline.Against(group, {"t": "adam"}, found, None) for group in GROUPS)
    claims = headline.Headline("lopt", groups, {"convolutional": groups, "fully connected": groups}, None, ())
    table = first_screen.architectures_table(dataclasses.replace(screen, headline=claims))
    assert [row[0].text for row in table.rows] == ["convolutional"] * 3 + ["fully connected"] * 3
    assert [entry.text for entry in table.rows[0]][1:] == ["the best hand-designed", "<2.00", "<4.00", "1", "adam"]


def test_controls_are_counted_by_whether_they_are_as_expected():
    found = with_controls(aa=Interval(1.04, 1.0, 1.1, 5), zero_rate_rank=(3, 3))
    counts = controls.held_counts(controls.controls_table(found))
    assert counts == {"yes": 1, "no": 1, "unknown": 3}
