"""The pathologies: their statistics by hand, two routes to a truncated gradient, and what the page says of them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import tasks
from bench.entries.plugins import Registry
from bench.errors import UsageError
from bench.measure import pathologies
from bench.measure.pathologies import heavy_tails, influence, inner, moments, summary, truncation, unrolls, variance
from bench.report.measurement import write_measurement
from bench.run import runner
from bench.suites.suite import build_suite, load_suite
from learned import weights
from learned.estimators import reparam, side_by_side, tbptt
from tests.helpers import assert_one_line

KEY = jax.random.key(5)

# Statistics ----------------------------------------------------------------------------------------------------------


def test_products_leave_each_replication_out_of_the_mean_that_it_meets():
    # Of 1, 2, 6: 1 * (2 + 6) / 2, 2 * (1 + 6) / 2, 6 * (1 + 2) / 2; all pairs average 20 / 3.
    values = moments.products([[1.0], [2.0], [6.0]])
    np.testing.assert_allclose(values, [4, 7, 9])
    assert values.mean() == pytest.approx((1 * 2 + 1 * 6 + 2 * 6) / 3)
    np.testing.assert_allclose(moments.products([[1.0], [2.0]], [[3.0], [5.0]]), [5, 6])


def test_products_of_noise_estimate_the_square_of_its_mean_without_its_variance():
    rng = np.random.default_rng(0)
    found = [moments.products(rng.normal(0.1, 1.0, (8, 50))).mean() for _ in range(2000)]
    assert abs(np.mean(found) - 50 * 0.1**2) < 4 * np.std(found) / np.sqrt(2000)
    assert (
        np.mean(rng.normal(0.1, 1.0, (2000, 8, 50)).mean(axis=1) ** 2) * 50 > 5
    )  # the square of the mean: mostly noise


def test_deviations_average_to_the_summed_variance():
    values = np.random.default_rng(1).normal(size=(9, 4))
    assert moments.deviations(values).mean() == pytest.approx(values.var(axis=0, ddof=1).sum())


def test_the_jackknife_of_a_mean_is_its_t_interval():
    values = np.array([1.0, 4.0, 2.0, 7.0])
    found = moments.jackknife(np.asarray, (values, 1))
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    np.testing.assert_allclose([found.estimate, found.low, found.high], [3.5, 3.5 - half, 3.5 + half])


def test_the_jackknife_leaves_whole_replications_out_of_products():
    """Products of degree 2: what is left out of their mean is every pair that the replication is in."""
    vectors = np.random.default_rng(2).normal(1.0, 1.0, (6, 3))
    found = moments.jackknife(np.asarray, (moments.products(vectors), 2))
    left_out = np.array([moments.products(np.delete(vectors, i, axis=0)).mean() for i in range(6)])
    error = np.sqrt(5 / 6 * np.sum((left_out - left_out.mean()) ** 2))
    assert found.high - found.estimate == pytest.approx(stats.t.ppf(0.975, 5) * error)


def test_the_jackknife_of_a_ratio_covers_it_and_of_what_is_not_finite_has_no_bounds():
    rng, inside = np.random.default_rng(3), 0
    for _ in range(400):
        a, b = (moments.deviations(rng.normal(0, scale, (64, 20))) for scale in (2.0, 1.0))
        found = moments.jackknife(lambda x, y: x / y, (a, 1), (b, 1), log=True)
        inside += found.low < 4.0 < found.high
    assert inside / 400 > 0.91
    infinite = moments.jackknife(np.asarray, (np.array([1.0, np.inf, 2.0]), 1), log=True)
    assert (infinite.estimate, infinite.low, infinite.high) == (np.inf, None, None)


# Measurements --------------------------------------------------------------------------------------------------------


def test_the_suite_is_a_cell_for_each_part_and_names_what_it_is_of():
    cells = runner.plan(load_suite("pathologies"), Registry())
    assert [cell.title for cell in cells] == [f"pathologies/{part}" for part in pathologies.parts()]
    assert len({cell.name for cell in cells}) == len(cells) == 3 * (3 + len(unrolls.LENGTHS)) + 2
    assert {cell.config["replications"] for cell in cells} == {64}
    of_unrolls = [cell.config for cell in cells if "theta" in cell.config]
    assert len({config["theta_sha256"] for config in of_unrolls}) == 2
    assert {config["inner_task"] for config in of_unrolls} == {"digits4_mlp"}
    assert {(config["theta"], config.get("overstep")) for config in of_unrolls} == {
        ("initial", None),
        ("trained", None),
        ("overstepping", 30.0),
    }


def test_overstepping_is_the_trained_theta_with_every_step_thirty_times_as_large():
    trained, overstepping = (inner.load(name) for name in ("trained", "overstepping"))
    assert weights.digest(trained.theta) == weights.digest(overstepping.theta)
    params, grads = {"w": jnp.ones((3, 2))}, {"w": jnp.arange(6.0).reshape(3, 2)}
    steps = []
    for where in (trained, overstepping):
        optimizer = where.objective.design.optimizer(where.theta)
        steps.append(optimizer.update(grads, optimizer.init(params), params)[0]["w"])
    np.testing.assert_allclose(steps[1], 30 * steps[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizers": ["adam"]}, "has no 'optimizers'"),
        ({"timing_blocks": 20}, "has no 'timing_blocks'"),
        ({"controls": True}, "has no 'controls'"),
        ({"replications": 3}, "whole number from 4 to"),
        ({"measurement": "update_cost", "optimizers": ["adam"], "replications": 8}, "has no 'replications'"),
    ],
)
def test_a_suite_that_times_nothing_has_replications_and_no_optimizers(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        build_suite("mine", {"kind": "measure", "measurement": "pathologies"} | change)
    assert_one_line(caught.value)


@pytest.mark.slow
def test_a_truncated_gradient_is_that_of_the_estimator_and_over_the_whole_unroll_that_of_backpropagation():
    where = inner.load("trained")
    estimator = tbptt(where.objective, 1)
    state = estimator.init(where.theta, where.arrays, KEY, 5, 10)
    _, state = estimator.estimate(where.theta, state, where.arrays, KEY, 5, 10)  # a window
    key = state.episode.key[0]
    first, state = estimator.estimate(
        where.theta, estimator.init(where.theta, where.arrays, KEY, 5, 10), where.arrays, KEY, 5, 10
    )
    second, _ = estimator.estimate(where.theta, state, where.arrays, jax.random.key(6), 5, 10)
    expected = jax.tree.map(lambda a, b: (a[0] + b[0]) / 2, first.gradients, second.gradients)
    found = truncation.truncated_gradient(where.objective, where.theta, where.arrays, key, 5, 10)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-4, atol=1e-6)
    whole = truncation.truncated_gradient(where.objective, where.theta, where.arrays, key, 10, 10)
    exact = jax.grad(lambda theta: where.objective(theta, where.arrays, key, 10))(where.theta)
    for name, leaf in exact.items():
        np.testing.assert_allclose(whole[name], leaf, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_variances_are_those_of_estimates_from_fresh_keys():
    rows = pathologies.measure("variance/trained/5", (), 6)
    found = summary.wide(rows)
    where = inner.load("trained")
    rp = reparam(where.objective, variance.NUM_SAMPLES, inner.SIGMA, side_by_side(variance.NUM_SAMPLES))
    estimate = jax.jit(lambda key: rp.estimate(where.theta, (), where.arrays, key, 5, 5)[0].gradients)
    means = []
    for key in jax.random.split(tasks.named_key("pathologies", "variance", 5), 6):
        gradients = jax.device_get(estimate(jax.random.split(key, 3)[0]))
        means.append(moments.flattened({name: leaf.mean(axis=0)[None] for name, leaf in gradients.items()})[0])
    np.testing.assert_allclose(found["deviation/reparam"].mean(), np.var(means, axis=0, ddof=1).sum(), rtol=1e-3)
    # The smaller variance gets nearly all the weight, and the variance of the merged one is near it.
    assert found["deviation/reparam"].mean() < found["deviation/es"].mean()
    assert found["deviation/merged"].mean() < 1.5 * found["deviation/reparam"].mean()
    assert found["merge_weight/merged"].mean() > 0.9
    # With a window as long as the unroll both are ES, of other samples: within a factor of each other.
    for name in ("pes", "nres"):
        assert 0.5 < found[f"deviation/{name}"].mean() / found["deviation/es"].mean() < 2
    assert set(found["finite/es"]) == {1.0}


@pytest.mark.slow
def test_merging_heavy_tails_is_biased_and_the_more_the_heavier():
    figures = {
        (at, name): value for at, name, value in summary._merged_bias(pathologies.measure("merged_bias", (), 8), {})
    }
    light, heavy = figures[(0.5, "mean of 128 samples merged")], figures[(3.0, "mean of 128 samples merged")]
    assert light.low < 1 < light.high
    assert heavy.high < 1
    assert heavy_tails.NUM_SAMPLES == (8, 32, 128)


@pytest.mark.slow
def test_a_slice_joins_the_loss_at_theta_and_smoothing_averages(monkeypatch):
    monkeypatch.setattr(unrolls, "NUM_POINTS", 5)
    monkeypatch.setattr(unrolls, "NUM_SMOOTHED_POINTS", 3)
    monkeypatch.setattr(unrolls, "SLICED_LENGTHS", (2, 4, 8))
    found = summary.wide(pathologies.measure("slices/trained", (), 4))
    where = inner.load("trained")
    key, _, _ = jax.random.split(tasks.named_key("pathologies", "slices"), 3)
    at_theta = where.objective(where.theta, where.arrays, key, 8)
    assert found["raw_at"][2] == found["smoothed_at"][1] == 0
    np.testing.assert_allclose(found["raw/8"][2], at_theta, rtol=1e-5)
    assert abs(found["smoothed/8"][1] - at_theta) < 0.1
    assert found["smoothed/8"][1] != found["raw/8"][2]


# The page ------------------------------------------------------------------------------------------------------------


def synthetic(reparam_scale=lambda length: 1e-3, grown=1.0):
    """Cells and curves of all parts, of made-up numbers: reparam's variance as told, es's 1, merged's the smaller."""
    rng = np.random.default_rng(0)
    cells, curves = [], []
    for part, facts in pathologies.parts().items():
        config = {
            "kind": "measure",
            "measurement": "pathologies",
            "task": f"pathologies/{part}",
            "device_kind": "cpu",
            **facts,
        }
        rows = []
        name, length = facts["pathology"], facts.get("length", 0)
        if name == "gradient_norm":
            for n in unrolls.LENGTHS:
                rows += [(n, f"gradient_norm/{i}", (1 + i / 10) * (grown if n > 100 else 1)) for i in range(8)]
        elif name == "slices":
            for kind in ("raw", "smoothed"):
                at = np.linspace(-0.05, 0.05, 11)
                rows += [(i, f"{kind}_at", a) for i, a in enumerate(at)]
                rows += [(i, f"{kind}/{n}", a**2) for n in unrolls.SLICED_LENGTHS for i, a in enumerate(at)]
        elif name == "truncation":
            for metric in (
                "true",
                *(f"{m}/{w}" for w in truncation.WINDOWS[:-1] for m in ("truncated", "along", "bias")),
            ):
                rows += [(i, metric, 1 + 0.1 * rng.normal()) for i in range(8)]
        elif name == "variance":
            small = min(reparam_scale(length), 1.0)
            scales = {"reparam": reparam_scale(length), "es": 1.0, "merged": small, "merged_independent": small}
            for estimator in variance.ESTIMATORS:
                scale = scales.get(estimator, 2.0)
                rows += [(i, f"finite/{estimator}", 1.0) for i in range(8)]
                rows += [(i, f"deviation/{estimator}", scale * (1 + 0.1 * rng.uniform())) for i in range(8)]
                rows += [(i, f"signal/{estimator}", 1 + 0.1 * rng.normal()) for i in range(8)]
            for merged in summary.MERGED:
                for metric, value in (("bias_to_es", 0.01), ("bias_to_reparam", 0.01), ("merge_weight", 0.5)):
                    rows += [(i, f"{metric}/{merged}", value * (1 + 0.1 * rng.uniform())) for i in range(8)]
        elif name == "merged_bias":
            for scale in heavy_tails.SCALES:
                rows += [
                    (i, f"merged/{scale:g}/{n}", rng.uniform(0.5, 1)) for n in heavy_tails.NUM_SAMPLES for i in range(8)
                ]
        else:
            rows.append((0, "gradient/exact", 3.2))
            for estimator in influence.NAMES:
                sign = -1 if estimator in ("tbptt", "truncated_es") else 1
                rows += [(i, f"gradient/{estimator}/{w}", sign + i / 10) for w in influence.WINDOWS for i in range(8)]
                rows += [(i, f"{m}/{estimator}", 0.5 / (i + 1)) for m in ("theta", "loss") for i in range(8)]
        cell = f"cell{len(cells)}"
        cells.append(
            {"cell": cell, "kind": "measure", "status": "ok", "config": json.dumps(config), "provenance": "{}"}
        )
        curves.append(pd.DataFrame(rows, columns=["step", "metric", "value"]).assign(cell=cell))
    return pd.DataFrame(cells), pd.concat(curves, ignore_index=True)


