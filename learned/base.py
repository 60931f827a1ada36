"""The contract of a learned optimizer, and what its theta is stored as."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jax import Array

Theta = Any  # meta-parameters: a pytree of float32 arrays, here always a flat dict of name -> array
Key = Array
HORIZON = 2000  # inner steps of a run where none is said, as in the suite "paper"


class LearnedOptimizer(NamedTuple):
    """A design. Given theta it is an ordinary `optax` transformation, so that nothing downstream needs a branch for it.

    Attributes:
      init_theta: key -> theta before any outer-training.
      optimizer: (theta, horizon) -> transformation, pure in theta: it can be differentiated, perturbed, vmapped over.
        The horizon, inner steps of the run, is to it what it is to a schedule; a number or an array (), which `init`
        puts into the state, so that `update` goes by the horizon that its run began with.
    """

    init_theta: Callable[[Key], Theta]
    optimizer: Callable[..., optax.GradientTransformationExtraArgs]


@dataclasses.dataclass(frozen=True, eq=False)
class External:
    """A learned optimizer from elsewhere, as a plug-in enters it: its weights, and what makes an optimizer of them.

    Attributes:
      make: (theta, horizon) -> optax transformation, pure in theta.
      theta: its weights: a pytree of arrays.
      reference: paper.
    """

    make: Callable[[Any, int], optax.GradientTransformation]
    theta: Any
    reference: str
