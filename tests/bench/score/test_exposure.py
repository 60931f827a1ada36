"""What a learned optimizer had seen before: overlaps by hand."""

import pytest

from bench.score.exposure import (
    CLASS_LABELS,
    OUTER_TRAIN,
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
from tasks import data
from tests.bench.score.outer_trained import FACTS, NONE, card_of, exposure
from tests.helpers import source_dir


def tiny(data_set, *images):
    return Images(data_set, frozenset(label for label, _, _ in images), frozenset(images))


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


def test_labelled_images_are_the_same_images_each_counted_once():
    labelled, plain = (pool_images(f"imagenet16_mlp_128{kind}", OUTER_TRAIN) for kind in ("_labelled", ""))
    assert labelled == plain
    assert len(plain.images) == len(plain.classes) * 550  # of all splits


def test_a_data_set_without_pools_is_one_set_of_images():
    digits = task_images("digits8_mlp")
    assert (digits.classes, len(digits.images)) == (frozenset(range(10)), 1797)
    assert digits == task_images("digits8_cnn3")


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
        ("imagenet16_cnn3", "CNN, strides (2, 2, 1)"),
        ("imagenet32_cnn3", "CNN, strides (2, 2, 1)"),
        ("imagenet16_cnn_16x3", "CNN, strides (2, 2, 1)"),
        ("imagenet16_resnet", "ResNet, strides (2, 2)"),
        ("mnist28_mlp_wide", "MLP, 2 layers"),
    ],
)
def test_the_architecture_is_the_net_without_its_sizes(family, expected):
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
