"""`bench compare A B`, worked by hand: relative changes of final test losses, paired by task, optimizer and seed."""

import json
import math

import msgspec
import numpy as np
import pytest

from bench.cli import main as cli
from bench.errors import UsageError
from bench.folders import Folders
from bench.score import compare
from bench.store import published
from bench.store.record import cell_id
from bench.store.store import Store
from tests.bench.synthetic import cells_of, diverging, failed_cell, falling, time_cell, train_cell

ENDS_AT_2, ENDS_AT_1 = falling(0.01), falling(0.02)


def ending_at(loss):
    """A falling curve whose last loss, of every split, is `loss`."""
    return falling((3.0 - loss) / 100)


@pytest.fixture
def publish(tmp_path):
    """Stores task -> optimizer -> {seed: curve} and more cells as the results "made/LABEL"."""

    def stored(label, runs, *more):
        kept = Store(tmp_path / label, "made")
        for record, curve in [*cells_of(runs), *more]:
            kept.put(record, curve)
        published.publish(tmp_path, "made", label, kept.read())

    return stored


@pytest.fixture
def rows(tmp_path):
    """Compares two labels: (task, optimizer) -> row."""

    def compared(a="a", b="b", **kwargs):
        found = compare.compare_results(f"made/{a}", f"made/{b}", folders=Folders(results_dir=tmp_path), **kwargs)
        return {(row["task"], row["optimizer"]): row for row in found.rows}

    return compared


def test_a_change_is_the_mean_difference_over_the_mean_of_a(publish, rows):
    # 2.0 and 1.0 become 2.2 and 1.1: 0.15 over 1.5 is 10 %.
    publish("a", {"t": {"adam": [ending_at(2.0), ending_at(1.0)]}})
    publish("b", {"t": {"adam": [ending_at(2.2), ending_at(1.1)]}})
    row = rows()["t", "adam"]
    assert (row["a"], row["b"], row["pairs"]) == (pytest.approx(1.5), pytest.approx(1.65), 2)
    assert (row["change"].estimate, row["change"].low, row["change"].n) == (pytest.approx(0.1), None, 2)
    assert (row["failed_a"], row["failed_b"]) == (0, 0)


def test_from_five_pairs_on_it_has_the_interval_of_paired_differences(publish, rows):
    # The seeds differ by 0.2, the sets by 0.1, 0.2, .. 0.5 within each: mean 0.3, standard error sqrt(0.025 / 5) =
    # 0.0707; t(4; 0.975) = 2.776; over the mean of a, 1.4.
    a = [1.0, 1.2, 1.4, 1.6, 1.8]
    publish("a", {"t": {"adam": [ending_at(x) for x in a]}})
    publish("b", {"t": {"adam": [ending_at(x + 0.1 * (k + 1)) for k, x in enumerate(a)]}})
    change, half = rows()["t", "adam"]["change"], 2.776 * math.sqrt(0.005)
    # The printed quantile is known to 0.0005.
    expected = [0.3 / 1.4, (0.3 - half) / 1.4, (0.3 + half) / 1.4]
    assert [change.estimate, change.low, change.high] == pytest.approx(expected, abs=5e-5)


def test_swapping_the_sets_turns_the_difference_around(publish, rows):
    publish("a", {"t": {"adam": [ending_at(2.0)] * 5}})
    publish("b", {"t": {"adam": [ending_at(1.0)] * 5}})
    assert rows("a", "b")["t", "adam"]["change"].estimate == pytest.approx(-0.5)  # 2 to 1
    assert rows("b", "a")["t", "adam"]["change"].estimate == pytest.approx(1.0)  # 1 to 2


def test_a_set_is_no_different_from_itself(publish, rows):
    publish("a", {"t": {"adam": [ending_at(1 + k / 8) for k in range(5)]}})
    change = rows("a", "a")["t", "adam"]["change"]
    assert (change.estimate, change.low, change.high, change.n) == (0.0, 0.0, 0.0, 5)


def test_only_seeds_that_both_hold_are_paired(publish, rows):
    # Seed 0 is in a alone and seed 3 in b alone; both would change the means beyond recognition.
    publish("a", {"t": {"adam": {0: ending_at(-50.0), 1: ending_at(2.0), 2: ending_at(1.0)}}})
    publish("b", {"t": {"adam": {2: ending_at(1.5), 1: ending_at(2.0), 3: ending_at(-90.0)}}})
    row = rows()["t", "adam"]
    assert (row["pairs"], row["a"], row["b"]) == (2, pytest.approx(1.5), pytest.approx(1.75))
    assert row["change"].estimate == pytest.approx(0.5 / 2 / 1.5)