def page(tmp_path, *rows):
    head = {"title": "pathologies (mine)", "suite": "pathologies", "label": "mine", "description": "what"}
    return write_measurement(*rows, tmp_path, **head, draw=False).read_text()


def test_the_page_says_where_reparameterization_crosses_and_that_it_never_does(tmp_path):
    never = page(tmp_path, *synthetic())
    assert never.count("reparameterization never crosses ES") >= 2
    crossing = page(tmp_path, *synthetic(lambda length: length / 150))
    assert "ES has the smaller variance at 200, 500 and 1,000 steps, reparameterization at the others" in crossing
    assert "holds at every length" in crossing


def test_the_page_says_whether_gradients_explode(tmp_path):
    assert "neither the median nor the largest grows" in page(tmp_path, *synthetic())
    assert "explosion" in page(tmp_path, *synthetic(grown=1e4))


def test_the_page_sees_an_explosion_that_ends_again(tmp_path):
    cells, curves = synthetic()
    middle = curves["metric"].str.startswith("gradient_norm/") & (curves["step"] == 100)
    curves.loc[middle, "value"] *= 1e3
    text = page(tmp_path, cells, curves)
    assert "the paper&#39;s explosion" in text or "the paper's explosion" in text
    assert " at 100 and " in text


def test_a_ratio_that_is_not_known_does_not_hold(tmp_path):
    cells, curves = synthetic()
    assert "holds at every length" in page(tmp_path / "known", cells, curves)
    curves.loc[curves["metric"] == "deviation/merged", "value"] = np.nan
    assert "does not hold at every length" in page(tmp_path / "unknown", cells, curves)


