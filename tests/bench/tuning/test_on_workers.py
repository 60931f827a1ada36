"""Searches and targets on workers and in shards are those that one process makes."""

import json

import pytest

import bench
from bench.tuning.family import Tuned

SUITE = {"tasks": ["digits8_mlp"], "optimizers": ["sgd_momentum"], "steps": 20}


def content(path):
    """A record without what says when and where it was made."""
    apart = ("made_at", "digest")

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items() if key not in apart}
        return value

    return plain(json.loads(path.read_text()))


@pytest.mark.slow
def test_what_a_worker_makes_is_what_this_process_makes(tmp_path):
    found = []
    for name, options in (("here", {}), ("workers", {"cluster": bench.Cluster(workers=1)})):
        folders = bench.Folders(results_dir=tmp_path / name)
        shares = []
        how = {"folders": folders, "advance": shares.append, **options}
        (frozen,) = bench.freeze_suite(bench.choose_suite("quick", **SUITE), **how)
        (tuned,) = bench.tune_family("digits8_mlp", ["sgd_momentum"], steps=2, **how)
        assert sum(shares) == pytest.approx(2.0)
        found.append((content(frozen.path), content(tuned.path), tuned.hyperparameters, tuned.loss))
    assert found[0] == found[1]


def test_shards_share_out_the_optimizers_of_a_search(tmp_path, monkeypatch):
    found = lambda name, *others: Tuned(name, {}, 1.0, "validation", {}, tmp_path)  # noqa: E731
    monkeypatch.setattr("bench.tuning.family._search", found)
    names = ["sgd_momentum", "adam", "rmsprop"]
    folders = bench.Folders(results_dir=tmp_path)
    parts = [bench.tune_family("digits8_mlp", names, folders=folders, shard=f"{k}/2") for k in (1, 2)]
    assert [[tuned.optimizer for tuned in part] for part in parts] == [["sgd_momentum", "rmsprop"], ["adam"]]
