"""The cards of the shipped optimizers: their numbers by hand, and that they follow from rows and weights."""

import numpy as np
import pandas as pd
import pytest

import learned
import tasks
import tasks.inner_loop
from bench.cli import main as cli
from bench.entries.entrants import resolve
from bench.errors import UsageError
from bench.folders import Folders
from bench.report import cards
from bench.report.summary import num_diverged, num_failed
from bench.store import published
from bench.store.record import CURVE_COLUMNS
from bench.store.rows import read_rows
from bench.store.store import Store
from bench.tuning import targets
from learned import weights
from tests.bench.synthetic import HORIZON, falling, targets_record, time_cell, train_cell
from tests.helpers import REPOSITORY


@pytest.mark.rule(3)
@pytest.mark.parametrize("name", weights.shipped_names())
def test_the_card_says_on_what_with_which_objective_and_horizon_and_at_what_cost(name):
    _, card = weights.read(name)
    assert card.outer_training["family"] in {*tasks.FAMILIES, *tasks.MIXTURES}
    assert card.outer_training["objective"]
    assert all(stage["num_steps"] > 0 for stage in card.outer_training["stages"])  # the horizons
    assert card.facts["inner_steps"] > 0
    assert card.facts["device_hours"] > 0
    assert card.facts["outer_validation_loss"]  # it was chosen on outer-validation classes


@pytest.mark.rule(3)
def test_the_headline_optimizer_is_shipped_and_was_outer_trained_on_validation_loss():
    assert learned.HEADLINE in weights.shipped_names()
    assert weights.read(learned.HEADLINE)[1].outer_training["objective"] == "validation"


SHIPPED = learned.HEADLINE


def publish(results_dir, theta_sha256, label="machine"):
    """Adam takes 100 steps of 2 ms to its hard target, 2.0; the learned one, at 5 ms a step, 25."""
    kept = Store(results_dir, "made")
    settings = {"hyperparameters": {"theta_sha256": theta_sha256}}
    for seed in range(5):
        kept.put(*train_cell("t", "adam", seed, falling(0.01)))
        kept.put(*train_cell("t", SHIPPED, seed, np.maximum(falling(0.04), 0), "learned", settings=settings))
    record, curve = time_cell("t", {"adam": [0.002] * 6, SHIPPED: [0.005] * 6})
    memory = [(record.cell, 0, f"step_bytes/{name}", size) for name, size in (("adam", 1e3), (SHIPPED, 1.5e3))]
    kept.put(record, pd.concat([curve, pd.DataFrame(memory, columns=CURVE_COLUMNS)]))
    targets.write(
        targets.target_path(results_dir / "targets", "t", HORIZON),
        targets_record("t", {"adam": (2.0, 2.5, 2.75)}, "adam"),
    )
    published.publish(results_dir, "made", label, kept.read())


@pytest.fixture
def results_dir(tmp_path):
    publish(tmp_path, resolve(SHIPPED, "", 1).identity["theta_sha256"])
    yield tmp_path
    cards.published.cache_clear()


def test_a_card_shows_speedup_losses_memory_and_failures_by_hand(results_dir):
    text = cards.render(SHIPPED, results_dir)
    # 100 steps of 2 ms over 25 of 5 ms
    row = next(line for line in text.splitlines() if line.startswith("| made/machine"))
    fields = [field.strip() for field in row.strip("|").split("|")]
    assert fields[1:3] == ["1 task, 5 seeds", "100"]
    assert fields[3:6] == ["1.60 [1.60, 1.60] (adam)"] * 3
    assert fields[6].startswith("-2.0")
    assert fields[7] == "0"
    limits = "**made/machine**\n\n- Faster than the best hand-designed on 1 of 1 task; the lowest speed-up is 1.60"
    assert limits in text
    assert "- It ends at train loss 0, validation loss 0, test loss 0; adam has a test loss of 2." in text
    constant = "below the best of the paper's three with constant rates on 1 of 1 task"
    assert f"- Its mean test loss is below the best hand-designed on 1 of 1 task, {constant}." in text
    assert "- A training step takes 1.5 times Adam's memory" in text
    assert text.index("## Results") < text.index("## Limits") < text.index("## Outer-training")


