"""Shards: every job in one of them."""

import pytest

from bench.engines.shard import Shard
from bench.errors import UsageError
from tests.helpers import assert_one_line


@pytest.mark.parametrize("of", [1, 3, 8, 20])
def test_shards_share_out_all_jobs_and_none_twice(of):
    jobs = list(range(17))
    parts = [Shard.parse(f"{k}/{of}").part(jobs) for k in range(1, of + 1)]
    assert sorted(job for part in parts for job in part) == jobs
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["9/8", "0/8", "1/0", "2", "a/b", "1/2/3", "-1/2", "1/2 ", "٣/٤"])
def test_what_is_no_shard_is_answered_in_one_line(text):
    with pytest.raises(UsageError, match="--shard expects K/N with K from 1 to N, like 2/8") as caught:
        Shard.parse(text)
    assert_one_line(caught.value)
