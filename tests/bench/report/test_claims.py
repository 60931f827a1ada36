"""The page of claims: statuses follow from intervals, numbers from published rows."""

import json
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.folders import Folders
from bench.measure import ablation
from bench.report.claims import page as claims
from bench.report.claims import paper, statements
from bench.report.claims.racing import what_was_learned
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


def headline(*validation, controls=None, **more):
    found = {"optimizer": "mine", "validation": list(validation), "test_loss": None, "by_architecture": {}}
    return {"headline": found | more, "controls": controls or {}}


def found(name, **suites):
    return next(claim for claim in paper.claims(Fake(**suites)) if claim.name == name)


@pytest.mark.rule(17)
def test_a_claim_is_shown_if_every_interval_lies_on_its_side():
    faster = against("paper_constant", 3.0, 2.5, 3.5)
    for other, status in (
        (against("all_hand_designed", 1.2, 1.1, 1.3), "shown"),
        (against("all_hand_designed", 1.2, 0.9, 1.5), "shown in part"),
        (against("all_hand_designed", 1.2, 0.0, 1.3, bound="<"), "shown in part"),
    ):
        claim = found("C3", paper=headline(faster, other))
        assert claim.status == status
        if "bound" in other["speedup"]:
            assert "in wall-clock at most 1.20 (95 %: 1.30), in steps at most 2.40 (95 %: 2.60)" in claim.parts[0].text
        assert (
            "in wall-clock 3.00 [2.50, 3.50], in steps 6.00 [5.00, 7.00] times over the best of the paper's three with "
            "constant rates (adam)" in claim.parts[1].text
        )
    slower = against("paper_constant", 0.5, 0.4, 0.6)
    assert found("C3", paper=headline(slower)).status == "not shown"


def test_a_statement_on_the_other_side_is_contradicted_and_one_across_is_not_shown(monkeypatch):
    numbers = ((3.0, 2.5, 3.5), (1.0, 0.9, 1.1), (0.5, 0.4, 0.6))
    published = Fake(paper=headline(*(against("paper_constant", *found) for found in numbers)))
    parts = next(claim for claim in paper.claims(published) if claim.name == "C3").parts
    assert [part.mark for part in parts] == ["contradicted", "not shown", "holds"], "the strongest group comes first"
    monkeypatch.setattr(claims, "Published", lambda *where: published)
    text = claims.files(Path("reports"), "here")[claims.PAGE]
    contradicted, unproven = text.split('<section id="contradicted">')[1].split('<section id="unproven">')
    assert (contradicted.count("wall-clock 0.500"), contradicted.count("wall-clock 1.00")) == (1, 0)
    assert (unproven.count("wall-clock 0.500"), unproven.count("wall-clock 1.00")) == (0, 1)
    assert text.count("Would be measured by") == 4  # C3 and C4 are of this suite
    assert text.count("What is missing would be measured by <code>bench run objectives</code>") == 1
    assert text.count(">holds</span>") == 1


def test_what_was_not_measured_is_not_shown_and_says_so():
    for claim in paper.claims(Fake()):
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
    test_loss = {"difference": interval(0.03, 0.01, 0.05), "reference": "muon", "tasks_below": 1, "tasks": 8}
    claim = found("C5", ood=headline(by_architecture=kinds, test_loss=test_loss))
    assert [part.mark for part in claim.parts] == ["contradicted", "holds", "not shown", "contradicted"]
    assert claim.parts[0].text.startswith("Convolutional nets: in wall-clock 0.100")
    assert claim.tally == "1 of 4 statements holds, 2 contradicted"


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (
            interval(1.3, 1.2, 1.4),
            "1.30 [1.20, 1.40] times the steps to the target that it takes after: outer-training",
        ),
        (
            interval(0.96, 0.9, 1.003),
            "0.960 [0.900, 1.003] times the steps to the target that it takes after: the lead",
        ),
    ],
)
def test_the_design_before_outer_training_stands_beside_the_lead(before, words):
    controls = {"untrained": {"mine": before}, "untrained_test_loss": {"mine": interval(0.1, -0.1, 0.3)}}
    test_loss = {"difference": interval(-0.03, -0.05, -0.01), "reference": "muon", "tasks_below": 9, "tasks": 10}
    paper_suite = headline(against("paper_constant", 3.0, 2.5, 3.5), test_loss=test_loss, controls=controls)
    claim = found("C3", paper=paper_suite)
    assert (claim.status, len(claim.counted)) == ("shown", 1)
    assert claim.parts[-1].noted
    assert words in claim.parts[-1].text
    controls["over_itself"] = {"paper_constant": interval(1.1, 0.0, 1.2) | {"bound": "<"}}
    text = found("C3", paper=paper_suite).parts[-1].text
    assert "faster than themselves, the best of the paper's three with constant rates at most 1.10 (95 %: 1.20)" in text
    beside = found("C4", paper=paper_suite).parts[1].text
    assert beside.endswith("is higher by 0.100 [-0.100, 0.300]: outer-training is not shown to change it.")


