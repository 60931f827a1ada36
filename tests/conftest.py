"""What holds for every test: strict shapes, reproducible hypothesis examples, and what is kept where for a run."""

import os
import shutil
import tempfile
from pathlib import Path

# Tests compile much and run little. These flags shorten compiling and cost speed, which no test needs: without
# optimization (level 0) all tests take a quarter less time. What users run is compiled without the flags, in
# `.ci/smoke`. Set before jax is imported, and inherited by processes.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 --xla_backend_optimization_level=0",
)

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


def pytest_configure(config):
    """Keeps compiled programs for a run, so that one compiles once for all workers and all processes of tests.

    What comes from there is the same to the last bit. A folder of your own lasts: JAX_COMPILATION_CACHE_DIR.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # workers inherit that of the process that started them
        return
    folder = tempfile.mkdtemp(prefix="lopt-bench-programs-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    # Below a twentieth of a second compiling is no slower than looking it up.
    for name, value in {"compilation_cache_dir": folder, "persistent_cache_min_compile_time_secs": 0.05}.items():
        os.environ[f"JAX_{name.upper()}"] = str(value)
        jax.config.update(f"jax_{name}", value)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """Where decoded data is kept: BENCH_TEST_CACHE_DIR lets several test runs share it."""
    return Path(os.environ.get("BENCH_TEST_CACHE_DIR") or tmp_path_factory.mktemp("cache"))
