"""The contract of a hand-designed row: constructor, search space, reference, default."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import optax

Hyperparameters = Mapping[str, Any]  # name -> float, or a traced scalar: tuning runs one program for all trials


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """A range searched uniformly in the logarithm.

    Attributes:
      low: smallest value.
      high: largest value.
    """

    low: float
    high: float

    def at(self, unit: float) -> float:
        """The value at a position in [0, 1]."""
        return math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))

    def widened(self, towards_low: bool, factor: float) -> "LogUniform":
        """The range, `factor` wider at one end (protocol rule 1: an optimum on the edge widens the space)."""
        return LogUniform(self.low / factor, self.high) if towards_low else LogUniform(self.low, self.high * factor)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A row of the table of hand-designed optimizers.

    Attributes:
      make: (hyperparameters, horizon) -> optax transformation; horizon is the number of inner steps, for schedules.
      space: what is searched, in the scale one thinks in: `one_minus_b1` rather than b1.
      default: hyperparameters before any tuning.
      reference: paper.
      scheduled: whether the learning rate follows a schedule over the horizon.
    """

    make: Callable[[Hyperparameters, int], optax.GradientTransformation]
    space: Mapping[str, LogUniform]
    default: Mapping[str, float]
    reference: str
    scheduled: bool = False
