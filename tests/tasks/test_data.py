import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tasks import data
from tasks.data import dataset, sources
from tests.helpers import source_dir

DIGESTS = {
    "digits8": "cc872ad9a9ae9cdfea92f7ea2214f3139357ee25bb3161a0ec619b7c98eabdfb",
    "mnist28": "bc0cf6345227539ea5be1e45f1f87c231a8e7c833723714652c65d2ed155442c",
    "imagenet32": "de2b0be337403253c7e84e0ca13269089efb4d24e6b37717c61cfcb4ac4a613a",
}
FROM_TFDS = [name for name, row in data.DATA_SETS.items() if row.builder]


@pytest.fixture(scope="session")
def digits():
    return data.load("digits8")


@pytest.fixture(scope="session")
def mnist(cache_dir):
    return data.load("mnist28", data_dir=source_dir("mnist28"), cache_dir=cache_dir)


@pytest.fixture(scope="session")
def imagenet(cache_dir):
    return data.load("imagenet32", data_dir=source_dir("imagenet32"), cache_dir=cache_dir)


def tiny(name="mnist28", fill=0):
    """A small data set under the name of a large one: the cache does not care about sizes."""
    row = data.DATA_SETS[name]
    arrays = {
        "train_images": np.full((2, 28, 28, 1), fill, np.uint8),
        "train_labels": np.arange(2, dtype=np.int32),
        "train_index": np.arange(2, dtype=np.int32),
    }
    return data.DataSet(name, row.version, row.source, row.note, data.digest_arrays(arrays), dataset.freeze(arrays))


def write_source(root, name, *, version=None, file_format="array_record", shards=1):
    """A prepared TFDS folder without its array files."""
    row = data.DATA_SETS[name]
    folder = root / row.builder / (version or row.version)
    folder.mkdir(parents=True)
    info = {
        "fileFormat": file_format,
        "splits": [{"name": split, "shardLengths": ["1"] * shards} for split in row.splits],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def pixels(images):
    return [image.tobytes() for image in images.reshape(-1, *images.shape[-3:])]


def assert_same(a, b):
    assert (a.name, a.version, a.source, a.note, a.digest) == (b.name, b.version, b.source, b.note, b.digest)
    assert a.arrays.keys() == b.arrays.keys()
    for key in a.arrays:
        assert a.arrays[key].dtype == b.arrays[key].dtype
        np.testing.assert_array_equal(a.arrays[key], b.arrays[key])


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


# Digest ---------------------------------------------------------------------------------------------------------------


def test_digest_depends_on_content_and_not_on_order_or_layout():
    a, b = np.arange(6, dtype=np.int32).reshape(2, 3), np.ones(2, np.uint8)
    digest = data.digest_arrays({"a": a, "b": b})
    assert data.digest_arrays({"b": b, "a": np.asfortranarray(a)}) == digest
    assert data.digest_arrays({"a": a.astype(">i4"), "b": b}) == digest
    others = [{"a": a.reshape(3, 2), "b": b}, {"a": a.astype(np.uint32), "b": b}, {"b": a, "a": b}, {"a": a}]
    assert len({digest, *map(data.digest_arrays, others)}) == 5


# Cache ----------------------------------------------------------------------------------------------------------------


def test_cache_returns_what_was_written(tmp_path):
    written = tiny()
    path = dataset.write_cache(written, tmp_path / "made" / "on the way")
    assert path.name == f"mnist28-3.0.1-{written.digest[:16]}.safetensors"
    assert os.listdir(path.parent) == [path.name]
    read = data.load("mnist28", cache_dir=path.parent, data_dir=tmp_path)
    assert_same(read, written)
    with pytest.raises(ValueError, match="read-only"):
        read.arrays["train_images"][0] = 1


def test_prepare_writes_a_file_that_reads_back_and_is_kept(tmp_path, digits):
    seen = []
    path = data.prepare("digits8", cache_dir=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1797, 1797)
    row = data.DATA_SETS["digits8"]
    read = dataset.read_cache(path, name="digits8", version=row.version, source=row.source, note=row.note)
    assert_same(read, digits)
    before = path.stat().st_mtime_ns
    assert data.prepare("digits8", cache_dir=tmp_path) == path
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"torn")
    assert data.prepare("digits8", cache_dir=tmp_path, force=True) == path
    assert data.prepare("digits8", cache_dir=tmp_path) == path


