"""The cost of an update: what is really timed, and its table by hand."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from bench.cells.plan import plan
from bench.entries.controls import timed_controls
from bench.entries.entrants import resolve
from bench.entries.plugins import Registry
from bench.measure import update_cost
from bench.report.build import build_report
from bench.report.verify_report import published_reports, verify
from bench.run import runner
from bench.store.published import publish
from bench.store.store import Store
from bench.suites.suite import build_suite, load_suite
from tests.bench.measure.trees import TABLE, TREE
from tests.helpers import assert_trees_close


def entrant(name):
    return resolve(name, "update_cost", update_cost.HORIZON)


def example():
    """Parameters and gradients of the tiny tree, of numpy's: eager jax would compile each draw."""
    rng, shapes = np.random.default_rng(0), update_cost.shapes(TREE.init)
    return tuple(
        jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes) for _ in range(2)
    )


def test_the_shipped_suite_is_a_cell_for_each_tree():
    cells = plan(load_suite("update_cost"), Registry())
    assert [cell.title for cell in cells] == [f"update_cost/{name}" for name in update_cost.TREES]
    assert len({cell.name for cell in cells}) == len(cells)
    counts = [cell.identity["num_params"] for cell in cells]
    assert (counts[0], min(counts) < 20_000, 650_000 < max(counts) < 700_000) == (19_722, True, True)
    names = [entrant.name for entrant in cells[0].entrants]
    assert {"adam", "muon_cosine", "lopt_paper_32x32", "adam_again", "adam_twice"} <= set(names)
    assert {entrant.tuned_horizon for entrant in cells[0].entrants} == {None}


@pytest.mark.parametrize(
    "name",
    [
        "adam",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("nadamw_cosine", "learned")),
    ],
)
def test_the_loop_is_that_many_updates_on_one_another(name):
    optimizer, (params, grads) = entrant(name), example()
    run = jax.jit(functools.partial(update_cost.run_updates, optimizer, update_cost.HORIZON))
    made = optax.with_extra_args_support(optimizer.make(optimizer.variables, update_cost.HORIZON))
    update, expected, state = jax.jit(made.update), params, made.init(params)
    for step in range(5):
        signed = jax.tree.map(lambda g, step=step: np.float32((-1) ** step) * np.asarray(g), grads)
        updates, state = update(signed, state, expected, value=update_cost.LOSS)
        expected = jax.tree.map(np.add, expected, updates)
    # The same float32 operations, fused otherwise: a few roundings of numbers near 1.
    assert_trees_close(run(optimizer.variables, params, grads, 5), (expected, state), rtol=1e-4, atol=1e-6)


def test_the_control_updates_twice_for_each_update():
    adam, (params, grads) = entrant("adam"), example()
    twice = timed_controls(adam)[1]
    (once, _), (double, _) = (
        jax.jit(functools.partial(update_cost.run_updates, who, 10))(who.variables, params, grads, number)
        for who, number in ((adam, 6), (twice, 3))
    )
    assert_trees_close(double, once, rtol=1e-6)


def test_state_bytes_by_hand():
    shapes = update_cost.shapes(TREE.init)
    size = update_cost.num_params(shapes)
    assert size == (4 * 4 + 4) + (4 * 3 + 3)
    counter = 4 / size  # an int32
    for name, expected in {
        "sgd_momentum": 4,
        "adam": 8 + counter,
        "adam_cosine": 8 + 2 * counter,  # the schedule counts by itself
        "lopt_paper_small": 40 + counter,
    }.items():
        assert update_cost.bytes_per_parameter(entrant(name), shapes, 10) == pytest.approx(expected)


