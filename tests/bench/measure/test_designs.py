"""The measurement of designs: costs, and losses before and after outer-training."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from bench.cells.plan import plan
from bench.entries.plugins import Registry
from bench.measure import designs, update_cost
from bench.run import runner
from bench.store.store import Store
from bench.suites.suite import build_suite
from learned.curriculum import Stage
from tests.bench.measure.by_hand import designs_by_hand
from tests.bench.measure.trees import TABLE, TREE
from tests.helpers import linear_family


@pytest.fixture(scope="module")
def no_compilation_cache():
    """Programs are compiled, not read from the cache of the tests."""
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", folder)


@pytest.fixture(scope="module")
def designs_finished(tmp_path_factory, no_compilation_cache):
    """A design on a tiny tree and on least squares, stored: its results; that of several is by hand."""
    outer = dataclasses.replace(
        designs.OUTER,
        family="linear",
        stages=(Stage(10, 4),),
        validation_num_steps=20,
        validation_num_tasks=1,
        validation_every=2,
    )
    suite = build_suite(
        "designs",
        TABLE | {"measurement": "designs", "optimizers": ["adam", "muon"], "timing_blocks": 6, "controls": False},
    )
    kept = Store(tmp_path_factory.mktemp("results"), suite.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update_cost, "TREES", {"tree": TREE})
        patch.setattr(update_cost, "MIN_REGION_SEC", 1e-4)
        patch.setattr(designs, "TREES", ("tree",))
        patch.setattr(designs, "STEPS_ON", ("linear",))
        patch.setattr(designs, "NUM_COMPILATIONS", 1)
        patch.setattr("tasks.load_family", lambda name: linear_family())
        patch.setattr(designs, "OUTER_ON", dict.fromkeys(designs.OUTER_ON, outer))
        patch.setattr(designs, "VARIANTS", {name: designs.VARIANTS[name] for name in ("lean_mlp_8",)})
        counts = runner.run(plan(suite, Registry()), Registry(), kept)
        results = kept.read()
        return counts, results, designs.table(results.cells, results.curves)


@pytest.mark.slow
def test_designs_have_costs_and_a_loss_before_and_after_outer_training(designs_finished):
    counts, results, table = designs_finished
    assert counts == {"ok": 4}
    assert table["design"].tolist() == ["lean_mlp_8"]
    assert np.isfinite(table.drop(columns="design").to_numpy(dtype=float)).all()
    # Four momenta or second moments of float32 and the counters; Adam's is a counter less.
    size = update_cost.num_params(update_cost.shapes(TREE.init))
    assert (table["bytes_per_parameter"] > 16).all()
    assert (table["bytes_per_parameter"] < 16 + 40 / size).all()
    for part in designs.OUTER_ON:
        assert table[f"{part}_inner_steps"].tolist() == [4 * 10 * 2 * 2]  # two tasks, both signs
    losses = results.curves[results.curves["metric"] == "outer_validation_loss"]
    assert losses.groupby("cell")["step"].apply(list).tolist() == [[0, 2, 4]] * 2


def test_the_table_of_designs_is_worked_by_hand():
    table = designs.table(
        *designs_by_hand(["lean_mlp_8/cost", "orthogonal/loss", "orthogonal/cost", "orthogonal/compile"])
    )
    half, row = table.to_dict("records")
    assert (row["design"], row["num_weights"], row["bytes_per_parameter"]) == ("orthogonal", 7, 16.0)
    assert [row[f"update/{tree}"] for tree in designs.TREES] == pytest.approx([3.0] * len(designs.TREES))
    assert [row[f"update/{tree}/seconds"] for tree in designs.TREES] == pytest.approx([4.5e-6] * len(designs.TREES))
    for family in designs.STEPS_ON:
        assert [row[f"step/{family}{end}"] for end in ("", "/low", "/high")] == pytest.approx([2.0] * 3)
    assert (row["loss_before"], row["loss_after"], row["loss_inner_steps"]) == (1.5, 0.9, 400)
    assert (half["design"], half["bytes_per_parameter"]) == ("lean_mlp_8", 16.0)
    assert math.isnan(half["loss_after"])
    assert math.isnan(row["mlp_loss_after"])
    assert [row["compile/adam"], row["compile/muon"]] == [3.0, 4.5]  # medians of 3, 3, 9 and of 1.5, 6, 4.5
    assert math.isnan(half["compile/muon"])


def test_costs_of_before_a_family_was_added_have_none_on_it():
    cells, curves = designs_by_hand(["orthogonal/cost"])
    (row,) = designs.table(cells, curves[~curves["metric"].str.contains("mnist28_mlp/")]).to_dict("records")
    assert math.isnan(row["step/mnist28_mlp"])
    assert row["step/imagenet32_cnn3"] == pytest.approx(2.0)
