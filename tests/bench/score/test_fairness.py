"""The fairness card: marks of the shipped optimizers, costs, and runs that repay them."""

import dataclasses
import json
import math

import pandas as pd
import pytest

import tasks
from bench.entries.entrants import resolve
from bench.report.fairness import card_tables, payback_text
from bench.score.exposure import Overlap, outer_training, trained_images
from bench.score.fairness import _tuning_runs, cards, payback
from bench.statistics import Interval
from bench.store.record import CURVE_COLUMNS, Record, Status, cell_row
from bench.store.rows import read_rows
from learned import weights
from learned.elsewhere import ELSEWHERE
from tests.bench import synthetic
from tests.bench.score.outer_trained import FACTS, NONE, card_of, exposure


@pytest.mark.parametrize("name", weights.shipped_names())
def test_evaluation_tasks_are_held_out_from_the_shipped_optimizers(name):
    card = weights.read(name)[1]
    for k in range(10):
        paper = exposure(f"imagenet32_cnn3/{k}", card)
        assert (paper.mark, paper.num_classes, paper.num_images) == ("held-out", 10, 5500)
        assert (paper.trained, paper.choosing) == (NONE, NONE)
    for task in ("mnist28_cnn3", "digits8_mlp", "cifar10_cnn3"):
        assert exposure(task, card).mark == "out-of-distribution"


def test_tasks_that_chose_theta_are_marked_so():
    chosen_on = exposure("imagenet16_cnn3/outer_validation/0", card_of())
    # Its training images of ten classes scored the unrolls that chose theta.
    assert (chosen_on.mark, chosen_on.trained, chosen_on.choosing) == ("used for choosing", NONE, Overlap(10, 4000))
    silent = card_of(facts={key: value for key, value in FACTS.items() if key != "outer_validation_loss"})
    assert exposure("imagenet16_cnn3/outer_validation/0", silent).mark == "held-out"


SHIPPED = "lopt_ortho_small"  # begun from its design alone


def rows(theta_sha256, names=("imagenet16_cnn3/0", "digits8_mlp", "plugged"), learned=SHIPPED):
    """A finished run of three optimizers on each task."""
    cells = []
    for task in names:
        for optimizer, role in (("adam", "hand-designed"), (learned, "learned"), ("adam_10x", "control")):
            values = {"theta_sha256": theta_sha256} if role == "learned" else {}
            config = {"kind": "train", "suite": "s", "task": task, "family": task.split("/")[0], "horizon": 200}
            config |= {"optimizer": optimizer, "role": role, "seed": 0, "hyperparameters": values}
            name = f"{task} {optimizer}"
            record = Record(cell=name, config=config, status=Status.OK, started_at="", provenance={})
            cells.append(cell_row(record, "local"))
    curves = pd.DataFrame([(c["cell"], 0, "train_loss", 1.0) for c in cells], columns=CURVE_COLUMNS)
    return read_rows(pd.DataFrame(cells), curves)


def test_a_card_for_each_learned_optimizer_of_the_rows():
    theta = resolve(SHIPPED, "", 1).identity["theta_sha256"]
    (card,) = cards(rows(theta))
    assert card.optimizer == SHIPPED
    assert card.outer_training == outer_training(weights.read(SHIPPED)[1])
    assert {exposure.task: exposure.mark for exposure in card.exposures} == {
        "imagenet16_cnn3/0": "held-out",
        "digits8_mlp": "out-of-distribution",
        "plugged": "unknown",
    }
    state = card.bytes_per_parameter
    assert state["plugged"] == {}
    assert list(state["digits8_mlp"]) == [SHIPPED, "adam"]
    size = tasks.task.num_params(tasks.FAMILIES["digits8_mlp"].problem)
    assert state["digits8_mlp"]["adam"] == pytest.approx(8 + 4 / size)


def test_what_weights_began_from_counts_as_seen_and_as_cost():
    _, card = weights.read(SHIPPED)
    tuned = dataclasses.replace(
        card,
        name="tuned",
        outer_training=card.outer_training
        | {"objective": "validation", "stages": [{"num_steps": 5000, "outer_steps": 8}], "family": "imagenet32_cnn3"},
        facts=card.facts | {"outer_step": 8, "begun_from": {"theta_sha256": "a", **dataclasses.asdict(card)}},
    )
    before, found = outer_training(card), outer_training(tuned)
    assert (before.splits, found.splits) == (("train",), ("train", "validation"))
    assert (found.family, found.horizon) == ("imagenet32_cnn3", 5000)
    assert found.inner_steps == 2 * before.inner_steps
    assert found.total_device_hours == pytest.approx(2 * before.total_device_hours)
    assert trained_images(tuned).images > trained_images(card).images
    assert found.classes == before.classes


