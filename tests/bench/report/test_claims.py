"""The page of claims: statuses follow from intervals, numbers from published rows."""

import json
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.folders import Folders
from bench.measure import ablation
from bench.report import claims, statements
from tests.helpers import assert_one_line


class Fake(statements.Published):
    """What is published, told by suite."""

    def __init__(self, **suites):
        super().__init__(Path("reports"), "here")
        object.__setattr__(self, "suites", suites)

    def of(self, suite):
        return self.suites.get(suite)


def interval(estimate, low, high):
    return {"estimate": estimate, "low": low, "high": high}


def against(group, *numbers, **more):
    steps = interval(*(2 * number for number in numbers)) | more
    return {"group": group, "reference": "adam", "speedup": interval(*numbers) | more, "speedup_in_steps": steps}


def headline(*validation, **more):
    return {"headline": {"optimizer": "mine", "validation": list(validation), "test_loss": None} | more}


def found(name, **suites):
    return next(claim for claim in statements.claims(Fake(**suites)) if claim.name == name)


def test_a_claim_is_shown_if_every_interval_lies_on_its_side():
    faster = against("paper_constant", 3.0, 2.5, 3.5)
    for other, status in (
        (against("all_hand_designed", 1.2, 1.1, 1.3), "shown"),
        (against("all_hand_designed", 1.2, 0.9, 1.5), "shown in part"),
        (against("all_hand_designed", 1.2, 0.0, 1.3, bound="<"), "shown in part"),
    ):
        claim = found("C3", paper=headline(faster, other))
        assert claim.status == status
        assert (
            "in wall-clock 3.00 [2.50, 3.50], in steps 6.00 [5.00, 7.00] times over the best of the paper's three with "
            "constant rates (adam)" in claim.parts[0].text
        )
    slower = against("paper_constant", 0.5, 0.4, 0.6)
    assert found("C3", paper=headline(slower)).status == "not shown"


def test_a_statement_on_the_other_side_is_contradicted_and_one_across_is_not_shown(monkeypatch):
    numbers = ((3.0, 2.5, 3.5), (1.0, 0.9, 1.1), (0.5, 0.4, 0.6))
    published = Fake(paper=headline(*(against("paper_constant", *found) for found in numbers)))
    parts = next(claim for claim in statements.claims(published) if claim.name == "C3").parts
    assert [part.mark for part in parts] == ["holds", "not shown", "contradicted"]
    monkeypatch.setattr(claims, "Published", lambda *where: published)
    text = claims.files(Path("reports"), "here")[claims.PAGE]
    contradicted, unproven = text.split('<section id="contradicted">')[1].split('<section id="unproven">')
    assert (contradicted.count("wall-clock 0.500"), contradicted.count("wall-clock 1.00")) == (1, 0)
    assert (unproven.count("wall-clock 0.500"), unproven.count("wall-clock 1.00")) == (0, 1)
    assert text.count("Would be measured by") == 4  # C3 and C4 are of this suite
    assert text.count("What is missing would be measured by <code>bench run objectives</code>") == 1
    assert text.count(">holds</span>") == 1


def test_what_was_not_measured_is_not_shown_and_says_so():
    for claim in statements.claims(Fake()):
        assert (claim.status, claim.missing) == ("not shown", tuple(claim.figures))
        assert all(part.text.startswith("Not measured: ") for part in claim.parts)


def test_a_lower_test_loss_needs_the_objective_alone_swapped_too():
    test_loss = {"difference": interval(-0.03, -0.05, -0.01), "reference": "muon", "tasks_below": 9, "tasks": 10}
    claim = found("C4", paper=headline(test_loss=test_loss))
    assert claim.status == "shown in part"
    assert "-0.0300 [-0.0500, -0.0100]; lower on 9 of 10 tasks" in claim.parts[0].text


def test_kinds_of_nets_are_judged_apart():
    kinds = {
        "convolutional": [against("paper_scheduled", 1.6, 1.5, 1.7), against("paper_constant", 0.1, 0.1, 0.1)],
        "fully connected": [against("paper_scheduled", 0.9, 0.8, 1.0)],
    }
    claim = found("C5", ood=headline(by_architecture=kinds))
    assert [part.holds for part in claim.parts] == [True, False]


def pathologies(growth, variance, bias):
    rows = []
    for theta in ("initial", "trained", "overstepping"):
        for at, norm in ((5.0, 1.0), (1000.0, growth)):
            rows.append(("gradient_norm", theta, at, "median", norm, 0.9 * norm, 1.1 * norm))
        rows.append(("truncation", theta, 5.0, "relative bias", bias, bias - 0.1, bias + 0.1))
        rows.append(("variance", theta, 5.0, "variance of merged over the better's", variance, 0.9, variance + 0.1))
    names = ("pathology", "theta", "at", "name", "estimate", "low", "high")
    return pd.DataFrame(rows, columns=names).to_dict("records")


