"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade, "SOAP: Improving and Stabilizing Shampoo using
Adam", 2024, arXiv 2409.11321. As in the authors' code, the first step only finds the bases and moves nothing, and bases
are sorted by eigenvalue. Unlike it, the kernel of a convolution is read as one (fan-in, channels) matrix.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

REFRESH_EVERY = 10  # steps, the paper's; in between a basis stays
LARGEST = 10_000  # length of a side up to which it has a basis, as in the authors' code


class Side(NamedTuple):
    """One side of a matrix."""

    covariance: Array  # (n, n): average of g g^T for rows, of g^T g for columns
    basis: Array  # (n, n): its eigenvectors as columns, sorted by falling eigenvalue


class Moments(NamedTuple):
    """The state of a leaf."""

    mu: Array  # average of gradients, of the leaf's shape
    nu: Array  # average of squared gradients in the bases, (rows, columns)
    rows: Side | None  # None for vectors, whose update is Adam's, and for long sides
    columns: Side | None


class SoapState(NamedTuple):
    """The state of SOAP."""

    count: Array  # (), int32: steps taken so far, with the first, which moves nothing
    moments: Any  # a `Moments` for each leaf


def scale_by_soap(
    b1: float | Array = 0.95, b2: float | Array = 0.95, eps: float = 1e-8, refresh_every: int = REFRESH_EVERY
) -> optax.GradientTransformation:
    """The direction of SOAP.

    With g a gradient read as a matrix, Q_L and Q_R the bases of its rows and columns, averages corrected for their
    bias:

        m = average(g, b1)
        v = average((Q_L^T g Q_R)^2, b2)
        direction = Q_L ((Q_L^T m Q_R) / (sqrt(v) + eps)) Q_R^T

    Then L = average(g g^T, b2) and R = average(g^T g, b2) take in the gradient, and every `refresh_every` steps one of
    power iteration brings each basis nearer to the eigenvectors of its covariance: Q_L = qr(L Q_L), Q_R = qr(R Q_R).
    """

    def init(params: optax.Params) -> SoapState:
        return SoapState(jnp.zeros((), jnp.int32), jax.tree.map(_begin, params))

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[Any, SoapState]:
        del params
        leaves, structure = jax.tree.flatten(updates)
        found = [
            _step(g, moments, state.count, b1, b2, eps, refresh_every)
            for g, moments in zip(leaves, structure.flatten_up_to(state.moments), strict=True)
        ]
        directions, moments = (structure.unflatten([pair[i] for pair in found]) for i in (0, 1))
        return directions, SoapState(state.count + 1, moments)

    return optax.GradientTransformation(init, update)


def _matrix(x: Array) -> Array:
    """(fan-in, channels); a vector is one column."""
    return x.reshape(-1, x.shape[-1] if x.ndim > 1 else 1)


def _begin(param: Array) -> Moments:
    mu = jnp.zeros(param.shape, jnp.promote_types(param.dtype, jnp.float32))
    nu = jnp.zeros_like(_matrix(mu))
    rows, columns = (
        Side(jnp.zeros((n, n), mu.dtype), jnp.eye(n, dtype=mu.dtype)) if param.ndim > 1 and n <= LARGEST else None
        for n in nu.shape
    )
    return Moments(mu, nu, rows, columns)


def _step(
    grad: Array, state: Moments, count: Array, b1: Any, b2: Any, eps: float, refresh_every: int
) -> tuple[Array, Moments]:
    """(direction, state) of one leaf."""
    is_first, g = count == 0, grad.astype(state.mu.dtype)
    mu = jnp.where(is_first, state.mu, _average(state.mu, g, b1))
    nu = jnp.where(is_first, state.nu, _average(state.nu, _turned(_matrix(g), state) ** 2, b2))
    # `count` gradients are in both averages; none at first, where the direction is 0 / eps.
    m, v = (x / jnp.where(is_first, 1.0, 1.0 - b**count).astype(x.dtype) for x, b in ((mu, b1), (nu, b2)))
    direction = _turned(_turned(_matrix(m), state) / (jnp.sqrt(v) + eps), state, back=True)

    g, sides = _matrix(g), []
    which = jnp.where(is_first, 0, jnp.where(count % refresh_every == 0, 1, 2))
    for axis, (side, toward) in enumerate(((state.rows, g), (state.columns, g.T))):
        if side is not None:
            side, nu = _refreshed(side, toward, nu, axis, b2, which)
        sides.append(side)
    return direction.reshape(grad.shape).astype(grad.dtype), Moments(mu, nu, *sides)


def _refreshed(side: Side, g: Array, nu: Array, axis: int, b2: Any, which: Array) -> tuple[Side, Array]:
    """A side that has taken in g g^T, and nu in its new basis: the first one, one step nearer, or as it was."""
    covariance = _average(side.covariance, g @ g.T, b2)

    def first() -> tuple[Array, Array]:
        """The eigenvectors of g g^T and, where its rank is too low, coordinate axes: none hang on rounding."""
        vectors = jnp.linalg.svd(g, full_matrices=False)[0]
        axes = jnp.eye(len(g), len(g) - vectors.shape[1], dtype=g.dtype)
        return jnp.linalg.qr(jnp.concatenate([vectors, axes], axis=1))[0], nu

    def nearer() -> tuple[Array, Array]:
        power = covariance @ side.basis
        order = jnp.argsort(-jnp.sum(side.basis * power, axis=0))  # by eigenvalue, as far as it is known
        return jnp.linalg.qr(power[:, order])[0], jnp.take(nu, order, axis=axis)

    basis, nu = jax.lax.switch(which, [first, nearer, lambda: (side.basis, nu)])
    return Side(covariance, basis), nu


def _average(old: Array, new: Array, decay: Any) -> Array:
    return (decay * old + (1.0 - decay) * new).astype(old.dtype)


def _turned(matrix: Array, state: Moments, back: bool = False) -> Array:
    """The matrix in the bases of its sides, or `back` from them."""
    if state.rows is not None:
        matrix = (state.rows.basis if back else state.rows.basis.T) @ matrix
    if state.columns is not None:
        matrix = matrix @ (state.columns.basis.T if back else state.columns.basis)
    return matrix
