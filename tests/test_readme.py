"""The README's examples, run as they stand there."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import learned
from bench.cli import main as cli
from bench.report.designs import FULL_SIZE, step_cost
from bench.report.first_screen import score_entry
from bench.report.table import format_interval
from bench.score.exposure import outer_training
from bench.score.times import ALL
from bench.store.store import Store
from learned import weights

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
WORDS = " ".join(README.split())


def code_after(heading, language="python"):
    section = README.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, flags=re.S)
    assert found is not None
    return found[1]


def run(capsys, *args):
    with pytest.raises(SystemExit) as done:
        cli.main(list(args))
    assert not done.value.code, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("BENCH_RESULTS_DIR", "BENCH_REPORTS_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_the_learned_optimizer_trains_the_users_own_model(capsys):
    scope = {}
    exec(code_after("Use the learned optimizer in your own loop"), scope)
    variance = float((scope["y"] ** 2).mean())
    assert float(scope["loss"]) < 0.5 * variance


def overall(suite):
    """The first screen of a published report, and its rows over all tasks by optimizer."""
    screen = json.loads((ROOT / f"reports/{suite}/cpu-2core/report.json").read_text())
    return screen, {row["optimizer"]: row for row in screen["rows"] if row["task"] == ALL}


def card_fields(name, suite):
    """The row of a published suite in the table of results of a card, field by field."""
    card = (weights.WEIGHTS_DIR / f"{name}.md").read_text()
    begin = f"| {suite}/".replace("_", "\\_")
    return next(line for line in card.splitlines() if line.startswith(begin)).strip("| ").split(" | ")


def test_the_readmes_results_are_those_of_the_cards():
    """The cards follow from published rows (`bench verify`)."""
    shown = re.findall(r"^\| `(\w+)` \| (.*) \|$", README, flags=re.M)
    headline = [learned.HEADLINE, learned.HEADLINE_VALID]
    assert [name for name, _ in shown] == [
        *headline,
        *(name for name in weights.shipped_names() if name not in headline),
    ]
    for name, fields in shown:
        assert fields == " | ".join(card_fields(name, "paper")[3:7])


def test_what_the_readme_says_was_learned_is_the_reports_control():
    screen, rows = overall("paper")
    told = score_entry(screen["controls"]["untrained"][learned.HEADLINE]).text
    steps = rows["muonw_cosine"]["speedup_in_steps"]["hard"]
    untrained = steps["estimate"] / screen["controls"]["untrained"][learned.HEADLINE]["estimate"]
    told += f" times the steps that it takes after: of the {score_entry(steps).text.partition(' ')[0]} in steps"
    assert f"takes {told} it has {untrained:.2g} by its making." in WORDS


def test_what_the_readme_says_the_twin_learned_is_the_reports_control():
    screen, rows = overall("paper")
    found = screen["controls"]["untrained_test_loss"][learned.HEADLINE_VALID]
    assert f"its final test loss is {score_entry(found).text} above what it is after." in WORDS
    steps = screen["controls"]["untrained"][learned.HEADLINE_VALID]
    assert f"it takes {score_entry(steps).text} times the steps before." in WORDS
    twin, headline = (rows[name]["validation_speedup"]["hard"] for name in (learned.HEADLINE_VALID, learned.HEADLINE))
    assert f"ends at, the twin is {score_entry(twin).text} times as fast;" in WORDS
    assert headline["bound"] == "<"  # half of the runs never arrive


def test_what_the_readme_says_of_steps_and_of_their_cost_is_the_reports():
    _, rows = overall("paper")
    row = rows["muonw_cosine"]
    clock, steps = (score_entry(row[key]["hard"]).text for key in ("speedup", "speedup_in_steps"))
    cost = score_entry(row["step_cost_ratio"]).text
    told = f"{steps} of the {clock.partition(' ')[0]} is steps, and its step costs {cost}"
    assert told in WORDS


def test_what_the_readme_says_of_memorizing_is_the_reports():
    row = overall("paper")[1][learned.HEADLINE]
    train, test = (row[key]["estimate"] for key in ("train_loss", "test_loss"))
    told = f"it ends at train loss {train:.2g} and test loss {test:.3g}, where guessing gives {math.log(10):.2f}"
    assert told in WORDS


def test_what_the_readme_says_of_muon_tuned_by_train_loss_is_the_reports():
    screen, rows = overall("paper")
    row = rows["muon_cosine_by_train"]
    told = score_entry(row["speedup"]["hard"]).text
    assert screen["verdict"]["optimizer"] == learned.HEADLINE
    assert f"chosen by train loss, the speed-up of `lopt_ortho` is {told};" in WORDS
    before = score_entry(rows["muon_cosine"]["speedup"]["hard"]).text
    assert f"before `muonw_cosine` was added, it is {before}." in WORDS
    others = [name for name, row in rows.items() if row["role"] == "learned" and name != learned.HEADLINE]
    assert len(others) == 2
    for name in others:  # a bound: half of the runs never arrive
        card = (weights.WEIGHTS_DIR / f"{name}.md").read_text()
        assert re.search(r"Over muon_cosine_by_train, tuned by train loss, .*: <", card)


def test_what_the_readme_says_of_longer_runs_is_the_reports():
    longer = [overall(suite)[1] for suite in ("paper_4000", "paper_10000")]
    names = (learned.HEADLINE_VALID, "muonw_cosine")
    told = [f"{rows[name]['test_loss']['estimate']:.3f}" for name in names for rows in longer]
    words = "ends at test losses of {} and {}, `muonw_cosine`, with its schedule stretched, at {} and {}."
    assert words.format(*told) in WORDS
    fields = card_fields("lopt_paper_32x32", "paper_10000")
    assert fields[1] == "2 tasks, 2 seeds"
    assert f"{fields[-1]} of its 4 runs of 10,000 steps diverge." in WORDS


def test_what_the_readme_says_of_the_embedded_data_is_the_reports():
    verdict = overall("quick")[0]["verdict"]
    assert (verdict["optimizer"], verdict["word"]) == (learned.HEADLINE, "slower")
    assert 'The verdict is "Slower":' in WORDS


def test_what_the_readme_says_of_other_data_is_the_reports():
    screen, rows = overall("ood")
    told = score_entry(screen["controls"]["untrained"][learned.HEADLINE]).text
    assert f"its beginning takes {told} times the steps" in WORDS
    tests = {name: row["test_loss"]["estimate"] for name, row in rows.items()}
    family = min(value for name, value in tests.items() if name.endswith("_family_tuned"))
    tuned = {name: tests[name] for name, row in rows.items() if row["role"] == "hand-designed"}
    best = min(tuned, key=lambda name: tuned[name])
    assert f"After equal steps `lopt_ortho_valid` has a mean test loss of {tests[learned.HEADLINE_VALID]:.3g}:" in WORDS
    assert f"{family:.3g} and more, the best of those tuned on the task, `{best}`, {tests[best]:.3g}." in WORDS
    with open(ROOT / "reports/ood/cpu-2core/tables/budgets.csv", newline="") as file:
        seconds = {row["optimizer"]: float(row["train_loss_seconds"]) for row in csv.DictReader(file)}
    card = (weights.WEIGHTS_DIR / f"{learned.HEADLINE_VALID}.md").read_text()
    ood = card.split("**ood/cpu-2core**", 1)[1]
    cost = re.search(r"A training step takes \S+ to (\S+) times as long as Adam's", ood)
    assert cost
    assert f"costs up to {cost[1]} times one with Adam" in WORDS
    assert min(seconds, key=lambda name: seconds[name]) == "adam_cosine"
    losses = [seconds[name] for name in (learned.HEADLINE_VALID, "adam_cosine_family_tuned", "adam_cosine")]
    told = "a mean train loss of {:.3f}, `adam_cosine_family_tuned` {:.3f}"
    told += " and `adam_cosine`, tuned on the task, {:.3f}."
    assert told.format(*losses) in WORDS


def test_what_the_readme_says_of_designs_is_the_reports():
    table = {row["design"]: row for row in json.loads((ROOT / "reports/designs/cpu-2core/report.json").read_text())}
    rows = [table[name] for name in ("per_parameter_mlp_32", "lean_mlp_16", "orthogonal")]
    costs = [format_interval(step_cost(row, FULL_SIZE)) for row in rows]
    before, after = ([f"{row[f'loss_{when}']:.4g}" for row in rows] for when in ("before", "after"))
    assert f"costs {costs[0]} times Adam's with the paper's, on 31 inputs, {costs[1]} with the lean one" in WORDS
    summary = (ROOT / "reports/paper/cpu-2core/tables/overall_summary.md").read_text()
    (clock,) = re.findall(r"^\| \**lopt\\_paper\\_32x32\** \|.* (\S+ \[\S+ \S+\]) \|$", summary, flags=re.M)
    assert f"and {costs[2]} with the orthogonal one; on two, by the clock of the first table, {clock} with" in WORDS
    assert "from losses of {}, {} and {} to {}, {} and {}.".format(*before, *after) in WORDS


def test_what_the_readme_says_of_other_seeds_of_outer_training_is_the_reports():
    _, rows = overall("outer_seeds")
    found = {name: score_entry(row["speedup"]["hard"]).text for name, row in rows.items()}
    told = "{}, {} and {}".format(*(found[f"lopt_ortho_quarter_{k}"] for k in (1, 2, 3)))
    told += ", on three seeds of each task and so without intervals, where `lopt_ortho` on the same runs gives "
    told += f"{found['lopt_ortho']}."
    tests = [rows[f"lopt_ortho_quarter_{k}"]["test_loss"]["estimate"] for k in (1, 2, 3)]
    told += " Their test losses differ: {:.2f}, {:.2f} and {:.2f}.".format(*tests)
    assert told in WORDS
    whole, *quarters = (
        outer_training(weights.read(name)[1]).inner_steps
        for name in ("lopt_ortho", *(f"lopt_ortho_quarter_{k}" for k in (1, 2, 3)))
    )
    assert max(quarters) <= whole / 4


@pytest.mark.slow
def test_adding_a_task_takes_the_code_shown(tmp_path, capsys):
    code = code_after("Add a task")
    assert len(code.strip().splitlines()) <= 20
    (tmp_path / "my_task.py").write_text(code)
    args = ["run", "-t", "stripes", "-o", "adam", "--seeds", "0", "--set", "timing_blocks=0", "--plugin", "my_task.py"]
    assert json.loads(run(capsys, *args, "--json"))["cells"] == {"ok": 3}
    assert "stripes" in (tmp_path / "reports" / "quick" / "local" / "report.html").read_text()


@pytest.mark.slow
def test_adding_an_optimizer_takes_the_code_shown(tmp_path, capsys):
    code = code_after("Add an optimizer")
    assert len(code.strip().splitlines()) <= 20
    (tmp_path / "my_optimizer.py").write_text(code)
    args = ["run", "-t", "digits8_mlp", "-o", "lion", "--seeds", "0", "--steps", "20", "--set", "timing_blocks=0"]
    assert json.loads(run(capsys, *args, "--plugin", "my_optimizer.py", "--json"))["cells"] == {"ok": 3}


@pytest.mark.slow
def test_adding_a_learned_optimizer_takes_the_code_shown_and_its_weights(tmp_path, capsys):
    code = code_after("Add a learned optimizer from elsewhere")
    assert len(code.strip().splitlines()) <= 20
    (tmp_path / "my_learned.py").write_text(code)
    rng = np.random.default_rng(0)
    theta = {"in": rng.normal(size=8), "bias": np.zeros(8), "out": np.ones(8)}
    save_file({name: leaf.astype(np.float32) for name, leaf in theta.items()}, tmp_path / "my_weights.safetensors")
    args = ["run", "-t", "digits8_mlp", "-o", "tanh_net", "--seeds", "0", "--steps", "20", "--set", "timing_blocks=0"]
    out = json.loads(run(capsys, *args, "--plugin", "my_learned.py", "--json"))
    assert out["cells"] == {"ok": 1}
    cells = Store(tmp_path / "results", "quick").read().cells
    assert set(cells["role"]) == {"learned"}
    assert len(json.loads(cells["hyperparameters"][0])["theta_sha256"]) == 16
    verdicts = json.loads(run(capsys, "check", "my_learned.py", "--json"))
    assert all(verdict["passed"] for verdict in verdicts)


@pytest.mark.slow
@pytest.mark.parametrize("heading", ["Add a task", "Add an optimizer"])
def test_what_the_readme_adds_passes_its_checks(tmp_path, capsys, heading):
    (tmp_path / "mine.py").write_text(code_after(heading))
    assert all(verdict["passed"] for verdict in json.loads(run(capsys, "check", "mine.py", "--json")))


@pytest.mark.slow
def test_a_plug_in_row_is_tuned_like_any_other(tmp_path, capsys):
    (tmp_path / "my_task.py").write_text(code_after("Add a task"))
    (tmp_path / "my_optimizer.py").write_text(code_after("Add an optimizer"))
    plugins = ["--plugin", "my_task.py", "--plugin", "my_optimizer.py"]
    out = json.loads(run(capsys, "tune", "stripes", "-o", "lion", "--steps", "20", *plugins, "--json"))
    assert Path(out[0]["path"]).exists()
    args = [
        "run",
        "-t",
        "stripes",
        "-o",
        "lion",
        "--seeds",
        "0",
        "--steps",
        "20",
        "--set",
        "timing_blocks=0",
        "--dry-run",
    ]
    assert json.loads(run(capsys, *args, *plugins, "--json"))


def test_every_link_into_the_repository_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
