"""Celo, Celo-Adam and Sinv6: published update rules under one learned schedule for the whole network.

A recurrent network reads how far the run has come and how its loss falls, and says one multiplier lambda for all
tensors. The rules differ in what it multiplies, with g the gradient, clipped to +-1000, w the parameter before the
step, and S the root mean square of w in its tensor:

    celo        update = -1e-3 lambda S o_0 exp(1e-3 o_1)           o an MLP of 30 inputs of each parameter
    celo_adam   update = -1e-3 lambda m_.9 / sqrt(v_.999)           both averages bias-corrected
    sinv6       update = -1e-3 lambda S m_.9 / sqrt(v_.999)         neither of them

Schedule: ten averages of the loss, their time constants spaced from 10 steps to the horizon; nine inputs compare each
with the next slower one, nine are tanh(10 (t / horizon - k)). An LSTM of 64 units begins from a learned state, and
lambda = 0.1 exp(h w + b) of its output h; for `sinv6` it is h w + b itself, between 1e-5 and 1000.

Inputs of the MLP, 30 -> 4 -> 4 -> 3 with ReLU, for decays b in .9 .99 .999, none bias-corrected: g, also clipped to
+-0.1; w; m_b; v_.999 and 1 / sqrt of it; m_b and g over sqrt(v_.999); m_b and g over the root of factored averages of
g^2 as of Adafactor; and these averages themselves, by rows and by columns, and 1 / sqrt of them. Each over its root
mean square in the tensor. What is constant along an axis is kept with size 1 there, and costs nothing per parameter.

The weights are their authors' and do not ship: `learned.elsewhere` says where they come from. Source: Moudgil et al.,
"Celo: Training Versatile Learned Optimizers on a Compute Diet", arXiv 2501.12670; Sinv6 is a submission to AlgoPerf of
the same first author. An independent implementation, equal to theirs to rounding, in which the LSTM runs once: there it
runs once a tensor, all alike. State in bytes per parameter: 16 for `celo`, 12 more for each row and column of a kernel
or each element of a vector; 8 for the others; and 632 for the schedule.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.lax import rsqrt

from learned.base import HORIZON, Theta, check_horizon, check_loss
from learned.features import as_float32

STEP_SCALE, EXPONENT_SCALE = 1e-3, 1e-3
GRADIENT_LIMIT = 1000.0
EPS_SIZE = 1e-9  # of S squared: what starts at zero stays near zero

# The schedule.
UNITS = 64
MILESTONES = np.array([0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1], np.float32)
SHARPNESS = 10.0  # of the inputs at the milestones
NUM_AVERAGES = 10
FASTEST = 10  # steps, the time constant of the first average
HIGHEST = 1e12  # the lowest average of the loss before there is any
SCALE_EXPONENTIAL = 0.1  # of lambda where it is an exponential
LOWEST_MULTIPLIER, HIGHEST_MULTIPLIER = 1e-5, 1000.0  # of lambda where it is none

# Celo's rule.
DECAYS = np.array([0.9, 0.99, 0.999], np.float32)
SECOND_DECAY = np.float32(0.999)
SMALL_LIMIT = 0.1  # of the gradient as the second input
EPS_SQUARE, EPS_SECOND, EPS_FACTORED, EPS_INPUT, EPS_NORMALIZE = 1e-30, 1e-6, 1e-9, 1e-8, 1e-5
BLOCKS = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)  # columns of each block of inputs
HIDDEN, NUM_OUTPUTS = 4, 3  # the last output reaches nothing

# The rules of Celo-Adam and Sinv6.
ADAM_DECAY, EPS_ROOT, EPS_ADAM = np.float32(0.9), 1e-10, 1e-8

SCHEDULE_SHAPES: dict[str, tuple[int, ...]] = {
    "lstm_init_state/cell": (1, UNITS),
    "lstm_init_state/hidden": (1, UNITS),
    "rnn_params/linear/b": (UNITS,),  # of no influence, nor is its w
    "rnn_params/linear/w": (2 * len(MILESTONES), UNITS),
    "rnn_params/linear_1/b": (UNITS,),
    "rnn_params/linear_1/w": (2 * len(MILESTONES), UNITS),
    "rnn_params/linear_2/b": (UNITS,),
    "rnn_params/linear_2/w": (2 * len(MILESTONES), UNITS),
    "rnn_params/rnn/linear/b": (4 * UNITS,),
    "rnn_params/rnn/linear/w": (2 * UNITS, 4 * UNITS),
    "rnn_params/step_size/b": (1,),
    "rnn_params/step_size/w": (UNITS, 1),
}
CELO_SHAPES: dict[str, tuple[int, ...]] = SCHEDULE_SHAPES | {
    "ff_mod_stack/~/b0": (1, HIDDEN),
    "ff_mod_stack/~/b1": (1, HIDDEN),
    "ff_mod_stack/~/b2": (1, NUM_OUTPUTS),
    **{f"ff_mod_stack/~/w0__{k}": (1, columns, HIDDEN) for k, columns in enumerate(BLOCKS)},
    "ff_mod_stack/~/w1": (1, HIDDEN, HIDDEN),
    "ff_mod_stack/~/w2": (1, HIDDEN, NUM_OUTPUTS),
    "rnn_params/rnn_to_controls/b": (1,),  # of no influence, nor is its w
    "rnn_params/rnn_to_controls/w": (UNITS, 1),
}


class ScheduleState(NamedTuple):
    """State of the schedule, float32."""

    decays: Array  # (10,): of the averages, the fastest first; constant
    losses: Array  # (10,): averages of the loss, not bias-corrected
    lowest: Array  # (10,): the least that each has been, bias-corrected
    hidden: Array  # (64,): the LSTM's output
    cell: Array  # (64,)


class CeloTensor(NamedTuple):
    """State of a tensor under `celo`; leaves are float32, one for each of three decays where there are several."""

    momenta: tuple[Array, ...]  # of the tensor's shape
    second_moment: Array  # of the tensor's shape
    rows: tuple[Array, ...]  # averages of g^2 over its largest axis, of size 1 here; of a vector not averaged over any
    columns: tuple[Array, ...]  # likewise over its second largest axis; of a vector none


class AdamTensor(NamedTuple):
    """State of a tensor under `celo_adam` and `sinv6`, float32 of the tensor's shape."""

    momentum: Array
    second_moment: Array


