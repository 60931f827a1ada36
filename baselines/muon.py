"""Muon with its iteration on the Gram matrix: the steps of `optax.contrib.muon` up to rounding, for less.

Jordan et al. 2024, github.com/KellerJordan/Muon. In float32 the two forms of the iteration differ by up to 0.1 % of the
direction where the singular values of a gradient span many powers of ten, elsewhere by a millionth.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from jax import Array
from optax.contrib import MuonDimensionNumbers

NEWTON_SCHULZ = np.array([3.4445, -4.7750, 2.0315])  # Jordan et al. 2024
NUM_ITERATIONS = 5  # theirs, and optax's


def kernels(params: optax.Params) -> Any:
    """Which parameters are kernels: True where there are two axes or more."""
    return jax.tree.map(lambda p: p.ndim >= 2, params)


def muon(
    learning_rate: float | Array | optax.Schedule,
    *,
    beta: float | Array = 0.95,
    nesterov: bool = True,
    weight_decay: float | Array = 0.0,
    adam_learning_rate: float | Array | optax.Schedule,
) -> optax.GradientTransformation:
    """Muon for kernels of any rank, read as (fan-in, channels) matrices; biases are updated by Adam.

    Same arguments as `optax.contrib.muon`. A learned optimizer whose iteration is on the Gram matrix is raced against
    this one: so neither lead nor lag comes from how the same polynomial is multiplied out.
    """
    of_kernels = optax.chain(
        # Without iterations: the momentum, divided by its norm.
        optax.contrib.scale_by_muon(beta=beta, nesterov=nesterov, ns_steps=0, weight_dimension_numbers=_as_matrices),
        optax.stateless(lambda updates, _: _orthogonalized(updates)),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    of_biases = optax.adamw(adam_learning_rate, weight_decay=0.0, nesterov=nesterov)
    return optax.partition({True: of_kernels, False: of_biases}, kernels)


def newton_schulz(matrices: Array, num_iterations: int) -> Array:
    """Brings singular values from 0 to 1 of matrices (..., rows, columns) to about one.

    Singular vectors stay the same. Each iteration multiplies by a polynomial of the Gram matrix, and polynomials of one
    matrix commute. So where one side is long, all are taken on the small Gram matrix, and the large matrix is
    multiplied once, by their product. The result is that of the usual iteration up to rounding, with a third of the
    multiplications at 288 x 32. Near a square this would cost more, and the iteration is the usual one.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    long, short = (matrices.shape[-1 if wide else -2], matrices.shape[-2 if wide else -1])
    if long < 1.5 * short:
        for _ in range(num_iterations):
            matrices = _times(_polynomial(_gram(matrices, wide)), matrices, wide)
        return matrices
    gram, product = _gram(matrices, wide), None
    for left in reversed(range(num_iterations)):
        polynomial = _polynomial(gram)
        if product is None:
            product, gram = polynomial, polynomial @ gram @ polynomial
        elif left:  # one product for both: here the call costs more than the multiplications
            both = polynomial @ jnp.concatenate([product, gram], axis=-1)
            product, gram = both[..., :short], both[..., short:] @ polynomial
        else:
            product = polynomial @ product
    return matrices if product is None else _times(product, matrices, wide)


def _gram(matrices: Array, wide: bool) -> Array:
    turned = jnp.swapaxes(matrices, -1, -2)
    return matrices @ turned if wide else turned @ matrices


def _times(factor: Array, matrices: Array, wide: bool) -> Array:
    return factor @ matrices if wide else matrices @ factor


def _polynomial(gram: Array) -> Array:
    a, b, c = NEWTON_SCHULZ.astype(gram.dtype)
    one = jnp.expand_dims(jnp.eye(gram.shape[-1], dtype=gram.dtype), tuple(range(gram.ndim - 2)))
    return a * one + b * gram + c * gram @ gram


def _as_matrices(params: optax.Params) -> Any:
    return jax.tree.map(lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1), params)


def _orthogonalized(updates: optax.Updates) -> optax.Updates:
    """The directions of kernels of norm one, with Muon's scale sqrt(max(1, fan-out / fan-in)); alike ones together."""
    leaves, structure = jax.tree.flatten(updates)
    alike: dict[Any, list[int]] = {}
    for i, x in enumerate(leaves):
        if x.size:
            alike.setdefault((x.size // x.shape[-1], x.shape[-1], x.dtype), []).append(i)
    for (fan_in, fan_out, dtype), members in alike.items():
        matrices = [leaves[i].reshape(fan_in, fan_out) for i in members]
        scale = np.asarray(math.sqrt(max(1.0, fan_out / fan_in)), dtype)
        found = scale * newton_schulz(jnp.stack(matrices), NUM_ITERATIONS)
        for i, direction in zip(members, found, strict=True):
            leaves[i] = direction.reshape(leaves[i].shape)
    return structure.unflatten(leaves)
