"""Where each data set comes from and how it is split: scikit-learn's digits, and MNIST, CIFAR-10 and ImageNet 32x32
from TFDS.

Every split is a pure function of the source's own order: shuffles are written as "order by sha256 of a string", which
depends on no random number generator and so on no library version.
"""

import hashlib
import importlib.metadata
import json
import logging
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.cache import SPLITS, DamagedDataError, DataSet, MissingDataError, digest_arrays, freeze, one_line

Progress = Callable[[int, int], None]  # (examples done, examples in total)
Arrays = dict[str, np.ndarray]

CHUNK = 1_000  # examples a read; about twice as fast as one at a time


@dataclass(frozen=True)
class Source:
    """A row of `DATA_SETS`: one data set, before anything is read."""

    reader: Callable[["Source", Path, Progress], Arrays]
    source: str  # what a record names
    version: str
    note: str
    builder: str | None  # the TFDS builder, or None where the data comes with an installed package
    image_shape: tuple[int, int, int]
    splits: tuple[str, ...]  # the source's own splits


def decode(name: str, row: Source, data_dir: Path, progress: Progress | None) -> DataSet:
    """Decode a data set from its source and split it."""
    arrays = row.reader(row, data_dir, progress or (lambda done, total: None))
    return DataSet(name, row.version, row.source, row.note, digest_arrays(arrays), freeze(arrays))


# Reading TFDS ---------------------------------------------------------------------------------------------------------


def build_command(row: Source, data_dir: Path) -> str:
    """Return the command that downloads and prepares a TFDS data set in the one format we can read."""
    folder = shlex.quote(str(data_dir))
    return f"pip install 'lopt-bench[data]' && tfds build {row.builder} --file_format=array_record --data_dir {folder}"


