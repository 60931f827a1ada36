"""The interface of a learned optimizer, and the type of its theta."""

import dataclasses
from collections.abc import Callable
from types import EllipsisType
from typing import Any, NamedTuple

import optax
from jax import Array

Theta = Any  # meta-parameters: a pytree of float32 arrays, here always a flat dict of name -> array
Key = Array
Part = tuple[
    tuple[str, int | EllipsisType], ...
]  # of theta: leaves, each with an index of its first axis, or all of it
HORIZON = 2000  # default number of inner steps, as in the suite "paper"


class LearnedOptimizer(NamedTuple):
    """A design. For a theta it is an `optax` transformation, so that other code treats it like any optimizer.

    Attributes:
      init_theta: key -> theta before any outer-training.
      optimizer: (theta, horizon) -> transformation. It is pure in theta, which can be differentiated, perturbed and
        vmapped over. The horizon is the total number of inner steps of the run, as for a schedule: a number or an
        array (). `init` stores it in the state, where `update` reads it.
      parts: names and parts of theta that can be outer-trained apart from the rest.
    """

    init_theta: Callable[[Key], Theta]
    optimizer: Callable[..., optax.GradientTransformationExtraArgs]
    parts: tuple[tuple[str, Part], ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class External:
    """A learned optimizer of a plug-in: its weights, and a function that makes an optimizer from them.

    Attributes:
      make: (theta, horizon) -> optax transformation, pure in theta.
      theta: the weights, a pytree of arrays.
      reference: paper.
    """

    make: Callable[[Any, int], optax.GradientTransformation]
    theta: Any
    reference: str
