"""The digest of arrays, and their file in the cache: whole, or noticed to be not."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tasks import data
from tasks.data import cache
from tests.tasks.data.small import assert_same, tiny


def test_digest_depends_on_content_and_not_on_order_or_layout():
    a, b = np.arange(6, dtype=np.int32).reshape(2, 3), np.ones(2, np.uint8)
    digest = data.digest_arrays({"a": a, "b": b})
    assert data.digest_arrays({"b": b, "a": np.asfortranarray(a)}) == digest
    assert data.digest_arrays({"a": a.astype(">i4"), "b": b}) == digest
    others = [{"a": a.reshape(3, 2), "b": b}, {"a": a.astype(np.uint32), "b": b}, {"b": a, "a": b}, {"a": a}]
    assert len({digest, *map(data.digest_arrays, others)}) == 5


def test_cache_returns_what_was_written(tmp_path):
    written = tiny()
    path = cache.write_cache(written, tmp_path / "made" / "on the way")
    assert path.name == f"mnist28-3.0.1-{written.digest[:16]}.safetensors"
    assert os.listdir(path.parent) == [path.name]
    read = data.load("mnist28", cache_dir=path.parent, data_dir=tmp_path)
    assert_same(read, written)
    with pytest.raises(ValueError, match="read-only"):
        read.arrays["train_images"][0] = 1


def damage_error(tmp_path):
    with pytest.raises(data.DamagedDataError) as caught:
        data.load("mnist28", cache_dir=tmp_path, data_dir=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    assert "bench prepare mnist28 --force" in message
    return message


def test_any_altered_byte_is_found(tmp_path):
    path = cache.write_cache(tiny(), tmp_path)
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
    path = cache.write_cache(tiny(), tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    assert path.name in damage_error(tmp_path)


def test_a_foreign_or_renamed_file_is_found(tmp_path):
    path = cache.write_cache(tiny(), tmp_path)
    renamed = path.rename(tmp_path / "mnist28-3.0.1-0123456789abcdef.safetensors")
    assert "file name" in damage_error(tmp_path)
    other = cache.write_cache(tiny("imagenet32"), tmp_path)
    other.replace(renamed)
    assert "its name is 'imagenet32'" in damage_error(tmp_path)


def test_two_cache_files_of_one_version_are_not_chosen_between(tmp_path):
    for fill in (0, 1):
        cache.write_cache(tiny(fill=fill), tmp_path)
    assert "all but one" in damage_error(tmp_path)


def test_writers_and_readers_at_once_only_ever_see_a_whole_file(tmp_path):
    path = cache.write_cache(tiny(), tmp_path)
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(cache.write_cache, tiny(), tmp_path) for _ in range(40)]
        reads = [pool.submit(data.load, "mnist28", cache_dir=tmp_path) for _ in range(40)]
        assert {write.result() for write in writes} == {path}
        assert {read.result().digest for read in reads} == {tiny().digest}
    assert list(tmp_path.iterdir()) == [path]
