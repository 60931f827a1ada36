"""Parameters read as matrices: which axes of a leaf are inputs and outputs of a layer, and directions of their columns.

Many small leaves of one shape are taken together, and explicitly sharded ones are gathered where a sum or product of
matrices asks for it.
"""

import copy
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from optax.contrib import MuonDimensionNumbers

from baselines.muon import newton_schulz
from learned.base import check_real

SMALL = 16_384  # elements of a leaf up to which alike ones are stacked
FLOOR = 0.1  # of a column's norm, relative to the root mean square of all

DimensionNumbers = Any  # a tree of MuonDimensionNumbers or None for each leaf, or a function params -> such a tree


def dimension_numbers(params: optax.Params) -> Any:
    """The usual reading of parameters as matrices, a tree to change and to hand to `learned.load`.

    The last axis is the output, as in flax. Three axes are matrices stacked along the first: layers under `nn.scan`,
    heads of attention. Four and more are the kernel of a convolution. Vectors and numbers have None: a column for each
    element. So have what is a vector in all but name, as a bias of shape (1, channels) or (channels, 1, 1).
    """
    return jax.tree.map(lambda p: _usual(np.shape(p)), params)


def _usual(shape: tuple[int, ...]) -> MuonDimensionNumbers | None:
    ndim, longer = len(shape), [axis for axis, length in enumerate(shape) if length != 1]
    if ndim < 2 or (len(longer) < 2 and (ndim, longer) != (2, [0])):  # (n, 1) is a layer of one output
        return None
    return MuonDimensionNumbers(reduction_axis=1 if ndim == 3 else tuple(range(ndim - 1)), output_axis=ndim - 1)


class Axes(NamedTuple):
    """Axes of a leaf: stacked matrices, inputs of a layer, its outputs."""

    batch: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Leaf:
    """A leaf's shape, seen as matrices (num, fan_in, fan_out)."""

    def __init__(self, shape: tuple[int, ...], numbers: MuonDimensionNumbers | None, largest: tuple[int, int]):
        every = tuple(range(len(shape)))
        inputs, outputs = ((), every) if numbers is None else [_axes(part, len(shape)) for part in numbers]
        if len({*inputs, *outputs}) < len(inputs) + len(outputs):
            raise ValueError(f"dimension numbers name an axis twice: {numbers}")
        self.axes = Axes(tuple(axis for axis in every if axis not in (*inputs, *outputs)), inputs, outputs)
        self.shape = shape
        self.num, self.fan_in, self.fan_out = (math.prod(shape[axis] for axis in part) for part in self.axes)
        self.columns = max(self.fan_out, 1)
        self.is_vector = not inputs
        largest_kernel, largest_dense = largest
        is_convolution = len(inputs) > 2  # attention has two
        limit = largest_kernel if is_convolution else largest_dense
        self.orthogonal = not self.is_vector and 0 < min(self.fan_in, self.fan_out) <= limit

    def repeated(self, num: int) -> "Leaf":
        """As many such leaves, stacked along a new first axis."""
        found = copy.copy(self)
        found.shape, found.num = (num, *self.shape), num * self.num
        batch, inputs, outputs = (tuple(axis + 1 for axis in part) for part in self.axes)
        found.axes = Axes((0, *batch), inputs, outputs)
        return found

    def inputs(self) -> np.ndarray:
        """Inputs of the network about the shape, (num, 4)."""
        fans = [np.log10(max(fan, 1)) / 2 for fan in (self.fan_in, self.fan_out)]
        return np.tile(np.array([self.is_vector, self.orthogonal, *fans], np.float32), (self.num, 1))

    def total(self, x: Array) -> Array:
        """The sum over each matrix, (num,)."""
        return whole(jnp.sum(x, axis=(*self.axes.inputs, *self.axes.outputs))).reshape(self.num)

    def columns_squared(self, x: Array) -> Array:
        """The squared norm of each column, with axes of inputs of length one.

        Squares are not negative: taking their maximum with zero keeps the compiler from turning a sum of these sums
        into one more sum over x.
        """
        return jnp.maximum(jnp.sum(x**2, axis=self.axes.inputs, keepdims=True), 0.0)

    def squared(self, x: Array) -> Array:
        """The squared norm of each matrix, (num,)."""
        return self.total(x**2)

    def spread(self, values: Array) -> Array:
        """Values (num,), to multiply the leaf by."""
        return values.reshape([n if axis in self.axes.batch else 1 for axis, n in enumerate(self.shape)])

    def column_scale(self, squares: Array, least: Array, power: Array) -> Array:
        """Factors of columns whose squared norms are given: 1 / (n_j^p n^(1 - p)), n the root mean square of n_j.

        Added to the squared norm of the matrix is `least`.
        """
        mean = (jnp.sum(squares, axis=self.axes.outputs, keepdims=True) + least) / self.columns
        safe = jnp.where(mean > 0, mean, 1.0)
        relative = jnp.log(squares + FLOOR**2 * safe) - jnp.log(safe)  # its derivative does not divide by safe^2
        return jnp.exp(-0.5 * (power * relative + jnp.log(safe)))

    def orthogonalized(self, x: Array, least: Array, num_iterations: int) -> Array:
        """The direction by Newton-Schulz, with Muon's scale sqrt(max(1, fan-out / fan-in)).

        Added to the squared norm of the matrix is `least`.
        """
        squares = jnp.sum(x**2, axis=(*self.axes.inputs, *self.axes.outputs), keepdims=True) + least
        x = x / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
        order = (*self.axes.batch, *self.axes.inputs, *self.axes.outputs)
        matrices = jnp.transpose(whole(x), order).reshape(self.num, self.fan_in, self.fan_out)
        found = np.float32(math.sqrt(max(1.0, self.fan_out / self.fan_in))) * newton_schulz(matrices, num_iterations)
        found = jnp.transpose(found.reshape([self.shape[axis] for axis in order]), np.argsort(order).tolist())
        return found if is_whole(x) else jax.sharding.reshard(found, jax.typeof(x).sharding)