def test_tasks_and_optimizers_stand_apart_and_what_one_set_lacks_is_not_compared(publish, rows):
    publish("a", {"t": {"adam": [ENDS_AT_2], "sgd": [ENDS_AT_1]}, "u": {"adam": [ENDS_AT_1], "muon": [ENDS_AT_1]}})
    publish(
        "b", {"t": {"adam": [ENDS_AT_1], "sgd": [ENDS_AT_1]}, "u": {"adam": [ENDS_AT_2]}, "v": {"adam": [ENDS_AT_2]}}
    )
    found = {name: row["change"].estimate for name, row in rows().items()}
    assert found == pytest.approx({("t", "adam"): -0.5, ("t", "sgd"): 0.0, ("u", "adam"): 1.0})


def test_a_failed_run_is_counted_and_gives_no_change(publish, rows):
    publish("a", {"t": {"adam": [ENDS_AT_2, ENDS_AT_2], "sgd": [ENDS_AT_2, diverging(40, 0.01)]}})
    publish("b", {"t": {"adam": [ENDS_AT_2, diverging(40, 0.01)], "sgd": [ENDS_AT_2]}}, failed_cell("t", "sgd", 1))
    adam, sgd = rows()["t", "adam"], rows()["t", "sgd"]
    assert (adam["change"], adam["failed_a"], adam["failed_b"]) == (None, 0, 1)
    assert (sgd["change"], sgd["failed_a"], sgd["failed_b"]) == (None, 1, 1)
    assert (adam["a"], adam["b"]) == (2.0, 2.0)  # of the runs that finished


def test_where_every_run_failed_there_is_no_mean_either(publish, rows):
    publish("a", {"t": {"adam": [ENDS_AT_2]}})
    publish("b", {"t": {"adam": [diverging(40, 0.01)]}})
    row = rows()["t", "adam"]
    assert (row["a"], row["b"], row["change"], row["failed_b"]) == (2.0, None, None, 1)


def test_a_loss_below_zero_that_rises_is_worse(publish, rows):
    # A log-likelihood: -2 to -1 is a rise by half of its size.
    publish("a", {"t": {"adam": [ending_at(-2.0)] * 5}})
    publish("b", {"t": {"adam": [ending_at(-1.0)] * 5}})
    found = rows()["t", "adam"]
    assert found["change"].estimate == pytest.approx(0.5)
    assert compare.regressions([found], 0.1) == [found]


def test_another_metric_is_compared_where_it_is_asked_for(publish, rows):
    publish("a", {"t": {"adam": [ENDS_AT_2]}})
    publish("b", {"t": {"adam": [ENDS_AT_1]}})
    # The mean train loss over the horizon without step 0: from 2.5 to 2, less half a step of the grid in both.
    row = rows(metric="mean_train_loss")["t", "adam"]
    assert (row["a"], row["b"]) == (pytest.approx(np.mean(ENDS_AT_2[1:])), pytest.approx(np.mean(ENDS_AT_1[1:])))


def row(estimate, low=None, failed_a=0, failed_b=0):
    from bench.statistics import Interval

    change = None if estimate is None else Interval(estimate, low, None if low is None else 2 * estimate - low, 5)
    return {"change": change, "failed_a": failed_a, "failed_b": failed_b}


@pytest.mark.parametrize(
    ("found", "worse"),
    [
        (row(0.06), True),  # below five pairs the estimate decides
        (row(0.05), False),
        (row(-0.5), False),
        (row(0.06, 0.01), True),
        (row(0.06, -0.01), False),  # zero is inside
        (row(0.04, 0.03), False),  # certain, and small
        (row(None, failed_b=1), True),
        (row(None, failed_a=1, failed_b=1), False),
        (row(None, failed_a=1), False),
    ],
)
def test_a_regression_is_larger_than_the_threshold_and_than_chance_or_a_new_failure(found, worse):
    assert compare.regressions([found], 0.05) == ([found] if worse else [])


@pytest.fixture
def command(tmp_path, capsys):
    """Runs `bench compare ...` in this process: (exit code, standard output, standard error)."""

    def run(*args):
        with pytest.raises(SystemExit) as done:
            cli.main(["compare", *args, "--results-dir", str(tmp_path)])
        return done.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def two_sets(publish):
    """b is 10 % worse on t in every seed, and has another failure on u."""
    seeds = [ending_at(1 + k / 8) for k in range(5)]
    publish("a", {"t": {"adam": seeds}, "u": {"adam": seeds}}, time_cell("t", {"adam": [1.0] * 6}))
    worse = [ending_at(1.1 * (1 + k / 8)) for k in range(5)]
    publish("b", {"t": {"adam": worse}, "u": {"adam": [*seeds[:4], diverging(40, 0.01)]}})


def test_the_command_prints_a_row_for_each_task_and_optimizer(two_sets, command):
    code, out, err = command("made/a", "made/b")
    assert (code, err) == (0, "")
    assert "+10.00%" in out
    assert "a run failed" in out


