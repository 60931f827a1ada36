"""Learned optimizers of others on the command line, with weights and without."""

import json

import numpy as np
import pytest

from bench.errors import EXIT_USAGE
from learned import elsewhere
from tests.learned.test_elsewhere import save_example

RUN = ["run", "quick", "-t", "digits8_mlp", "--seeds", "0", "--dry-run"]


@pytest.fixture(autouse=True)
def unset(folders, monkeypatch):
    monkeypatch.delenv(elsewhere.VARIABLE, raising=False)


@pytest.mark.parametrize("name", elsewhere.ELSEWHERE)
def test_without_weights_it_is_listed_and_described_and_no_run(bench, name):
    rows = {row["name"]: row for row in json.loads(bench("list", "optimizers", "--json")[1])}
    assert rows[name]["role"] == "learned"
    assert rows[name]["reference"].startswith("outer-trained by others on ")
    assert json.loads(bench("info", name, "--json")[1])["outer_training"]
    code, _, err = bench(*RUN, "-o", name)
    assert (code, err.count("\n")) == (EXIT_USAGE, 1)
    assert err.startswith(f"bench: the weights of {name} do not ship, and ")


def test_weights_are_found_where_they_are_said_to_be(bench, tmp_path, monkeypatch):
    save_example(tmp_path / "mine", "sinv6")
    code, out, _ = bench(*RUN, "-o", "sinv6", "--json", "--weights-dir", str(tmp_path / "mine"))
    assert code == 0
    titles = [row["title"] for row in json.loads(out)]
    assert titles[0].startswith("digits8_mlp sinv6@")  # with a digest: they are not those that were published
    monkeypatch.setenv(elsewhere.VARIABLE, str(tmp_path / "mine"))
    assert bench(*RUN, "-o", "sinv6", "--json")[1] == out
    assert bench(*RUN, "-o", "sinv6", "--weights-dir", str(tmp_path / "none"))[0] == EXIT_USAGE


def test_other_weights_are_another_cell(bench, tmp_path):
    cells = []
    for folder, scale in (("a", 1), ("b", 2)):
        bias = np.full(1, scale, np.float32)
        save_example(tmp_path / folder, "sinv6", **{"rnn_params/step_size/b": bias})
        out = bench(*RUN, "-o", "sinv6", "--json", "--weights-dir", str(tmp_path / folder))[1]
        cells.append(json.loads(out)[0]["cell"])
    assert cells[0] != cells[1]


def test_prepare_says_where_weights_come_from_and_copies_those_that_are_there(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    code, out, err = bench("prepare", "celo_adam")
    assert (code, err.count("\n")) == (EXIT_USAGE, 1)
    said = " ".join(out.split())  # a terminal folds lines
    assert all(" ".join(line.split()) in said for line in elsewhere.origin("celo_adam"))
    assert not (tmp_path / "cache").exists()
    path = save_example(tmp_path / "mine", "celo_adam")
    path.with_name("LICENSE").write_text("as it is\n")
    code, out, _ = bench("prepare", "celo_adam", "--weights-dir", str(tmp_path / "mine"))
    kept = tmp_path / "cache" / "weights" / "celo_adam"
    assert (code, sorted(file.name for file in kept.iterdir())) == (0, ["LICENSE", "theta.safetensors"])
    assert "other weights than the published ones" in " ".join(out.split())
    assert (kept / "theta.safetensors").read_bytes() == path.read_bytes()
    assert bench("prepare", "celo_adam")[0] == 0  # there already
    assert bench(*RUN, "-o", "celo_adam")[0] == 0


def test_a_name_that_is_neither_data_nor_weights_is_told_both(bench):
    code, _, err = bench("prepare", "cello")
    assert (code, "did you mean celo" in err) == (EXIT_USAGE, True)
