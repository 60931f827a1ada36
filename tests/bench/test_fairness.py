"""What a learned optimizer had seen before: overlaps by hand, and marks of the shipped one."""

import dataclasses
import json
import math

import pandas as pd
import pytest

import tasks
from bench.entries.entrants import resolve
from bench.report.fairness import payback_text
from bench.score.exposure import (
    CLASS_LABELS,
    Images,
    Overlap,
    architecture,
    choosing_images,
    mark_of,
    outer_training,
    pool_images,
    task_images,
    trained_images,
)
from bench.score.fairness import _exposure, _tuning_runs, cards, payback
from bench.store.record import CURVE_COLUMNS, cell_row
from bench.store.rows import read_rows
from learned import weights
from tasks import data
from tests.bench import synthetic
from tests.helpers import source_dir

NONE = Overlap(0, 0)


def tiny(data_set, *images):
    return Images(data_set, frozenset(label for label, _, _ in images), frozenset(images))


STAGES = [{"num_steps": 50, "outer_steps": 300}, {"num_steps": 200, "outer_steps": 500}]
FACTS = {"outer_step": 310, "inner_steps": 272_000, "device_hours": 0.1, "device": "cpu", "outer_validation_loss": 1.9}


def card_of(family="imagenet16_cnn3", objective="train", facts=FACTS):
    """Theta taken in the second stage, after outer-validation."""
    outer = {"family": family, "objective": objective, "stages": STAGES}
    return weights.Card("mine", "per_parameter_mlp", {}, outer, facts)


def test_overlap_by_hand():
    cats = tiny("a", (1, "train", 0), (1, "train", 1), (2, "train", 0))
    assert cats.overlap(cats) == Overlap(2, 3)
    assert cats.overlap(tiny("a", (1, "train", 1), (3, "train", 0))) == Overlap(1, 1)
    assert cats.overlap(tiny("a", (1, "test", 1), (2, "validation", 0))) == Overlap(2, 0)  # classes, but no image
    assert cats.overlap(tiny("b", (1, "train", 0))) == NONE


@pytest.mark.parametrize(
    ("trained", "choosing", "same_kind", "mark"),
    [
        (Overlap(1, 1), Overlap(1, 1), True, "in-distribution"),
        (Overlap(1, 0), Overlap(1, 5), True, "used for choosing"),
        (Overlap(1, 0), NONE, True, "held-out"),
        (NONE, NONE, False, "out-of-distribution"),
    ],
)
def test_marks_by_hand(trained, choosing, same_kind, mark):
    assert mark_of(trained, choosing, same_kind) == mark


def test_pools_are_disjoint_and_tasks_lie_in_theirs():
    pools = {pool: pool_images("imagenet16_cnn3", pool) for pool in data.POOLS}
    assert {pool: len(images.classes) for pool, images in pools.items()} == {
        "outer_train": 80,
        "outer_validation": 20,
        "evaluation": 20,
    }
    assert len(pools["evaluation"].images) == 20 * (400 + 100 + 50)
    assert pools["outer_train"].overlap(pools["evaluation"]) == NONE
    assert pools["outer_train"].overlap(pools["outer_validation"]) == NONE
    task = task_images("imagenet32_cnn3/3")  # another image size, the same images
    assert task.overlap(pools["evaluation"]) == Overlap(10, 5500)


def test_a_data_set_without_pools_is_one_set_of_images():
    digits = task_images("digits8_mlp")
    assert (digits.classes, len(digits.images)) == (frozenset(range(10)), 1797)
    assert digits == task_images("digits8_cnn3")


def exposure(task, card):
    return _exposure(task, 200, card)


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


def test_outer_training_on_its_own_classes_is_in_distribution():
    card = card_of()
    own, trained = pool_images("imagenet32_cnn3", "outer_train"), trained_images(card)
    shared = own.overlap(trained)
    assert shared == Overlap(80, 80 * 400)
    assert mark_of(shared, own.overlap(choosing_images(card)), True) == "in-distribution"
    # And on one data set, whatever the architecture: all of its images were there.
    digits = card_of("digits8_cnn3", "validation")
    assert exposure("digits8_mlp", digits).mark == "in-distribution"
    assert exposure("digits8_mlp", digits).trained == Overlap(10, 1197 + 300)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("imagenet16_cnn3", "imagenet*_cnn3"),
        ("imagenet32_cnn3", "imagenet*_cnn3"),
        ("mnist28_cnn3_batch128", "mnist*_cnn3_batch128"),
        ("digits8_mlp", "digits*_mlp"),
    ],
)
def test_the_architecture_is_the_name_without_the_image_size(family, expected):
    assert architecture(family) == expected


def test_outer_training_is_read_from_the_card():
    found = outer_training(card_of())
    assert (found.family, found.data_set, found.splits) == ("imagenet16_cnn3", "imagenet32", ("train",))
    assert (len(found.classes), found.num_images, len(found.choosing_classes)) == (80, 32_000, 20)
    assert set(found.classes) | set(found.choosing_classes) < set(data.sources.IMAGENET_LABELS)
    assert (found.objective, found.horizon, found.inner_steps, found.device_hours) == ("train", 200, 272_000, 0.1)
    assert outer_training(card_of(facts=FACTS | {"outer_step": 300})).horizon == 50
    on_validation = outer_training(card_of(objective="validation"))
    assert (on_validation.splits, on_validation.num_images) == (("train", "validation"), 40_000)


