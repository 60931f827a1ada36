"""Learned orthogonalized momentum: Muon whose direction, step size and decay of the weights are learned.

A kernel is a (fan-in, channels) matrix. Its direction is a mixture of the gradient, momenta and Adam's direction, made
orthogonal by five Newton-Schulz steps; to it a share of Adam's own direction is added, and a rate of the tensor's own
multiplies the sum:

    update = -rate exp(5 rho) (scale (NS(x) + c adam) + d w)
    x = nesterov_.95 + sum_k a_k m_k, over its root mean square, + e adam

with m_k in g and the bias-corrected momenta for decays .8 .95 .99, adam over its root mean square in x, and Muon's
scale sqrt(max(1, channels / fan-in)). Vectors take Adam's direction, with Nesterov's look ahead, at a rate of their own
in place of the orthogonal one.

a, c, d, e and rho come from one small network of what is constant over the tensor, so that learning costs next to
nothing a parameter: nine time features; how far the run has come, t / horizon and the logarithm of what is left;
whether it is a vector, its fan-in and fan-out; logarithms of the root mean squares of w and of m_.95 over sqrt(v);
cosines of m_.95 with g, with w and with m_.99; the logarithm of the mini-batch loss, fast and slow average, and of
their quotient. Without a loss (`value`) in the update those three are zero. The network has one hidden layer and a
linear path beside it, in which a power of what is left, an annealed rate, is a single weight.

The last layer begins at zero: before any outer-training it is Muon at `rate` (Jordan et al. 2024), and Adam with
Nesterov's momentum at `vector_rate` for vectors, as in `optax.contrib.muon`; with `decay` as decoupled decay of the
weights (Liu et al., arXiv 2502.16982) and rates annealed as (1 - t / horizon)^`anneal`. 16 bytes of state a parameter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from learned.base import HORIZON, Key, LearnedOptimizer, Theta
from learned.features import (
    PROGRESS_SCALE,
    TIME_SCALES,
    TINY,
    cosine,
    fans,
    progress_features,
    rms,
    shape_features,
    time_features,
)

DECAYS = np.array([0.8, 0.95, 0.99], np.float32)
MUON, SLOW = 1, 2  # places among them
SECOND_DECAY, EPS = 0.999, 1e-8
NEWTON_SCHULZ = np.array([3.4445, -4.7750, 2.0315], np.float32)  # Jordan et al. 2024
LOSS_DECAYS = np.array([0.9, 0.99], np.float32)
NUM_TENSOR_INPUTS = len(TIME_SCALES) + 13
LEFT = len(TIME_SCALES) + 1  # place of the logarithm of what is left
NUM_OUTPUTS = 1 + len(DECAYS) + 4  # a of g and of each momentum, e, c, d, rho
RATE_SCALE = 5.0  # so that a perturbation of 0.01 changes the rate by 5 %
FEATURES_VERSION = "orthogonal-22"


class OrthogonalState(NamedTuple):
    """State of `orthogonal`; 16 bytes a parameter."""

    count: Array  # (), int32: steps taken
    horizon: Array  # (), float32: steps of the run
    momenta: optax.Params  # a (3, *shape) float32 leaf for each parameter
    second_moment: optax.Params  # a float32 leaf of the parameter's shape
    losses: Array  # (2,): averages of the logarithm of the loss


def orthogonal(
    hidden: int = 32, rate: float = 0.02, vector_rate: float = 1e-2, decay: float = 0.0, anneal: float = 0.0
) -> LearnedOptimizer:
    """The design, for a hidden width and the optimizer that it begins with.

    Args:
      hidden: units of the network.
      rate: of Muon, which it is before any outer-training.
      vector_rate: of Adam, for biases.
      decay: of the weights, a share of the rate.
      anneal: power of what is left of the horizon, by which rates fall; 1 is a line to (nearly) zero.

    Returns:
      The learned optimizer; theta is {"w1": (hidden, 22), "b1": (hidden,), "w2": (8, hidden), "b2": (8,),
      "linear": (8, 22)}.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> design = orthogonal()
      >>> optimizer = design.optimizer(design.init_theta(jax.random.key(0)))
      >>> params = {"w": jnp.ones((3, 2))}
      >>> updates, state = optimizer.update(params, optimizer.init(params), params, value=1.5)
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
        momenta = jax.tree.map(lambda p: jnp.zeros((len(DECAYS), *p.shape), jnp.float32), params)
        second = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        horizon = jnp.asarray(horizon, jnp.float32)
        return OrthogonalState(jnp.zeros((), jnp.int32), horizon, momenta, second, jnp.zeros(len(LOSS_DECAYS)))

    def optimizer(theta: Theta, horizon: int | Array = HORIZON) -> optax.GradientTransformationExtraArgs:
        def update(updates, state, params=None, *, value=None, **extra_args):
            del extra_args
            if params is None:
                raise ValueError("orthogonal reads the parameters: call update(grads, state, params)")
            steps = (state.count + 1).astype(jnp.float32)
            corrections = 1 / (1 - DECAYS**steps)
            next_corrections = 1 / (1 - DECAYS ** (steps + 1))
            # Nesterov's look ahead: so much of the momentum, and so much of the gradient.
            of_momentum, of_gradient = DECAYS * next_corrections, (1 - DECAYS) * corrections
            second_correction = 1 / (1 - SECOND_DECAY**steps)
            losses = state.losses
            if value is not None:
                losses = LOSS_DECAYS * losses + (1 - LOSS_DECAYS) * jnp.log(jnp.asarray(value, jnp.float32) + 1e-4)
            log_losses = losses / (1 - LOSS_DECAYS**steps)
            shared = jnp.concatenate(
                [
                    time_features(state.count),
                    progress_features(state.count, state.horizon),
                    log_losses,
                    log_losses[:1] - log_losses[1:],
                ]
            )

            def leaf(grad, param, momenta, second):
                g, w = (x.reshape(-1).astype(jnp.float32) for x in (grad, param))
                decays = DECAYS[:, None]
                m = decays * momenta.reshape(len(DECAYS), -1) + (1 - decays) * g[None]
                v = SECOND_DECAY * second.reshape(-1) + (1 - SECOND_DECAY) * g**2
                nesterov = of_momentum[MUON] * m[MUON] + of_gradient[MUON] * g
                adam = nesterov / (jnp.sqrt(second_correction * v + TINY) + EPS)
                rms_adam = rms(adam)
                about = jnp.concatenate(
                    [
                        shared,
                        shape_features(grad.shape),
                        jnp.log(jnp.stack([1e-3 + rms(w), 1e-3 + rms_adam])),
                        jnp.stack([cosine(m[MUON], other) for other in (g, w, m[SLOW])]),
                    ]
                )
                said = theta["w2"] @ jax.nn.relu(theta["w1"] @ about + theta["b1"]) + theta["b2"]
                said = said + theta["linear"] @ about
                mixture, (inside, share, shrink, rho) = said[: 1 + len(DECAYS)], said[1 + len(DECAYS) :]
                if grad.ndim < 2:
                    start, direction = vector_rate, (1 + share) * adam + shrink * w
                else:
                    mixed = nesterov + mixture[0] * g + (corrections * mixture[1:]) @ m
                    mixed = mixed / (rms(mixed) + EPS) + inside / (rms_adam + EPS) * adam
                    fan_in, fan_out = fans(grad.shape)
                    orthogonalized = newton_schulz(mixed.reshape(fan_in, fan_out)).reshape(-1)
                    # Adam's direction at the root mean square of a matrix with orthonormal rows or columns.
                    direction = orthogonalized + share * adam / np.sqrt(max(fan_in, fan_out))
                    direction = np.sqrt(max(1.0, fan_out / fan_in)) * direction
                    start, direction = rate, direction + (decay + shrink) * w
                step = start * jnp.exp(RATE_SCALE * rho) * direction
                return -step.reshape(grad.shape).astype(grad.dtype), m.reshape(momenta.shape), v.reshape(second.shape)

            found = jax.tree.map(leaf, updates, params, state.momenta, state.second_moment)
            structure = jax.tree.structure(updates)
            steps_taken, momenta, second = jax.tree.transpose(structure, jax.tree.structure((0, 0, 0)), found)
            return steps_taken, OrthogonalState(state.count + 1, state.horizon, momenta, second, losses)

        return optax.GradientTransformationExtraArgs(lambda params: init(params, horizon), update)

    return LearnedOptimizer(init_theta, optimizer)


def newton_schulz(matrix: Array, num_steps: int = 5) -> Array:
    """Nearly orthogonal rows or columns, whichever are fewer, for the same singular vectors; of the matrix's shape."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (jnp.sqrt(jnp.sum(x**2) + TINY) + EPS)
    a, b, c = NEWTON_SCHULZ
    for _ in range(num_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
