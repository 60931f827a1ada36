"""The functions that a notebook calls do what the commands do: the same cells, files and numbers."""

import ast
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bench
import learned
from bench.cli import main as cli
from bench.training.step_times import Timings
from tests.helpers import assert_one_line

ROOT = Path(bench.__file__).parent
PART = ["-t", "digits8_mlp", "-o", "adam", "--seeds", "0-1", "--steps", "20", "--set", "timing_blocks=0"]


def part():
    """The suite that `PART` chooses."""
    return bench.choose_suite("quick", ["digits8_mlp"], ["adam"], "0-1", 20, ["timing_blocks=0"])


def flags(folders):
    return ["--results-dir", str(folders.results_dir), "--reports-dir", str(folders.reports_dir)]


def folders_in(root):
    return dataclasses.replace(bench.Folders(), results_dir=root / "results", reports_dir=root / "reports")


@pytest.fixture
def command(capsys):
    """Runs `bench ...` in this process: what it prints."""

    def run(*arguments, code=0):
        with pytest.raises(SystemExit) as done:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        assert (done.value.code or 0) == code, err
        return out

    return run


def files(folder):
    """Path -> content of every file below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# The table -----------------------------------------------------------------------------------------------------------


def test_type_checkers_see_what_the_table_hands_on():
    (block,) = [
        node
        for node in ast.parse((ROOT / "__init__.py").read_text()).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name)
    ]
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # else it would be no re-export
            seen[alias.name] = node.module
    assert seen == bench.MODULES
    assert sorted(bench.__all__) == bench.__all__


@pytest.mark.parametrize("name", bench.__all__)
def test_each_says_what_it_does_and_hides_no_room(name):
    assert name in dir(bench)
    assert getattr(bench, name).__doc__
    assert not (ROOT / name).exists()
    assert not (ROOT / f"{name}.py").exists()


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'bench' has no attribute 'run_suit'"):
        _ = bench.run_suit  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_the_package_imports_nothing_else():
    program = "import sys; before = set(sys.modules); import bench; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert not {"bench.errors", "click", "jax", "numpy", "pandas", "typing"} & set(done.stdout.split())


# Suites --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A part of a suite that has run: its folders, what came of it, and what it said."""
    folders, said, shares = folders_in(tmp_path_factory.mktemp("ran")), [], []
    done = bench.run_suite(part(), folders=folders, log=said.append, advance=shares.append)
    return folders, done, said, shares


def test_a_suite_that_runs_tells_what_it_does(ran):
    folders, done, said, shares = ran
    assert done.counts == {"ok": 6}
    assert len(said) == 6
    assert said[0].startswith("[1/6] digits8_mlp")
    assert sum(shares) == pytest.approx(1.0)
    assert set(done.results.cells["optimizer"]) == {"adam", "adam_10x", "adam_frozen"}
    assert len(list((folders.results_dir / "quick" / "local").glob("*.json"))) == 6
    again = bench.run_suite(part(), folders=folders)
    assert again.counts == {"stored": 6}


def test_run_suite_does_what_bench_run_does(ran, command, tmp_path, undrawn):
    folders, done, _, _ = ran
    page = bench.write_report("quick", results=done.results, folders=folders)
    there = folders_in(tmp_path)
    out = json.loads(command("run", "quick", *PART, "--json", *flags(there)))
    assert out["cells"] == done.counts
    other = bench.read_results("quick", folders=there)
    columns = ["cell", "status", "final_train_loss", "final_validation_loss", "final_test_loss"]
    rows = [results.cells[columns].sort_values("cell").to_numpy().tolist() for results in (done.results, other)]
    assert rows[0] == rows[1]
    assert page.parent == folders.reports_dir / "quick" / "local"
    assert list(files(page.parent)) == list(files(there.reports_dir / "quick" / "local"))


def test_plan_suite_has_the_cells_of_a_dry_run(ran, command, tmp_path):
    folders, _, _, _ = ran
    for where, stored in ((folders, True), (folders_in(tmp_path), False)):
        plan = bench.plan_suite(part(), folders=where)
        rows = json.loads(command("run", "quick", *PART, "--dry-run", "--json", *flags(where)))
        found = [{"cell": cell.name, "title": cell.title, "stored": plan.is_stored(cell)} for cell in plan.cells]
        assert found == rows
        assert {row["stored"] for row in rows} == {stored}


