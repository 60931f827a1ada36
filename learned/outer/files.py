"""The files of a run: its metrics, the end of its last finished stage, its best theta.

Checkpoints stay on the machine of the run. The end of a stage and the metrics are small enough to be committed, and
another machine can resume from them.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from learned import cards, weights
from learned.base import Theta
from learned.config import OuterConfig
from learned.designs import theta_shapes
from learned.outer.checkpoints import Checkpoints, read_stage
from learned.outer.record import Metrics, Record, Trained, summary
from tasks.files import write_atomically

CHECKPOINTS_FOLDER = "checkpoints"
METRICS_FILE = "metrics.parquet"
STAGE_FILE = "stage.safetensors"  # the end of the last finished stage


def last_checkpoint(folder: Path) -> int | None:
    """Outer step of a folder's last checkpoint; None if there is none."""
    if not (folder / CHECKPOINTS_FOLDER).is_dir():
        return None
    with Checkpoints(folder / CHECKPOINTS_FOLDER) as checkpoints:
        return checkpoints.latest()


def outer_step_reached(folder: Path) -> int | None:
    """Outer step from which a run would resume: its last checkpoint, else its last finished stage, else None.

    Raises:
      ValueError: the stage file is damaged; one line.
    """
    reached = last_checkpoint(folder)
    if reached is None and (folder / STAGE_FILE).is_file():
        reached = int(read_stage(folder / STAGE_FILE)[1]["record"]["outer_step"])
    return reached


def stage_end(folder: Path, config: OuterConfig) -> Trained:
    """The outcome of a run at the end of its last finished stage, with its provenance among the facts.

    Raises:
      ValueError: no stage is finished, the run has another configuration, or its metrics are missing; one line.
    """
    path = folder / STAGE_FILE
    if not path.is_file():
        raise ValueError(f"{folder}: expected {STAGE_FILE}, which a run writes at the end of a stage; go on with it")
    theta = theta_shapes(config.design, dict(config.design_options))
    (_, best_theta), facts = read_stage(path, ((), theta))
    refuse_another(facts["config"], config.as_dict())
    record = Record(**facts["record"])
    metrics = metrics_until(folder, record.outer_step)
    return Trained(best_theta, metrics, summary(record, metrics) | facts["provenance"])


def refuse_another(stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Checks that a run is resumed with the configuration that it was made with.

    Raises:
      ValueError: a key differs; one line about the first one.
    """
    for key in sorted(stored.keys() | wanted.keys()):
        if stored.get(key) != wanted.get(key):
            raise ValueError(
                f"the checkpoint was made with {key} = {stored.get(key)!r}, the configuration has "
                f"{wanted.get(key)!r}: give it another name, or go on with the configuration it was made with"
            )


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Writes the metrics of a run, one row for each outer step."""
    write_atomically(folder / METRICS_FILE, pd.DataFrame(metrics).to_parquet(index=False))


def read_metrics(folder: Path) -> Metrics:
    """The metrics of a run; missing values are left out of the dicts.

    Raises:
      ValueError: the file is damaged; one line.
    """
    try:
        rows = pd.read_parquet(folder / METRICS_FILE).to_dict("records")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder / METRICS_FILE}: damaged ({reason}): restore it, or delete {folder}") from None
    return [{str(name): value for name, value in row.items() if not pd.isna(value)} for row in rows]


def metrics_until(folder: Path, outer_step: int) -> Metrics:
    """The metrics of a run up to an outer step.

    Raises:
      ValueError: they are missing, damaged, or end earlier; one line.
    """
    if not outer_step:
        return []
    path = folder / METRICS_FILE
    metrics = read_metrics(folder)[:outer_step] if path.is_file() else []
    if len(metrics) != outer_step:
        raise ValueError(f"{path}: expected metrics of {outer_step} outer steps, got {len(metrics)}")
    return metrics


def save_best(path: Path, config: OuterConfig, theta: Theta, facts: dict[str, Any]) -> None:
    """Writes theta with its card, and the card as a page beside it.

    Args:
      path: path of the weights, a .safetensors file.
      config: configuration of the run.
      theta: the best theta.
      facts: facts of the run: outer-validation losses, cost, data, commit.
    """
    card = weights.Card(
        name=config.name,
        design=config.design,
        design_options=dict(config.design_options),
        outer_training=config.as_dict(),
        facts=facts,
    )
    write_atomically(path, weights.save_bytes(theta, card))
    _, card = weights.read(path)
    write_atomically(cards.path_beside(path), cards.render(card).encode())
