"""The contract of a learned optimizer, and what its theta is stored as."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jax import Array

Theta = Any  # meta-parameters: a pytree of float32 arrays, here always a flat dict of name -> array
Key = Array


class LearnedOptimizer(NamedTuple):
    """A design. Given theta it is an ordinary `optax` transformation, so that nothing downstream needs a branch for it.

    Attributes:
      init_theta: key -> theta before any outer-training.
      optimizer: theta -> transformation, pure in theta: it can be differentiated, perturbed and vmapped over.
    """

    init_theta: Callable[[Key], Theta]
    optimizer: Callable[[Theta], optax.GradientTransformationExtraArgs]