class CeloState(NamedTuple):
    """State of each of the three."""

    count: Array  # (), int32: steps taken
    horizon: Array  # (), float32: steps of the run
    schedule: ScheduleState
    tensors: Any  # a tree like the parameters, with a `CeloTensor` or an `AdamTensor` in place of each


def celo(theta: Theta, horizon: int | Array = HORIZON) -> optax.GradientTransformationExtraArgs:
    """Celo: a learned update rule under the learned schedule.

    Args:
      theta: the weights, name -> array, of `CELO_SHAPES`.
      horizon: steps of the run, which the schedule is over.

    Returns:
      The transformation; its update needs the parameters and the loss of the mini-batch.

    Example:
      >>> theta = {name: jnp.zeros(shape) for name, shape in CELO_SHAPES.items()}
      >>> optimizer = celo(theta, horizon=100)
      >>> params = {"w": jnp.ones((3, 2))}
      >>> updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params, value=2.3)
      >>> updates["w"].shape
      (3, 2)
    """
    network = {name: theta[f"ff_mod_stack/~/{name}"][0] for name in ("b0", "w1", "b1", "w2", "b2")}
    w0 = jnp.concatenate([theta[f"ff_mod_stack/~/w0__{k}"][0] for k in range(len(BLOCKS))])

    def begin(w: Array) -> CeloTensor:
        def zeros(shape):
            return tuple(jnp.zeros(shape, jnp.float32) for _ in DECAYS)

        second_moment = jnp.zeros(w.shape, jnp.float32)
        if w.ndim < 2:
            return CeloTensor(zeros(w.shape), second_moment, zeros(w.shape), ())
        return CeloTensor(zeros(w.shape), second_moment, *(zeros(without(axis, w.shape)) for axis in largest(w.shape)))

    def step(multiplier: Array, count: Array, g: Array, w: Array, state: CeloTensor) -> tuple[Array, CeloTensor]:
        del count
        inputs, state = celo_inputs(g, w, state)
        hidden = jax.nn.relu(layer(w0 * over_sizes(inputs)[:, None], network["b0"], inputs))
        hidden = jax.nn.relu(layer(network["w1"], network["b1"], list(hidden)))
        said = layer(network["w2"], network["b2"], list(hidden))
        return STEP_SCALE * multiplier * size(w) * said[0] * jnp.exp(EXPONENT_SCALE * said[1]), state

    return _optimizer("celo", theta, horizon, _exponential, begin, step)


