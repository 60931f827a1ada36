"""The interface of a learned optimizer, and the type of its theta."""

import dataclasses
from collections.abc import Callable
from types import EllipsisType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer

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


def check_horizon(horizon: Any, otherwise: str = "") -> None:
    """Refuses what is no number of steps; a traced one, such as an injected hyperparameter, is not known here.

    Args:
      horizon: the number.
      otherwise: what else is accepted, for the message.

    Raises:
      ValueError: it is no single real number of at least 1, or infinite.
    """
    if isinstance(horizon, Tracer):
        return
    number = np.asarray(horizon)
    real = jnp.issubdtype(number.dtype, jnp.integer) or jnp.issubdtype(number.dtype, jnp.floating)
    if number.shape or not real or not 1 <= number < np.inf:
        raise ValueError(f"expected a horizon of at least 1 step{otherwise}, got {horizon!r}")


def check_loss(value: Any) -> None:
    """Refuses several losses.

    Raises:
      ValueError: `value` has axes, or is no real number.
    """
    if value is None:
        return
    if np.shape(value):
        raise ValueError(f"value is the loss of this step, one number: got an array of shape {np.shape(value)}")
    number = value.dtype if isinstance(value, Array) else np.asarray(value).dtype
    if not any(jnp.issubdtype(number, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"value is the loss of this step, one real number: got {number} {type(value).__name__}")


def check_real(leaves: Any) -> None:
    """Refuses complex arrays.

    Raises:
      ValueError: one is complex.
    """
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in leaves):
        raise ValueError("parameters are complex: put optax.contrib.split_real_and_imaginary around the optimizer")
