"""Suites of kind "measure": what they refuse, how their cells are kept, and what `update_cost` really times."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from bench import measure
from bench.entries.controls import timed_controls
from bench.entries.entrants import resolve
from bench.entries.plugins import Registry
from bench.errors import UsageError
from bench.measure import designs, update_cost
from bench.report import designs as report_designs
from bench.report.verify import build_report, published_reports, verify
from bench.run import runner
from bench.store.published import publish
from bench.store.store import Store
from bench.suites.choose import apply_settings
from bench.suites.suite import Suite, build_suite, load_suite
from learned.curriculum import Stage
from tasks.base import ModuleInit
from tasks.models import MLP
from tests.helpers import assert_one_line, assert_trees_close

TABLE = {"kind": "measure", "measurement": "update_cost", "optimizers": ["adam"]}
TREE = update_cost.Tree("mlp", ModuleInit(MLP((4,), 3), (2, 2, 1)))


def entrant(name):
    return resolve(name, "update_cost", update_cost.HORIZON)


def example():
    """Parameters and gradients of the tiny tree, of numpy's: eager jax would compile each draw."""
    rng, shapes = np.random.default_rng(0), update_cost.shapes(TREE.init)
    return tuple(
        jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes) for _ in range(2)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measurement": "update_costs"}, "did you mean update_cost"),
        ({"measurement": ["update_cost"]}, "did you mean update_cost"),
        ({"measurement": ""}, "non-empty 'measurement'"),
        ({"optimizers": "adam"}, "list of names"),
        ({"timing_blocks": 0}, "whole number from 1 to"),
        ({"seeds": "0-4"}, "unknown key of suite mine 'seeds'"),
        ({"tasks": ["digits8_mlp"]}, "unknown key of suite mine 'tasks'"),
        ({"kind": "mesure"}, "did you mean measure"),
    ],
)
def test_a_bad_key_or_value_gets_one_clear_line(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        build_suite("mine", TABLE | change)
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (0,)}, "neither seeds nor steps"),
        ({"steps": 10}, "neither seeds nor steps"),
        ({"tasks": ("update_cost/cnn_21k",)}, "did you mean update_cost/cnn_20k"),
        ({"optimizers": ("adma",)}, "did you mean adam"),
    ],
)
def test_a_plan_refuses_what_a_measurement_has_not(change, message):
    suite = Suite(**{"name": "mine", "kind": "measure", "measurement": "update_cost", "optimizers": ("adam",)} | change)
    with pytest.raises(UsageError, match=message) as caught:
        runner.plan(suite, Registry())
    assert_one_line(caught.value)


def test_settings_of_a_measurement():
    suite = build_suite("mine", TABLE)
    assert apply_settings(suite, ["timing_blocks=7"]).timing_blocks == 7
    with pytest.raises(UsageError, match="whole number from 1 to"):
        apply_settings(suite, ["timing_blocks=0"])
    with pytest.raises(UsageError, match="unknown key for --set 'steps'"):
        apply_settings(suite, ["steps=7"])
    with pytest.raises(UsageError, match="trains no task"):
        runner.suite_tasks(suite, Registry())


def test_the_shipped_suite_is_a_cell_for_each_tree():
    cells = runner.plan(load_suite("update_cost"), Registry())
    assert [cell.title for cell in cells] == [f"update_cost/{name}" for name in update_cost.TREES]
    assert len({cell.name for cell in cells}) == len(cells)
    counts = [cell.config["num_params"] for cell in cells]
    assert (counts[0], min(counts) < 20_000, 650_000 < max(counts) < 700_000) == (19_722, True, True)
    names = [entrant.name for entrant in cells[0].entrants]
    assert {"adam", "muon_cosine", "lopt_paper_32x32", "adam_again", "adam_twice"} <= set(names)
    assert {entrant.tuned_horizon for entrant in cells[0].entrants} == {None}


@pytest.mark.parametrize(
    "name",
    [
        "adam",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("sgd_momentum", "nadamw_cosine", "muon", "learned")),
    ],
)
def test_the_loop_is_that_many_updates_on_one_another(name):
    optimizer, (params, grads) = entrant(name), example()
    run = jax.jit(functools.partial(update_cost.run_updates, optimizer, update_cost.HORIZON))
    made = optimizer.make(optimizer.variables, update_cost.HORIZON)
    update, expected, state = jax.jit(made.update), params, made.init(params)
    for step in range(5):
        signed = jax.tree.map(lambda g, step=step: np.float32((-1) ** step) * np.asarray(g), grads)
        updates, state = update(signed, state, expected)
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
        patch.setattr("bench.clock.timing.time.perf_counter", lambda: clock[0])
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
        cells = runner.plan(suite, Registry())
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
    curve = update_cost.measure("cnn_20k", [adam, *timed_controls(adam)], 20)
    wide = curve.pivot(index="step", columns="metric", values="value")
    seconds = {name: wide[f"update_seconds/{name}"] for name in ("adam", "adam_again", "adam_twice")}
    # Twenty updates of a small tree on a machine that others may use: wide bounds, disjoint all the same.
    assert 0.7 < float((seconds["adam_again"] / seconds["adam"]).median()) < 1.4
    assert 1.5 < float((seconds["adam_twice"] / seconds["adam"]).median()) < 2.7
    assert jnp.isfinite(jnp.asarray(seconds["adam"])).all()