def test_json_parses_and_holds_the_same(two_sets, command):
    code, out, _ = command("made/a", "made/b", "--json")
    found = json.loads(out)
    assert (code, found["a"], found["b"], found["metric"]) == (0, "made/a", "made/b", "final_test_loss")
    t, u = found["rows"]
    assert (t["task"], t["optimizer"], t["pairs"]) == ("t", "adam", 5)
    # Differences 0.1, 0.1125, .. 0.15 over the mean of a, 1.25.
    assert t["change"]["estimate"] == pytest.approx(0.1)
    assert 0 < t["change"]["low"] < 0.1 < t["change"]["high"]
    assert (u["change"], u["failed_a"], u["failed_b"]) == (None, 0, 1)
    assert "NaN" not in out
    assert "Infinity" not in out


def test_fail_above_exits_four_and_names_the_first_regression(two_sets, command):
    code, out, err = command("made/a", "made/b", "--fail-above", "0.05")
    assert code == 4
    assert "+10.00%" in out  # the table is printed all the same
    assert err == "bench: 2 of 2 rows are worse by more than 5.0%: adam on t\n"
    code, out, err = command("made/a", "made/b", "--fail-above", "0.2", "--json")
    assert (code, json.loads(out)["regressions"]) == (4, 1)  # the new failure, whatever the losses
    assert err.endswith("adam on u\n")


def test_what_got_better_or_stayed_passes(two_sets, command):
    assert command("made/a", "made/a", "--fail-above", "0")[0] == 0
    assert command("made/b", "made/a", "--fail-above", "0")[0] == 0  # 10 % better, a failure less


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["made/a", "made/never"], "no readable published results"),
        (["never", "made/a"], "no results of suite never"),
        (["made/a", "../x"], "expected letters"),
        (["made/a", "made/other"], "no task, optimizer and seed in common"),
        (["made/a", "made/b", "--metric", "final_tst_loss"], "did you mean final_test_loss"),
        (["made/a", "made/b", "--fail-above", "-1"], "--fail-above"),
        (["made/a"], "Missing argument"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_code_two(two_sets, publish, command, args, expected):
    publish("other", {"elsewhere": {"adam": [ENDS_AT_2]}})
    code, out, err = command(*args)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.startswith("bench: ")
    assert err.count("\n") == 1


def test_runs_of_another_length_do_not_compare(publish, tmp_path):
    publish("a", {"t": {"adam": [ENDS_AT_2]}})
    kept = Store(tmp_path / "short", "made")
    (record, curve), *_ = cells_of({"t": {"adam": [ENDS_AT_2]}})
    config = record.config | {"horizon": 50}
    name = cell_id(config)
    kept.put(msgspec.structs.replace(record, config=config, cell=name), curve.assign(cell=name))
    published.publish(tmp_path, "made", "b", kept.read())
    with pytest.raises(UsageError, match="t: horizon is 100 in made/a and 50 in made/b"):
        compare.compare_results("made/a", "made/b", folders=Folders(results_dir=tmp_path))


@pytest.mark.parametrize(("text", "expected"), [("quick", ("quick", "local")), ("quick/cpu", ("quick", "cpu"))])
def test_a_set_without_a_label_is_a_users_own(text, expected):
    assert compare.parse_set(text) == expected


def test_what_one_side_alone_has_is_named_and_a_row_that_vanished_fails(publish, tmp_path, monkeypatch, capsys):
    publish("a", {"t": {"adam": [ENDS_AT_2] * 6, "lion": [ENDS_AT_2] * 6}})
    publish("b", {"t": {"adam": [ENDS_AT_2], "muon": [ENDS_AT_1] * 2}})
    monkeypatch.setenv("BENCH_RESULTS_DIR", str(tmp_path))

    def said(*more):
        with pytest.raises(SystemExit) as done:
            cli.main(["compare", "made/a", "made/b", *more])
        return done.value.code or 0, *capsys.readouterr()

    code, out, _ = said()
    assert code == 0
    lines = ["A only: 5 of 6 seeds of adam on t", "A only: lion on t", "B only: muon on t"]
    assert out.splitlines()[-3:] == lines
    code, _, err = said("--fail-above", "0.01")
    assert (code, err) == (4, "bench: 1 rows of A are not in B: lion on t\n")
    code, out, _ = said("--fail-above", "0.01", "--json")
    found = json.loads(out)
    assert (code, found["vanished"], found["regressions"]) == (4, 1, 0)
    assert {"side": "A", "task": "t", "optimizer": "adam", "seeds": [1, 2, 3, 4, 5], "of": 6} in found["only"]


def test_how_settings_differ_is_said_of_each_row(publish, rows, tmp_path):
    publish("a", {"t": {"adam": [ENDS_AT_2]}})
    kept = Store(tmp_path / "b", "made")
    kept.put(*train_cell("t", "adam", 0, ENDS_AT_2, settings={"hyperparameters": {"learning_rate": 0.3}}))
    published.publish(tmp_path, "made", "b", kept.read())
    assert rows()["t", "adam"]["settings"] == "learning_rate none and not 0.3"
    assert rows("a", "a")["t", "adam"]["settings"] is None