def celo_adam(theta: Theta, horizon: int | Array = HORIZON) -> optax.GradientTransformationExtraArgs:
    """Celo-Adam: Adam whose rate is the learned schedule; as `celo`, with a theta of `SCHEDULE_SHAPES`."""

    def step(multiplier: Array, count: Array, g: Array, w: Array, state: AdamTensor) -> tuple[Array, AdamTensor]:
        del w
        m, v = state = adam_averages(g, state)
        steps = (count + 1).astype(jnp.float32)
        m, v = m / (1 - ADAM_DECAY**steps), v / (1 - SECOND_DECAY**steps)
        return STEP_SCALE * multiplier * m / (EPS_ADAM + jnp.sqrt(v + EPS_ROOT)), state

    return _optimizer("celo_adam", theta, horizon, _exponential, adam_begin, step)


def sinv6(theta: Theta, horizon: int | Array = HORIZON) -> optax.GradientTransformationExtraArgs:
    """Sinv6: Adam without bias correction, relative to a tensor's size; as `celo`, a theta of `SCHEDULE_SHAPES`."""

    def step(multiplier: Array, count: Array, g: Array, w: Array, state: AdamTensor) -> tuple[Array, AdamTensor]:
        del count
        m, v = state = adam_averages(g, state)
        return STEP_SCALE * multiplier * size(w) * m / (EPS_ADAM + jnp.sqrt(v + EPS_ROOT)), state

    return _optimizer("sinv6", theta, horizon, _linear, adam_begin, step)


def _exponential(said: Array) -> Array:
    return SCALE_EXPONENTIAL * jnp.exp(said)


def _linear(said: Array) -> Array:
    return jnp.clip(said, LOWEST_MULTIPLIER, HIGHEST_MULTIPLIER)


def _optimizer(
    name: str,
    theta: Theta,
    horizon: int | Array,
    multiplier_of: Callable[[Array], Array],
    begin: Callable[[Array], Any],
    step: Callable[[Array, Array, Array, Array, Any], tuple[Array, Any]],
) -> optax.GradientTransformationExtraArgs:
    """A rule under the schedule.

    Args:
      name: of the optimizer, for messages.
      theta: the weights.
      horizon: steps of the run.
      multiplier_of: lambda of the schedule's output.
      begin: w -> state of a tensor before the first step.
      step: (lambda, count, g, w, state) -> what is subtracted from a tensor, and its next state.

    Raises:
      ValueError: the horizon is no number of at least 1.
    """

    check_horizon(horizon)

    def init(params):
        steps = jnp.asarray(horizon, jnp.float32)
        tensors = jax.tree.map(lambda w: begin(jnp.asarray(w)), params)
        return CeloState(jnp.zeros((), jnp.int32), steps, schedule_begin(theta, steps), tensors)

    def update(updates, state, params=None, *, value=None, **extra_args):
        del extra_args
        if params is None or value is None:
            raise ValueError(f"{name} reads parameters and loss: call update(grads, state, params, value=loss)")
        check_loss(value)
        said, schedule_state = schedule(theta, state.schedule, state.count, state.horizon, value)
        multiplier = multiplier_of(said)
        given, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, updates))
        gs, ws = as_float32(updates), as_float32(params)
        gs = [jnp.clip(g, -GRADIENT_LIMIT, GRADIENT_LIMIT) for g in gs]
        tensors = structure.flatten_up_to(state.tensors)
        taken = [step(multiplier, state.count, *each) for each in zip(gs, ws, tensors, strict=True)]
        found = [-change.astype(g.dtype) for (change, _), g in zip(taken, given, strict=True)]
        tensors = structure.unflatten([tensor for _, tensor in taken])
        return structure.unflatten(found), CeloState(state.count + 1, state.horizon, schedule_state, tensors)

    return optax.GradientTransformationExtraArgs(init, update)