# Designs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def designs_finished(tmp_path_factory):
    """Two designs on a tiny tree and digits, stored: its results."""
    outer = dataclasses.replace(
        designs.OUTER,
        family="digits8_mlp",
        stages=(Stage(10, 4),),
        validation_num_steps=20,
        validation_num_tasks=1,
        validation_every=2,
    )
    suite = build_suite("designs", TABLE | {"measurement": "designs", "timing_blocks": 6, "controls": False})
    kept = Store(tmp_path_factory.mktemp("results"), suite.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update_cost, "TREES", {"tree": TREE})
        patch.setattr(update_cost, "MIN_REGION_SEC", 1e-4)
        patch.setattr(designs, "TREES", ("tree",))
        patch.setattr(designs, "STEPS_ON", ("digits8_mlp",))
        patch.setattr(designs, "OUTER", outer)
        patch.setattr(designs, "VARIANTS", {name: designs.VARIANTS[name] for name in ("lean_mlp_8", "orthogonal")})
        counts = runner.run(runner.plan(suite, Registry()), Registry(), kept)
        results = kept.read()
        return counts, results, designs.table(results.cells, results.curves)


@pytest.mark.slow
def test_designs_have_costs_and_a_loss_before_and_after_outer_training(designs_finished):
    counts, results, table = designs_finished
    assert counts == {"ok": 4}
    assert table["design"].tolist() == ["lean_mlp_8", "orthogonal"]
    assert np.isfinite(table.drop(columns="design").to_numpy(dtype=float)).all()
    # Four momenta or second moments of float32 and the counters; Adam's is a counter less.
    size = update_cost.num_params(update_cost.shapes(TREE.init))
    assert (table["bytes_per_parameter"] > 16).all()
    assert (table["bytes_per_parameter"] < 16 + 40 / size).all()
    assert table["inner_steps"].tolist() == [4 * 10 * 2 * 2] * 2  # two tasks, both signs
    losses = results.curves[results.curves["metric"] == "outer_validation_loss"]
    assert losses.groupby("cell")["step"].apply(list).tolist() == [[0, 2, 4]] * 2
    # The same task, initialization and batches for both; Adam and Muon begin differently.
    assert table["loss_before"].nunique() == 2


def designs_by_hand(parts):
    """Cells and curves of orthogonal, lean_mlp_8, lean_mlp_16; `parts`, those that are finished, the others failed."""
    config = json.dumps({"measurement": "designs", "num_weights": 7})
    names = [f"{name}/{which}" for name in ("orthogonal", "lean_mlp_8", "lean_mlp_16") for which in ("cost", "loss")]
    cells = [(part, f"designs/{part}", "ok" if part in parts else "error", config) for part in names]
    adam = np.array([1e-6, 2e-6, 1e-6, 2e-6, 1e-6, 2e-5])  # within blocks the ratios are always 3 and 2
    curve = []
    for part in parts:
        name, _, which = part.partition("/")
        if which == "loss":
            curve += [(part, step, "outer_validation_loss", loss) for step, loss in ((20, 1.1), (0, 1.5), (10, 0.9))]
            curve += [(part, 0, "inner_steps", 400)]
            continue
        curve += [(part, 0, f"{tree}/bytes_per_parameter/{name}", 16.0) for tree in designs.TREES]
        for factor, places in (
            (3, [f"{tree}/update_seconds" for tree in designs.TREES]),
            (2, [f"step_seconds/{family}" for family in designs.STEPS_ON]),
        ):
            curve += [(part, k, f"{place}/adam", s) for place in places for k, s in enumerate(adam)]
            curve += [(part, k, f"{place}/{name}", factor * s) for place in places for k, s in enumerate(adam)]
    return (
        pd.DataFrame(cells, columns=["cell", "task", "status", "config"]),
        pd.DataFrame(curve, columns=["cell", "step", "metric", "value"]),
    )


def test_the_table_of_designs_is_worked_by_hand():
    table = designs.table(*designs_by_hand(["lean_mlp_8/cost", "orthogonal/loss", "orthogonal/cost"]))
    half, row = table.to_dict("records")
    assert (row["design"], row["num_weights"], row["bytes_per_parameter"]) == ("orthogonal", 7, 16.0)
    assert [row[f"update/{tree}"] for tree in designs.TREES] == pytest.approx([3.0] * len(designs.TREES))
    assert [row[f"update/{tree}/seconds"] for tree in designs.TREES] == pytest.approx([4.5e-6] * len(designs.TREES))
    for family in designs.STEPS_ON:
        assert [row[f"step/{family}{end}"] for end in ("", "/low", "/high")] == pytest.approx([2.0] * 3)
    assert (row["loss_before"], row["loss_after"], row["inner_steps"]) == (1.5, 0.9, 400)
    assert (half["design"], half["bytes_per_parameter"]) == ("lean_mlp_8", 16.0)
    assert math.isnan(half["loss_after"])


@pytest.mark.parametrize(
    ("parts", "headings", "figures"),
    [
        (["orthogonal/cost", "lean_mlp_16/cost"], ["costs"], 0),
        (["orthogonal/loss"], ["losses"], 0),
        (["orthogonal/loss", "orthogonal/cost"], ["costs", "losses"], 1),
        ([], [], 0),
    ],
)
def test_the_page_of_designs_shows_the_parts_that_were_run(parts, headings, figures, tmp_path):
    cells, curves = designs_by_hand(parts)
    found = report_designs.sections(designs.table(cells, curves), cells, curves)
    assert [section.anchor for section in found] == headings
    assert sum(len(section.figures) for section in found) == figures
    for figure in (figure for section in found for figure in section.figures):
        assert figure.png[:4] == b"\x89PNG"
        assert "orthogonal at 2.000 and 2.000, loss 0.9" in figure.alt
    if "lean_mlp_16/cost" in parts:
        assert "lean_mlp_16 2.0000 [2.0000, 2.0000] (not within 1.08)" in " ".join(found[0].paragraphs)
    written = measure.write_table(cells, curves, tmp_path)
    assert len(written.read_text().splitlines()) == 1 + len({part.partition("/")[0] for part in parts})