def test_gradients_that_are_not_finite_count_as_infinite():
    rows = [(5, f"gradient_norm/{i}", value) for i, value in enumerate([1.0, 2.0, 3.0, np.nan])]
    rows += [(10, f"gradient_norm/{i}", value) for i, value in enumerate([1.0, np.inf, np.nan, np.nan])]
    found = summary._gradient_norms(pd.DataFrame(rows, columns=["step", "metric", "value"]), {})
    values = {(at, name): value.estimate for at, name, value in found}
    assert (values[5, "median"], values[5, "largest"], values[5, "finite"]) == (2.5, np.inf, 0.75)
    assert (values[10, "median"], values[10, "largest"], values[10, "finite"]) == (np.inf, np.inf, 0.25)


def test_a_gradient_that_is_lost_in_noise_is_not_compared_to(tmp_path):
    cells, curves = synthetic()
    assert "lost in its own noise" not in (text := page(tmp_path / "known", cells, curves))
    assert "Its direction is about right all the same" in text
    noise = curves["metric"] == "true"
    curves.loc[noise, "value"] = np.where(np.arange(noise.sum()) % 2, 5.0, -4.0)
    text = page(tmp_path / "noise", cells, curves)
    assert text.count("the backpropagated whole gradient is lost in its own noise") >= 3
    assert "Its direction" not in text
    table = pd.read_csv(tmp_path / "noise" / "tables" / "truncation.csv")
    assert table["estimate"].isna().all()