def test_force_replaces_cache_files_of_other_digests(tmp_path):
    stale = tmp_path / "digits8-1-0123456789abcdef.safetensors"
    stale.write_bytes(b"stale")
    path = data.prepare("digits8", cache_dir=tmp_path, force=True)
    assert list(tmp_path.iterdir()) == [path]


def damage_error(tmp_path):
    with pytest.raises(data.DamagedDataError) as caught:
        data.load("mnist28", cache_dir=tmp_path, data_dir=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    assert "bench prepare mnist28 --force" in message
    return message


def test_any_altered_byte_is_found(tmp_path):
    path = dataset.write_cache(tiny(), tmp_path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for position in (0, 7, 8, 20, header // 2, header, header + 1000, len(whole) - 1):
        altered = bytearray(whole)
        altered[position] ^= 1
        path.write_bytes(altered)
        damage_error(tmp_path)
    path.write_bytes(whole)
    assert_same(data.load("mnist28", cache_dir=tmp_path), tiny())


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_truncated_file_is_found(tmp_path, size):
    path = dataset.write_cache(tiny(), tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    assert path.name in damage_error(tmp_path)


def test_a_foreign_or_renamed_file_is_found(tmp_path):
    path = dataset.write_cache(tiny(), tmp_path)
    renamed = path.rename(tmp_path / "mnist28-3.0.1-0123456789abcdef.safetensors")
    assert "file name" in damage_error(tmp_path)
    other = dataset.write_cache(tiny("imagenet32"), tmp_path)
    other.replace(renamed)
    assert "its name is 'imagenet32'" in damage_error(tmp_path)


def test_two_cache_files_of_one_version_are_not_chosen_between(tmp_path):
    for fill in (0, 1):
        dataset.write_cache(tiny(fill=fill), tmp_path)
    assert "all but one" in damage_error(tmp_path)


def test_an_unusable_cache_folder_is_named_with_its_option(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(data.CacheError, match="--cache-dir") as caught:
        data.prepare("digits8", cache_dir=tmp_path / "file" / "cache")
    assert str(tmp_path / "file" / "cache") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(data.CacheError, match="No space left"):
        data.prepare("digits8", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_cached_data_needs_no_tensorflow_datasets(tmp_path):
    dataset.write_cache(tiny(), tmp_path)
    code = (
        "import sys; sys.modules['tensorflow_datasets'] = None\n"
        "from tasks import data\n"
        f"print(data.load('mnist28', cache_dir={str(tmp_path)!r}).digest)"
    )
    root = Path(data.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.split() == [tiny().digest]


def test_writers_and_readers_at_once_only_ever_see_a_whole_file(tmp_path):
    path = dataset.write_cache(tiny(), tmp_path)
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(dataset.write_cache, tiny(), tmp_path) for _ in range(40)]
        reads = [pool.submit(data.load, "mnist28", cache_dir=tmp_path) for _ in range(40)]
        assert {write.result() for write in writes} == {path}
        assert {read.result().digest for read in reads} == {tiny().digest}
    assert list(tmp_path.iterdir()) == [path]


# Missing and damaged sources ------------------------------------------------------------------------------------------


def missing_error(name, tmp_path):
    with pytest.raises(data.MissingDataError) as caught:
        data.load(name, data_dir=tmp_path / "tfds", cache_dir=tmp_path / "cache")
    message = str(caught.value)
    row = data.DATA_SETS[name]
    assert "\n" not in message
    assert message.startswith(f"{row.source} not found: ")
    assert str(tmp_path / "tfds" / row.builder) in message
    assert f"in cache {tmp_path / 'cache'}" in message
    assert f"tfds build {row.builder} --file_format=array_record --data_dir {tmp_path / 'tfds'}" in message
    assert "pip install 'lopt-bench[data]'" in message
    assert not (tmp_path / "cache").exists()
    location = data.locate(name, data_dir=tmp_path / "tfds", cache_dir=tmp_path / "cache")
    assert (location["status"], location["remedy"]) == ("missing", message)
    return message


@pytest.mark.parametrize("name", FROM_TFDS)
def test_missing_data_says_where_it_looked_and_how_to_get_it(name, tmp_path):
    assert "looked in" in missing_error(name, tmp_path)


@pytest.mark.parametrize("name", FROM_TFDS)
def test_a_wrong_version_is_named(name, tmp_path):
    write_source(tmp_path / "tfds", name, version="9.9.9")
    assert "found only 9.9.9 in" in missing_error(name, tmp_path)


def test_a_wrong_format_is_named(tmp_path):
    write_source(tmp_path / "tfds", "mnist28", file_format="tfrecord")
    assert "prepared as tfrecord" in missing_error("mnist28", tmp_path)


def test_an_incomplete_source_is_named(tmp_path):
    folder = write_source(tmp_path / "tfds", "mnist28", shards=2)
    assert "0 of 2 files of its train split" in missing_error("mnist28", tmp_path)
    (folder / "dataset_info.json").write_text("{")
    assert "dataset_info.json" in missing_error("mnist28", tmp_path)


def test_missing_tensorflow_datasets_is_named_when_it_is_needed(tmp_path, monkeypatch):
    folder = write_source(tmp_path, "mnist28")
    for split in ("train", "test"):
        (folder / f"mnist-{split}.array_record-00000-of-00001").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(data.MissingDataError, match="pip install tensorflow-datasets"):
        data.load("mnist28", data_dir=tmp_path, cache_dir=tmp_path)


def test_a_torn_source_is_one_line_and_not_cached(tmp_path):
    source = source_dir("mnist28") / "mnist" / "3.0.1"
    folder = tmp_path / "tfds" / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for file in source.iterdir():
        shutil.copyfile(file, folder / file.name)
    os.truncate(next(folder.glob("*-train.array_record-*")), 3_000_000)
    with pytest.raises(data.DamagedDataError, match="tfds build mnist") as caught:
        data.load("mnist28", data_dir=tmp_path / "tfds", cache_dir=tmp_path / "cache")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


# Finding --------------------------------------------------------------------------------------------------------------


def test_an_unknown_name_answers_with_the_known_ones(tmp_path):
    for function in (data.load, data.prepare, data.locate):
        with pytest.raises(ValueError, match="digits8, mnist28, cifar10, imagenet32"):
            function("mnist", cache_dir=tmp_path)


def test_locate_tells_embedded_available_cached_and_damaged_apart(tmp_path, digits):
    tfds, cache = tmp_path / "tfds", tmp_path / "cache"
    location = data.locate("digits8", data_dir=tfds, cache_dir=cache)
    assert (location["status"], location["digest"], location["remedy"]) == ("embedded", digits.digest, "")

    folder = write_source(tfds, "mnist28")
    for split in ("train", "test"):
        (folder / f"mnist-{split}.array_record-00000-of-00001").write_bytes(b"")
    location = data.locate("mnist28", data_dir=tfds, cache_dir=cache)
    assert (location["status"], location["source_dir"], location["cached"]) == ("available", str(folder), None)
    assert location["remedy"] == "bench prepare mnist28"

    path = dataset.write_cache(tiny(), cache)
    location = data.locate("mnist28", data_dir=tfds, cache_dir=cache)
    assert (location["status"], location["cached"], location["digest"]) == ("cached", str(path), tiny().digest)
    assert location["remedy"] == ""

    os.truncate(path, 100)
    location = data.locate("mnist28", data_dir=tfds, cache_dir=cache)
    assert (location["status"], location["cached"], location["digest"]) == ("available", str(path), None)
    assert "damaged cache file" in location["remedy"]


def test_default_folders_follow_the_environment(monkeypatch):
    for key in ("BENCH_CACHE_DIR", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(key, raising=False)
    assert data.default_cache_dir() == Path.home() / ".cache" / "lopt-bench"
    assert data.default_data_dir() == Path.home() / "tensorflow_datasets"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert data.default_cache_dir() == Path("/xdg/lopt-bench")
    monkeypatch.setenv("BENCH_CACHE_DIR", "/bench")
    monkeypatch.setenv("TFDS_DATA_DIR", "/tfds")
    assert (data.default_cache_dir(), data.default_data_dir()) == (Path("/bench"), Path("/tfds"))