# The schedule ---------------------------------------------------------------------------------------------------------


def schedule_begin(theta: Theta, horizon: Array) -> ScheduleState:
    """The state of the schedule before the first step of a run.

    It holds the decays, since neighbouring averages differ by little at first: decays that another program rounds in
    another way move their comparison by hundredths.
    """
    decays = jnp.exp(-1 / 10 ** jnp.linspace(np.log10(FASTEST), jnp.log10(horizon), NUM_AVERAGES))
    ones = jnp.ones(NUM_AVERAGES, jnp.float32)
    hidden, cell = (jnp.asarray(theta[f"lstm_init_state/{part}"][0], jnp.float32) for part in ("hidden", "cell"))
    return ScheduleState(decays.astype(jnp.float32), 0 * ones, HIGHEST * ones, hidden, cell)


def schedule(
    theta: Theta, state: ScheduleState, count: Array, horizon: Array, loss: Array | float
) -> tuple[Array, ScheduleState]:
    """What the schedule says, (), from which lambda is made, and its next state."""
    averages, lowest, loss_inputs = loss_averages(state, count, jnp.asarray(loss, jnp.float32))
    inputs = jnp.concatenate([time_inputs(count, horizon), loss_inputs])
    hidden, cell = recurrent(theta, inputs, state.hidden, state.cell)
    return affine(theta, "step_size", hidden)[0], ScheduleState(state.decays, averages, lowest, hidden, cell)


def time_inputs(count: Array, horizon: Array) -> Array:
    """How far the run has come beside nine milestones of it, (9,)."""
    return jnp.tanh(SHARPNESS * (count.astype(jnp.float32) / horizon - MILESTONES))


def loss_averages(state: ScheduleState, count: Array, loss: Array) -> tuple[Array, Array, Array]:
    """Averages of the loss after one more step, (10,), the least of each so far, (10,), and inputs of them, (9,)."""
    decays = state.decays
    corrections = 1 - decays ** (count + 1).astype(jnp.float32)
    # A loss counts for twice the highest average at most, which is corrected for a step that it has not had yet.
    most = jnp.where(count == 0, loss, jnp.max(state.losses / corrections))
    loss = jnp.minimum(2 * jnp.abs(most), loss)
    averages = decays * state.losses + (1 - decays) * loss
    means = averages / corrections
    lowest = jnp.minimum(state.lowest, means)
    # How a mean and the next slower one stand above the least of the faster: below 0 where the loss falls.
    above, slower_above = means[:-1] - lowest[:-1], means[1:] - lowest[:-1]
    compared = jnp.clip(above / jnp.maximum(1e-8, slower_above) - 1, -1, 1)
    return averages, lowest, jnp.where(count < 2, 0.0, compared)