def _axes(part: Any, ndim: int) -> tuple[int, ...]:
    try:
        axes = tuple(operator.index(axis) for axis in np.atleast_1d(np.asarray(part, object)))
    except TypeError:
        raise ValueError(f"dimension numbers name axes, got {part!r}") from None
    if any(not -ndim <= axis < ndim for axis in axes):
        raise ValueError(f"dimension numbers name the axes {part}, and the leaf has {ndim}")
    return tuple(axis % ndim for axis in axes)


def as_matrices(params: optax.Params, numbers: DimensionNumbers, largest: tuple[int, int]) -> tuple[list[Leaf], Any]:
    """How the leaves of parameters are read, and the structure of the tree.

    `largest` is how long the short side may be of a kernel, and of another matrix, that is orthogonalized.

    Raises:
      ValueError: parameters are complex, dimension numbers are not a tree of them like the parameters, or they name
        axes that a leaf has not.
    """
    leaves, structure = jax.tree.flatten(params)
    check_real(leaves)
    if jax.tree.leaves(numbers) == [numbers] and callable(numbers):  # a module, which is a tree, may be callable too
        numbers = numbers(params)
    read = [_usual(p.shape) for p in leaves] if numbers is None else _each_of(numbers, params)
    return [Leaf(p.shape, each, largest) for p, each in zip(leaves, read, strict=True)], structure


def check_shapes(gradients: list[Array], leaves: list[Leaf]) -> None:
    """Refuses gradients that are not those of the parameters.

    Raises:
      ValueError: there are more or fewer, or one has another shape.
    """
    if len(gradients) != len(leaves):
        raise ValueError(f"there are {len(gradients)} gradients for {len(leaves)} parameters")
    for gradient, leaf in zip(gradients, leaves, strict=True):
        if gradient.shape != leaf.shape:
            raise ValueError(f"a gradient of shape {gradient.shape} for parameters of shape {leaf.shape}")


