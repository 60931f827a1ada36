"""What performance profiles state, by hand."""

from bench.report.figures import profiles
from bench.store.rows import read_rows
from tests.bench.noisy_rows import chosen, make_frames
from tests.bench.pairs import FLAT, raced
from tests.bench.report.figures.drawn import frozen_from, of_race
from tests.bench.synthetic import falling


def test_profiles_are_the_share_of_runs_within_a_ratio_of_the_best_median():
    # 62.5 s is the best median; the reference needs 100 s, 1.6 times as long.
    alt = of_race(raced(falling(0.02), 1.25))["performance_profile"].alt
    assert "share of runs within 1, 2, 4 times the best median time, and ever" in alt
    assert "adam 0 %, 100 %, 100 %, ever 100 %" in alt
    assert "lopt 100 %, 100 %, 100 %, ever 100 %" in alt


def test_profiles_take_the_seeds_and_the_tasks_that_all_have():
    cells, steps = make_frames(chosen("adam", "muon", "lopt"), ("a", "b"), 4, num_points=11)
    seeds = (cells["optimizer"] == "lopt") & (cells["task"] == "b") & (cells["seed"] == 0)
    muon = (cells["optimizer"] == "muon") & (cells["task"] == "a")
    rows = read_rows(cells[~(seeds | muon)], steps[~steps["cell"].isin(cells.loc[seeds | muon, "cell"])])
    found = profiles.profiled(rows, frozen_from(rows, "adam"))
    assert found.tasks == ("a", "b")
    assert set(found.optimizers) == {"adam", "lopt"}
    assert found.left_out == ("muon",)
    assert found.times.shape == (2, 2, 3)


def test_the_caption_says_who_never_arrives_and_names_the_end_of_the_axis_only_where_it_cuts():
    caption = of_race(raced(FLAT, 1.25))["performance_profile"].caption
    assert "No run of lopt arrives." in caption
    assert "has runs that never arrive." in caption
    assert "No run of" not in of_race(raced(falling(0.02), 1.25))["performance_profile"].caption