def source_problem(row: Source, data_dir: Path) -> tuple[str, str] | None:
    """Return what is wrong with the prepared TFDS folder of `row` and the command that mends it; None if all is there.

    Data that is prepared in another format, as by `tfds build` without an option, can be converted where it lies.

    Looks at the folder only. Asking TFDS instead would answer that "TFRECORD is not supported" when nothing is there.
    """
    folder, build = data_dir / str(row.builder), build_command(row, data_dir)
    version_folder = folder / row.version
    if not version_folder.is_dir():
        found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        if found:
            return f"found only {', '.join(found)} in {folder}, and version {row.version} is needed", build
        return f"looked in {folder}", build
    try:
        info = json.loads((version_folder / "dataset_info.json").read_text())
        formats = [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", ())]
        shards = {split["name"]: len(split["shardLengths"]) for split in info["splits"]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{version_folder} has no readable dataset_info.json, its preparation may have been interrupted", build
    if "array_record" not in formats:
        convert = f"tfds convert_format --dataset_version_dir={shlex.quote(str(version_folder))}"
        return (
            f"{version_folder} is prepared as {', '.join(formats)}, and array_record is needed",
            f"pip install 'lopt-bench[data]' && {convert} --out_file_format=array_record",
        )
    for split in row.splits:
        count = shards.get(split, 0)
        present = len(list(version_folder.glob(f"*-{split}.array_record-*-of-{count:05d}")))
        if count == 0 or present < count:
            there = f"{present} of {max(count, 1)} files of its {split} split are there"
            return f"{version_folder} is incomplete, {there}", build
    return None


class _TfdsReader:
    """The official splits of one prepared data set, read in order, with progress over all of them."""

    def __init__(self, row: Source, data_dir: Path, progress: Progress):
        self.row, self.data_dir, self.progress, self.done = row, data_dir, progress, 0
        try:
            with _quiet_tfds():
                import tensorflow_datasets as tfds
        except ImportError as error:
            raise MissingDataError(
                f"{row.source} is not cached and reading it needs tensorflow-datasets, which does not import "
                f"({one_line(error)}); get it with: pip install tensorflow-datasets"
            ) from error
        with self._reading():
            self.sources: dict[str, Any] = {
                # The version is named, so a newer one beside it changes no result.
                split: tfds.data_source(
                    f"{row.builder}:{row.version}", split=split, data_dir=str(data_dir), download=False
                )
                for split in row.splits
            }
            self.total = sum(len(source) for source in self.sources.values())

    def examples(self, split: str) -> Iterator[tuple[int, np.ndarray, int]]:
        """Yield (position in the official split, image, label)."""
        source = self.sources[split]
        for start in range(0, len(source), CHUNK):
            indices = list(range(start, min(start + CHUNK, len(source))))
            with self._reading():
                chunk = source.__getitems__(indices)
            for index, example in zip(indices, chunk, strict=True):
                if example["image"].shape != self.row.image_shape or example["image"].dtype != np.uint8:
                    raise self.damaged(f"image {index} of {split} is not uint8 {self.row.image_shape}")
                yield index, example["image"], int(example["label"])
            self.done += len(indices)
            self.progress(self.done, self.total)

    def damaged(self, what: str) -> DamagedDataError:
        """Return the error that says what is wrong with the prepared files and how to prepare them again."""
        return DamagedDataError(
            f"damaged source {self.data_dir / str(self.row.builder) / self.row.version}: {what}; "
            f"delete it and prepare it again with: {build_command(self.row, self.data_dir)}"
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn whatever TFDS and array_record raise on unreadable files (RuntimeError, OSError, ..) into one line."""
        try:
            with _quiet_tfds():
                yield
        except MemoryError:
            raise
        except Exception as error:
            raise self.damaged(one_line(f"{type(error).__name__}: {error}")[:300]) from error


@contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Silence what TFDS says that no user of ours can act on.

    It logs advice to install OpenCV, and a newer Python deprecates what its generated protobuf code calls.
    """
    # Made by absl when TFDS is imported; made here first it would lack absl's class.
    logger = logging.Logger.manager.loggerDict.get("absl")
    logger = logger if isinstance(logger, logging.Logger) else None
    level = logger.level if logger else logging.NOTSET
    if logger:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        if logger:
            logger.setLevel(level)


# digits8 --------------------------------------------------------------------------------------------------------------

DIGITS_SIZES = {"train": 1_197, "validation": 300, "test": 300}


def read_digits(row: Source, data_dir: Path, progress: Progress) -> Arrays:
    """Read the 1,797 digits that come with scikit-learn; pixel values are its own, 0..16.

    Its file is read as `load_digits` reads it, to import which takes every process of a run seconds.
    """
    del data_dir
    path = importlib.metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(path), np.uint8, delimiter=",")
    images, labels = table[:, :-1].reshape(-1, *row.image_shape), table[:, -1].astype(np.int32)
    order = np.array(_fixed_shuffle("digits8", range(len(images))), np.int32)
    ends = np.cumsum([DIGITS_SIZES[split] for split in SPLITS])
    arrays: Arrays = {}
    for split, index in zip(SPLITS, np.split(order, ends[:-1]), strict=True):
        arrays |= {f"{split}_images": images[index], f"{split}_labels": labels[index], f"{split}_index": index}
    progress(len(images), len(images))
    return arrays


# mnist28 --------------------------------------------------------------------------------------------------------------

MNIST_TRAIN = 50_000  # of the official 60,000; the rest is our validation


def read_mnist(row: Source, data_dir: Path, progress: Progress) -> Arrays:
    """Read MNIST: the first 50,000 official training images, the last 10,000 as validation, the official test set."""
    return _read_labelled(row, data_dir, progress, {"train": 60_000, "test": 10_000}, MNIST_TRAIN)


def _read_labelled(
    row: Source, data_dir: Path, progress: Progress, official: Mapping[str, int], num_train: int
) -> Arrays:
    reader = _TfdsReader(row, data_dir, progress)
    sizes = {split: len(source) for split, source in reader.sources.items()}
    if sizes != official:
        raise reader.damaged(f"expected {official['train']} train and {official['test']} test images, got {sizes}")
    train, test = _stack(reader.examples("train")), _stack(reader.examples("test"))
    parts = {
        "train": [array[:num_train] for array in train],
        "validation": [array[num_train:] for array in train],
        "test": test,
    }
    keys = ("index", "images", "labels")
    return {f"{split}_{key}": array for split in SPLITS for key, array in zip(keys, parts[split], strict=True)}


def _stack(examples: Iterable[tuple[int, np.ndarray, int]]) -> list[np.ndarray]:
    index, images, labels = zip(*examples, strict=True)
    return [np.array(index, np.int32), np.stack(images), np.array(labels, np.int32)]


# cifar10 --------------------------------------------------------------------------------------------------------------

CIFAR_TRAIN = 45_000  # of the official 50,000; the rest is our validation


def read_cifar(row: Source, data_dir: Path, progress: Progress) -> Arrays:
    """Read CIFAR-10: the first 45,000 official training images, the last 5,000 as validation, the official test set."""
    return _read_labelled(row, data_dir, progress, {"train": 50_000, "test": 10_000}, CIFAR_TRAIN)


# imagenet32 -----------------------------------------------------------------------------------------------------------

# The official labels of the 120 classes in use. A source with all 1000 classes is read, and the others are left out.
IMAGENET_LABELS = (
    7, 10, 51, 58, 60, 82, 100, 107, 120, 136, 150, 172, 175, 189, 210, 219, 235, 255, 265, 267, 273, 274, 283, 288,
    309, 312, 326, 364, 365, 366, 373, 377, 422, 449, 485, 493, 498, 500, 514, 524, 526, 527, 542, 546, 547, 565, 569,
    577, 584, 590, 593, 599, 600, 602, 606, 607, 610, 616, 617, 621, 628, 629, 630, 632, 638, 642, 648, 653, 654, 667,
    670, 674, 677, 679, 707, 711, 717, 719, 721, 726, 728, 732, 733, 734, 745, 756, 761, 776, 798, 805, 812, 819, 826,
    838, 842, 844, 845, 846, 854, 879, 881, 883, 886, 895, 900, 922, 929, 935, 944, 961, 970, 973, 974, 979, 985, 986,
    988, 990, 994, 999,
)  # fmt: skip

# Pools of rows: classes for outer-training, for every choice made on the way, and for the evaluation only.
OUTER_TRAIN, OUTER_VALIDATION, EVALUATION = slice(0, 80), slice(80, 100), slice(100, 120)
POOLS = {"outer_train": OUTER_TRAIN, "outer_validation": OUTER_VALIDATION, "evaluation": EVALUATION}

PER_CLASS = {"train": 400, "validation": 100, "test": 50}


def read_imagenet(row: Source, data_dir: Path, progress: Progress) -> Arrays:
    """Read 120 classes of ImageNet 32x32, one class a row, rows in the fixed order that `POOLS` slices.

    Per class: train = the first 400 images of the official train split in its order, validation = its last 100, test =
    the official validation split's first 50. Then `drop_duplicates` across the three.
    """
    reader = _TfdsReader(row, data_dir, progress)
    labels = _fixed_shuffle("imagenet32", IMAGENET_LABELS)
    split_at = PER_CLASS["train"]
    official = {
        "train": _by_class(reader, "train", labels, split_at, PER_CLASS["validation"]),
        "validation": _by_class(reader, "validation", labels, PER_CLASS["test"], 0),
    }
    arrays: Arrays = {"class_labels": np.array(labels, np.int32)}
    for split, source, part in (
        ("train", "train", slice(None, split_at)),
        ("validation", "train", slice(split_at, None)),
        ("test", "validation", slice(None)),
    ):
        rows = [official[source][label][part] for label in labels]
        arrays[f"{split}_images"] = np.stack([np.stack([image for _, image in images]) for images in rows])
        arrays[f"{split}_index"] = np.array([[index for index, _ in images] for images in rows], np.int32)
    try:
        drop_duplicates(arrays)
    except ValueError as error:
        raise reader.damaged(str(error)) from error
    return arrays


def _by_class(
    reader: _TfdsReader, split: str, labels: Iterable[int], first: int, last: int
) -> dict[int, list[tuple[int, np.ndarray]]]:
    """Return the `first` first and `last` last (position, image) of each class, disjoint, in the source's order."""
    kept: dict[int, list[tuple[int, np.ndarray]]] = {label: [] for label in labels}
    for index, image, label in reader.examples(split):
        if label in kept:
            kept[label].append((index, image))
            if len(kept[label]) > first + last:
                del kept[label][first]
    short = {label: len(images) for label, images in kept.items() if len(images) < first + last}
    if short:
        raise reader.damaged(
            f"{first + last} {split} images a class are needed, some have fewer (label: count): {short}"
        )
    return kept


def drop_duplicates(arrays: Arrays) -> dict[str, int]:
    """Drop images that another split holds too, pixel for pixel and whatever their class; return how many, by split.

    The test copy stays and the train or validation copy goes; between train and validation the train copy goes. The
    arrays stay rectangular: a dropped slot of `*_images` and of `*_index` repeats the first surviving image of the same
    class and split, which is then drawn a little more often. Copies within one split stay, as in the source.
    """
    seen = {_key(image) for images in arrays["test_images"] for image in images}
    dropped = {"test": 0}
    for split in ("validation", "train"):
        images, index = arrays[f"{split}_images"], arrays[f"{split}_index"]
        keys = [[_key(image) for image in row] for row in images]
        dropped[split] = 0
        for i, row in enumerate(keys):
            drop = np.array([key in seen for key in row])
            if drop.all():
                raise ValueError(f"all {split} images of class row {i} are copies of images in other splits")
            images[i, drop], index[i, drop] = images[i, (~drop).argmax()], index[i, (~drop).argmax()]
            dropped[split] += int(drop.sum())
        seen.update(key for row in keys for key in row)
    return dropped


def _key(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def _fixed_shuffle(name: str, items: Iterable[int]) -> list[int]:
    return sorted(items, key=lambda item: hashlib.sha256(f"{name}:{item}".encode()).digest())


# The table ------------------------------------------------------------------------------------------------------------

DATA_SETS: Mapping[str, Source] = {
    "digits8": Source(
        reader=read_digits,
        source="sklearn.datasets.load_digits",
        version="1",
        note="",
        builder=None,
        image_shape=(8, 8, 1),
        splits=(),
    ),
    "mnist28": Source(
        reader=read_mnist,
        source="mnist",
        version="3.0.1",
        note="",
        builder="mnist",
        image_shape=(28, 28, 1),
        splits=("train", "test"),
    ),
    "cifar10": Source(
        reader=read_cifar,
        source="cifar10",
        version="3.0.2",
        note="Pixels depend on the copy, so compare digests: the copy of our published results is recompressed as JPEG "
        "(quality about 75), which serves to compare optimizers, not to quote accuracies.",
        builder="cifar10",
        image_shape=(32, 32, 3),
        splits=("train", "test"),
    ),
    "imagenet32": Source(
        reader=read_imagenet,
        source="imagenet_resized/32x32",
        version="0.1.0",
        note="For non-commercial research (ImageNet terms of use). 120 of 1000 classes. Pixels depend on the copy, so "
        "compare digests: the copy of our published results is 64x64 images averaged 2x2 and stored as JPEG 92.",
        builder="imagenet_resized/32x32",
        image_shape=(32, 32, 3),
        splits=("train", "validation"),
    ),
}
