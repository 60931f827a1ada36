"""The best theta of a finished run becomes an optimizer that ships, and nothing else is shipped or overwritten."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bench
import learned
from bench.cli import main as cli
from bench.outer.folders import run_folder
from bench.report import cards
from learned import weights
from tests.bench.outer.stages import FACTS, STAGES, outer_train
from tests.helpers import assert_one_line, linear_family


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package without weights that is writable: the folder of its weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(weights, "WEIGHTS_DIR", folder)
    monkeypatch.setattr("learned.ALIASES", {})
    monkeypatch.setattr("bench.outer.folders.load_config", lambda name: {"test": STAGES}[name])
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folders with a run that has taken its last outer step."""
    folders = dataclasses.replace(bench.Folders(), results_dir=tmp_path_factory.mktemp("results"))
    outer_train(folders.results_dir, steps=None)
    return folders


def held(path):
    """Theta's digest and the card of a file: safetensors does not order its metadata, so bytes are not compared."""
    theta, card = weights.read(path)
    return weights.digest(theta), card


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        cli.main(list(arguments))
    out, err = capsys.readouterr()
    return done.value.code or 0, out, err


@pytest.mark.slow
def test_a_shipped_optimizer_is_known_everywhere(finished, package, capsys):
    path = bench.ship(STAGES, folders=finished)
    assert path == package / "test.safetensors"
    # What a person would have copied from the folder of the run.
    own = run_folder(finished.results_dir, STAGES) / "test.safetensors"
    assert held(path) == held(own)
    assert {file.name for file in package.iterdir()} == {"test.safetensors", "test.md"}
    # `bench list optimizers`, `learned.load` and the check of its card.
    assert "test" in {row["name"] for row in bench.list_optimizers()}
    optimizer = learned.load("test")
    params = {"w": jnp.ones((3, 2))}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert np.isfinite(optax.tree.norm(updates))
    text = (package / "test.md").read_text()
    assert text == cards.render("test", finished.results_dir)
    assert "No published result set has them." in text
    assert "`bench outer-train test`" in text
    assert cards.verify("test", finished.results_dir) is None
    code, out, _ = command(capsys, "info", "test", "--json")
    assert (code, json.loads(out)["facts"]["total_outer_steps"]) == (0, STAGES.outer_steps)


@pytest.mark.slow
def test_weights_go_to_another_folder_too(finished, tmp_path):
    before = weights.shipped_names()
    path = bench.ship(STAGES, folders=finished, weights_dir=tmp_path / "mine")
    assert {file.name for file in (tmp_path / "mine").iterdir()} == {"test.safetensors", "test.md"}
    assert weights.read(path)[1].name == "test"
    assert weights.shipped_names() == before


@pytest.mark.slow
def test_the_command_ships_alone_or_beside_the_stage(finished, package, capsys):
    results = ["--results-dir", str(finished.results_dir)]
    code, out, err = command(capsys, "publish", "--outer", "test", "--ship", *results)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"shipped: {package / 'test.safetensors'}",
        "use: bench run -o test, or learned.load('test')",
    ]
    assert not (finished.results_dir / "outer-train" / "box").exists()
    code, out, _ = command(capsys, "publish", "--outer", "test", "--ship", "--label", "box", *results)
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == ["published", "shipped", "use"]
    published = finished.results_dir / "outer-train" / "box" / "test" / "test.safetensors"
    assert held(published) == held(package / "test.safetensors")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quick"], "Missing option '--label'."),
        (["quick", "--label", "box", "--ship"], "--ship takes a run of outer-training: it goes with --outer CONFIG"),
        (["--ship"], "expected either a suite or --outer CONFIG"),
        (["--outer", "test", "--label", "box", "--force"], "--force replaces weights that ship: it goes with --ship"),
        (["--outer", "test", "--ship", "-o", "adam"], "--outer publishes the run of a configuration"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(capsys, arguments, words):
    code, _, err = command(capsys, "publish", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"bench: {words}")


def refused(match, folders, **how):
    with pytest.raises(bench.UsageError, match=match) as caught:
        bench.ship(how.pop("config", STAGES), folders=folders, **how)
    assert_one_line(caught.value)


@pytest.mark.slow
def test_a_run_that_is_not_finished_does_not_ship(package, tmp_path):
    folders = dataclasses.replace(bench.Folders(), results_dir=tmp_path / "results")
    refused("holds no run to ship; begin it with: bench outer-train test", folders)
    outer_train(folders.results_dir, steps=4)  # its first stage is whole
    refused("a run at outer step 3 of 6, and only a whole one ships", folders)
    assert not list(package.iterdir())


@pytest.mark.slow
def test_other_weights_are_replaced_by_force_alone(finished, package):
    path = bench.ship(STAGES, folders=finished)
    sound = held(path)
    assert bench.ship(STAGES, folders=finished) == path  # the same ones: nothing is lost
    theta, card = weights.read(path)
    other = weights.save_bytes({name: leaf + 1 for name, leaf in theta.items()}, card)
    for content in (other, b"no weights"):
        path.write_bytes(content)
        refused("holds other weights; replace them with --force", finished)
        assert path.read_bytes() == content
        bench.ship(STAGES, folders=finished, force=True)
        assert held(path) == sound


@pytest.mark.parametrize("name", ["adam", "learned", "kept"])
def test_a_name_that_stands_for_something_else_is_not_taken(package, tmp_path, monkeypatch, name):
    """No force makes weights known by a name that is looked up elsewhere first."""
    monkeypatch.setattr("learned.ALIASES", {"learned": "lopt_ortho"})
    (package / weights.INTERMEDIATE).mkdir()
    (package / weights.INTERMEDIATE / "kept.safetensors").write_bytes(b"")
    folders = dataclasses.replace(bench.Folders(), results_dir=tmp_path)
    refused(f"the name '{name}' is taken", folders, config=dataclasses.replace(STAGES, name=name), force=True)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_one_line(finished, tmp_path):
    (tmp_path / "file").write_text("")
    refused("cannot read or write .*file", finished, weights_dir=tmp_path / "file")


@pytest.mark.slow
def test_outer_training_from_a_notebook_is_that_of_the_run(tmp_path, monkeypatch, finished):
    monkeypatch.setattr("tasks.load_family", lambda *arguments, **where: linear_family())
    monkeypatch.setattr("tasks.data_facts", lambda *arguments, **where: FACTS)
    folders = dataclasses.replace(bench.Folders(), results_dir=tmp_path)
    said, shares = [], []
    done = bench.outer_train(STAGES, folders=folders, log=said.append, advance=lambda share, line: shares.append(share))
    assert sum(shares) == pytest.approx(1.0)
    assert len(said) == len(done.facts["outer_validation_curve"])
    own = run_folder(finished.results_dir, STAGES) / "test.safetensors"
    assert weights.digest(weights.read(done.weights)[0]) == weights.digest(weights.read(own)[0])
    bench.publish_outer(STAGES, "box", folders=folders)
    again = bench.rerun_outer(STAGES, "box", outer_steps=2, folders=folders)
    assert (again.outer_steps, again.bit_equal) == (2, True)
    with pytest.raises(bench.UsageError, match="go on with --resume"):
        bench.outer_train(STAGES, folders=folders)
    with pytest.raises(bench.UsageError, match="holds a run at outer step 6"):
        bench.outer_train(STAGES, folders=folders, resume_from="box")
