import contextlib
import dataclasses
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.errors import UsageError
from bench.outer import cost
from bench.outer.cost import _serve_on_one_core, measure, on_one_device
from bench.outer.folders import read_config, run_folder
from bench.outer.publish import publish, restore
from bench.outer.rerun import rerun
from bench.outer.run import duration, progress_line, run
from bench.report.figures.outer_training import outer_training_figure
from learned import cards, weights
from learned.config import OuterConfig
from learned.curriculum import Stage
from learned.outer_train import Progress, stage_end
from tests.helpers import assert_one_line, linear_family
from tests.learned.test_outer_train import CONFIG

ROOT = Path(__file__).parent.parent.parent
MERGED = OuterConfig("mine", "per_parameter_mlp", "linear", (Stage(10, 200),), estimator=("reparam", "es"))
METRICS = {
    "outer_step": 50.0,
    "num_steps": 10.0,
    "horizon": 10.0,
    "outer_loss": 2.0,
    "gradient_norm": 0.25,
    "skipped": 0.0,
    "signal_to_noise/reparam": 4.0,
    "signal_to_noise/es": 1.0,
    "merge_weight": 0.75,
}


def test_the_progress_line_says_what_matters():
    # 50 outer steps in 100 s: 150 more in 300 s. 8,000 inner steps in 100 s.
    line = progress_line(MERGED, Progress(50, 10, METRICS, 100.0, 8000, skipped=2))
    assert line == (
        "outer step 50/200  length 10  loss 2.0000  gradient norm 0.25  signal-to-noise reparam 4, es 1  "
        "weight of reparam 0.75  2 skipped  80 inner steps/s  about 5 min left"
    )
    judged = METRICS | {"outer_validation_loss": 1.5}
    line = progress_line(MERGED, Progress(50, 10, judged, 100.0, 8000), budget_left=30.0)
    assert "validation 1.5000" in line
    assert line.endswith("about 30 s left")


