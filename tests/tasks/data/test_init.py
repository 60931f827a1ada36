"""Loading, preparing and finding a data set, and what is said where it is missing."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import data
from tasks.data import cache, sources
from tests.helpers import source_dir
from tests.tasks.data.small import assert_same, tiny, write_source

FROM_TFDS = [name for name, row in data.DATA_SETS.items() if row.builder]


# Preparing ------------------------------------------------------------------------------------------------------------


def test_prepare_writes_a_file_that_reads_back_and_is_kept(tmp_path, digits):
    seen = []
    path = data.prepare("digits8", cache_dir=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1797, 1797)
    row = data.DATA_SETS["digits8"]
    read = cache.read_cache(path, name="digits8", version=row.version, source=row.source, note=row.note)
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
    cache.write_cache(tiny(), tmp_path)
    code = (
        "import sys; sys.modules['tensorflow_datasets'] = None\n"
        "from tasks import data\n"
        f"print(data.load('mnist28', cache_dir={str(tmp_path)!r}).digest)"
    )
    root = Path(data.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.split() == [tiny().digest]


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


def test_data_in_another_format_can_be_converted_where_it_lies(tmp_path):
    """As `tfds build` prepares it without an option; the command can be pasted, whatever the folder's name."""
    folder = write_source(tmp_path / "my data #1", "mnist28", file_format="tfrecord")
    with pytest.raises(data.MissingDataError) as caught:
        data.load("mnist28", data_dir=tmp_path / "my data #1", cache_dir=tmp_path / "cache")
    said, _, command = str(caught.value).partition("; get it with: ")
    assert said == (
        f"mnist not found: {folder} is prepared as tfrecord, and array_record is needed, "
        f"and in cache {tmp_path / 'cache'}"
    )
    _, _, convert = command.partition(" && ")
    assert shlex.split(convert) == [
        "tfds",
        "convert_format",
        f"--dataset_version_dir={folder}",
        "--out_file_format=array_record",
    ]


def test_data_in_two_formats_is_read_in_the_one_that_can_be(tmp_path):
    """What `tfds convert_format` leaves: the first format in `fileFormat`, the other one beside it."""
    source = source_dir("mnist28") / "mnist" / "3.0.1"
    folder = tmp_path / "tfds" / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix == ".json":
            shutil.copyfile(file, folder / file.name)
        else:
            (folder / file.name).symlink_to(file)
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text()) | {"fileFormat": "tfrecord", "alternativeFileFormats": ["array_record"]}
    path.write_text(json.dumps(info))
    location = data.locate("mnist28", data_dir=tmp_path / "tfds", cache_dir=tmp_path / "cache")
    assert (location["status"], location["source_dir"]) == ("available", str(folder))
    reader = sources._TfdsReader(data.DATA_SETS["mnist28"], tmp_path / "tfds", lambda done, total: None)
    index, image, label = next(reader.examples("train"))
    assert (index, image.shape, label in range(10), reader.total) == (0, (28, 28, 1), True, 70_000)


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
    tfds, folder_of_cache = tmp_path / "tfds", tmp_path / "cache"
    location = data.locate("digits8", data_dir=tfds, cache_dir=folder_of_cache)
    assert (location["status"], location["digest"], location["remedy"]) == ("embedded", digits.digest, "")

    folder = write_source(tfds, "mnist28")
    for split in ("train", "test"):
        (folder / f"mnist-{split}.array_record-00000-of-00001").write_bytes(b"")
    location = data.locate("mnist28", data_dir=tfds, cache_dir=folder_of_cache)
    assert (location["status"], location["source_dir"], location["cached"]) == ("available", str(folder), None)
    assert location["remedy"] == "bench prepare mnist28"

    path = cache.write_cache(tiny(), folder_of_cache)
    location = data.locate("mnist28", data_dir=tfds, cache_dir=folder_of_cache)
    assert (location["status"], location["cached"], location["digest"]) == ("cached", str(path), tiny().digest)
    assert location["remedy"] == ""

    os.truncate(path, 100)
    location = data.locate("mnist28", data_dir=tfds, cache_dir=folder_of_cache)
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