def on_the_cnn(growth):
    names = ("optimizer", "theta", "steps", "median", "low", "high")
    rows = [
        (name, theta, steps, norm, norm, norm)
        for name, last in (("lopt_paper", growth), ("lopt_home", 2.5))
        for theta in ("initial", "trained")
        for steps, norm in ((5, 1.0), (2000, last))
    ]
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_gradients_explode_beyond_the_factor_that_the_page_of_pathologies_names():
    # 0.9 growth / 1.1 is above 100 from 122.3 on.
    claim = found("C1", pathologies=pathologies(123.0, 1.0, 0.5), gradient_norms=on_the_cnn(101.0))
    assert claim.status == "shown"
    assert "lopt_paper, trained, grows 101 [101, 101] times from 5 to 2,000 steps" in claim.parts[4].text
    assert "of lopt_home, trained, it grows 2.50 [2.50, 2.50] times" in claim.parts[5].text
    assert claim.parts[5].noted, "what orthogonalized updates do is no part of the claim"
    assert claims.listed([claim], ("not shown", "")) == []
    assert "Windows of 5 steps miss 0.500 [0.400, 0.600] of the gradient" in claim.parts[-1].text
    assert "more than 100 times" in claim.rule
    claim = found("C1", pathologies=pathologies(122.0, 1.0, 0.05), gradient_norms=on_the_cnn(99.0))
    assert [part.holds for part in claim.parts] == [False] * 5 + [None, False]
    assert found("C1", pathologies=pathologies(123.0, 1.0, 0.5)).status == "shown in part"


def test_merging_window_by_window_stands_beside_the_claim():
    rows = pathologies(1.0, 1.1, 0.5)
    name = "variance of merged_windows over that of merged"
    for at, ratio in ((5.0, 1.1), (100.0, 0.25), (1000.0, 0.5)):
        row = ("windows", "trained", at, name, ratio, ratio - 0.1, ratio + 0.1)
        rows.append(dict(zip(rows[0], row, strict=True)))
    part = found("C2", pathologies=rows).parts[1]
    assert part.noted
    assert part.holds is None
    assert "is 0.250 [0.150, 0.350] (the trained theta, 100 steps) to 1.10 [1.00, 1.20]" in part.text
    assert "over 3 lengths and thetas" in part.text


def test_merging_holds_within_its_limit_and_once_it_trains():
    alike = {"estimator": "merged", "unrolls": "growing", "untrained": 2.5}
    runs = [
        alike | {"design": design, "seed": seed, "final_validation_loss": 1.0 + seed / 10}
        for design in ablation.DESIGNS
        for seed in range(ablation.SEEDS)
    ]
    claim = found("C2", pathologies=pathologies(1.0, 1.1, 0.5), ablation=runs)
    assert claim.status == "shown"
    assert "is at most 1.10 [0.900, 1.20] over 3 lengths and thetas; the upper ends of 3 known" in claim.parts[0].text
    assert found("C2", pathologies=pathologies(1.0, 1.1, 0.5), ablation=runs[1:]).parts[-1].holds is None
    runs[0]["final_validation_loss"] = 10.0
    claim = found("C2", pathologies=pathologies(1.0, 1.2, 0.5), ablation=runs)
    assert [part.holds for part in claim.parts] == [False, True, False], "by name, the orthogonal one first"


def test_the_ablation_is_judged_by_its_own_rule():
    losses = {("merged", "growing"): 1.0, ("reparam", "growing"): 1.1, ("es", "growing"): 1.2}
    losses |= {("merged", "short"): 1.3, ("merged", "long"): 0.9}
    names = ("design", "estimator", "unrolls", "seed", "final_validation_loss", "untrained")
    rows = [
        dict(zip(names, (design, *pair, seed, loss + 0.001 * seed * (1 + (pair[0] == "es")), 2.0), strict=True))
        for design in ablation.DESIGNS
        for pair, loss in losses.items()
        for seed in range(ablation.SEEDS)
    ]
    claim = found("C6", ablation=rows)
    assert [part.holds for part in claim.parts] == [True, True, False, False]
    assert claim.status == "shown in part"
    assert found("C6", ablation=rows[:-1]).parts[-1].holds is None


def test_the_page_holds_every_number_and_a_changed_one_is_found(tmp_path):
    folders = Folders(results_dir=tmp_path / "results", reports_dir=tmp_path / "reports")
    path = claims.write_claims("here", folders=folders)
    rows = json.loads((path.parent / claims.JSON).read_text())
    assert [list(row) for row in rows] == [["name", "sentence", "status", "number", "figure", "command"]] * 10
    assert [row["name"] for row in rows] == [*(f"C{i}" for i in range(1, 7)), *(f"Q{i}" for i in range(1, 5))]
    assert (rows[6]["status"], rows[6]["number"]) == (rows[2]["status"], rows[2]["number"])
    text = path.read_text()
    assert all(row["sentence"] in text.replace("&#39;", "'") for row in rows)
    assert claims.published_claims(folders.reports_dir) == ["here"]
    assert claims.verify_claims(folders.reports_dir, "here") is None
    path.write_text(text.replace('<p class="status">Not shown', '<p class="status">Shown', 1))
    problem = claims.verify_claims(folders.reports_dir, "here")
    assert problem is not None
    assert 'published \'<p class="status">Shown' in problem


def test_a_label_is_asked_for_where_there_is_not_just_one(tmp_path):
    folders = Folders(results_dir=tmp_path, reports_dir=tmp_path)
    with pytest.raises(UsageError, match="none is published") as caught:
        claims.write_claims(folders=folders)
    assert_one_line(caught.value)
    for label in ("a", "b"):
        (tmp_path / "paper" / label).mkdir(parents=True)
        (tmp_path / "paper" / label / "report.json").write_text("{}")
    with pytest.raises(UsageError, match="a, b: name one with --label"):
        claims.write_claims(folders=folders)