def test_publishing_and_reports_are_the_same_files(ran, command, tmp_path, undrawn):
    here, there = folders_in(tmp_path / "here"), folders_in(tmp_path / "there")
    for folders in (here, there):
        shutil.copytree(ran[0].results_dir, folders.results_dir)
    with pytest.raises(bench.UsageError, match="of quick are not stored") as caught:
        bench.publish_suite("quick", "box", folders=here)
    assert_one_line(caught.value)
    assert bench.publish_suite(part(), "box", folders=here) == here.results_dir / "quick" / "box"
    page = bench.write_report("quick", "box", folders=here)
    command("publish", "quick", *PART, "--label", "box", *flags(there))
    assert files(here.results_dir) == files(there.results_dir)
    before = files(there.reports_dir)
    assert files(here.reports_dir).keys() == before.keys()
    assert page.read_bytes() == before[Path("quick/box/report.html")]
    assert bench.report_json("quick", "box", folders=here) == page.with_name("report.json").read_text()
    command("report", "quick", "--label", "box", *flags(there))
    assert files(there.reports_dir) == before
    assert [row for row in bench.list_runs(here) if row["label"] == "box"] == [
        {"suite": "quick", "label": "box", "cells": 6}
    ]
    # Both are verified: what is said of them is the same too.
    (checked,) = bench.verify_reports(["quick/box"], folders=here)
    assert (checked.kind, checked.name, checked.problem) == ("report", "quick/box", None)
    assert command("verify", "quick/box", *flags(there)) == "quick/box: every number follows from the rows\n"
    page.write_text(page.read_text().replace("adam", "adma", 1))
    told = []
    assert bench.verify_reports(["quick/box"], folders=here, tell=told.append) == told
    assert "report.html" in told[0].problem


def test_compare_results_finds_what_bench_compare_finds(ran, command):
    folders, _, _, _ = ran
    found = bench.compare_results("quick", "quick", folders=folders)
    out = json.loads(command("compare", "quick", "quick", "--json", *flags(folders)))
    assert [(row["optimizer"], row["a"], row["change"].estimate) for row in found.rows] == [
        (row["optimizer"], row["a"], row["change"]["estimate"]) for row in out["rows"]
    ]
    assert found.regressions(0.0) == []
    with pytest.raises(bench.UsageError, match="did you mean final_test_loss"):
        bench.compare_results("quick", "quick", metric="final_tset_loss", folders=folders)


def test_names_stand_for_suites_and_configurations(tmp_path):
    with pytest.raises(bench.UsageError, match="did you mean quick") as caught:
        bench.plan_suite("quik")
    assert_one_line(caught.value)
    with pytest.raises(bench.UsageError, match="unknown outer-training config") as caught:
        bench.ship("lopt_papr", folders=folders_in(tmp_path))
    assert_one_line(caught.value)


# What there is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["tasks", "optimizers", "suites"])
def test_lists_are_those_of_the_command(command, what):
    assert getattr(bench, f"list_{what}")() == json.loads(command("list", what, "--json"))


@pytest.mark.parametrize("name", ["digits8_mlp", "imagenet32_cnn3", "adam", "learned", "quick", "optax.lion"])
def test_a_description_is_that_of_the_command(command, name):
    assert json.loads(json.dumps(bench.describe(name))) == json.loads(command("info", name, "--json"))


def test_the_installation_is_found_as_by_the_command(command, tmp_path):
    found = bench.examine_installation(folders_in(tmp_path))
    rows = json.loads(command("doctor", "--json", *flags(folders_in(tmp_path))))
    assert [dataclasses.asdict(finding) for finding in found] == rows


