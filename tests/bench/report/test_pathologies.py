"""What the page of the pathologies says of them, on tables made by hand."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from bench.measure import pathologies
from bench.measure.pathologies import heavy_tails, influence, summary, truncation, unrolls, variance
from bench.report.measurement import write_measurement
from bench.statistics import median_interval


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
        elif name == "windows":
            noise = 1 + 0.1 * rng.uniform(size=8)
            for estimator, scale in (("merged", 1.0), ("merged_windows", 0.25 if length == 200 else 0.5)):
                rows += [(i, f"finite/{estimator}", 1.0) for i in range(8)]
                rows += [(i, f"deviation/{estimator}", scale * x) for i, x in enumerate(noise)]
            rows += [(i, "shift/merged_windows", 0.01 * x) for i, x in enumerate(noise)]
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page where nothing is altered."""
    return page(tmp_path_factory.mktemp("whole"), *synthetic())


def test_the_page_says_where_reparameterization_crosses_and_that_it_never_does(whole, tmp_path):
    assert whole.count("reparameterization never crosses ES") >= 2
    crossing = page(tmp_path, *synthetic(lambda length: length / 150))
    assert "ES has the smaller variance at 200, 500 and 1,000 steps, reparameterization at the others" in crossing
    assert crossing.count("that are allowed at every length") >= 2


def test_the_page_says_whether_gradients_explode(whole, tmp_path):
    assert "no median is known to grow by more than a factor of 100" in whole
    assert "explosion" in page(tmp_path, *synthetic(grown=1e4))


def test_the_page_sees_an_explosion_that_ends_again(tmp_path):
    cells, curves = synthetic()
    middle = curves["metric"].str.startswith("gradient_norm/") & (curves["step"] == 100)
    curves.loc[middle, "value"] *= 1e3
    text = page(tmp_path, cells, curves)
    assert "the paper&#39;s explosion" in text or "the paper's explosion" in text
    assert " at 100 and " in text


@pytest.mark.parametrize(
    ("norms", "explodes", "words"),
    [
        ([1.0, 130.0, 20.0], True, "grows 130 [106, 159] times from 5 to 100 steps, where it is largest"),
        ([1.0, 120.0, 20.0], False, "120 [98.2, 147] times"),  # the intervals decide
        ([1.0, 130.0, None], True, "grows beyond the largest float32 from 5 to 1,000 steps"),
        ([1.0, 0.5, 0.1], False, "is largest at 5 steps, the shortest"),
    ],
)
def test_growth_is_the_largest_over_the_lengths_against_the_shortest(norms, explodes, words):
    ends = [{"low": x and 0.9 * x, "high": x and 1.1 * x} for x in norms]
    rows = [{"at": at, "estimate": x} | end for at, x, end in zip((5, 100, 1000), norms, ends, strict=True)]
    found = summary.growth(pd.DataFrame(rows).sample(frac=1, random_state=0))
    assert found.explodes is explodes
    assert words in str(found)


def test_growth_is_bounded_by_the_lengths_beside_the_largest_too():
    rows = pd.DataFrame({"at": [5, 50, 500], "estimate": [1.0, 20.0, 19.0], "low": [0.5, 5.0, 15.0]})
    found = summary.growth(rows.assign(high=[2.0, 30.0, 80.0]))
    assert (found.times, found.least, found.most, found.largest) == (20.0, 7.5, 160.0, 50)
    assert summary.growth(rows.assign(high=[2.0, 30.0, np.nan])).most == np.inf


def test_a_ratio_that_is_not_known_does_not_hold(whole, tmp_path):
    cells, curves = synthetic()
    assert "at most the 1.25 times that are allowed at every length" in whole
    curves.loc[curves["metric"] == "deviation/merged", "value"] = np.nan
    text = page(tmp_path, cells, curves)
    assert re.search(r"at most the 1\.25 times that are allowed at all but (\d+) of \1 lengths and thetas", text)
    assert "at most the 1.1 times that are allowed at every length" in text, "independent samples are judged apart"


def test_the_median_of_norms_keeps_the_ends_that_are_norms():
    norms = np.arange(1.0, 17.0)
    assert summary.median_of_norms(norms) == median_interval(norms)
    one = summary.median_of_norms(np.where(norms == 16, np.inf, norms))
    assert (one.estimate, one.low, one.high) == (8.5, 4.0, 13.0)
    many = summary.median_of_norms(np.where(norms > 12, np.inf, norms))
    assert (many.estimate, many.low, many.high) == (8.5, 4.0, None)


