"""A finished stage of outer-training, published where it can be committed, and taken up from there."""

from pathlib import Path

import pandas as pd

from bench.errors import UsageError, usage_errors
from bench.outer.folders import FIGURE_FILE, StageEnd, draw, refuse_a_run, run_folder
from bench.store.published import published_label
from learned import outer_train as outer
from learned.config import OuterConfig
from tasks.files import write_atomically


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
