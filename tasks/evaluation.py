"""The parameters that a run is evaluated at, where they are not those that it trains.

A schedule-free method and an average of weights take gradients at one point and hand out another. An optimizer says so
by its state, which is all of it that passes through the inner loop: whoever evaluates a run asks here, and neither rows
nor plug-ins have anything to register.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from optax.contrib import ScheduleFreeState, schedule_free_eval_params

from tasks.task import Params


class EvaluationParams(NamedTuple):
    """A node of an optimizer's state, at any depth, that holds the parameters to evaluate, of any precision."""

    params: Params


def evaluation_params(opt_state: optax.OptState, params: Params) -> Params:
    """The parameters that losses are computed on: those of the nodes of the state that say so, else `params` as it is.

    They have the dtypes of `params`. Such a node is an `EvaluationParams` or the state of
    `optax.contrib.schedule_free`. One under `optax.masked` or `optax.partition` speaks for its own leaves only, and one
    under `optax.contrib.split_real_and_imaginary` for complex leaves.

    Raises:
      ValueError: a node has another structure than `params`, as under `optax.flatten`.

    Example:
      >>> evaluation_params((optax.EmptyState(), EvaluationParams({"w": 3.0})), {"w": 2.0})
      {'w': Array(3., dtype=float32)}
      >>> evaluation_params((optax.EmptyState(),), {"w": 2.0})
      {'w': 2.0}
    """
    for node in filter(_says, jax.tree.leaves(opt_state, is_leaf=_says)):
        own = node.params if isinstance(node, EvaluationParams) else node.z
        if isinstance(node, ScheduleFreeState):
            own = schedule_free_eval_params(node, jax.tree.map(_unless_masked, own, params, is_leaf=_is_masked))
        try:
            params = jax.tree.map(_as_told, own, params, is_leaf=_is_whole)
        except ValueError:
            params = _leaf_by_leaf(own, params)
    return params


def _leaf_by_leaf(own: Any, params: Params) -> Params:
    """The same where nodes are of other kinds: flax.nnx wraps each array of a state in a class that is not `Param`.

    Raises:
      ValueError: the leaves have other shapes.
    """
    told, structure = jax.tree.flatten(own, is_leaf=_is_whole)
    leaves, wanted = jax.tree.flatten(params)
    if any(map(_is_whole, told)) or list(map(np.shape, told)) != list(map(np.shape, leaves)):
        raise ValueError(f"the state holds {structure} to evaluate, and the parameters are {wanted}")
    return wanted.unflatten([_as_told(one, leaf) for one, leaf in zip(told, leaves, strict=True)])


def _says(node: Any) -> bool:
    return isinstance(node, EvaluationParams | ScheduleFreeState)


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)


def _is_pair(leaf: Any) -> bool:
    """Whether it stands for a complex array, in real arrays."""
    return isinstance(leaf, tuple) and getattr(leaf, "_fields", ()) == ("real", "imaginary")


def _is_whole(leaf: Any) -> bool:
    return _is_masked(leaf) or _is_pair(leaf)


def _as_told(told: Any, param: Any) -> Any:
    if _is_masked(told):
        return param  # a leaf, or all that is below a mask
    if not jax.tree_util.all_leaves([param]):
        raise ValueError("a tree where the state holds one leaf")
    told = told.real + 1j * told.imaginary if _is_pair(told) else told
    # A copy: state and parameters may be donated together, or the state alone.
    as_array = jnp.asarray if isinstance(told, Tracer) else jnp.array
    return as_array(told, jnp.result_type(param))


def _unless_masked(leaf: Any, param: Any) -> Any:
    return leaf if _is_masked(leaf) else param