def test_an_unroll_whose_further_losses_have_no_gradient_has_ended():
    # The norm of the gradient of a mean over steps: of the first unroll it goes on, of others it falls as 1 / length.
    norms = {10: (1.0, 4.0, 4.0, np.inf), 20: (1.0, 3.0, 2.0, np.inf), 40: (1.0, 1.5, 1.0, np.nan)}
    rows = [(n, f"gradient_norm/{i}", value) for n, values in norms.items() for i, value in enumerate(values)]
    shares = summary.ended_unrolls(pd.DataFrame(rows, columns=["step", "metric", "value"]))
    assert (shares[10], shares[20]) == (0.25, 0.5)
    assert np.isnan(shares[40])


@pytest.mark.parametrize(
    ("shares", "since"),
    [([0.0, 0.6, 0.7], 20), ([0.6, 0.6, 0.6], 10), ([0.0, 0.6, 0.5], None), ([0.9, 0.2, 0.9], 40)],
)
def test_most_unrolls_have_ended_from_the_length_that_none_follows_with_fewer(shares, since):
    table = pd.DataFrame({"at": [10, 20, 40, 80], "estimate": [*shares, np.nan]})
    assert summary.mostly_ended(table.sample(frac=1, random_state=0)) == since


def test_gradients_that_are_not_finite_count_as_infinite():
    rows = [(5, f"gradient_norm/{i}", value) for i, value in enumerate([1.0, 2.0, 3.0, np.nan])]
    rows += [(10, f"gradient_norm/{i}", value) for i, value in enumerate([1.0, np.inf, np.nan, np.nan])]
    found = summary._gradient_norms(pd.DataFrame(rows, columns=["step", "metric", "value"]), {})
    values = {(at, name): value.estimate for at, name, value in found}
    assert (values[5, "median"], values[5, "largest"], values[5, "finite"]) == (2.5, np.inf, 0.75)
    assert (values[10, "median"], values[10, "largest"], values[10, "finite"]) == (np.inf, np.inf, 0.25)


def test_a_gradient_that_is_lost_in_noise_is_not_compared_to(whole, tmp_path):
    cells, curves = synthetic()
    assert "lost in its own noise" not in whole
    assert "Its direction is about right all the same" in whole
    noise = curves["metric"] == "true"
    curves.loc[noise, "value"] = np.where(np.arange(noise.sum()) % 2, 5.0, -4.0)
    text = page(tmp_path, cells, curves)
    assert text.count("the backpropagated whole gradient is lost in its own noise") >= 3
    assert "Its direction" not in text
    table = pd.read_csv(tmp_path / "tables" / "truncation.csv")
    assert table["estimate"].isna().all()


def test_the_page_says_whether_the_loss_is_rugged(whole, tmp_path):
    cells, curves = synthetic()
    assert "where the paper has it rugged" in whole
    rugged = curves["metric"].str.startswith("raw/")
    curves.loc[rugged, "value"] += np.arange(rugged.sum()) % 2
    text = page(tmp_path, cells, curves)
    assert "which smoothing repairs" in text
    assert "where the paper has it rugged" not in text


def test_the_page_says_what_merging_in_windows_changes(whole, tmp_path):
    half, quarter = "0.5000 [0.5000, 0.5000]", "0.2500 [0.2500, 0.2500]"
    sentence = f"trained theta {half} times as large at 1,000 steps, and least at 200, {quarter} times"
    assert sentence in " ".join(whole.split())
    cells, curves = synthetic()
    text = page(tmp_path, cells[~cells["config"].str.contains('"windows"')], curves)
    assert "windows of the unroll" not in text
    assert '<section id="variance">' in text


def test_the_page_has_a_section_for_each_pathology_that_was_run(whole, tmp_path):
    cells, curves = synthetic()
    for anchor in ("gradient-norm", "slices", "truncation", "variance", "merged-bias", "influence-balancing"):
        assert f'<section id="{anchor}">' in whole
    some = cells[cells["config"].str.contains("merged_bias")]
    text = page(tmp_path, some, curves)
    assert '<section id="merged-bias">' in text
    assert '<section id="variance">' not in text
    assert sorted(path.name for path in (tmp_path / "tables").glob("*.csv")) == ["merged_bias.csv", "provenance.csv"]


@pytest.mark.slow
def test_every_figure_is_drawn(tmp_path):
    head = {"title": "t", "suite": "pathologies", "label": "l", "description": ""}
    write_measurement(*synthetic(lambda length: length / 150), tmp_path, figures=("png",), **head)
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
    assert drawn == {f"{name}.png" for name in names}
