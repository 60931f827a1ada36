"""What a report says of machine and versions."""

import json

import pytest

from baselines import find_tuned
from bench.report import provenance
from bench.store.rows import read_rows
from tests.bench.noisy_rows import chosen, make_frames
from tests.bench.report.reading import entries
from tests.bench.synthetic import falling, frozen, rows_of


def test_provenance_and_accelerator_are_stated(full):
    *_, text = full
    assert "accelerator: not yet measured" in text
    for value in ("0123abc", "sha256:feed", "8x8, bundled", "Some CPU", "learning_rate = 0.001"):
        assert value in text


@pytest.mark.parametrize("device", [{"kind": "NVIDIA H200", "platform": "gpu"}, {"kind": "TPU v4"}])
def test_an_accelerator_that_was_used_is_not_called_missing(device):
    frames = make_frames(chosen("adam"), ("t",), 1, num_points=3, provenance={"device": device})
    assert provenance.page_warnings(read_rows(*frames)) == []


def test_an_accelerator_on_the_command_line_only_is_not_measured():
    record = {"argv": ["bench", "run", "--device", "gpu"], "device": {"kind": "cpu"}, "git": {"dirty": True}}
    frames = make_frames(chosen("adam"), ("t",), 1, num_points=3, provenance=record)
    warnings = provenance.page_warnings(read_rows(*frames))
    assert [warning.split()[0] for warning in warnings] == ["accelerator:", "Some"]


@pytest.mark.parametrize("mixed", [False, True])
def test_each_pair_says_which_machine_its_sides_ran_on(mixed):
    def on(cpu, names):
        record = {"device": {"kind": "cpu", "cpu": cpu}}
        return make_frames(chosen(*names), ("t", "u"), 2, num_points=3, num_blocks=2, provenance=record)

    here, there = on("Kind A", ("lopt", "adam")), on("Kind B", ("adam",))
    if mixed:  # the clock is that of the first machine
        cells, _ = here
        of_adam = cells["optimizer"] == "adam"
        other = there[0].set_index("cell")["provenance"]
        cells.loc[of_adam, "provenance"] = cells.loc[of_adam, "cell"].map(other)
    rows = read_rows(*here)
    targets = dict.fromkeys("tu", frozen({"adam": (2.0, 2.5, 2.7)}))
    table = provenance.machines_table(rows, targets, "lopt", 0.01, "adam")
    other = "Kind B" if mixed else "Kind A"
    expected = ["adam", "2", "Kind A: 4 runs", f"{other}: 4 runs", "Kind A"]
    assert [[entry.text for entry in row[1:]] for row in table.rows] == [expected] * 4
    assert table.notes[0].startswith("Not trained on the same kind of machine: adam." if mixed else "Both sides")
    assert "1.0100" in table.notes[-1]


def test_without_a_learned_row_no_pair_is_listed():
    frames = make_frames(chosen("adam"), ("t",), 1, num_points=3)
    targets = {"t": frozen({"adam": (2.0, 2.5, 2.7)})}
    assert provenance.machines_table(read_rows(*frames), targets, None, None) is None


def test_hyperparameters_say_on_which_tasks_and_seeds_they_were_tuned():
    family, horizon = "imagenet32_cnn3", 2000
    tuned = find_tuned(family, horizon, "adam")
    names = "adam", "sgd", "adam_family_tuned"
    rows = rows_of({f"{family}/0": {name: [falling(0.01)] * 2 for name in names}})
    rows.train[["family", "tuned_horizon", "horizon"]] = family, horizon, horizon
    rows.train["hyperparameters"] = json.dumps(tuned.hyperparameters)
    elsewhere = rows.train["optimizer"] == "adam_family_tuned"
    rows.train.loc[elsewhere, "hyperparameters"] = json.dumps(tuned.hyperparameters | {"tuned_on": family})
    rows.train.loc[elsewhere, "family"] = "mnist14_mlp"
    table = provenance.hyperparameters_table(rows)
    pool = f"{family}/outer_validation/"
    adam, sgd, other = (entries(table, name) for name in names)
    assert other["tuned_on"].text == adam["tuned_on"].text
    assert adam["tuned_on"].text == f"{pool}0, {pool}1; seeds from 1000"
    assert adam["tasks"].text == f"{family}/0"
    assert sgd["tuned_on"].text == "–"  # no record has these values


def test_what_was_measured_and_how_many_runs_finished_is_said_from_the_rows():
    rows = rows_of({task: {name: [falling(0.01)] * 3 for name in ("adam", "sgd")} for task in "tu"})
    rows.train["num_params"], rows.train["batch_size"], rows.train["horizon"] = 19722, 32, 2000
    expected = "2 optimizers on 2 tasks (19,722 parameters, batch 32, 2,000 steps), 3 seeds."
    assert provenance.measured_sentence(rows) == expected
    assert provenance.counts_sentence(rows).startswith("12 training runs, all finished; ")
    rows.train.loc[rows.train["task"] == "u", "horizon"] = 500
    rows.train.loc[rows.train.index[0], "status"] = "diverged"
    assert "500 to 2,000 steps" in provenance.measured_sentence(rows)
    assert provenance.counts_sentence(rows).startswith("12 training runs, 1 not ok; ")


def test_tasks_that_are_drawn_from_the_same_classes_are_said_not_to_be_independent():
    names = [f"imagenet32_cnn3/{i}" for i in range(10)]
    rows = rows_of({name: {"adam": [falling(0.01)]} for name in names})
    text = provenance.shared_classes_sentence(rows)
    assert text.startswith("Each task has 10 of the same 20 classes: two tasks share about 5, so the 10 are not ")
    assert provenance.shared_classes_sentence(rows_of({task: {"adam": [falling(0.01)]} for task in "tu"})) == ""
    assert provenance.shared_classes_sentence(rows_of({names[0]: {"adam": [falling(0.01)]}})) == ""