def test_preparing_data_says_how_far_it_is(monkeypatch, tmp_path):
    def prepare(name, *, cache_dir, progress, **others):
        progress(1, 4)
        progress(3, 4)
        return cache_dir / name

    monkeypatch.setattr("tasks.data.prepare", prepare)
    shares, said = [], []
    folders = dataclasses.replace(bench.Folders(), cache_dir=tmp_path)
    found = bench.prepare_data(
        ["mnist28", "cifar10"],
        folders=folders,
        log=said.append,
        advance=lambda share, name: shares.append((name, share)),
    )
    assert found == {"mnist28": tmp_path / "mnist28", "cifar10": tmp_path / "cifar10"}
    assert shares == [(name, share) for name in found for share in (0.125, 0.25, 0.125)]
    assert said == [f"{name}: {path}" for name, path in found.items()]
    with pytest.raises(bench.UsageError, match="unknown data set 'mnsit28'; did you mean mnist28"):
        bench.prepare_data(["mnist28", "mnsit28"], log=said.append)
    assert len(said) == 2


# Tuning and the clock ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tuning_a_family_writes_what_bench_tune_writes(command, tmp_path):
    here, there = folders_in(tmp_path / "here"), folders_in(tmp_path / "there")
    said, shares = [], []
    (found,) = bench.tune_family(
        "digits8_mlp", ["sgd_momentum"], steps=4, folders=here, log=said.append, advance=shares.append
    )
    (row,) = json.loads(command("tune", "digits8_mlp", "-o", "sgd_momentum", "--steps", "4", "--json", *flags(there)))
    records = [json.loads(path.read_text()) for path in (found.path, Path(row["path"]))]
    for record in records:
        del record["made_at"]
    assert records[0] == records[1]
    assert found.path.relative_to(here.results_dir) == Path(row["path"]).relative_to(there.results_dir)
    assert row["hyperparameters"] == {key: float(f"{value:.4g}") for key, value in found.hyperparameters.items()}
    assert row["interior"] == found.interior
    assert sum(shares) == pytest.approx(1.0)
    assert len(said) == 1
    assert found.tuned_by == "validation"
    with pytest.raises(bench.UsageError, match="did you mean digits8_mlp"):
        bench.tune_family("digits9_mlp", folders=here)


def test_freezing_a_suite_writes_what_bench_freeze_writes(command, tmp_path):
    here, there = folders_in(tmp_path / "here"), folders_in(tmp_path / "there")
    said, shares = [], []
    how = {"folders": here, "log": said.append, "advance": shares.append}
    (found,) = bench.freeze_suite(part(), **how)
    assert found == type(found)("digits8_mlp", 20, here.targets_dir / "digits8_mlp" / "20.json", ("adam",))
    command("freeze", "quick", *PART, *flags(there))
    records = [json.loads(path.read_text()) for path in (found.path, there.targets_dir / "digits8_mlp" / "20.json")]
    for record in records:
        for stamp in ("made_at", "digest"):
            del record[stamp]
        del record["optimizers"]["adam"]["made_at"]
    assert records[0] == records[1]
    assert said[0].startswith("digits8_mlp: reference adam, validation loss hard ")
    assert sum(shares) == pytest.approx(1.0)
    for extend, words in ((False, "frozen already"), (True, "nothing to add")):
        shares.clear()
        (again,) = bench.freeze_suite(part(), extend=extend, **how)
        assert again.added == ()
        assert words in said[-1]
        assert sum(shares) == pytest.approx(1.0)


@pytest.fixture
def clock(monkeypatch):
    """A clock of known blocks: each optimizer takes twice as long as the one before."""

    def time_entrants(entrants, task, horizon, *, num_blocks, failed=None):
        blocks = np.arange(1.0, num_blocks + 1)[:, None] * 2.0 ** np.arange(len(entrants)) / 1000
        return Timings(blocks, np.ones(len(entrants)), np.ones(len(entrants)))

    monkeypatch.setattr("bench.run.time_and_race.time_entrants", time_entrants)


def test_times_of_steps_are_those_of_bench_time(clock, command):
    first, second = bench.time_steps(["digits8_mlp"], ["adam", "learned"], steps=20, blocks=7)
    assert (first.optimizer, second.optimizer) == ("adam", learned.HEADLINE)
    assert first.seconds_per_step.estimate == pytest.approx(0.004)  # the fourth of seven
    assert second.cost_ratio_to_first.estimate == pytest.approx(2.0)
    out = json.loads(command("time", "-t", "digits8_mlp", "-o", "adam", "-o", "learned", "--blocks", "7", "--json"))
    assert [row["seconds_per_step"]["median"] for row in out["rows"]] == [0.004, 0.008]
    assert "2.000 [2.000, 2.000]" in command(
        "time", "-t", "digits8_mlp", "-o", "adam", "-o", "learned", "--blocks", "7"
    )


