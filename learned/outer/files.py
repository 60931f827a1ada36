"""The files of a run, read once it is there: its metrics, the end of its last whole stage, its best theta.

Checkpoints are for the machine that the run is on. The end of a stage and the metrics are small enough to be committed,
and another machine goes on from them.
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
STAGE_FILE = "stage.safetensors"  # the end of the last whole stage


def last_checkpoint(folder: Path) -> int | None:
    """Outer step of a folder's last checkpoint, or None."""
    if not (folder / CHECKPOINTS_FOLDER).is_dir():
        return None
    with Checkpoints(folder / CHECKPOINTS_FOLDER) as checkpoints:
        return checkpoints.latest()


def outer_step_reached(folder: Path) -> int | None:
    """Outer step that a run in a folder would go on from: of its last checkpoint, else its end of a stage, or None.

    Raises:
      ValueError: the end of a stage is damaged; one line.
    """
    reached = last_checkpoint(folder)
    if reached is None and (folder / STAGE_FILE).is_file():
        reached = int(read_stage(folder / STAGE_FILE)[1]["record"]["outer_step"])
    return reached


def stage_end(folder: Path, config: OuterConfig) -> Trained:
    """What `outer_train` would have returned at the end of a run's last whole stage; its provenance is among the facts.

    Raises:
      ValueError: no stage has ended, the run is of another configuration, or its metrics are not those; one line.
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
    """Compares what a run was made with to what it is to go on with.

    Raises:
      ValueError: a key of the two differs; one line, of the first.
    """
    for key in sorted(stored.keys() | wanted.keys()):
        if stored.get(key) != wanted.get(key):
            raise ValueError(
                f"the checkpoint was made with {key} = {stored.get(key)!r}, the configuration has "
                f"{wanted.get(key)!r}: give it another name, or go on with the configuration it was made with"
            )


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Writes the metrics of a run, a row for each outer step."""
    write_atomically(folder / METRICS_FILE, pd.DataFrame(metrics).to_parquet(index=False))


def read_metrics(folder: Path) -> Metrics:
    """The metrics of a run; what a row does not have is left out of it.

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
      ValueError: they are not there, are damaged, or end earlier; one line.
    """
    if not outer_step:
        return []
    path = folder / METRICS_FILE
    metrics = read_metrics(folder)[:outer_step] if path.is_file() else []
    if len(metrics) != outer_step:
        raise ValueError(f"{path}: expected metrics of {outer_step} outer steps, got {len(metrics)}")
    return metrics


def save_best(path: Path, config: OuterConfig, theta: Theta, facts: dict[str, Any]) -> None:
    """Writes theta with all that made it, and its card as a page beside it.

    Args:
      path: of the weights, a .safetensors file.
      config: of the run.
      theta: the best one.
      facts: what the run found and cost, its data and commit.
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