def _each_of(numbers: Any, params: optax.Params) -> list[MuonDimensionNumbers | None]:
    """Those of each leaf. A tree for all parameters serves under `optax.masked` too, where some are masked."""
    all_leaves, structure = jax.tree.flatten(params, is_leaf=_is_masked)
    try:
        every = structure.flatten_up_to(numbers)
    except (TypeError, ValueError):
        every = []
    found = [one for one, leaf in zip(every, all_leaves, strict=False) if not _is_masked(leaf)]
    if len(every) != len(all_leaves) or not all(one is None or isinstance(one, MuonDimensionNumbers) for one in found):
        raise ValueError("weight_dimension_numbers is no tree like the parameters, of MuonDimensionNumbers or None")
    return found


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)


class Stack:
    """Leaves of one shape as one array with an axis before, so that a small net takes few operations.

    Attributes:
      leaf: how the array is read.
      places: numbers of its matrices in the order of the leaves.
    """

    def __init__(self, leaf: Leaf, members: list[int], places: list[int]):
        self.leaf = leaf if len(members) == 1 else leaf.repeated(len(members))
        self.members, self.places = members, np.array(places, int)

    def joined(self, leaves: list[Any]) -> Any:
        """The leaves of a flat tree that belong to it, float32; None where they are masked."""
        own = [leaves[i] for i in self.members]
        if _is_masked(own[0]):
            return None
        own = [x.astype(jnp.float32) for x in own]
        return own[0] if len(own) == 1 else jnp.stack(own)

    def nothing_of(self, leaves: list[Any]) -> Array | float:
        """Zero, which can be had only after a large leaf of a flat tree has been computed.

        What reads it comes after that leaf. So a compiled loop that averages parameters and then changes them changes
        them in place; free in the order of the two, it keeps a copy. A copy of small leaves costs less than this.
        """
        (first, *others) = self.members
        return 0.0 if others or math.prod(self.leaf.shape) <= SMALL else 0 * self.leaf.squared(leaves[first])

    def part(self, joined: Any, leaves: list[Any]) -> None:
        """Puts the parts of an array, or what stands for them, in their places in a flat tree."""
        alone = len(self.members) == 1 or _is_masked(joined)
        for k, i in enumerate(self.members):
            leaves[i] = joined if alone else joined[k]


def stacked(leaves: list[Leaf], arrays: list[Array]) -> list[Stack]:
    """Small leaves that are alike together, all others alone: to copy a large one would cost more than it saves."""
    ends = np.cumsum([leaf.num for leaf in leaves])
    groups: dict[Any, list[int]] = {}
    for i, (leaf, x) in enumerate(zip(leaves, arrays, strict=True)):
        small = math.prod(leaf.shape) <= SMALL and is_whole(x)
        groups.setdefault((leaf.shape, leaf.axes) if small else i, []).append(i)
    return [
        Stack(leaves[group[0]], group, [place for i in group for place in range(ends[i] - leaves[i].num, ends[i])])
        for group in groups.values()
    ]


def in_a_row(values: list[Array]) -> Array:
    """Values of matrices one after the other, (matrices,)."""
    return jnp.concatenate(values) if values else jnp.zeros(0)


def reordered(values: Array, order: np.ndarray) -> Array:
    """Values in another order."""
    return values if np.array_equal(order, np.arange(len(order))) else values[order]


def is_whole(x: Array) -> bool:
    """Whether no axis of x is explicitly sharded."""
    return all(part is None for part in jax.typeof(x).sharding.spec)


def whole(x: Array) -> Array:
    """x without explicit sharding, which sums and products of matrices ask for."""
    # The array's own mesh: there may be no other in force.
    return x if is_whole(x) else jax.sharding.reshard(x, NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec()))