def test_a_race_is_that_of_bench_time(clock, command, monkeypatch):
    def race_entrants(entrants, task, key, horizon, level):
        """Both go down a straight line to 0, the learned one in half of the steps."""
        rows = []
        for step in range(0, horizon + 1, horizon // 100):
            for entrant, steps in zip(entrants, (horizon / 2, horizon), strict=True):
                rows.append((step, f"validation_loss/{entrant.name}", 3 * max(1 - step / steps, 0.0)))
                rows.append((step, f"wall_time_sec/{entrant.name}", step / 1000))
        return pd.DataFrame(rows, columns=["step", "metric", "value"])

    monkeypatch.setattr("bench.run.time_and_race.race_entrants", race_entrants)
    found = bench.race(["digits8_mlp"])
    assert [item.target for item in found] == ["hard", "medium", "easy"]
    assert {item.optimizer for item in found} == {learned.HEADLINE}
    # Half of the steps, which take as long in the race, and half as long by the clock of blocks.
    for item in found:
        assert item.raced == pytest.approx(2.0, rel=0.05)
        assert item.predicted == pytest.approx(item.raced * 2, rel=0.05)
    out = json.loads(command("time", "--race", "-t", "digits8_mlp", "--json"))
    assert [row["raced_speedup"] for row in out["rows"]] == [float(f"{item.raced:.4g}") for item in found]
    with pytest.raises(bench.UsageError, match="no frozen targets for digits8_mlp at 21 steps"):
        bench.race(["digits8_mlp"], steps=21)


def test_a_race_that_nobody_ends_is_a_row_beside_the_others(clock, command, monkeypatch):
    def race_entrants(entrants, task, key, horizon, level):
        names = [entrant.name for entrant in entrants]
        rows = [(step, f"validation_loss/{name}", 9.0) for step in range(0, horizon + 1, 5) for name in names]
        rows += [(step, f"wall_time_sec/{name}", 1.0) for step in range(0, horizon + 1, 5) for name in names]
        return pd.DataFrame(rows, columns=["step", "metric", "value"])

    monkeypatch.setattr("bench.run.time_and_race.race_entrants", race_entrants)
    (row,) = json.loads(command("time", "--race", "-t", "digits8_mlp", "--json"))["rows"]
    assert (row["task"], row["target"], row["raced_speedup"]) == ("digits8_mlp", None, None)
    command("time", "--race", "-o", "adam", "-o", "learned", code=2)


# Plug-ins ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # a process each
def test_checks_of_a_plugin_are_those_of_bench_check(command, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import optax\nfrom baselines import Baseline\n"
        "OPTIMIZERS = {'mine': Baseline(lambda h, horizon: optax.sgd(0.1), {}, {}, 'none')}\n"
    )
    verdicts = bench.check_plugin(str(path))
    assert all(verdict.passed for verdict in verdicts)
    rows = json.loads(command("check", str(path), "--json"))  # whose details have seconds in them
    assert [(v.kind, v.name, v.check) for v in verdicts] == [(row["kind"], row["name"], row["check"]) for row in rows]
    assert all(row["passed"] for row in rows)


@pytest.mark.slow  # processes of their own
def test_a_suite_with_a_plugin_runs_in_processes_of_its_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import os, optax\nfrom baselines import Baseline\n"
        "def dies(h, horizon):\n    os._exit(3)\n"
        "OPTIMIZERS = {'mine': Baseline(dies, {}, {}, 'none')}\n"
    )
    suite = bench.choose_suite("quick", ["digits8_mlp"], ["mine"], "0", 20, ["timing_blocks=0"])
    shares = []
    done = bench.run_suite(suite, folders=folders_in(tmp_path), plugins=[str(path)], advance=shares.append)
    assert done.counts["crashed"] >= 1
    assert sum(shares) == pytest.approx(1.0)
