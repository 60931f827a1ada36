"""The interface of a hand-designed optimizer: constructor, search space, defaults, reference."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import optax

Hyperparameters = Mapping[str, Any]  # name -> float, or a traced scalar: tuning runs one program for all trials


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """A range searched uniformly in the logarithm.

    Attributes:
      low: smallest value.
      high: largest value.
      low_bound: natural lower bound of the hyperparameter; an optimum next to it is not at an edge of the range.
      high_bound: likewise for `high`.
    """

    low: float
    high: float
    low_bound: float = 0.0
    high_bound: float = math.inf

    def at(self, unit: float) -> float:
        """The value at a position in [0, 1] of the range."""
        return math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))

    def widened(self, side: str, factor: float = 4.0) -> "LogUniform":
        """The range, extended by `factor` at its "low" or "high" end (protocol rule 1)."""
        if side == "low":
            return dataclasses.replace(self, low=max(self.low / factor, self.low_bound))
        return dataclasses.replace(self, high=min(self.high * factor, self.high_bound))


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A row of the table of hand-designed optimizers.

    Attributes:
      make: (hyperparameters, horizon) -> optax transformation; horizon is the number of inner steps, for schedules.
      space: search space, in the scale that is natural for the search: `one_minus_b1` rather than b1.
      default: hyperparameters before any tuning.
      reference: paper.
      scheduled: whether the learning rate follows a schedule over the horizon.
      tuned_by: the split whose final loss selects hyperparameters. Protocol rule 1 says validation; a row tuned by
        train loss is a baseline for claims of speed on train loss.
      values_of: (family, row) whose tuned values are used on every family. Such a row is not tuned itself: it transfers
        its values to other tasks, as a learned optimizer does.
    """

    make: Callable[[Hyperparameters, int], optax.GradientTransformation]
    space: Mapping[str, LogUniform]
    default: Mapping[str, float]
    reference: str
    scheduled: bool = False
    tuned_by: Literal["validation", "train"] = "validation"
    values_of: tuple[str, str] | None = None
