"""Learned orthogonalized momentum: Muon with learned direction, step size and weight decay.

A kernel is a (fan-in, channels) matrix. Its direction is a mixture of the gradient, momenta and Adam's direction,
orthogonalized by five Newton-Schulz steps. A multiple of Adam's direction can be added to it, and a learning rate for
each tensor multiplies the sum:

    update = -rate exp(5 rho) (scale (NS(x) + share c adam) + d w)
    x = nesterov_.95 + sum_k a_k m_k, over its root mean square, + e adam

with m_k in g and the bias-corrected momenta for decays .8 .95 .99, adam over its root mean square in x, and Muon's
scale sqrt(max(1, channels / fan-in)). Vectors use Adam's direction with Nesterov momentum, and their own learning rate.
It is better to leave Adam's direction out (`share` = 0): where a gradient has rank one, as in wide networks on inputs
that vary little, Adam's direction has a spectral norm of its root mean square times sqrt(fan-in channels).
Outer-training on small convolutions gives a negative c, and in such networks the sum is then an ascent direction.

a, c, d, e and rho are outputs of one small network, whose inputs are constant over the tensor, so that its cost per
parameter is negligible. Its inputs are nine time features; progress, t / horizon and the logarithm of the remaining
share; whether the tensor is a vector, fan-in and fan-out; logarithms of the root mean squares of w and of m_.95 over
sqrt(v); cosines of m_.95 with g, with w and with m_.99; a fast and a slow average of the logarithm of the mini-batch
loss, and their difference. Without a loss (`value`) in the update those three are zero. The network has one hidden
layer and a linear path beside it, in which an annealed rate, a power of the remaining share, needs a single weight.

The last layer is initialized to zero: before outer-training the design is Muon with learning rate `rate` (Jordan et al.
2024), and for vectors Adam with Nesterov momentum and learning rate `vector_rate`, as in `optax.contrib.muon`; with
decoupled weight decay `decay` (Liu et al., arXiv 2502.16982) and rates annealed as (1 - t / horizon)^`anneal`. 16 bytes
of state per parameter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from baselines.muon import newton_schulz
from learned.base import HORIZON, Key, LearnedOptimizer, Theta, check_loss
from learned.features import (
    LEFT,
    PROGRESS_SCALE,
    TIME_SCALES,
    TINY,
    as_float32,
    averaged,
    cosine,
    fans,
    progress_features,
    rms,
    tensor_inputs,
    time_features,
)

DECAYS = np.array([0.8, 0.95, 0.99], np.float32)
MUON, SLOW = 1, 2  # indices among them
SECOND_DECAY, EPS = 0.999, 1e-8
LOSS_DECAYS = np.array([0.9, 0.99], np.float32)
NUM_TENSOR_INPUTS = len(TIME_SCALES) + 13
NUM_OUTPUTS = 1 + len(DECAYS) + 4  # a of g and of each momentum, e, c, d, rho
RATE_SCALE = 5.0  # so that a perturbation of 0.01 changes the rate by 5 %
FEATURES_VERSION = "orthogonal-22"


class OrthogonalState(NamedTuple):
    """State of `orthogonal`; 16 bytes per parameter."""

    count: Array  # (), int32: steps taken
    horizon: Array  # (), float32: steps of the run
    momenta: tuple[optax.Params, ...]  # for each of three decays a float32 leaf of the parameter's shape
    second_moment: optax.Params  # a float32 leaf of the parameter's shape
    losses: Array  # (2,): averages of the logarithm of the loss


def orthogonal(
    hidden: int = 32,
    rate: float = 0.02,
    vector_rate: float = 1e-2,
    decay: float = 0.0,
    anneal: float = 0.0,
    share: float = 1.0,
) -> LearnedOptimizer:
    """The design.

    Args:
      hidden: units of the network.
      rate: learning rate of Muon, which the design is before outer-training.
      vector_rate: learning rate of Adam, for biases.
      decay: initial weight decay, relative to the learning rate.
      anneal: power of the remaining share of the horizon in the initial rates; 1 is linear decay to nearly zero.
      share: factor of c; 0 leaves Adam's direction out of the sum.

    Returns:
      The learned optimizer; theta is {"w1": (hidden, 22), "b1": (hidden,), "w2": (8, hidden), "b2": (8,),
      "linear": (8, 22)}.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> design = orthogonal()
      >>> optimizer = design.optimizer(design.init_theta(jax.random.key(0)))
      >>> params = {"w": jnp.ones((3, 2))}
      >>> updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params, value=1.5)
      >>> updates["w"].shape
      (3, 2)
    """

    def init_theta(key: Key) -> Theta:
        linear = jnp.zeros((NUM_OUTPUTS, NUM_TENSOR_INPUTS))
        return {
            "w1": jax.random.normal(key, (hidden, NUM_TENSOR_INPUTS)) / np.sqrt(NUM_TENSOR_INPUTS),
            "b1": jnp.zeros((hidden,)),
            "w2": jnp.zeros((NUM_OUTPUTS, hidden)),
            "b2": jnp.zeros((NUM_OUTPUTS,)),
            "linear": linear.at[-1, LEFT].set(anneal * PROGRESS_SCALE / RATE_SCALE),
        }

    def init(params: optax.Params, horizon: int | Array) -> OrthogonalState:
        # Arrays of their own, the horizon too: a training step may donate the state.
        *momenta, squares = (jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params) for _ in (*DECAYS, 1))
        horizon, losses = jnp.array(horizon, jnp.float32), jnp.zeros(len(LOSS_DECAYS))
        return OrthogonalState(jnp.zeros((), jnp.int32), horizon, tuple(momenta), squares, losses)

    def optimizer(theta: Theta, horizon: int | Array = HORIZON) -> optax.GradientTransformationExtraArgs:
        def update(updates, state, params=None, *, value=None, **extra_args):
            del extra_args
            if params is None:
                raise ValueError("orthogonal reads the parameters: call update(grads, state, params)")
            steps = (state.count + 1).astype(jnp.float32)
            corrections = 1 / (1 - DECAYS**steps)
            # Nesterov momentum: the factors of the momentum and of the gradient.
            of_momentum = DECAYS[MUON] / (1 - DECAYS[MUON] ** (steps + 1))
            of_gradient = (1 - DECAYS[MUON]) * corrections[MUON]
            second_correction = 1 / (1 - SECOND_DECAY**steps)
            losses = state.losses
            check_loss(value)
            if value is not None:
                # Below zero, or where it is not finite, there is no logarithm: then the loss is what it was on average.
                # The barrier keeps the compiled steps, and with them outer-training, the same to the last bit.
                value, fast = jnp.asarray(value, jnp.float32), LOSS_DECAYS[0]
                average = jnp.exp(losses[0] / jnp.maximum(1 - fast**state.count, 1 - fast))
                value = jax.lax.optimization_barrier(jnp.where((value >= 0) & (value < jnp.inf), value, average))
                losses = LOSS_DECAYS * losses + (1 - LOSS_DECAYS) * jnp.log(value + 1e-4)
            log_losses = losses / (1 - LOSS_DECAYS**steps)
            shared = [time_features(state.count), progress_features(state.count, state.horizon)]
            shared = jnp.concatenate([*shared, log_losses, log_losses[:1] - log_losses[1:]])

            # Lists, an element for each tensor.
            structure = jax.tree.structure(updates)
            gs, ws = (as_float32(tree) for tree in (updates, params))
            momenta = [averaged(beta, jax.tree.leaves(m), gs) for beta, m in zip(DECAYS, state.momenta, strict=True)]
            vs = averaged(SECOND_DECAY, jax.tree.leaves(state.second_moment), [g**2 for g in gs])
            nesterovs = [of_momentum * m + of_gradient * g for m, g in zip(momenta[MUON], gs, strict=True)]
            adams = [n / (jnp.sqrt(second_correction * v + TINY) + EPS) for n, v in zip(nesterovs, vs, strict=True)]

            # Inputs (tensors, inputs) and outputs (tensors, outputs) of the network.
            sizes = [jnp.stack([rms(w), rms(adam)]) for w, adam in zip(ws, adams, strict=True)]
            compared = zip(momenta[MUON], gs, ws, momenta[SLOW], strict=True)
            cosines = [jnp.stack([cosine(m, other) for other in others]) for m, *others in compared]
            about = tensor_inputs(shared, gs, sizes, cosines)
            said = jax.nn.relu(about @ theta["w1"].T + theta["b1"][None]) @ theta["w2"].T
            said = said + about @ theta["linear"].T + theta["b2"][None]

            def step(i: int) -> Array:
                g, w, adam, shape = gs[i], ws[i], adams[i], gs[i].shape
                if not g.size:
                    return g
                mixture, (inside, of_adam, shrink, rho) = said[i, : 1 + len(DECAYS)], said[i, 1 + len(DECAYS) :]
                if len(shape) < 2:
                    return vector_rate * jnp.exp(RATE_SCALE * rho) * ((1 + of_adam) * adam + shrink * w)
                mixed = nesterovs[i] + mixture[0] * g
                for k, momentum in enumerate(momenta):
                    mixed = mixed + mixture[1 + k] * corrections[k] * momentum[i]
                mixed = mixed / (rms(mixed) + EPS) + inside / (sizes[i][1] + EPS) * adam
                fan_in, fan_out = fans(shape)
                direction = orthogonalize(mixed.reshape(fan_in, fan_out)).reshape(shape)
                # Adam's direction at the root mean square of a matrix with orthonormal rows or columns.
                if share:
                    direction = direction + share * of_adam / np.float32(np.sqrt(max(fan_in, fan_out))) * adam
                direction = np.float32(np.sqrt(max(1.0, fan_out / fan_in))) * direction
                return rate * jnp.exp(RATE_SCALE * rho) * (direction + (decay + shrink) * w)

            found = [-step(i).astype(g.dtype) for i, g in enumerate(jax.tree.leaves(updates))]
            momenta, vs = tuple(structure.unflatten(m) for m in momenta), structure.unflatten(vs)
            return structure.unflatten(found), OrthogonalState(state.count + 1, state.horizon, momenta, vs, losses)

        return optax.GradientTransformationExtraArgs(lambda params: init(params, horizon), update)

    return LearnedOptimizer(init_theta, optimizer)


def orthogonalize(matrix: Array, num_steps: int = 5) -> Array:
    """Orthogonalizes rows or columns, whichever are fewer, approximately; singular vectors and shape stay the same."""
    return newton_schulz(matrix / (jnp.sqrt(jnp.sum(matrix**2) + TINY) + EPS), num_steps)
