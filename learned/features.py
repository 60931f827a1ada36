"""Inputs of learned optimizers that are constant over a tensor; their cost per parameter is negligible."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from learned.base import check_real

TINY = 1e-24  # added under a root, so that its derivative at zero is zero, not NaN; negligible against EPS squared
TIME_SCALES = np.array([3, 10, 30, 100, 300, 1000, 3000, 10000, 30000], np.float32)
LEFT = len(TIME_SCALES) + 1  # index of the logarithm of the remaining share, after time features and share done
REST = 0.02  # added to the remaining share of the horizon, so that its logarithm is finite
PROGRESS_SCALE = float(-np.log(REST))


def time_features(count: Array) -> Array:
    """tanh(t / s - 1) for the nine time scales, (9,)."""
    return jnp.tanh(count.astype(jnp.float32) / TIME_SCALES - 1.0)


def progress_features(count: Array, horizon: Array) -> Array:
    """Progress of a run of `horizon` steps, (2,): share done, and logarithm of the remaining share, scaled to [-1, 0].

    The logarithm of an annealed rate, a power of the remaining share, is linear in the second. After the horizon both
    are constant.
    """
    done = jnp.clip(count.astype(jnp.float32) / horizon, 0.0, 1.0)
    return jnp.stack([done, jnp.log(1 + REST - done) / PROGRESS_SCALE])


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Fan-in and fan-out of a kernel; (1, size) for a vector or a number."""
    return (int(np.prod(shape[:-1])), shape[-1]) if len(shape) > 1 else (1, int(np.prod(shape)))


def shape_features(shape: tuple[int, ...]) -> np.ndarray:
    """Whether the tensor is a vector or a number, and scaled logarithms of fan-in and fan-out, (3,)."""
    fan_in, fan_out = fans(shape)
    return np.array([len(shape) < 2, np.log10(max(fan_in, 1)) / 2, np.log10(max(fan_out, 1)) / 2], np.float32)


def tensor_inputs(shared: Array, tensors: Sequence[Array], sizes: Sequence[Array], cosines: Sequence[Array]) -> Array:
    """Per-tensor inputs, (tensors, inputs): shared features, shape features, logarithms of sizes, cosines."""
    return jnp.stack(
        [
            jnp.concatenate([shared, shape_features(tensor.shape), jnp.log(1e-3 + size), like])
            for tensor, size, like in zip(tensors, sizes, cosines, strict=True)
        ]
    )


def as_float32(tree: Any) -> list[Array]:
    """The leaves of a tree, arrays or numbers, in float32.

    Raises:
      ValueError: one is complex.
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    check_real(leaves)
    return [leaf.astype(jnp.float32) for leaf in leaves]


def averaged(decay: float, averages: Sequence[Array], values: Sequence[Array]) -> list[Array]:
    """Exponential averages of each tensor's values after one more step."""
    return [decay * average + (1 - decay) * value for average, value in zip(averages, values, strict=True)]


def rms(x: Array) -> Array:
    """Root mean square, ()."""
    return jnp.sqrt(jnp.mean(x**2) + TINY)


def cosine(a: Array, b: Array) -> Array:
    """Cosine of the angle between two tensors, (); 0 if one is zero."""
    return jnp.sum(a * b) * jax.lax.rsqrt(jnp.sum(a**2) * jnp.sum(b**2) + 1e-20)