SHIPPED = "lopt_ortho_small"  # begun from its design alone


def rows(theta_sha256, names=("imagenet16_cnn3/0", "digits8_mlp", "plugged")):
    """A finished run of three optimizers on each task."""
    cells = []
    for task in names:
        for optimizer, role in (("adam", "hand-designed"), (SHIPPED, "learned"), ("adam_10x", "control")):
            values = {"theta_sha256": theta_sha256} if role == "learned" else {}
            config = {"kind": "train", "suite": "s", "task": task, "family": task.split("/")[0], "horizon": 200}
            config |= {"optimizer": optimizer, "role": role, "seed": 0, "hyperparameters": values}
            record = {"cell": f"{task} {optimizer}", "config": config, "status": "ok", "started_at": "", "checksum": ""}
            cells.append(cell_row(record | {"provenance": {}}, "local"))
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
    size = tasks.base.num_params(tasks.FAMILIES["digits8_mlp"].problem)
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


def test_runs_that_repay_outer_training_are_those_whose_saved_seconds_add_up_to_it():
    """The reference takes 100 steps of 2 ms to its hard target, the learned one 25 of 4 ms: 0.1 s less."""
    runs = {"t": {"adam": [synthetic.falling(0.01)] * 5, "lopt": [synthetic.falling(0.04)] * 5}}
    blocks = {"t": {"adam": [0.002] * 6, "lopt": [0.004] * 6}}
    found_rows = synthetic.rows_of(runs, blocks, {"lopt": "learned"})
    known = outer_training(weights.read(SHIPPED)[1])
    device = json.loads(found_rows.train["config"].iloc[0]).get("device_kind")
    known = dataclasses.replace(known, device=device, total_device_hours=1.0)
    found = payback(found_rows, {"t": synthetic.frozen({"adam": (2.0, 2.5, 2.75)})}, "lopt", known)
    assert (found.seconds, found.reference) == (3600, "adam")
    assert found.saved == pytest.approx(100 * 0.002 - 25 * 0.004)
    assert found.runs(with_tuning=False) == pytest.approx(36000)
    assert found.tuning == 0  # "t" is no family that ships tuned values
    half = dataclasses.replace(found, tuning=1800.0)
    assert half.runs(with_tuning=True) == pytest.approx(18000)
    assert dataclasses.replace(found, saved=-0.1).runs(with_tuning=False) == math.inf
    assert payback(found_rows, {}, "lopt", known) is None
    # One that never arrives saves nothing, however cheap its steps.
    cheap = {"t": {"adam": [0.002] * 6, "lopt": [0.0001] * 6}}
    runs["t"]["lopt"] = [synthetic.falling(0.001)] * 5
    missing = synthetic.rows_of(runs, cheap, {"lopt": "learned"})
    missed = payback(missing, {"t": synthetic.frozen({"adam": (2.0, 2.5, 2.75)})}, "lopt", known)
    assert (missed.missed, missed.num_tasks, missed.runs(with_tuning=True)) == (1, 1, math.inf)
    assert payback_text(missed) == "no number of runs: on 1 of 1 task half of its runs never reach the hard target"
    elsewhere = dataclasses.replace(known, device="another")
    assert payback(found_rows, {"t": synthetic.frozen({"adam": (2.0, 2.5, 2.75)})}, "lopt", elsewhere) is None


def test_the_runs_of_a_tuning_are_counted_over_its_rounds():
    # 32 trials on two tasks, three rerun with three seeds on both, in each round.
    assert _tuning_runs("digits8_mlp", 500, "adam") % (64 + 18) == 0
    assert _tuning_runs("digits8_mlp", 500, "nobody") == 0


@pytest.mark.slow
def test_the_places_are_disjoint_in_the_source_itself(cache_dir):
    """What the module claims of ImageNet's own index; the numbers are those of the copy of the published results."""
    source = data.load("imagenet32", data_dir=source_dir("imagenet32"), cache_dir=cache_dir)
    arrays, repeats = source.arrays, 0
    assert tuple(arrays["class_labels"].tolist()) == CLASS_LABELS["imagenet32"]
    seen = {"train": set(), "validation": set()}
    for split, official in (("train", "train"), ("validation", "train"), ("test", "validation")):
        for row in arrays[f"{split}_index"].tolist():
            assert not seen[official] & set(row)
            seen[official] |= set(row)
            repeats += len(row) - len(set(row))
    pools = [arrays["train_images"][pool].reshape(-1, 32 * 32 * 3) for pool in (data.OUTER_TRAIN, data.EVALUATION)]
    trained, evaluated = ({image.tobytes() for image in images} for images in pools)
    if source.digest.startswith("de2b0be337403253"):
        assert (repeats, len(trained & evaluated)) == (8, 1)