def test_the_page_says_whether_the_loss_is_rugged(tmp_path):
    cells, curves = synthetic()
    assert "where the paper has it rugged" in page(tmp_path / "smooth", cells, curves)
    rugged = curves["metric"].str.startswith("raw/")
    curves.loc[rugged, "value"] += np.arange(rugged.sum()) % 2
    text = page(tmp_path / "rugged", cells, curves)
    assert "which smoothing repairs" in text
    assert "where the paper has it rugged" not in text


def test_the_page_has_a_section_for_each_pathology_that_was_run(tmp_path):
    cells, curves = synthetic()
    whole = page(tmp_path, cells, curves)
    for anchor in ("gradient-norm", "slices", "truncation", "variance", "merged-bias", "influence-balancing"):
        assert f'<section id="{anchor}">' in whole
    some = cells[cells["config"].str.contains("merged_bias")]
    text = page(tmp_path, some, curves)
    assert '<section id="merged-bias">' in text
    assert '<section id="variance">' not in text
    assert sorted(path.name for path in (tmp_path / "tables").glob("*.csv")) == ["merged_bias.csv", "provenance.csv"]


@pytest.mark.slow
def test_every_figure_is_drawn_in_every_format(tmp_path):
    head = {"title": "t", "suite": "pathologies", "label": "l", "description": ""}
    write_measurement(*synthetic(lambda length: length / 150), tmp_path, **head)
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    names = (
        "gradient_norm",
        "slices",
        "truncation",
        "variance",
        "merged_variance",
        "merged_bias",
        "influence_balancing",
    )
    assert drawn == {f"{name}.{suffix}" for name in names for suffix in ("png", "svg", "pdf")}
