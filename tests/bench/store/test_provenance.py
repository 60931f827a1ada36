"""Where a run comes from is in its record."""

import datetime

import jax
import msgspec

from bench.entries.plugins import Registry
from bench.run import runner
from bench.store import provenance
from bench.store.record import SCHEMA
from bench.store.store import Store
from tests.bench.least_squares import planned
from tests.helpers import linear_task


def test_every_run_says_where_it_comes_from(tmp_path):
    """The list at the end of the protocol, on a record as it is stored."""
    cells = planned(("sgd_momentum",), (0,), steps=5, timing_blocks=0, controls=False)
    kept = Store(tmp_path, "made")
    registry = Registry(task_builders={"linear": linear_task})
    assert runner.run(cells, registry, kept) == {"ok": 1}
    record, _ = kept.get(cells[0].name)
    assert record.schema == SCHEMA
    assert record.config["hyperparameters"].keys() >= {"learning_rate"}
    assert record.config["seed"] == 0
    found = record.provenance
    assert found["argv"][0] == "bench"
    assert found["git"].keys() == {"commit", "dirty"}
    assert found["versions"].keys() >= {"python", "jax", "jaxlib", "optax", "flax", "numpy", "tensorflow-datasets"}
    assert found["device"].keys() >= {"kind", "count", "backend_version", "cpu", "cores"}
    assert found["data"].keys() >= {"name", "version", "digest"}
    assert found["flags"] == {name: value for name, value in found["flags"].items() if isinstance(value, str)}
    assert datetime.datetime.fromisoformat(record.started_at).tzinfo is not None
    assert all(seconds > 0 for seconds in msgspec.structs.astuple(record.clock))
    assert provenance.versions()["jax"] == jax.__version__