@pytest.mark.parametrize(
    ("high", "words"),
    [(-0.03, "20% of the lead of 0.0500 over muon"), (0.01, "cannot be said, as this lead is not resolved itself")],
)
def test_what_was_learned_says_what_of_the_lead_feedback_can_be_at_most(high, words):
    test_loss = {"difference": interval(-0.05, -0.07, high), "reference": "muon", "tasks_below": 9, "tasks": 10}
    row = {"score": "final_test_loss", "way": "open", "tasks": 5, "closed": 1.2}
    rows = [row | {"difference": 0.004, "low": -0.002, "high": 0.01}]
    first, share = what_was_learned(Fake(paper=headline(test_loss=test_loss), feedback=rows))
    assert "rises by 0.00400 [-0.00200, 0.0100] on 5 tasks: no difference shown" in first.text
    assert "at most 0.0100, the upper end: " in share.text
    assert words in share.text
    assert len(what_was_learned(Fake(feedback=rows, paper=None))) == 1


def pathologies(growth, variance, bias):
    rows = []
    for theta in ("initial", "trained", "overstepping"):
        for at, norm in ((5.0, 1.0), (1000.0, growth)):
            rows.append(("gradient_norm", theta, at, "median", norm, 0.9 * norm, 1.1 * norm))
        rows.append(("truncation", theta, 5.0, "relative bias", bias, bias - 0.1, bias + 0.1))
        rows.append(("truncation", theta, 5.0, "cosine", 0.8, 0.7, 0.9))
        for merged in ("merged", "merged_independent"):
            name = f"variance of {merged} over the better's"
            rows.append(("variance", theta, 5.0, name, variance, 0.9, variance + 0.05))
    names = ("pathology", "theta", "at", "name", "estimate", "low", "high")
    return pd.DataFrame(rows, columns=names).to_dict("records")


def on_the_cnn(growth):
    names = ("optimizer", "theta", "steps", "median", "low", "high", "largest", "ended")
    rows = [
        (name, theta, steps, norm, norm, norm, norm, 0.9 if (name, theta) == ("lopt_paper", "initial") else 0.0)
        for name, last in (("lopt_paper", growth), ("lopt_home", 2.5))
        for theta in ("initial", "trained")
        for steps, norm in ((5, 1.0), (2000, last))
    ]
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.mark.rule(17)
def test_gradients_explode_beyond_the_factor_that_the_page_of_pathologies_names():
    # 0.9 growth / 1.1 is above 100 from 122.3 on.
    claim = found("C1", pathologies=pathologies(123.0, 1.0, 0.5), gradient_norms=on_the_cnn(101.0))
    assert claim.status == "shown"
    counted, texts = claim.counted, [part.text for part in claim.parts if part.noted]
    assert "lopt_paper, the paper's design, trained, grows 101 [101, 101] times from 5 to 2,000" in counted[4].text
    assert "There, of lopt_paper, initial, most unrolls have diverged from 5 steps on" in texts[0]
    assert "of lopt_home, trained, grows 2.50 [2.50, 2.50] times" in texts[1], "no part of the claim"
    assert "After it they do: the largest norm of an unroll, at any length, is 101 of lopt_paper and 2.50" in texts[2]
    assert "is off too at the initial theta: its cosine with the whole one is 0.800" in texts[3]
    assert claims.listed([claim], ("not shown", "")) == []
    assert "by windows of 5 steps is 0.500 [0.400, 0.600] times the whole gradient's length away" in counted[-1].text
    assert "more than 100 times" in claim.rule
    claim = found("C1", pathologies=pathologies(122.0, 1.0, 0.05), gradient_norms=on_the_cnn(99.0))
    assert [part.holds for part in claim.counted] == [False] * 6
    assert found("C1", pathologies=pathologies(123.0, 1.0, 0.5)).status == "shown in part"


