"""What the curves of time to target state, by hand."""

from tests.bench.pairs import CONTENDER, FLAT, REFERENCE, raced
from tests.bench.report.figures.drawn import of_race
from tests.bench.synthetic import falling, rows_of


def test_time_to_target_counts_arrivals_and_their_median_in_seconds():
    # Twice as fast at 1.25 s a step: the loss of step 100 at step 50, 62.5 s, against 100 s.
    alt = of_race(raced(falling(0.02), 1.25))["time_to_target_t"].alt
    assert "Kaplan-Meier curves of seconds to target" in alt
    assert "Hard target, validation loss 2: adam 5 of 5 (100 s), lopt 5 of 5 (62.5 s)." in alt.replace(
        "lopt 5 of 5 (62.5 s), adam 5 of 5 (100 s)", "adam 5 of 5 (100 s), lopt 5 of 5 (62.5 s)"
    )
    assert "Easy target, validation loss 2.75: " in alt


def test_time_to_target_names_a_miss_and_is_in_steps_where_the_clock_is_missing():
    runs = {REFERENCE: [falling(0.01)] * 3 + [FLAT] * 2, CONTENDER: [FLAT] * 5}
    rows = rows_of({"t": runs}, {"t": {REFERENCE: [1.0] * 6}})
    alt = of_race(rows)["time_to_target_t"].alt
    assert "curves of steps to target" in alt
    assert "adam 3 of 5 (100 steps)" in alt  # the third of five arrives at step 100
    assert "lopt 0 of 5" in alt