@pytest.mark.parametrize(("seconds", "text"), [(42.0, "42 s"), (179.0, "3 min"), (7500.0, "2 h 05 min")])
def test_a_duration_in_words(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("num_rows", [1, 60])
def test_the_figure_of_a_run_is_drawn_from_its_first_step_on(num_rows):
    rows = [METRICS | {"outer_step": step + 1.0, "outer_loss": 2.0 - step / 100} for step in range(num_rows)]
    rows[-1] |= {"outer_validation_loss": 1.25, "skipped": 1.0}
    figure = outer_training_figure("mine", pd.DataFrame(rows))
    assert f"after {num_rows} outer steps: loss {rows[-1]['outer_loss']:.4f}" in figure.alt
    assert "1.2500" in figure.alt
    image = np.asarray(Image.open(io.BytesIO(figure.png)).convert("RGB"))
    assert image.shape[0] > 500
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 5


@pytest.mark.slow
def test_the_cost_of_an_inner_step_is_that_of_an_outer_step_over_its_inner_steps():
    # An odd number: the median of the rates is then the rate of the median block, however noisy the machine.
    found = measure(CONFIG, linear_family, num_devices=1, num_blocks=7)
    assert found.keys() == {
        "config",
        "inner_steps_per_second",
        "adam_step_seconds",
        "cost_ratio_to_adam",
        "outer_step_seconds",
        "compile_seconds",
        "peak_memory_bytes",
        "devices",
    }
    # 4 tasks, both signs, 10 steps.
    rate = found["inner_steps_per_second"]
    assert rate["low"] <= rate["median"] <= rate["high"]
    assert found["outer_step_seconds"] * rate["median"] == pytest.approx(80, rel=1e-3)
    ratio = found["cost_ratio_to_adam"]["median"]
    assert ratio == pytest.approx(1 / rate["median"] / found["adam_step_seconds"], rel=0.5)
    assert found["peak_memory_bytes"] > 2**20


STAGES = dataclasses.replace(CONFIG, stages=(Stage(5, 3), Stage(5, 3)), validation_every=2)
FACTS = {"name": "linear", "version": "1", "digest": "0" * 16}


EIGHT_DEVICES = """
import dataclasses, json
import jax
jax.config.update("jax_num_cpu_devices", 8)
from bench.outer.cost import measure
from tests.helpers import linear_family
from tests.learned.test_outer_train import CONFIG

print(json.dumps(measure(dataclasses.replace(CONFIG, num_tasks=8), linear_family, num_devices=8, num_blocks=6)))
"""


@pytest.mark.slow
def test_several_devices_are_timed_beside_one_on_a_core_of_its_own():
    """In each block; eight devices forced onto this machine's cores, next to one that another process has."""
    done = subprocess.run([sys.executable, "-c", EIGHT_DEVICES], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == 8
    speedup = found["speedup_over_one_device"]
    assert 0 < speedup["low"] <= speedup["median"] <= speedup["high"] < 100


class Told:
    """The other end of a pipe: tells so many times, then is gone."""

    def __init__(self, times):
        self.left, self.answers = times, 0

    def recv(self):
        if not self.left:
            raise EOFError
        self.left -= 1

    def send(self, answer):
        self.answers += 1


def test_one_device_is_that_of_a_process_on_one_core(monkeypatch):
    """Told twice to take an outer step, it takes two, on one core; then it ends."""
    steps, cores = [], []
    monkeypatch.setattr(cost.os, "sched_setaffinity", lambda pid, some: cores.append(some))
    monkeypatch.setattr(cost, "compiled_outer_step", lambda *args: (lambda: steps.append(args), 0.0))
    told = Told(2)
    _serve_on_one_core(told, CONFIG, lambda: "family")
    assert told.answers == 2
    assert steps == [(CONFIG, "family", 1)] * 2
    assert [len(some) for some in cores] == [1]


def no_data():
    raise ValueError("no data")


@pytest.mark.slow
def test_a_process_on_one_core_that_ends_is_named():
    with (
        pytest.raises(UsageError, match="on one core has ended") as caught,
        on_one_device(CONFIG, no_data),
    ):
        pass
    assert_one_line(caught.value)


def outer_train(results_dir, steps, resume=False):
    """A run of `STAGES` that is interrupted after so many outer steps of all."""

    class Stop(Exception):
        pass

    def advance(share, line):
        if f"outer step {steps}/" in line:
            raise Stop

    with contextlib.suppress(Stop):
        run(
            STAGES,
            linear_family(),
            FACTS,
            results_dir,
            resume=resume,
            num_devices=1,
            budget_seconds=float("inf"),
            log=lambda line: None,
            advance=advance,
        )


@pytest.mark.slow
def test_a_published_stage_goes_on_elsewhere_to_the_same_weights(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    with pytest.raises(UsageError, match=r"expected stage\.safetensors") as caught:
        publish(STAGES, here, "box")
    assert_one_line(caught.value)
    outer_train(here, 5)
    folder = publish(STAGES, here, "box")
    names = {"stage.safetensors", "metrics.parquet", "progress.png", "test.safetensors", "test.md"}
    assert {path.name for path in folder.iterdir()} == names
    assert len(pd.read_parquet(folder / "metrics.parquet")) == 3
    _, card = weights.read(folder / "test.safetensors")
    assert card.facts["total_outer_steps"] == 3
    assert card.facts["outer_step"] in (2, 3)  # a stage's end is judged; the validation at 4 belongs to the next one
    assert [at for at, _, _ in card.facts["outer_validation_curve"]] == [2, 3]
    assert card.facts["data"] == "linear 1 0000000000000000"
    with pytest.raises(UsageError, match="holds a run at outer step"):
        restore(STAGES, here, "box")

    shutil.copytree(folder, there / folder.relative_to(here))
    restore(STAGES, there, "box")
    # The best theta is on disk, and what was restored is a run: another does not begin over it.
    restored = run_folder(there, STAGES) / "test.safetensors"
    assert weights.digest(weights.read(restored)[0]) == weights.digest(weights.read(folder / "test.safetensors")[0])
    with pytest.raises(UsageError, match="holds a run at outer step 3"):
        outer_train(there, 1)
    for results_dir in (there, here):
        outer_train(results_dir, 7, resume=True)
    ends = [weights.read(run_folder(d, STAGES) / "test.safetensors") for d in (here, there)]
    (theta, card), (other_theta, other_card) = ends
    assert weights.digest(theta) == weights.digest(other_theta)
    assert card.facts["total_outer_steps"] == other_card.facts["total_outer_steps"] == 6
    assert card.facts["outer_validation_curve"] == other_card.facts["outer_validation_curve"]
    # An earlier end of a stage does not replace a later one.
    publish(STAGES, here, "box")
    shutil.copytree(there / "outer-train" / "box", here / "outer-train" / "local", dirs_exist_ok=True)
    with pytest.raises(UsageError, match="holds the run at outer step 6, yours is at 3") as caught:
        publish(STAGES, here, "box")
    assert_one_line(caught.value)
    # Nor is one replaced that cannot be read.
    (folder / "stage.safetensors").write_bytes(b"torn")
    with pytest.raises(UsageError, match=r"box.*stage\.safetensors: expected the end of a stage") as caught:
        publish(STAGES, here, "box")
    assert_one_line(caught.value)


@pytest.mark.slow
def test_the_beginning_of_a_published_run_is_the_same_again_and_a_changed_one_is_found(tmp_path, monkeypatch):
    outer_train(tmp_path, 5)
    folder = publish(STAGES, tmp_path, "box")

    def again():
        return rerun(STAGES, linear_family(), folder, outer_steps=100, num_devices=1)

    found = again()
    assert (found.outer_steps, found.bit_equal, found.difference, found.holds) == (3, True, 0.0, True)
    assert found.loss_change is not None
    assert found.loss_change.estimate == 0.0
    metrics = pd.read_parquet(folder / "metrics.parquet")
    metrics.loc[1, "outer_loss"] *= 1.01
    metrics.to_parquet(folder / "metrics.parquet")
    found = again()
    assert (found.bit_equal, found.same_device, found.holds) == (False, True, False)
    assert found.difference == pytest.approx(0.01 / 1.01)
    assert found.loss_change is not None
    assert found.loss_change.estimate == pytest.approx(-metrics.loc[1, "outer_loss"] * 0.01 / 1.01 / 3)
    assert not dataclasses.replace(found, same_device=False).holds
    assert dataclasses.replace(found, same_device=False, difference=5e-4).holds
    assert dataclasses.replace(found, same_device=False, bit_equal=True).holds
    monkeypatch.setattr("bench.outer.rerun.processor", lambda: "Another CPU, cores used: 2")
    assert not again().same_device
    with pytest.raises(UsageError, match=r"expected stage\.safetensors") as caught:
        rerun(STAGES, linear_family(), tmp_path / "nowhere", outer_steps=1, num_devices=1)
    assert_one_line(caught.value)


@pytest.mark.parametrize(("label", "message"), [("local", "git-ignored"), ("../up", "letters")])
def test_a_label_that_cannot_be_committed_is_refused(label, message, tmp_path):
    for call in (
        lambda: publish(STAGES, tmp_path, label),
        lambda: restore(STAGES, tmp_path, label),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            call()
        assert_one_line(caught.value)


def test_a_run_that_is_not_resumed_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.outer.folders.outer.outer_step_reached", lambda folder: 7)
    with pytest.raises(UsageError, match="holds a run at outer step 7: go on with --resume") as caught:
        for_a_second(tmp_path)
    assert_one_line(caught.value)


def for_a_second(results_dir, resume=False):
    settings = {"resume": resume, "num_devices": 1, "budget_seconds": 1.0, "log": print, "advance": print}
    return run(CONFIG, linear_family(), FACTS, results_dir, **settings)


HOLDING = """
import sys, time
from pathlib import Path
from bench.store.files import locked

with locked(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    time.sleep(100)
"""


def test_two_processes_do_not_outer_train_in_one_folder(tmp_path):
    folder = run_folder(tmp_path, CONFIG)
    lock = folder.with_name(f".{folder.name}.lock")
    process = subprocess.Popen([sys.executable, "-c", HOLDING, lock], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    for resume in (False, True):
        with pytest.raises(UsageError, match="another process outer-trains in") as caught:
            for_a_second(tmp_path, resume)
        assert_one_line(caught.value)
    assert not folder.exists()
    process.kill()
    process.communicate()
    path, _ = for_a_second(tmp_path)
    assert path.is_file()
    assert not lock.exists()


# What is published ----------------------------------------------------------------------------------------------------

STAGE_ENDS = ROOT.glob("results/outer-train/*/*/stage.safetensors")
PUBLISHED = sorted(path.parent for path in STAGE_ENDS if path.parts[-3] != "local")


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_weights_and_card_of_a_published_run_follow_from_its_end_of_a_stage(folder):
    config = read_config(folder.name)
    theta, log, facts = stage_end(folder, config)
    assert len(log) == len(pd.read_parquet(folder / "metrics.parquet")) == facts["total_outer_steps"]
    published, card = weights.read(folder / f"{folder.name}.safetensors")
    assert weights.digest(published) == weights.digest(theta)
    assert card.facts == json.loads(json.dumps(facts)) | {name: card.facts[name] for name in ("data", "commit")}
    assert (folder / f"{folder.name}.md").read_text() == cards.render(card)
