"""Inputs of learned optimizers that are constant over a tensor, so that they cost next to nothing a parameter."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

TINY = 1e-24  # under a root, so that its derivative at zero is zero, not NaN; nothing beside 1e-8, squared
TIME_SCALES = np.array([3, 10, 30, 100, 300, 1000, 3000, 10000, 30000], np.float32)
LEFT = len(TIME_SCALES) + 1  # place of the logarithm of what is left, after time features and the share done
REST = 0.02  # of the horizon, left when all is done: so that logarithms are finite
PROGRESS_SCALE = float(-np.log(REST))


def time_features(count: Array) -> Array:
    """tanh(t / s - 1) for the nine time scales, (9,)."""
    return jnp.tanh(count.astype(jnp.float32) / TIME_SCALES - 1.0)


def progress_features(count: Array, horizon: Array) -> Array:
    """How far a run of `horizon` steps has come, (2,): the share done, and the logarithm of what is left, from 0 to -1.

    A power of what is left, as an annealed rate is, has a logarithm that is linear in the latter. Past the horizon both
    stay as they are.
    """
    done = jnp.clip(count.astype(jnp.float32) / horizon, 0.0, 1.0)
    return jnp.stack([done, jnp.log(1 + REST - done) / PROGRESS_SCALE])


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Fan-in and fan-out of a kernel; 1 and all of a vector or a number."""
    return (int(np.prod(shape[:-1])), shape[-1]) if len(shape) > 1 else (1, int(np.prod(shape)))


def shape_features(shape: tuple[int, ...]) -> np.ndarray:
    """Whether it is a vector or a number, and fan-in and fan-out, (3,)."""
    fan_in, fan_out = fans(shape)
    return np.array([len(shape) < 2, np.log10(fan_in) / 2, np.log10(fan_out) / 2], np.float32)


def tensor_inputs(shared: Array, tensors: Sequence[Array], sizes: Sequence[Array], cosines: Sequence[Array]) -> Array:
    """What is constant over each tensor, (tensors, inputs): what all share, shape, logarithms of sizes, cosines."""
    return jnp.stack(
        [
            jnp.concatenate([shared, shape_features(tensor.shape), jnp.log(1e-3 + size), like])
            for tensor, size, like in zip(tensors, sizes, cosines, strict=True)
        ]
    )


def as_float32(tree: Any) -> list[Array]:
    """The leaves of a tree, which every design computes with in float32."""
    return [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(tree)]


def averaged(decay: float, averages: Sequence[Array], values: Sequence[Array]) -> list[Array]:
    """Exponential averages of each tensor's values, carried on by one step."""
    return [decay * average + (1 - decay) * value for average, value in zip(averages, values, strict=True)]


def rms(x: Array) -> Array:
    """Root mean square, ()."""
    return jnp.sqrt(jnp.mean(x**2) + TINY)


def cosine(a: Array, b: Array) -> Array:
    """Of two vectors, (); 0 where one is zero."""
    return jnp.sum(a * b) * jax.lax.rsqrt(jnp.sum(a**2) * jnp.sum(b**2) + 1e-20)
