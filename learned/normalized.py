"""Learned normalized momentum: a direction that suits a tensor's shape, with learned step size, mixture and decay.

A leaf is a matrix (fan-in, fan-out), or several stacked; column j holds the weights of output j. With a momentum m of
the gradient g,

    m <- m + b (g - m),    x = a_0 g + a_1 m + a_2 m_.99
    update = -rate exp(5 rho) (direction(x) + decay exp(5 d) w)

The direction has columns of about unit length, whatever the unit of the gradient, and is chosen when tracing:

    kernels of convolutions whose short side is at most 64, and other matrices up to 16, as of most output layers: x
        with its singular values brought to about one by Newton-Schulz steps (Muon: Jordan et al. 2024), which cost
        little beside the gradient there. Only here is there a second momentum, m_.99
    all others: the columns of x over their norms (RMNP, arXiv 2603.20527), without a product of matrices
    vectors and numbers: the same with a column for each element, and the norm of x taken together with the average of
        that of g, so that steps shrink where noise outweighs the gradient, as Adam's do

In the second and third kind the norm n_j of column j is taken to a learned power p, against the root mean square of all
norms: 1 makes all columns equally long, 0 keeps their ratios. Vectors and numbers are not decayed.

a, b, p, d and rho are outputs of one small network, for each matrix, so that its cost per parameter is negligible. Its
inputs have no unit, and do not change with an offset of the loss:

    time: tanh(t / s - 1) for six scales s
    progress: whether a horizon is told, the share done, the logarithm of the remaining share, that of the horizon
    loss: a fast less a slow average, over the deviation; logarithm of the deviation over the largest so far
    shape: whether the leaf is a vector, whether it is orthogonalized, fan-in and fan-out
    weights: logarithm of the column norm
    gradient: logarithms of |x|^2 of the step before over the average of |g|^2, and of that average over its largest

The run is evaluated at an average of its parameters (`tasks.evaluation_params`), which gathers what a high rate learns
without its noise, as annealing would, but from the first steps on. With c = `average`, after t steps,

    mean <- mean + (c + 1) / (t + c) (w - mean)

weights w_s by about (s / t)^c: the last 1 / c of the run, whatever its length (Shamir, Zhang, arXiv 1212.1824). It is
of the parameters that each step is given, so what stands behind the optimizer in a chain counts.

Without a loss (`value`), or while it is not finite, the inputs of the loss stay as they are. A step whose gradient is
not finite leaves parameters and momenta as they are.

Before outer-training the design is Muon on these and RMNP on the rest, with decoupled weight decay, and rates
annealed as (1 - t / horizon)^`anneal`, which are `boost` times as high in the first steps as after a thousand. These
numbers are rounded from what `lopt_ortho_valid` does on its own tasks: they are a schedule that was learned. 8 bytes of
state per parameter, 12 for what is orthogonalized.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from learned.base import HORIZON, Key, LearnedOptimizer, Part, Theta, check_loss
from learned.features import PROGRESS_SCALE, progress_features, time_features
from learned.matrices import DimensionNumbers, Leaf, as_matrices, check_shapes, in_a_row, reordered, stacked
from tasks import EvaluationParams

GAIN, SLOW_GAIN = 0.05, 0.01  # b before outer-training, and that of the second momentum
SIZE_GAIN = 0.01  # of the average of |g|^2
FAST_GAIN, SLOW_LOSS_GAIN = 0.1, 0.01  # of averages of the loss
NUM_TIMES = 6  # time features: those of scales up to 1,000 steps
HORIZONS = (100.0, 10_000.0)  # beyond these the network's input stays the same
BOOSTS, NUM_BOOSTS = slice(2, 6), 4  # the time features of scales 30, 100, 300 and 1,000
LEFT = NUM_TIMES + 2  # index of the remaining share among the inputs
VECTOR = LEFT + 4  # index of whether the leaf is a vector
NUM_INPUTS = NUM_TIMES + 4 + 2 + 4 + 1 + 2
FEEDBACK = np.array([*range(LEFT + 2, LEFT + 4), *range(LEFT + 8, LEFT + 11)])  # inputs that a run itself gives
MIXTURE, GAINED, POWER, SHRINK, RATE = slice(0, 3), 3, 4, 5, 6  # a, logarithm of b, p, d, rho among the outputs
NUM_OUTPUTS = 7
KINDS = ("columns", "orthogonalized", "vectors")  # of leaves, in the order of theta's first axes
OF_KINDS = ("w2", "b2", "linear")  # leaves of theta with such an axis
MIXTURE_BEFORE = np.array([0.2, 0.65, 0.15], np.float32)
GAIN_SCALE, RATE_SCALE = 3.0, 5.0  # so that a perturbation of 0.01 changes the rate by 5 %
LOG_FACTORS = (-10.0, 3.0)  # limits of 5 rho and 5 d, far outside what outer-training asks for
LARGEST_SHRINK = 0.5  # of a weight in one step
LEAST = 1e-6  # of the average of |g|^2: the least |x|^2
FEATURES_VERSION = "normalized-19-kinds"


class LossState(NamedTuple):
    """Averages of the mini-batch loss, each ()."""

    seen: Array  # int32: finite losses so far
    fast: Array  # float32, as the others
    slow: Array
    square: Array  # average of the squared distance from the fast average before
    largest: Array  # its largest value so far


class Sizes(NamedTuple):
    """Squared norms, each (matrices,), in the order of the leaves."""

    gradient: Array  # average of |g|^2
    largest: Array  # its largest value so far
    signal: Array  # |x|^2 of the step before over the squared sum of a


class NormalizedState(NamedTuple):
    """State of `normalized`; no two leaves share a buffer."""

    count: Array  # (), int32: steps taken
    horizon: Array  # (), float32: steps of the run; infinity if it is not told
    momentum: optax.Params  # a float32 leaf of the parameter's shape
    slow: optax.Params  # the same for leaves that are orthogonalized; MaskedNode for all others
    average: EvaluationParams  # float32 leaves: the parameters that the run is evaluated at
    sizes: Sizes
    loss: LossState


# (theta, steps taken, inputs (matrices, 19)) -> outputs (matrices, 7), matrices in the order of stacks of leaves.
Decide = Callable[[Theta, Array, Array], Array]


def outputs_of(theta: Theta, count: Array, inputs: Array) -> Array:
    """The network's outputs, (matrices, 7): hidden units are common, and each kind of leaf has outputs of its own."""
    del count
    hidden = jax.nn.relu(inputs @ theta["w1"].T + theta["b1"][None])
    vector, orthogonal = inputs[:, VECTOR], inputs[:, VECTOR + 1]
    kinds = jnp.stack([1 - vector - orthogonal, orthogonal, vector], axis=1)
    of_kinds = (
        jnp.einsum("koh,mh->mko", theta["w2"], hidden)
        + jnp.einsum("koi,mi->mko", theta["linear"], inputs)
        + theta["b2"][None]
    )
    return jnp.sum(kinds[:, :, None] * of_kinds, axis=1)


