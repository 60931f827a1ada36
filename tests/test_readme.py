"""The README's examples, run as they stand there."""

import re
from pathlib import Path

import pytest

import learned
from learned import weights
from tests import readme_numbers

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def code_after(heading, language="python"):
    section = README.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, flags=re.S)
    assert found is not None
    return found[1]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("BENCH_RESULTS_DIR", "BENCH_REPORTS_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_the_learned_optimizer_trains_the_users_own_model():
    scope = {}
    exec(code_after("Take the optimizer home"), scope)
    variance = float((scope["y"] ** 2).mean())
    assert float(scope["loss"]) < 0.5 * variance


def test_every_number_between_markers_is_what_published_results_give():
    """`python -m tests.readme_numbers` writes them anew; the results themselves are checked by `bench verify`."""
    pages = [page.read_text() for page in readme_numbers.PAGES]
    for page in pages:
        assert readme_numbers.written_anew(page) == page
    marked = {name for page in pages for name, _ in readme_numbers.MARKED.findall(page)}
    assert marked == readme_numbers.numbers().keys(), "a number that no page states any more, or a new one"


def test_readme_leads_with_the_headline_and_the_page_of_results_has_every_other_that_ships():
    assert re.search(r"`(\w+)` has the validation loss", README)[1] == learned.HEADLINE
    results = readme_numbers.PAGES[1].read_text()
    studied = re.findall(r"^\| `(\w+)` \| (?=<!--best_)", results, flags=re.M)
    assert studied == [name for name in weights.shipped_names() if name != learned.HEADLINE]


def test_it_can_be_read_in_one_go():
    assert len(README.splitlines()) <= 130


def test_what_is_said_in_words_holds_of_published_results():
    """Who is judged, who never arrives, how many seeds: what README.md says without a number."""
    paper, verdict = readme_numbers.overall("paper"), readme_numbers.read_json("paper")["verdict"]
    assert (verdict["optimizer"], verdict["word"]) == (learned.HEADLINE, "no difference shown")
    for name in ("lopt_ortho", readme_numbers.PAPER_DESIGN):
        assert "bound" in paper[name]["speedup"]["hard"]  # half of the runs never arrive
    for steps in readme_numbers.LONGER_HORIZONS:
        suite = f"paper_{steps}"
        assert readme_numbers.card_fields(learned.HEADLINE, suite)[1] == "5 tasks, 5 seeds"
        rows = readme_numbers.overall(suite)
        assert set(rows) == {learned.HEADLINE, readme_numbers.LONGER_RIVAL}
        assert not any(row["failed_runs"] for row in rows.values())
        assert readme_numbers.read_json(suite)["headline"]["test_loss"]["difference"]["estimate"] < 0
    missed = {
        (row["task"], row["optimizer"])
        for row in readme_numbers.read_json("ood")["rows"]
        if "bound" in row["speedup"]["hard"]
    }
    for rival, kind, tasks in (
        ("adam_cosine", "_mlp", {"mnist14_mlp", "mnist28_mlp_wide"}),
        ("muon_cosine", "_cnn", {"cifar10_cnn3", "mnist28_cnn3_batch128"}),
    ):
        assert {task for task, name in missed if name == rival and kind in task} == tasks
    for suite, loss, place in (("paper", "train_loss", 0), ("paper", "test_loss", 5), ("ood", "test_loss", 3)):
        losses = {name: readme_numbers.overall(suite)[name][loss]["estimate"] for name in readme_numbers.CELO_BESIDE}
        assert sorted(losses, key=losses.__getitem__)[place] == "celo"
    assert not {"muonw_cosine", "muonw_average_cosine"} & set(readme_numbers.overall("ood"))
    quick = readme_numbers.read_json("quick")["verdict"]
    assert (quick["optimizer"], quick["word"]) == (learned.HEADLINE, "no difference shown")


def test_adding_one_takes_few_lines():
    """They are those of a page of docs/, which tests/test_docs.py runs."""
    assert len(code_after("Compare your own").strip().splitlines()) <= 12


def test_every_link_into_the_repository_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
