"""Averages of the weights along a run, which is evaluated at the average.

Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", 1992; by a power of the number of steps,
which needs no time scale (Shamir, Zhang, arXiv 1212.1824).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tasks import EvaluationParams

Share = Callable[[Array], Array]  # number of a step, () int32 from 1 -> share of its weights in the average, ()


class AverageState(NamedTuple):
    """The state of `average_params`."""

    count: Array  # (), int32: steps taken so far
    average: EvaluationParams  # of the parameters after each step; at first those of the start


def by_power(power: float | Array) -> Share:
    """Weights w_s by about (s / t)^power after step t: the last 1 / power of the run, whatever its length."""
    return lambda count: (power + 1.0) / (count + power)


def average_params(share: Share) -> optax.GradientTransformation:
    """Keeps an average of the parameters and says that they are evaluated there; the last of a chain.

    After step t: average += share(t) (w_t - average), where share(1) is 1.
    """

    def init(params: optax.Params) -> AverageState:
        return AverageState(jnp.zeros((), jnp.int32), EvaluationParams(jax.tree.map(jnp.array, params)))

    def update(updates: optax.Updates, state: Any, params: Any = None) -> tuple[optax.Updates, AverageState]:
        count = state.count + 1
        average = jax.tree.map(
            lambda a, w: (a + share(count) * (w - a)).astype(a.dtype),
            state.average.params,
            optax.apply_updates(params, updates),
        )
        return updates, AverageState(count, EvaluationParams(average))

    return optax.GradientTransformation(init, update)
