"""Targets: levels by hand, files that are frozen, and what ships."""

import datetime
import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from bench.report import verify_report
from bench.statistics.crossing import SMOOTHING
from bench.suites.seeds import FIRST_TUNING_SEED
from bench.training.programs import evaluation_grid
from bench.tuning import targets
from bench.tuning.targets import GROUPS, METRICS, SHIPPED_DIR, levels_of, load, needed_steps, read, target_path, write
from tests.bench import synthetic
from tests.helpers import REPOSITORY, assert_one_line


@pytest.mark.rule(10)
def test_frozen_targets_are_dated_have_a_digest_and_are_not_overwritten(tmp_path):
    path = targets.target_path(tmp_path, "t", 100)
    record = synthetic.targets_record("t", {"adam": (2.0, 2.5, 2.75)}, "adam")
    targets.write(path, record)
    content = path.read_bytes()
    with pytest.raises(UsageError, match="frozen"):
        targets.write(path, record)
    assert path.read_bytes() == content
    found = targets.read(path)
    assert datetime.datetime.fromisoformat(found.made_at).tzinfo is not None
    without = {key: value for key, value in json.loads(content).items() if key != "digest"}
    assert found.digest == hashlib.sha256(json.dumps(without, sort_keys=True).encode()).hexdigest()
    path.write_bytes(content.replace(b"2.75", b"2.76", 1))
    with pytest.raises(UsageError, match="altered"):
        targets.read(path)


LATER = {"muonw_average_cosine"}  # rivals that became references after learned optimizers had run


@pytest.mark.rule(10)
def test_targets_are_frozen_on_tuning_seeds_before_contenders_run():
    """Of every published suite: no learned optimizer, whose speed-up it is, ran before its references' losses.

    The hand-designed rows set the targets themselves, on other seeds. What is added later is no reference, but for
    rivals that the protocol names.
    """
    protocol = REPOSITORY.joinpath("bench/PROTOCOL.md").read_text()
    departures = [line for line in protocol.partition("## Where this departs")[2].splitlines() if "Rule 10" in line]
    assert all(
        any(f"`{name}`" in line and "after learned ones had run" in line for line in departures) for name in LATER
    )
    for suite_name, label in verify_report.published_reports(REPOSITORY / "reports"):
        columns = [
            "kind",
            "role",
            "task",
            "horizon",
            "started_at",
        ]  # that they are as they were run is verified elsewhere
        cells = pd.read_parquet(REPOSITORY / "results" / suite_name / label / "cells.parquet", columns=columns)
        for row in cells[(cells["kind"] == "train") & (cells["role"] == "learned")].to_dict("records"):
            found = targets.load(row["task"], int(row["horizon"]))
            if found is not None:
                began = datetime.datetime.fromisoformat(row["started_at"])
                frozen_at = [found.frozen_at[name] for name in found.references.values() if name not in LATER]
                assert all(datetime.datetime.fromisoformat(each) <= began for each in frozen_at), (
                    suite_name,
                    row["task"],
                )
    for path in targets.SHIPPED_DIR.rglob("*.json"):
        assert min(json.loads(path.read_text())["seeds"]) >= FIRST_TUNING_SEED


class TestLevels:
    """Protocol rule 10: the reference's median smoothed loss at 100 %, 50 % and 25 % of the horizon."""

    def test_they_are_medians_over_seeds_at_shares_of_the_horizon(self):
        steps = evaluation_grid(100)
        falling = np.linspace(2.0, 1.0, 101)
        curves = np.stack([falling, falling + 0.5, falling + 5.0], axis=1)
        levels = levels_of(steps, curves, 100)
        assert levels == pytest.approx({"hard": 1.5, "medium": 2.0, "easy": 2.25})

    def test_a_diverged_seed_is_the_worst_of_three(self):
        steps = evaluation_grid(100)
        falling = np.linspace(2.0, 1.0, 101)
        curves = np.stack([falling, falling + 0.5, np.full(101, math.nan)], axis=1)
        assert levels_of(steps, curves, 100)["hard"] == pytest.approx(1.5)

    def test_where_most_seeds_diverge_there_is_no_finite_level(self):
        curves = np.stack([np.ones(101), np.full(101, math.nan), np.full(101, math.nan)], axis=1)
        assert math.isinf(levels_of(evaluation_grid(100), curves, 100)["easy"])

    @pytest.mark.parametrize("horizon", [6, 100, 200, 2000])
    def test_the_needed_points_are_all_that_the_levels_read(self, horizon):
        grid = evaluation_grid(horizon)
        curve = np.random.default_rng(0).normal(size=(len(grid), 3))
        sparse = np.where(np.isin(grid, needed_steps(grid, horizon))[:, None], curve, np.nan)
        assert levels_of(grid, sparse, horizon) == levels_of(grid, curve, horizon)
        assert len(needed_steps(grid, horizon)) <= 2 * SMOOTHING + 1


def record(**changes):
    levels = {"hard": 1.0, "medium": 2.0, "easy": 3.0}
    row = {"hyperparameters": {"learning_rate": 0.1}, "final_validation_losses": [1.0, math.inf, 2.0]}
    row["levels"] = {"train_loss": levels, "validation_loss": {**levels, "hard": math.inf}}
    base = {"task": "t", "horizon": 10, "optimizers": {"adam": row}, "references": {"all_hand_designed": "adam"}}
    return base | {"made_at": "2020-01-01T00:00:00+00:00"} | changes


class TestFiles:
    def test_what_is_written_is_read(self, tmp_path):
        path = target_path(tmp_path, "family/3", 10)
        write(path, record(task="family/3"))
        found = load("family/3", 10, local_dir=tmp_path)
        assert found is not None
        assert found.levels["adam"]["train_loss"] == {"hard": 1.0, "medium": 2.0, "easy": 3.0}
        assert math.isinf(found.levels["adam"]["validation_loss"]["hard"])
        assert (found.task, found.horizon, found.references) == ("family/3", 10, {"all_hand_designed": "adam"})
        assert len(found.digest) == 64

    def test_frozen_targets_are_not_overwritten(self, tmp_path):
        path = tmp_path / "10.json"
        write(path, record())
        with pytest.raises(UsageError, match="frozen") as error:
            write(path, record(horizon=11))
        assert_one_line(error.value)

    def test_an_altered_level_is_noticed(self, tmp_path):
        path = tmp_path / "10.json"
        write(path, record())
        content = json.loads(path.read_text())
        content["optimizers"]["adam"]["levels"]["train_loss"]["hard"] = 1.5
        path.write_text(json.dumps(content))
        with pytest.raises(UsageError, match="altered") as error:
            read(path)
        assert_one_line(error.value)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": 3}'])
    def test_a_foreign_file_is_one_line(self, tmp_path, text):
        path = tmp_path / "10.json"
        path.write_text(text)
        with pytest.raises(UsageError) as error:
            read(path)
        assert_one_line(error.value)

    def test_a_task_without_targets_has_none(self, tmp_path):
        assert load("nothing", 10, local_dir=tmp_path) is None


SHIPPED = sorted(SHIPPED_DIR.rglob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=[str(p.relative_to(SHIPPED_DIR)) for p in SHIPPED])
def test_every_shipped_file_is_whole_and_in_its_place(path):
    found = read(path)
    assert path == target_path(SHIPPED_DIR, found.task, found.horizon)
    for group, reference in found.references.items():
        members = GROUPS[group]
        assert members is None or reference in members
        for metric in METRICS:
            level = found.levels[reference][metric]
            assert level["hard"] <= level["medium"] <= level["easy"]
