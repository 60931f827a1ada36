"""Episodes of truncated estimators: an unroll advances by windows up to the horizon, then a new one starts.

The first episodes are shortened by different amounts, so that the windows of an outer step are spread over the horizon
(Vicol, Metz, Sohl-Dickstein, arXiv 2112.13835, section 4).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from learned.base import Key
from learned.estimators.base import OuterObjective


class Episode(NamedTuple):
    """The position of an unroll; with several unrolls every leaf has the leading axis num_tasks."""

    key: Array  # of the unroll: task, initialization, batches
    position: Array  # int32: inner steps taken; -1 before the first window, which uses the samples of its outer step
    length: Array  # int32: inner steps of this episode


def staggered(key: Key, num_tasks: int, num_steps: int, horizon: Any) -> Episode:
    """First episodes: the i-th is a share (i + 1) / num_tasks of the horizon long, at least a window of num_steps."""
    windows = jnp.asarray(horizon, jnp.int32) // num_steps
    first = jnp.maximum((jnp.arange(1, num_tasks + 1) * windows) // num_tasks, 1) * num_steps
    return Episode(jax.random.split(key, num_tasks), jnp.full(num_tasks, -1, jnp.int32), first)


def carried_on(episode: Episode, new_key: Key, num_steps: int, horizon: Any) -> tuple[Episode, Array]:
    """The episode after another window, and whether it starts with that window, ()."""
    first_ever = episode.position < 0
    begins = first_ever | (episode.position >= episode.length)
    key_data = jnp.where(begins, jax.random.key_data(new_key), jax.random.key_data(episode.key))
    length = jnp.where(begins & ~first_ever, jnp.asarray(horizon, jnp.int32), episode.length)
    position = jnp.where(begins, 0, episode.position) + num_steps
    return Episode(jax.random.wrap_key_data(key_data), position, length), begins


def started(objective: OuterObjective) -> Callable[[Any, Key], Any]:
    """A function for `Each` that starts the unroll of a key; its shared argument is (theta, data, horizon)."""

    def start(shared: Any, key: Key) -> Any:
        theta, arrays, horizon = shared
        return objective.start(theta, arrays, key, horizon)

    return start


def anew_or_carried(begins: Array, anew: Any, carried: Any) -> Any:
    """The inner state at the start of a window: new if an episode begins, else carried over."""
    return jax.tree.map(lambda a, b: jnp.where(begins, a, b), anew, carried)
