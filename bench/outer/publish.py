"""Publishes a run of outer-training, restores a published one elsewhere, and ships the best theta."""

from pathlib import Path

import pandas as pd

import learned
from baselines import BASELINES
from bench.errors import UsageError, usage_errors
from bench.folders import Folders
from bench.outer.folders import FIGURE_FILE, as_config, draw, refuse_a_run, run_folder
from bench.report import cards
from bench.store.published import published_label
from learned import outer, weights
from learned.config import OuterConfig
from tasks.files import write_atomically


def publish_outer(config: OuterConfig | str, label: str, *, folders: Folders | None = None) -> Path:
    """Packs the last finished stage of the user's own run, with the best theta and its card, to be committed.

    Args:
      config: configuration of the run, or its name or path.
      label: name of the machine.
      folders: where results lie; by default those of the command line.

    Returns:
      The folder RESULTS/outer-train/LABEL/NAME, from which `outer_train` resumes elsewhere with `resume_from`.

    Raises:
      UsageError: as `publish`, or there is no such configuration.
    """
    return publish(as_config(config), (folders or Folders()).results_dir, label)


def ship(
    config: OuterConfig | str,
    *,
    folders: Folders | None = None,
    weights_dir: Path | None = None,
    force: bool = False,
) -> Path:
    """Copies the best theta of the user's own finished run to the shipped weights, under its configuration's name.

    Then `learned.load(NAME)`, `bench run -o NAME` and `bench list optimizers` find it, and `bench verify` checks its
    card.

    Args:
      config: configuration of the run, or its name or path.
      folders: where results lie; by default those of the command line.
      weights_dir: folder of shipped weights; by default `learned/weights` of this package.
      force: whether to replace other weights of the same name.

    Returns:
      The path of the weights, NAME.safetensors; the card, NAME.md, is beside them.

    Raises:
      UsageError: there is no such configuration or no run of it, the run is not finished, the name is taken, or the
        folder cannot be written.
    """
    config, folders = as_config(config), folders or Folders()
    weights_dir = weights_dir or weights.WEIGHTS_DIR
    source, path = run_folder(folders.results_dir, config), weights_dir / f"{config.name}.safetensors"
    known = (
        *BASELINES,
        *learned.ALIASES,
        *(p.stem for p in (weights_dir / weights.INTERMEDIATE).glob("*.safetensors")),
    )
    if config.name in known:  # and would be looked up there
        raise UsageError(f"the name {config.name!r} is taken; give the configuration another one")
    with usage_errors():
        reached = outer.outer_step_reached(source)
    if reached is None:
        raise UsageError(f"{source} holds no run to ship; begin it with: bench outer-train {config.name}")
    if reached < config.outer_steps:
        raise UsageError(
            f"{source} holds a run at outer step {reached} of {config.outer_steps}, and only a whole one ships: go on "
            f"with: bench outer-train {config.name} --resume"
        )
    with usage_errors():
        theta, _, facts = outer.stage_end(source, config)
    if not force:
        _refuse_other_weights(path, weights.digest(theta))
    with usage_errors():
        outer.save_best(path, config, theta, facts)
        cards.published.cache_clear()  # in a notebook, results may have been published since
        cards.write(config.name, folders.results_dir, weights_dir)
    return path


def _refuse_other_weights(path: Path, digest: str) -> None:
    """Checks that no file exists there, or one with the theta of this digest.

    Raises:
      UsageError: there are other weights.
    """
    if not path.exists():
        return
    try:
        there = weights.digest(weights.read(path)[0])
    except ValueError:  # not a weights file, or one of an earlier version
        there = ""
    if there != digest:
        raise UsageError(
            f"{path} holds other weights; replace them with --force, or give the configuration another name"
        )


def publish(config: OuterConfig, results_dir: Path, label: str) -> Path:
    """Writes the last finished stage of the user's own run to a folder that can be committed.

    Args:
      config: configuration of the run.
      results_dir: results folder. The run is in `outer-train/local/NAME`; its last stage, best theta, card, metrics and
        figure are written to `outer-train/LABEL/NAME`.
      label: name of the machine.

    Returns:
      The folder.

    Raises:
      UsageError: no stage is finished, a later one is published, or the label is `local` or not a plain name.
    """
    source, folder = run_folder(results_dir, config), run_folder(results_dir, config, published_label(label))
    with usage_errors():
        _, log, _ = end = outer.stage_end(source, config)
        published = outer.outer_step_reached(folder)
    if published is not None and published > len(log):
        raise UsageError(f"{folder} holds the run at outer step {published}, yours is at {len(log)}: delete the folder")
    _lay(source, folder, config, end)
    draw(folder / FIGURE_FILE, config.name, pd.DataFrame(log))
    return folder


def restore(config: OuterConfig, results_dir: Path, label: str) -> None:
    """Copies a published run to the folder of the user's own run, which `resume` then continues.

    Raises:
      UsageError: that folder holds a run, nothing readable is published, or it has another configuration.
    """
    folder, source = run_folder(results_dir, config), run_folder(results_dir, config, published_label(label))
    refuse_a_run(folder)
    with usage_errors():
        end = outer.stage_end(source, config)
    _lay(source, folder, config, end)


def _lay(source: Path, folder: Path, config: OuterConfig, end: outer.Trained) -> None:
    """Copies the end of a stage to another folder; the stage file is written last and makes it complete."""
    theta, log, summary = end
    outer.write_metrics(folder, log)
    outer.save_best(folder / f"{config.name}.safetensors", config, theta, summary)
    write_atomically(folder / outer.STAGE_FILE, (source / outer.STAGE_FILE).read_bytes())
