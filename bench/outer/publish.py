"""What becomes of a run of outer-training: a stage is published and taken up elsewhere, the best theta is shipped."""

from pathlib import Path

import pandas as pd

import learned
from baselines import BASELINES
from bench.errors import UsageError, usage_errors
from bench.folders import Folders
from bench.outer.folders import FIGURE_FILE, StageEnd, as_config, draw, refuse_a_run, run_folder
from bench.report import cards
from bench.store.published import published_label
from learned import outer, weights
from learned.config import OuterConfig
from tasks.files import write_atomically


def publish_outer(config: OuterConfig | str, label: str, *, folders: Folders | None = None) -> Path:
    """Packs the end of the last whole stage of one's own run, with the best theta and its card, to be committed.

    Args:
      config: of the run, or its name or path.
      label: name of the machine.
      folders: where results lie; by default those of the command line.

    Returns:
      The folder RESULTS/outer-train/LABEL/NAME, from which `outer_train` goes on elsewhere with `resume_from`.

    Raises:
      UsageError: no such configuration; as `publish`.
    """
    return publish(as_config(config), (folders or Folders()).results_dir, label)


def ship(
    config: OuterConfig | str,
    *,
    folders: Folders | None = None,
    weights_dir: Path | None = None,
    force: bool = False,
) -> Path:
    """Makes the best theta of one's own finished run an optimizer that ships: known by the name of its configuration.

    From then on `learned.load(NAME)`, `bench run -o NAME` and `bench list optimizers` find it; `bench verify` checks
    its card.

    Args:
      config: of the run, or its name or path.
      folders: where results lie; by default those of the command line.
      weights_dir: where weights that ship lie; `learned/weights` of this package without it.
      force: whether to replace other weights of that name.

    Returns:
      The path of the weights, NAME.safetensors; the card, NAME.md, lies beside them.

    Raises:
      UsageError: no such configuration, no run of it, a run that has not taken its last outer step, a name that is
        taken, or a folder that cannot be written.
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
    """Refuses a file that is there and has not the theta of this digest."""
    if not path.exists():
        return
    try:
        there = weights.digest(weights.read(path)[0])
    except ValueError:  # no weights, or of an earlier version: all the more not these
        there = ""
    if there != digest:
        raise UsageError(
            f"{path} holds other weights; replace them with --force, or give the configuration another name"
        )


def publish(config: OuterConfig, results_dir: Path, label: str) -> Path:
    """Writes the end of the last whole stage of one's own run where it can be committed.

    Args:
      config: of the run.
      results_dir: the run is in `outer-train/local/NAME` in it, and goes to `outer-train/LABEL/NAME`: the end of a
        stage, from which `restore` goes on, with the best theta, its card, metrics and figure.
      label: name of the machine.

    Returns:
      The folder.

    Raises:
      UsageError: no whole stage is there, or a later one is published; a label that is `local` or not a plain name.
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
    """Lays what was published under a label where one's own run goes on from it with `resume`.

    Raises:
      UsageError: one's own run is there already; nothing readable is published there, or of another configuration.
    """
    folder, source = run_folder(results_dir, config), run_folder(results_dir, config, published_label(label))
    refuse_a_run(folder)
    with usage_errors():
        end = outer.stage_end(source, config)
    _lay(source, folder, config, end)


def _lay(source: Path, folder: Path, config: OuterConfig, end: StageEnd) -> None:
    """Lays the end of a stage of one folder in another; last the file that makes it one."""
    theta, log, summary = end
    outer.write_metrics(folder, log)
    outer.save_best(folder / f"{config.name}.safetensors", config, theta, summary)
    write_atomically(folder / outer.STAGE_FILE, (source / outer.STAGE_FILE).read_bytes())