def test_merging_window_by_window_stands_beside_the_claim():
    rows = pathologies(1.0, 1.1, 0.5)
    name = "variance of merged_windows over that of merged"
    for at, ratio in ((5.0, 1.1), (100.0, 0.25), (1000.0, 0.5)):
        row = ("windows", "trained", at, name, ratio, ratio - 0.1, ratio + 0.1)
        rows.append(dict(zip(rows[0], row, strict=True)))
    (part,) = (part for part in found("C2", pathologies=rows).parts if part.noted)
    assert part.holds is None
    assert "is 0.250 [0.150, 0.350] (the trained theta, 100 steps) to 1.10 [1.00, 1.20]" in part.text
    assert "over 3 lengths and thetas" in part.text


def test_merging_holds_within_its_limit_and_once_it_trains():
    alike = {"estimator": "merged", "unrolls": "growing", "untrained": 2.5, "diverged": 0, "untrained_diverged": 0}
    alike |= {"merge_weight": 0.5, "outer_validation_loss": 1.0}
    runs = [
        alike | {"design": design, "seed": seed, "final_validation_loss": 1.0 + seed / 10}
        for design in ablation.DESIGNS
        for seed in range(ablation.SEEDS)
    ]
    claim = found("C2", pathologies=pathologies(1.0, 1.04, 0.5), ablation=runs)
    assert claim.status == "shown"
    assert "is at most 1.04 [0.900, 1.09] over 3 lengths and thetas; the upper ends of 3 known" in claim.parts[0].text
    assert claim.parts[1].text.startswith("Merged from independent samples")
    assert found("C2", pathologies=pathologies(1.0, 1.04, 0.5), ablation=runs[1:]).parts[-1].holds is None
    runs[0] |= {"untrained_diverged": 8, "untrained": 10.0}
    claim = found("C2", pathologies=pathologies(1.0, 1.1, 0.5), ablation=runs)
    assert [part.holds for part in claim.parts] == [True, False, False, True], "1.15 is above what is allowed to one"
    assert "8 of 40 nets diverge before it, 0 after; too few losses are known" in claim.parts[2].text


@pytest.mark.rule(17)
def test_the_ablation_is_judged_by_its_own_rule():
    losses = {("merged", "growing"): 1.0, ("reparam", "growing"): 1.1, ("es", "growing"): 1.2}
    losses |= {("merged", "short"): 1.3, ("merged", "long"): 0.9}
    names = ("design", "estimator", "unrolls", "seed", "final_validation_loss", "untrained", "merge_weight")
    rows = [
        dict(zip(names, (design, *pair, seed, loss + 0.001 * seed * (1 + (pair[0] == "es")), 2.0, None), strict=True))
        for design in ablation.DESIGNS
        for pair, loss in losses.items()
        for seed in range(ablation.SEEDS)
    ]
    none = {"diverged": 0, "untrained_diverged": 0}
    rows = [row | none | {"outer_validation_loss": row["final_validation_loss"]} for row in rows]
    claim = found("C6", ablation=rows)
    assert [part.holds for part in claim.counted] == [True, True, False, False]
    assert sum("by the same rule contradicted" in part.text for part in claim.parts if part.noted) == 2
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


def test_a_claim_shows_the_figures_of_its_suites_without_what_operates_them(tmp_path):
    page = tmp_path / "paper" / "here" / "report.html"
    page.parent.mkdir(parents=True)
    for slug in ("leaders_validation_loss_seconds", "other"):
        figure = f'<figure id="figure-{slug}" class="wide"><img src="data:{slug}"><script>1</script></figure>\n'
        page.write_text((page.read_text() if page.exists() else "") + figure)
    published = statements.Published(tmp_path, "here")
    (claim,) = (claim for claim in paper.claims(published) if claim.name == "C3")
    image = '<figure class="wide"><img src="data:leaders_validation_loss_seconds"></figure>'
    assert claims.images(published, claim) == {"paper": image}
    assert image in claims.files(tmp_path, "here")[claims.PAGE]


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
