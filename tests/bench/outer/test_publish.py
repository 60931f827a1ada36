"""A published end of a stage: goes on elsewhere, and is what weights and card follow from."""

import json
import shutil

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.outer.folders import as_config, run_folder
from bench.outer.publish import publish, restore
from learned import cards, weights
from learned.outer import stage_end
from tests.bench.outer.stages import STAGES, outer_train
from tests.helpers import REPOSITORY, assert_one_line


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


@pytest.mark.parametrize(("label", "message"), [("local", "git-ignored"), ("../up", "letters")])
def test_a_label_that_cannot_be_committed_is_refused(label, message, tmp_path):
    for call in (
        lambda: publish(STAGES, tmp_path, label),
        lambda: restore(STAGES, tmp_path, label),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            call()
        assert_one_line(caught.value)


STAGE_ENDS = REPOSITORY.glob("results/outer-train/*/*/stage.safetensors")
PUBLISHED = sorted(path.parent for path in STAGE_ENDS if path.parts[-3] != "local")


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_weights_and_card_of_a_published_run_follow_from_its_end_of_a_stage(folder):
    config = as_config(folder.name)
    theta, log, facts = stage_end(folder, config)
    assert len(log) == len(pd.read_parquet(folder / "metrics.parquet")) == facts["total_outer_steps"]
    published, card = weights.read(folder / f"{folder.name}.safetensors")
    assert weights.digest(published) == weights.digest(theta)
    assert card.facts == json.loads(json.dumps(facts)) | {name: card.facts[name] for name in ("data", "commit")}
    assert (folder / f"{folder.name}.md").read_text() == cards.render(card)