def test_a_run_without_a_finite_loss_and_one_that_ends_above_chance_have_diverged(tmp_path):
    kept = Store(tmp_path, "made")
    not_finite = np.where(np.arange(len(falling(0.04))) < 5, falling(0.04), np.nan)
    ends = (falling(0.04), falling(0.04) + 10, not_finite)
    for seed, losses in enumerate(ends):
        kept.put(*train_cell("t", SHIPPED, seed, losses, "learned", settings={"chance_loss": 2.3}))
    rows = read_rows(*kept.read()[:2])
    assert [num_diverged(rows, SHIPPED, ("t",)), num_failed(rows, SHIPPED, ("t",))] == [2, 1]


def test_no_shipped_optimizer_diverges_in_more_than_one_run_of_twenty_out_of_distribution():
    rows = read_rows(*Store(REPOSITORY / "results", "ood", "cpu-2core").read()[:2])
    for name in weights.shipped_names():
        runs = len(rows.runs(name, rows.tasks))
        assert runs == 10 * len(rows.tasks)
        assert num_diverged(rows, name, rows.tasks) <= 0.05 * runs, name


def test_results_of_other_weights_are_not_shown(tmp_path):
    publish(tmp_path, "0" * 16)
    text = cards.render(SHIPPED, tmp_path)
    cards.published.cache_clear()
    assert "No published result set has them." in text
    assert "made/machine" not in text


def test_ones_own_results_are_not_published(results_dir):
    assert {found.label for found in cards.published(results_dir)} == {"machine"}


@pytest.fixture
def shipped_copy(tmp_path, monkeypatch):
    """A package whose only weights are the headline's."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / f"{SHIPPED}.safetensors").write_bytes((weights.WEIGHTS_DIR / f"{SHIPPED}.safetensors").read_bytes())
    monkeypatch.setattr(weights, "WEIGHTS_DIR", folder)
    return folder


def test_a_card_is_written_and_verified_and_an_altered_number_is_named(results_dir, shipped_copy, capsys):
    arguments = ["--results-dir", str(results_dir), "--reports-dir", str(results_dir / "none")]
    assert cards.verify(SHIPPED, results_dir).endswith("missing")
    with pytest.raises(SystemExit) as done:
        cli.main(["cards", *arguments])
    assert done.value.code == 0
    path = shipped_copy / f"{SHIPPED}.md"
    assert str(path) in capsys.readouterr().out
    assert cards.verify(SHIPPED, results_dir) is None
    path.write_text(path.read_text().replace("1.60 [1.60", "1.70 [1.60", 1))
    problem = cards.verify(SHIPPED, results_dir)
    assert str(path) in problem
    assert "1.70" in problem
    with pytest.raises(SystemExit) as done:
        cli.main(["cards", "lopt_none", *arguments])
    assert done.value.code == 2


@pytest.mark.slow  # reads every published row
@pytest.mark.parametrize("name", weights.shipped_names())
def test_a_shipped_card_follows_from_the_weights_and_the_published_rows(name):
    assert cards.verify(name, REPOSITORY / "results") is None


def test_cards_whose_results_are_not_here_are_not_written(tmp_path, monkeypatch):
    """Nor is any other: what they show of results would be lost."""
    before = {path: path.read_bytes() for path in weights.WEIGHTS_DIR.glob("*.md")}
    with pytest.raises(UsageError, match=r"shows results that are not in .*: .*/cpu-2core.*; nothing is written"):
        cards.write_cards(folders=Folders(results_dir=tmp_path))
    assert {path: path.read_bytes() for path in weights.WEIGHTS_DIR.glob("*.md")} == before


def test_cards_of_an_installed_package_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "WEIGHTS_DIR", tmp_path / "site-packages" / "learned" / "weights")
    with pytest.raises(UsageError, match="is part of an installed package: cards are written in a clone"):
        cards.write_cards(folders=Folders(results_dir=tmp_path))
