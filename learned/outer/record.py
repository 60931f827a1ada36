"""What the host counts while a run of outer-training goes on, and what it tells of the run."""

import dataclasses
from typing import Any, NamedTuple

from learned.base import Theta
from learned.config import OuterConfig
from learned.estimators import PERTURBED
from learned.outer.engine import OuterState

Metrics = list[dict[str, float]]  # one dict for each outer step; "outer_validation_loss" only where it was taken


@dataclasses.dataclass(frozen=True)
class Record:
    """Counts of a run over all its sittings; JSON-ready, part of a checkpoint."""

    outer_step: int = 0  # outer steps done
    inner_steps: int = 0  # one net, one step; both signs count
    seconds: float = 0.0
    device_seconds: float = 0.0  # the same, times the devices of each sitting
    skipped: int = 0  # updates whose gradient was not finite
    skipped_in_a_row: int = 0
    restored: int = 0  # times that theta went back to the best
    best: dict[str, Any] = dataclasses.field(default_factory=dict)  # facts of the best theta

    def is_best(self, loss: float) -> bool:
        """Whether an outer-validation loss is below all before it."""
        return loss < self.best.get("loss", float("inf"))

    def with_best(self, loss: float, device: str) -> "Record":
        """The record once theta as it stands has become the best, with this outer-validation loss."""
        best = {
            "loss": loss,
            "outer_step": self.outer_step,
            "inner_steps": self.inner_steps,
            "device_hours": round(self.device_seconds / 3600, 3),
            "device": device,
        }
        return dataclasses.replace(self, best=best)


class Position(NamedTuple):
    """Where a run stands after a whole outer step; replaced, never changed, so that an interruption cannot tear it."""

    state: OuterState
    record: Record
    best_theta: Theta

    def without_carried(self) -> tuple[OuterState, Theta]:
        """The arrays that outlive a stage of the curriculum: all but the unrolls that the estimator carries."""
        return self.state._replace(carried=()), self.best_theta


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a caller sees after an outer step; the counts are those of `Record`."""

    outer_step: int
    num_steps: int
    metrics: dict[str, float]
    seconds: float
    inner_steps: int
    skipped: int = 0


class Trained(NamedTuple):
    """What a run has come to.

    Attributes:
      theta: the best by outer-validation.
      metrics: of every outer step.
      facts: of the best theta and of the whole run, as a card tells them; see `summary`.
    """

    theta: Theta
    metrics: Metrics
    facts: dict[str, Any]


def facts_of_best(best: dict[str, Any], metrics: Metrics) -> dict[str, Any]:
    """What a card says of the best theta: where it was found, at what cost, and the curve of outer-validation.

    Args:
      best: of a `Record`.
      metrics: of the run so far. The curve is of (outer step, horizon, outer-validation loss).
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
    """Inner steps of an outer step: one net, one step; both signs count, and so does each of two that are merged."""
    return config.num_tasks * num_steps * sum(2 if name in PERTURBED else 1 for name in config.estimator)
