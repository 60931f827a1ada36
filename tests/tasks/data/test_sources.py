"""What is read from the sources, and how it is split."""

import numpy as np
import pytest

from tasks import data
from tasks.data import sources
from tests.helpers import source_dir

DIGESTS = {
    "digits8": "cc872ad9a9ae9cdfea92f7ea2214f3139357ee25bb3161a0ec619b7c98eabdfb",
    "mnist28": "bc0cf6345227539ea5be1e45f1f87c231a8e7c833723714652c65d2ed155442c",
    "imagenet32": "de2b0be337403253c7e84e0ca13269089efb4d24e6b37717c61cfcb4ac4a613a",
}


@pytest.fixture(scope="session")
def mnist(cache_dir):
    return data.load("mnist28", data_dir=source_dir("mnist28"), cache_dir=cache_dir)


@pytest.fixture(scope="session")
def imagenet(cache_dir):
    return data.load("imagenet32", data_dir=source_dir("imagenet32"), cache_dir=cache_dir)


def pixels(images):
    return [image.tobytes() for image in images.reshape(-1, *images.shape[-3:])]


# Contents -------------------------------------------------------------------------------------------------------------


def test_digits_are_complete_and_its_splits_disjoint(digits):
    index = np.concatenate([digits.arrays[f"{split}_index"] for split in data.SPLITS])
    assert sorted(index) == list(range(1797))
    assert [len(digits.arrays[f"{split}_index"]) for split in data.SPLITS] == [1197, 300, 300]
    images = [image for split in data.SPLITS for image in pixels(digits.arrays[f"{split}_images"])]
    assert len(set(images)) == 1797


def test_digits_keep_the_pixels_and_labels_of_the_source(digits):
    from sklearn.datasets import load_digits

    source = load_digits()
    for split in data.SPLITS:
        index = digits.arrays[f"{split}_index"]
        np.testing.assert_array_equal(digits.arrays[f"{split}_images"][..., 0], source.images[index])
        np.testing.assert_array_equal(digits.arrays[f"{split}_labels"], source.target[index])
        assert set(digits.arrays[f"{split}_labels"].tolist()) == set(range(10))


def test_digits_digest_is_pinned(digits):
    assert digits.digest == DIGESTS["digits8"] == data.digest_arrays(digits.arrays)


@pytest.mark.slow
def test_mnist_is_complete_and_its_splits_disjoint(mnist):
    arrays = mnist.arrays
    np.testing.assert_array_equal(arrays["train_index"], np.arange(50_000))
    np.testing.assert_array_equal(arrays["validation_index"], np.arange(50_000, 60_000))
    np.testing.assert_array_equal(arrays["test_index"], np.arange(10_000))
    keys = {split: set(pixels(arrays[f"{split}_images"])) for split in data.SPLITS}
    assert not keys["train"] & keys["validation"]
    assert not (keys["train"] | keys["validation"]) & keys["test"]
    for split, size in zip(data.SPLITS, (50_000, 10_000, 10_000), strict=True):
        assert arrays[f"{split}_images"].shape == (size, 28, 28, 1)
        assert set(arrays[f"{split}_labels"].tolist()) == set(range(10))


@pytest.mark.slow
def test_mnist_digest_is_pinned(mnist):
    assert mnist.digest == DIGESTS["mnist28"]


@pytest.mark.slow
def test_imagenet_has_120_classes_of_400_100_50_images(imagenet):
    for split, per_class in (("train", 400), ("validation", 100), ("test", 50)):
        assert imagenet.arrays[f"{split}_images"].shape == (120, per_class, 32, 32, 3)
        assert imagenet.arrays[f"{split}_images"].dtype == np.uint8
        assert imagenet.arrays[f"{split}_index"].shape == (120, per_class)
        assert f"{split}_labels" not in imagenet.arrays
    assert sorted(imagenet.arrays["class_labels"].tolist()) == list(sources.IMAGENET_LABELS)


