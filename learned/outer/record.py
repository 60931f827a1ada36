"""Counts of a run of outer-training, and the facts for its card."""

import dataclasses
from typing import Any, NamedTuple

from learned.base import Theta
from learned.config import OuterConfig
from learned.estimators import PERTURBED
from learned.outer.step import OuterState

Metrics = list[dict[str, float]]  # one dict for each outer step; "outer_validation_loss" only where it was computed


@dataclasses.dataclass(frozen=True)
class Record:
    """Counts of a run, over all processes that resumed it; JSON-ready, part of a checkpoint."""

    outer_step: int = 0  # outer steps done
    inner_steps: int = 0  # one step of one network; both signs count
    seconds: float = 0.0
    device_seconds: float = 0.0  # seconds times the number of devices
    skipped: int = 0  # updates with a non-finite gradient
    skipped_in_a_row: int = 0
    restored: int = 0  # number of times that theta was reset to the best
    best: dict[str, Any] = dataclasses.field(default_factory=dict)  # facts of the best theta

    def is_best(self, loss: float) -> bool:
        """Whether an outer-validation loss is lower than all before it."""
        return loss < self.best.get("loss", float("inf"))

    def with_best(self, loss: float, device: str) -> "Record":
        """The record with the current theta as the best, with this outer-validation loss."""
        best = {
            "loss": loss,
            "outer_step": self.outer_step,
            "inner_steps": self.inner_steps,
            "device_hours": round(self.device_seconds / 3600, 3),
            "device": device,
        }
        return dataclasses.replace(self, best=best)


class Position(NamedTuple):
    """The position of a run after a completed outer step; immutable, so that an interruption leaves it consistent."""

    state: OuterState
    record: Record
    best_theta: Theta

    def without_carried(self) -> tuple[OuterState, Theta]:
        """The arrays that are kept between stages of the curriculum: all but the estimator's unrolls."""
        return self.state._replace(carried=()), self.best_theta


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress after an outer step; the counts are those of `Record`."""

    outer_step: int
    num_steps: int
    metrics: dict[str, float]
    seconds: float
    inner_steps: int
    skipped: int = 0


class Trained(NamedTuple):
    """The outcome of a run.

    Attributes:
      theta: the best theta by outer-validation.
      metrics: metrics of every outer step.
      facts: facts of the best theta and of the whole run, for a card; see `summary`.
    """

    theta: Theta
    metrics: Metrics
    facts: dict[str, Any]


def facts_of_best(best: dict[str, Any], metrics: Metrics) -> dict[str, Any]:
    """Facts of the best theta for a card: its outer step and cost, and the curve of outer-validation losses.

    Args:
      best: field of a `Record`.
      metrics: metrics of the run so far. The curve has points (outer step, horizon, outer-validation loss).
    """
    curve = [
        [int(row["outer_step"]), int(row["horizon"]), round(row["outer_validation_loss"], 4)]
        for row in metrics
        if "outer_validation_loss" in row
    ]
    facts = {name: value for name, value in best.items() if name != "loss"}
    return {"outer_validation_loss": round(best["loss"], 4), **facts, "outer_validation_curve": curve}


def summary(record: Record, metrics: Metrics) -> dict[str, Any]:
    """The facts of the best theta and of the whole run."""
    return facts_of_best(record.best, metrics) | {
        "total_outer_steps": record.outer_step,
        "total_inner_steps": record.inner_steps,
        "total_device_hours": round(record.device_seconds / 3600, 3),
        "skipped_updates": record.skipped,
        "restored": record.restored,
    }


def inner_steps_of(config: OuterConfig, num_steps: int) -> int:
    """Inner steps of an outer step, each one step of one network.

    Both signs count, and both of two merged estimators unless they share their unrolls.
    """
    names = config.estimator[:1] if config.shares_unrolls else config.estimator
    return config.num_tasks * num_steps * sum(2 if name in PERTURBED else 1 for name in names)