def test_a_region_is_the_first_power_of_two_long_enough():
    clock, asked = [0.0], []

    def program(count):
        asked.append(count)
        clock[0] += 1e-3 * count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.training.step_times.time.perf_counter", lambda: clock[0])
        assert update_cost.updates_that_fill(program, 0.005) == 8
    assert asked == [1, 1, 1, 2, 2, 4, 4, 8, 8]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two tiny trees measured, stored and published: (suite, folder, log lines)."""
    folder, lines = tmp_path_factory.mktemp("results"), []
    suite = build_suite("costs", TABLE | {"timing_blocks": 6, "controls": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update_cost, "TREES", {"a": TREE, "b": TREE})
        patch.setattr(update_cost, "MIN_REGION_SEC", 1e-4)
        kept = Store(folder, suite.name)
        cells = plan(suite, Registry())
        first = runner.run(cells, Registry(), kept, log=lines.append)
        again = runner.run(cells, Registry(), kept)
    return kept, folder, (first, again), lines


def test_cells_are_kept_apart_resumed_and_published(finished):
    kept, folder, counts, lines = finished
    assert counts == ({"ok": 2}, {"stored": 2})
    assert lines == ["[1/2] update_cost/a: ok", "[2/2] update_cost/b: ok"]
    results = kept.read()
    assert sorted(results.cells["task"]) == ["update_cost/a", "update_cost/b"]
    publish(folder, "costs", "machine", results)
    published = Store(folder, "costs", "machine").read()
    table = update_cost.update_costs(published.cells, published.curves)
    pd.testing.assert_frame_equal(table, update_cost.update_costs(results.cells, results.curves))
    assert table["optimizer"].tolist() == ["adam", "adam"]
    path = build_report(published, folder, folder / "reports" / "costs" / "machine", "costs", "machine")
    assert list(pd.read_csv(path).columns) == list(update_cost.COLUMNS)
    assert len(json.loads(path.with_name("report.json").read_text())) == len(table)
    assert published_reports(folder / "reports") == [("costs", "machine")]
    assert verify(folder, folder / "reports", "costs", "machine") is None
    path.write_text(path.read_text().replace("adam", "muon", 1))
    assert "column optimizer: published 'muon'" in str(verify(folder, folder / "reports", "costs", "machine"))


def rows(seconds, status="ok"):
    """Cells and curves of one tree, from optimizer -> seconds of each block."""
    config = {"measurement": "update_cost", "tree": "cnn", "num_params": 10, "roles": dict.fromkeys(seconds, "r")}
    cells = pd.DataFrame([{"cell": "c", "kind": "measure", "status": status, "config": json.dumps(config)}])
    curve = [("c", k, f"update_seconds/{n}", s) for n, values in seconds.items() for k, s in enumerate(values)]
    curve += [("c", 0, f"bytes_per_parameter/{name}", 8.0) for name in seconds]
    return cells, pd.DataFrame(curve, columns=["cell", "step", "metric", "value"])


def test_costs_worked_by_hand():
    # Within blocks the ratio is always 3, though the machine slows down by ten in the last one.
    adam = np.array([1e-6, 2e-6, 1e-6, 2e-6, 1e-6, 2e-5])
    table = update_cost.update_costs(*rows({"muon": 3 * adam, "adam": adam}))
    assert table["optimizer"].tolist() == ["adam", "muon"]
    muon = table.iloc[1]
    assert (muon["kind"], muon["num_params"], muon["num_blocks"]) == ("cnn", 10, 6)
    assert muon["microseconds"] == pytest.approx(4.5)
    assert [muon["ratio"], muon["ratio_low"], muon["ratio_high"]] == pytest.approx([3, 3, 3])
    assert muon["bytes_per_parameter"] == 8


def test_costs_without_a_reference_few_blocks_or_a_finished_cell():
    lone = update_cost.update_costs(*rows({"muon": [1e-6, 3e-6, 2e-6]}))
    assert lone["microseconds"].tolist() == pytest.approx([2.0])
    assert lone[["ratio", "ratio_low", "ratio_high"]].isna().all(axis=None)
    few = update_cost.update_costs(*rows({"adam": [1e-6, 1e-6]}))
    assert (few["ratio"][0], bool(np.isnan(few["ratio_low"][0]))) == (1.0, True)
    assert update_cost.update_costs(*rows({"adam": [1.0]}, status="error")).empty


@pytest.mark.slow
def test_the_smallest_tree_costs_what_the_controls_say():
    adam = entrant("adam")
    curve = update_cost.measure("cnn_20k", [adam, *timed_controls(adam)], 10)
    wide = curve.pivot(index="step", columns="metric", values="value")
    seconds = {name: wide[f"update_seconds/{name}"] for name in ("adam", "adam_again", "adam_twice")}
    # Ten blocks of a small tree on a machine that others may use: wide bounds, disjoint all the same.
    assert 0.7 < float((seconds["adam_again"] / seconds["adam"]).median()) < 1.4
    assert 1.5 < float((seconds["adam_twice"] / seconds["adam"]).median()) < 2.7
    assert jnp.isfinite(jnp.asarray(seconds["adam"])).all()