@pytest.mark.slow
def test_imagenet_splits_are_disjoint_by_source_index(imagenet):
    train, validation, test = (imagenet.arrays[f"{split}_index"] for split in data.SPLITS)
    assert not set(train.ravel().tolist()) & set(validation.ravel().tolist())
    # Slots of dropped duplicates repeat an index: 6 of train and 2 of validation.
    assert len(np.unique(train)) == 120 * 400 - 6
    assert len(np.unique(validation)) == 120 * 100 - 2
    assert len(np.unique(test)) == 120 * 50


@pytest.mark.slow
def test_imagenet_splits_are_disjoint_by_pixels(imagenet):
    train, validation, test = (set(pixels(imagenet.arrays[f"{split}_images"])) for split in data.SPLITS)
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.slow
def test_imagenet_digest_is_pinned(imagenet):
    assert imagenet.digest == DIGESTS["imagenet32"]
    assert "non-commercial" in imagenet.note


def test_pools_are_80_20_20_classes_and_disjoint():
    rows = [set(range(120)[pool]) for pool in data.POOLS.values()]
    assert list(data.POOLS) == ["outer_train", "outer_validation", "evaluation"]
    assert [len(pool) for pool in rows] == [80, 20, 20]
    assert set.union(*rows) == set(range(120))
    assert len(set(sources.IMAGENET_LABELS)) == 120


# Splitting, on hand-sized sources -------------------------------------------------------------------------------------


class FakeReader:
    def __init__(self, labels):
        self.labels = labels

    def examples(self, split):
        for index, label in enumerate(self.labels):
            yield index, np.full((1, 1, 1), index, np.uint8), label

    def damaged(self, what):
        return data.DamagedDataError(what)


def test_a_class_gives_its_first_and_last_images_and_other_classes_are_left_out():
    reader = FakeReader([5, 7, 5, 9, 5, 5, 7, 7, 9, 5])
    kept = sources._by_class(reader, "train", [7, 5], first=2, last=1)  # pyright: ignore[reportArgumentType]
    assert {label: [index for index, _ in images] for label, images in kept.items()} == {5: [0, 2, 9], 7: [1, 6, 7]}


def test_a_class_with_too_few_images_is_refused():
    with pytest.raises(data.DamagedDataError, match=r"\{7: 1\}"):
        sources._by_class(FakeReader([5, 5, 5, 7]), "train", [5, 7], 2, 1)  # pyright: ignore[reportArgumentType]


def duplicates(train, validation, test):
    """One pixel an image, and its index 10 times its position."""
    parts = {"train": train, "validation": validation, "test": test}
    arrays = {f"{split}_images": np.array(rows, np.uint8)[..., None, None, None] for split, rows in parts.items()}
    for split, rows in parts.items():
        arrays[f"{split}_index"] = np.arange(np.size(rows), dtype=np.int32).reshape(np.shape(rows)) * 10
    return arrays


def test_a_dropped_duplicate_repeats_the_first_surviving_image_of_its_class_and_split():
    # 9 is in test and train row 0; 8 in test and validation row 1; 7 in validation row 0 and train row 1.
    arrays = duplicates([[9, 1, 2], [3, 4, 7]], [[7, 5], [6, 8]], [[9], [8]])
    assert sources.drop_duplicates(arrays) == {"test": 0, "validation": 1, "train": 2}
    assert arrays["train_images"][..., 0, 0, 0].tolist() == [[1, 1, 2], [3, 4, 3]]
    assert arrays["train_index"].tolist() == [[10, 10, 20], [30, 40, 30]]
    assert arrays["validation_images"][..., 0, 0, 0].tolist() == [[7, 5], [6, 6]]
    assert arrays["validation_index"].tolist() == [[0, 10], [20, 20]]
    assert arrays["test_images"][..., 0, 0, 0].tolist() == [[9], [8]]


def test_copies_within_one_split_stay():
    arrays = duplicates([[1, 1], [1, 2]], [[5], [6]], [[7], [8]])
    assert sources.drop_duplicates(arrays) == {"test": 0, "validation": 0, "train": 0}


def test_a_class_without_survivors_is_refused():
    with pytest.raises(ValueError, match="class row 0"):
        sources.drop_duplicates(duplicates([[1, 1]], [[2]], [[1]]))
