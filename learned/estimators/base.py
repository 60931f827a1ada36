"""The contract of a gradient estimator.

It hands back per-sample gradients: merging, variances and signal-to-noise all need them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from learned.base import Key, Theta


class Estimate(NamedTuple):
    """What one outer step learns about the gradient of E_eps[L(theta + eps)]."""

    gradients: Theta  # theta's structure, each leaf (num_samples, *shape)
    losses: Array  # (num_samples, 2) clipped outer-loss at theta + eps and theta - eps
    num_non_finite: Array  # (), int32: inner losses of all unrolls that were not finite


class Estimator(NamedTuple):
    """A gradient estimator.

    Attributes:
      init: (theta, key) -> state carried between outer steps, () for estimators over full unrolls.
      estimate: (theta, state, arrays, key, num_steps) -> (Estimate, state); arrays is the family's data, num_steps
        the static number of inner steps.
    """

    init: Callable[[Theta, Key], Any]
    estimate: Callable[[Theta, Any, Any, Key, int], tuple[Estimate, Any]]