def normalized(
    hidden: int = 32,
    rate: float = 0.033,
    column_rate: float = 0.006,
    vector_rate: float = 0.004,
    decay: float = 0.15,
    anneal: float = 1.0,
    boost: float = 3.0,
    average: float = 8.0,
    num_iterations: int = 4,
    largest_kernel: int = 64,
    largest_dense: int = 16,
) -> LearnedOptimizer:
    """The design.

    Args:
      hidden: units of the network.
      rate: initial learning rate of what is orthogonalized, as of Muon.
      column_rate: that of other matrices, for columns of unit length.
      vector_rate: initial learning rate of vectors, for a root mean square of at most one.
      decay: initial weight decay, relative to the learning rate.
      anneal: power of the remaining share of the horizon in the initial rates; 1 is linear decay to nearly zero.
      boost: factor of the initial rates in the first steps, which falls to 1 over a thousand.
      average: c of the average that the run is evaluated at, which spans about its last 1 / c.
      num_iterations: Newton-Schulz steps.
      largest_kernel: kernels of convolutions are orthogonalized up to this length of their short side.
      largest_dense: the same for other matrices.

    Returns:
      The learned optimizer; theta is {"w1": (hidden, 19), "b1": (hidden,), "w2": (3, 7, hidden), "b2": (3, 7),
      "linear": (3, 7, 19)}, first axes in the order of `KINDS`. Its parts are "hidden", and the outputs of each kind.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> design = normalized()
      >>> optimizer = design.optimizer(design.init_theta(jax.random.key(0)))
      >>> params = {"w": jnp.ones((3, 2))}
      >>> updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params, value=1.5)
      >>> updates["w"].shape
      (3, 2)
    """
    limits = largest_kernel, largest_dense
    each = np.log(boost) / (RATE_SCALE * NUM_BOOSTS * (1 + np.tanh(1.0)))  # a time feature rises from -tanh(1) to 1
    log_rates = np.log(np.array([column_rate, rate, vector_rate], np.float32))

    def init_theta(key: Key) -> Theta:
        linear = jnp.zeros((len(KINDS), NUM_OUTPUTS, NUM_INPUTS))
        return {
            "w1": jax.random.normal(key, (hidden, NUM_INPUTS)) / np.sqrt(NUM_INPUTS),
            "b1": jnp.zeros((hidden,)),
            "w2": jnp.zeros((len(KINDS), NUM_OUTPUTS, hidden)),
            "b2": jnp.zeros((len(KINDS), NUM_OUTPUTS)).at[:, RATE].set(NUM_BOOSTS * each),
            # Annealed rates, higher in the first thousand steps; vectors normalized as a whole.
            "linear": linear.at[:, RATE, LEFT]
            .set(anneal * PROGRESS_SCALE / RATE_SCALE)
            .at[:, RATE, BOOSTS]
            .set(-each)
            .at[:, POWER, VECTOR]
            .set(-1.0),
        }

    def optimizer(
        theta: Theta,
        horizon: float | Array | None = HORIZON,
        weight_dimension_numbers: DimensionNumbers = None,
        decide: Decide = outputs_of,
    ) -> optax.GradientTransformationExtraArgs:
        def init(params: optax.Params) -> NormalizedState:
            params = jax.tree.map(jnp.asarray, params)
            leaves, structure = as_matrices(params, weight_dimension_numbers, limits)

            def zeros(p: Array) -> Array:
                return jnp.zeros_like(p, jnp.float32)

            slows = [
                zeros(p) if leaf.orthogonal else optax.MaskedNode()
                for leaf, p in zip(leaves, jax.tree.leaves(params), strict=True)
            ]
            # Sums over parameters differ from device to device where these do, under `shard_map`: so do their zeros.
            of_matrices = in_a_row(
                [leaf.total(zeros(p)) for leaf, p in zip(leaves, jax.tree.leaves(params), strict=True)]
            )
            of_all = jnp.sum(of_matrices)
            told = jnp.array(jnp.inf if horizon is None else horizon, jnp.float32)
            return NormalizedState(
                jnp.zeros((), jnp.int32),
                jnp.where(told >= 1, told, jnp.inf),  # a traced one that is none is not told
                jax.tree.map(zeros, params),
                structure.unflatten(slows),
                EvaluationParams(jax.tree.map(lambda p: jnp.array(p, jnp.float32), params)),
                Sizes(*(jnp.zeros_like(of_matrices) for _ in Sizes._fields)),
                LossState(jnp.zeros_like(of_all, jnp.int32), *(jnp.zeros_like(of_all) for _ in range(4))),
            )

        def update(updates, state, params=None, *, value=None, **extra_args):
            del extra_args
            if params is None:
                raise ValueError("normalized reads the parameters: call update(grads, state, params)")
            check_loss(value)
            updates, params = (jax.tree.map(jnp.asarray, tree) for tree in (updates, params))
            leaves, structure = as_matrices(params, weight_dimension_numbers, limits)
            given = jax.tree.leaves(updates)
            check_shapes(given, leaves)
            stacks = stacked(leaves, given)
            gs, ws, ms, slows = (
                [stack.joined(structure.flatten_up_to(tree)) for stack in stacks]
                for tree in (updates, params, state.momentum, state.slow)
            )
            steps = (state.count + 1).astype(jnp.float32)
            order = np.concatenate([np.zeros(0, int), *(stack.places for stack in stacks)])
            before = jax.tree.map(lambda sizes: reordered(sizes, order), state.sizes)
            square = in_a_row([stack.leaf.squared(g) for stack, g in zip(stacks, gs, strict=True)])
            finite = jnp.all(jnp.isfinite(square))
            size = before.gradient + SIZE_GAIN * (square - before.gradient)
            unbiased = jnp.where(finite, size, before.gradient) / (1 - (1 - SIZE_GAIN) ** steps)
            largest = jnp.maximum(before.largest, unbiased)
            # A step whose gradient is not finite counts as one without a gradient, whose momentum stays.
            gs = [jnp.where(finite, g, 0.0) for g in gs]
            share = (average + 1) / (steps + average)
            mean = jax.tree.map(lambda a, w: a + share * (w.astype(jnp.float32) - a), state.average.params, params)
            loss = state.loss if value is None else with_loss(state.loss, jnp.asarray(value, jnp.float32))

            # Inputs (matrices, inputs) and outputs (matrices, outputs) of the network.
            shapes = np.concatenate([np.zeros((0, 4), np.float32), *(stack.leaf.inputs() for stack in stacks)])
            shared = jnp.concatenate([time_inputs(state.count, state.horizon), loss_inputs(loss)])
            columns = in_a_row(
                [
                    (stack.leaf.squared(w) + stack.nothing_of(structure.flatten_up_to(mean))) / stack.leaf.columns
                    for stack, w in zip(stacks, ws, strict=True)
                ]
            )
            about = [jnp.log(1e-4 + columns) / 2, log_ratio(before.signal, unbiased), log_ratio(unbiased, largest)]
            shared = jnp.broadcast_to(shared, (len(shapes), len(shared)))
            inputs = jnp.concatenate([shared, shapes, jnp.stack(about, axis=1)], axis=1)
            said = decide(theta, state.count, inputs)

            base = log_rates[(2 * shapes[:, 0] + shapes[:, 1]).astype(int)]
            rates = jnp.exp(base + jnp.clip(RATE_SCALE * said[:, RATE], *LOG_FACTORS))
            shrink = rates * decay * jnp.exp(jnp.clip(RATE_SCALE * said[:, SHRINK], *LOG_FACTORS))
            shrink = jnp.where(shapes[:, 0] > 0, 0.0, jnp.minimum(shrink, LARGEST_SHRINK))
            # Averages of all gradients at first, which need no correction.
            gain = jnp.clip(GAIN * jnp.exp(GAIN_SCALE * said[:, GAINED]), 1 / steps, 1.0)
            slow_gain = jnp.maximum(SLOW_GAIN, 1 / steps)
            gain, slow_gain = (jnp.where(finite, of_gradient, 0.0) for of_gradient in (gain, slow_gain))
            mixture, power = said[:, MIXTURE] + MIXTURE_BEFORE[None], 1 + said[:, POWER]
            # A momentum that gradients no longer feed fades out; that of a vector counts against the gradient's noise.
            least = jnp.where(shapes[:, 0] > 0, 1.0, LEAST) * unbiased

            found, kept, kept_slow, signals, end = given.copy(), given.copy(), given.copy(), [], 0
            for stack, g, w, m, slow in zip(stacks, gs, ws, ms, slows, strict=True):
                leaf, begin = stack.leaf, end
                end = begin + leaf.num

                def of(values: Array, leaf: Leaf = leaf, rows: slice = slice(begin, end)) -> Array:
                    return leaf.spread(values[rows])

                new, new_slow = m + of(gain) * (g - m), optax.MaskedNode()
                x = of(mixture[:, 0]) * g + of(mixture[:, 1]) * new
                total = jnp.sum(mixture[begin:end, :2], axis=1)
                if slow is not None:
                    new_slow = slow + slow_gain * (g - slow)
                    x, total = x + of(mixture[:, 2]) * new_slow, total + mixture[begin:end, 2]
                squares = leaf.columns_squared(x)
                signals.append(leaf.total(squares) / (total**2 + 1e-3))
                if leaf.orthogonal:
                    direction = leaf.orthogonalized(x, of(least), num_iterations)
                else:
                    direction = x * leaf.column_scale(squares, of(least), of(power))
                step = -(of(rates) * direction + of(shrink) * w)
                stack.part(jnp.where(finite, step, 0.0), found)
                stack.part(new, kept)
                stack.part(new_slow, kept_slow)

            found = [update.astype(g.dtype) for update, g in zip(found, given, strict=True)]
            sizes = Sizes(jnp.where(finite, size, before.gradient), largest, in_a_row(signals))
            sizes = sizes._replace(signal=jnp.where(finite, sizes.signal, before.signal))
            sizes = jax.tree.map(lambda values: reordered(values, np.argsort(order)), sizes)
            momentum, slow_momentum = structure.unflatten(kept), structure.unflatten(kept_slow)
            state = NormalizedState(
                state.count + 1, state.horizon, momentum, slow_momentum, EvaluationParams(mean), sizes, loss
            )
            return structure.unflatten(found), state

        return optax.GradientTransformationExtraArgs(init, update)

    hidden_units: Part = (("w1", ...), ("b1", ...))
    parts = [(kind, tuple((leaf, place) for leaf in OF_KINDS)) for place, kind in enumerate(KINDS)]
    return LearnedOptimizer(init_theta, optimizer, (("hidden", hidden_units), *parts))


