"""What holds for every test: strict shapes, reproducible hypothesis examples, and where prepared data is cached."""

import os
from pathlib import Path

import hypothesis
import jax
import pytest

# Broadcasting between ranks is written out or it is an error: (5, 1) * (n,) was meant as (5, 1) * (1, n), or was it?
jax.config.update("jax_numpy_rank_promotion", "raise")
# Dtype promotion stays "standard": optax's bias correction computes `decay**count` with an int32 count, which "strict"
# refuses for the traced float32 decays that tuning passes. Where the strict rule does hold, tests apply it by tracing.

# The same examples in every run, no files left behind, and no clock: a first example compiles.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("fixed")


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """Where decoded data is kept: BENCH_TEST_CACHE_DIR lets several test runs share it."""
    return Path(os.environ.get("BENCH_TEST_CACHE_DIR") or tmp_path_factory.mktemp("cache"))