def recurrent(theta: Theta, inputs: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """Output and cell of the LSTM, (64,) each, after inputs (18,)."""
    mixed = affine(theta, "linear_2", inputs) + jax.nn.relu(affine(theta, "linear_1", inputs))
    gates = affine(theta, "rnn/linear", jnp.concatenate([mixed, hidden]))
    admit, candidate, keep, show = jnp.split(gates, 4)
    cell = jax.nn.sigmoid(keep + 1) * cell + jax.nn.sigmoid(admit) * jnp.tanh(candidate)
    return jax.nn.sigmoid(show) * jnp.tanh(cell), cell


def affine(theta: Theta, name: str, x: Array) -> Array:
    """x W + b of a layer of the schedule; to full precision on every device, since the product is small."""
    return jnp.matmul(x, theta[f"rnn_params/{name}/w"], precision="highest") + theta[f"rnn_params/{name}/b"]


# The rules ------------------------------------------------------------------------------------------------------------


def celo_inputs(g: Array, w: Array, state: CeloTensor) -> tuple[list[Array], CeloTensor]:
    """The 30 inputs of the MLP, each of the tensor's shape or with size 1 along an axis, and the next state."""

    def averaged(averages: Sequence[Array], value: Array) -> tuple[Array, ...]:
        return tuple(b * average + (1 - b) * value for b, average in zip(DECAYS, averages, strict=True))

    squares = g**2 + EPS_SQUARE
    momenta = averaged(state.momenta, g)
    v = SECOND_DECAY * state.second_moment + (1 - SECOND_DECAY) * g**2
    if g.ndim < 2:
        rows = columns = averaged(state.rows, squares)
        of_gradient = [rsqrt(row + EPS_FACTORED) for row in rows]
        of_momenta = [rsqrt(row) for row in rows]
        state = CeloTensor(momenta, v, rows, ())
    else:
        a, b = largest(g.shape)
        rows = averaged(state.rows, jnp.mean(squares, axis=a, keepdims=True))
        columns = averaged(state.columns, jnp.mean(squares, axis=b, keepdims=True))
        row_means = [jnp.mean(row, axis=b, keepdims=True) + EPS_FACTORED for row in rows]
        relative = [jnp.maximum(row / mean, EPS_FACTORED) for row, mean in zip(rows, row_means, strict=True)]
        of_columns = [rsqrt(jnp.maximum(column, EPS_FACTORED)) for column in columns]
        of_gradient = of_momenta = [rsqrt(row) * column for row, column in zip(relative, of_columns, strict=True)]
        state = CeloTensor(momenta, v, rows, columns)
    over_root = rsqrt(v + EPS_SECOND)
    blocks: list[Sequence[Array]] = [
        *([g], [jnp.clip(g, -SMALL_LIMIT, SMALL_LIMIT)], [w], momenta, [v]),
        *([m * over_root for m in momenta], [over_root]),
        *([g * factor for factor in of_gradient], [g * over_root]),
        *(rows, columns, [rsqrt(row + EPS_INPUT) for row in rows], [rsqrt(column + EPS_INPUT) for column in columns]),
        [m * factor for m, factor in zip(momenta, of_momenta, strict=True)],
    ]
    return [x for block in blocks for x in block], state


def over_sizes(inputs: Sequence[Array]) -> Array:
    """1 over the root mean square of each input in the tensor, (30,), by which the weights are scaled in its place."""
    return jnp.stack([rsqrt(EPS_NORMALIZE + jnp.mean(x**2)) for x in inputs])


def layer(weights: Array, biases: Array, inputs: Sequence[Array]) -> Array:
    """x W + b for every parameter: (outputs, *shape) of inputs that each broadcast to the tensor's shape.

    A sum of products, which XLA fuses into one pass over memory; as a matrix product the inputs are written out.
    """
    wide = (-1,) + (1,) * inputs[0].ndim
    products = [w.reshape(wide) * x[None] for w, x in zip(weights, inputs, strict=True)]
    return functools.reduce(jnp.add, products) + biases.reshape(wide)


def largest(shape: tuple[int, ...]) -> tuple[int, int]:
    """The largest axis and the second largest; of axes of one size the later counts as the larger."""
    order = np.argsort(shape, kind="stable")
    return int(order[-1]), int(order[-2])


def without(axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with size 1 along an axis."""
    return tuple(1 if i == axis else n for i, n in enumerate(shape))


def size(w: Array) -> Array:
    """S, the root mean square of a tensor, ()."""
    return jnp.sqrt(jnp.mean(w**2) + EPS_SIZE)


def adam_begin(w: Array) -> AdamTensor:
    """The state of a tensor before the first step."""
    return AdamTensor(*(jnp.zeros(w.shape, jnp.float32) for _ in AdamTensor._fields))  # each can be donated


def adam_averages(g: Array, state: AdamTensor) -> AdamTensor:
    """Momentum and second moment after one more step, not bias-corrected."""
    m = ADAM_DECAY * state.momentum + (1 - ADAM_DECAY) * g
    return AdamTensor(m, SECOND_DECAY * state.second_moment + (1 - SECOND_DECAY) * g**2)