def log_ratio(a: Array, b: Array) -> Array:
    """log(0.001 + a / b), where 0 / 0 is 0 and the ratio at most 1,000."""
    safe = jnp.where(b > 0, b, 1.0)
    return jnp.minimum(jnp.log(a + 1e-3 * safe) - jnp.log(safe), np.float32(np.log(1e3)))


def time_inputs(count: Array, horizon: Array) -> Array:
    """Inputs of time and progress, (10,)."""
    told = jnp.isfinite(horizon)
    size = jnp.where(told, jnp.log10(jnp.clip(horizon, *HORIZONS)) / 4, 0.0)
    progress = [told.astype(jnp.float32)[None], progress_features(count, horizon), size[None]]
    return jnp.concatenate([time_features(count)[:NUM_TIMES], *progress])


def with_loss(state: LossState, value: Array) -> LossState:
    """The averages after one more loss; unchanged if it, or the square of its change, is not finite."""
    seen = state.seen + 1
    least = 1 / seen.astype(jnp.float32)  # averages of all losses at first
    distance = jnp.where(state.seen > 0, value - state.fast, 0.0)
    finite = jnp.isfinite(value) & jnp.isfinite(distance**2)
    square = state.square + jnp.maximum(SLOW_LOSS_GAIN, least) * (distance**2 - state.square)
    found = LossState(
        seen,
        state.fast + jnp.maximum(FAST_GAIN, least) * (value - state.fast),
        state.slow + jnp.maximum(SLOW_LOSS_GAIN, least) * (value - state.slow),
        square,
        jnp.maximum(state.largest, square),
    )
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), found, state)


def loss_inputs(loss: LossState) -> Array:
    """Drift of the loss in deviations, and logarithm of the deviation over the largest, (2,)."""
    varied = loss.square > 0
    drift = (loss.fast - loss.slow) / jnp.sqrt(jnp.where(varied, loss.square, 1.0))
    return jnp.stack([jnp.where(varied, jnp.tanh(drift), 0.0), log_ratio(loss.square, loss.largest) / 2])
