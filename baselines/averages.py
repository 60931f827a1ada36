"""Averages of the weights along a run, which is evaluated at the average.

Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", 1992; with an exponential average, as usual
for neural networks.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tasks import EvaluationParams


class AverageState(NamedTuple):
    """The state of `average_params`."""

    count: Array  # (), int32: steps taken so far
    average: EvaluationParams  # of the parameters after each step, corrected for its bias; at first those of the start


def average_params(decay: float | Array) -> optax.GradientTransformation:
    """Keeps an exponential average of the parameters and says that they are evaluated there; the last of a chain.

    After step t: average += (1 - decay) / (1 - decay^t) (w_t - average), which weights w_s by decay^(t - s).
    """

    def init(params: optax.Params) -> AverageState:
        return AverageState(jnp.zeros((), jnp.int32), EvaluationParams(params))

    def update(updates: optax.Updates, state: Any, params: Any = None) -> tuple[optax.Updates, AverageState]:
        count = state.count + 1
        share = (1.0 - decay) / (1.0 - decay**count)
        average = jax.tree.map(
            lambda a, w: (a + share * (w - a)).astype(a.dtype),
            state.average.params,
            optax.apply_updates(params, updates),
        )
        return updates, AverageState(count, EvaluationParams(average))

    return optax.GradientTransformation(init, update)
