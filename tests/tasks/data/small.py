"""A small data set, a prepared folder without its arrays, and what makes two data sets the same."""

import json

import numpy as np

from tasks import data
from tasks.data import cache


def tiny(name="mnist28", fill=0):
    """A small data set under the name of a large one: the cache does not care about sizes."""
    row = data.DATA_SETS[name]
    arrays = {
        "train_images": np.full((2, 28, 28, 1), fill, np.uint8),
        "train_labels": np.arange(2, dtype=np.int32),
        "train_index": np.arange(2, dtype=np.int32),
    }
    return data.DataSet(name, row.version, row.source, row.note, data.digest_arrays(arrays), cache.freeze(arrays))


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


def assert_same(a, b):
    assert (a.name, a.version, a.source, a.note, a.digest) == (b.name, b.version, b.source, b.note, b.digest)
    assert a.arrays.keys() == b.arrays.keys()
    for key in a.arrays:
        assert a.arrays[key].dtype == b.arrays[key].dtype
        np.testing.assert_array_equal(a.arrays[key], b.arrays[key])
