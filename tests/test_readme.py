"""The README's examples, run as they stand there."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import learned
from bench.cli import main as cli
from bench.store.store import Store
from learned import weights
from tests import readme_numbers

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


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


def test_every_number_between_markers_is_what_published_results_give():
    """`python -m tests.readme_numbers` writes them anew; the results themselves are checked by `bench verify`."""
    assert readme_numbers.written_anew(README) == README
    marked = [name for name, _ in readme_numbers.MARKED.findall(README)]
    assert set(marked) == readme_numbers.numbers().keys(), "a number that README.md no longer states, or a new one"


def test_the_first_table_has_every_shipped_optimizer_the_headline_first():
    shown = re.findall(r"^\| `(\w+)` \| (?=<!--best_)", README, flags=re.M)
    assert shown == [learned.HEADLINE, *(name for name in weights.shipped_names() if name != learned.HEADLINE)]


def test_what_is_said_in_words_holds_of_published_results():
    """Who is judged, who never arrives, how many seeds: what README.md says without a number."""
    paper, verdict = readme_numbers.overall("paper"), readme_numbers.read_json("paper")["verdict"]
    assert (verdict["optimizer"], verdict["word"]) == (learned.HEADLINE, "faster")
    for name in readme_numbers.STUDIES:
        assert "bound" in paper[name]["speedup"]["hard"]  # half of the runs never arrive
    for suite, seeds in (("paper_4000", 3), ("paper_10000", 2)):
        assert readme_numbers.card_fields(learned.HEADLINE, suite)[1] == f"2 tasks, {seeds} seeds"
    quick = readme_numbers.read_json("quick")["verdict"]
    assert (quick["optimizer"], quick["word"]) == (learned.HEADLINE, "slower")


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