def test_rows_of_another_theta_than_the_shipped_one_are_marked_unknown():
    (card,) = cards(rows("0" * 16))
    assert card.outer_training is None
    assert {exposure.mark for exposure in card.exposures} == {"unknown"}
    json.dumps(dataclasses.asdict(card))  # plain data


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_others_outer_trained_on_is_said_of_the_weights_that_they_published(name):
    row = ELSEWHERE[name]
    marks = {task: exposure(task, row).mark for task in ("mnist14_mlp", "cifar10_cnn3", "digits8_mlp")}
    if row.data_sets is None:
        assert set(marks.values()) == {"unknown"}
    else:
        assert marks == {
            "mnist14_mlp": "in-distribution",
            "cifar10_cnn3": "in-distribution",
            "digits8_mlp": "out-of-distribution",
        }
        # Of 70,000 images all but the 10,000 of the official test set.
        assert exposure("mnist28_cnn3", row).trained == Overlap(10, 60_000)
    (card,) = cards(rows(row.theta_sha256[:16], ["digits8_mlp"], learned=name))
    assert (card.by_others, card.outer_training, card.payback) == (row.outer_training, None, None)
    assert card.bytes_per_parameter["digits8_mlp"][name] > 8  # by its shapes, without weights
    table = next(table for table in card_tables([card], None) if table.slug.startswith("outer_training"))
    assert row.outer_training in {entry.text for line in table.rows for entry in line}
    (other,) = cards(rows("0" * 16, ["digits8_mlp"], learned=name))
    assert (other.by_others, other.exposures[0].mark) == (None, "unknown")


def test_runs_that_repay_outer_training_are_those_whose_saved_seconds_add_up_to_it():
    """The reference takes 100 steps of 2 ms to its hard target, the learned one 25 of 4 ms: 0.1 s less."""
    runs = {"t": {"adam": [synthetic.falling(0.01)] * 5, "lopt": [synthetic.falling(0.04)] * 5}}
    blocks = {"t": {"adam": [0.002] * 6, "lopt": [0.004] * 6}}
    found_rows = synthetic.rows_of(runs, blocks, {"lopt": "learned"})
    known = outer_training(weights.read(SHIPPED)[1])
    device = json.loads(found_rows.train["config"].iloc[0]).get("device_kind")
    known = dataclasses.replace(known, device=device, total_device_hours=1.0)
    found = payback(found_rows, {"t": synthetic.frozen({"adam": (2.0, 2.5, 2.75)})}, "lopt", known)
    assert (found.outer_training_sec, found.reference) == (3600, "adam")
    assert found.saved_sec == pytest.approx(100 * 0.002 - 25 * 0.004)
    assert found.runs(with_tuning=False) == pytest.approx(36000)
    assert found.tuning_sec == 0  # "t" is no family that ships tuned values
    half = dataclasses.replace(found, tuning_sec=1800.0)
    assert half.runs(with_tuning=True) == pytest.approx(18000)
    assert dataclasses.replace(found, saved_sec=-0.1).runs(with_tuning=False) == math.inf
    assert payback(found_rows, {}, "lopt", known) is None
    # One that never arrives saves nothing, however cheap its steps.
    cheap = {"t": {"adam": [0.002] * 6, "lopt": [0.0001] * 6}}
    runs["t"]["lopt"] = [synthetic.falling(0.001)] * 5
    missing = synthetic.rows_of(runs, cheap, {"lopt": "learned"})
    missed = payback(missing, {"t": synthetic.frozen({"adam": (2.0, 2.5, 2.75)})}, "lopt", known)
    assert (missed.missed, missed.num_tasks, missed.runs(with_tuning=True)) == (1, 1, math.inf)
    assert payback_text(missed) == "no number of runs: on 1 of 1 task half of its runs never reach the hard target"
    # What the design had before outer-training is not its doing.
    assert found.before is None
    assert "36,000 runs to the hard target, each 0.1 s shorter than with adam" in payback_text(found)
    before = dataclasses.replace(found, before=Interval(0.96, 0.92, 1.003, 5))
    assert payback_text(before).startswith("no number of runs that is known: before it the hard target takes 0.960 [")
    assert payback_text(dataclasses.replace(found, before=Interval(1.5, 1.2, 1.8, 5))) == payback_text(found)
    elsewhere = dataclasses.replace(known, device="another")
    assert payback(found_rows, {"t": synthetic.frozen({"adam": (2.0, 2.5, 2.75)})}, "lopt", elsewhere) is None


def test_the_runs_of_a_tuning_are_counted_over_its_rounds():
    # 32 trials on two tasks, three rerun with three seeds on both, in each round.
    assert _tuning_runs("digits8_mlp", 500, "adam") % (64 + 18) == 0
    assert _tuning_runs("digits8_mlp", 500, "nobody") == 0
