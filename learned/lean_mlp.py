"""The lean per-parameter MLP: few per-parameter inputs, and a second network for per-tensor inputs.

A network with one hidden layer of `hidden` ReLU units is applied to every parameter. Its output and weight decay are
added to Adam's direction, and a learning rate for each tensor multiplies the sum:

    update = -rate exp(5 rho) (m_.9 r + w2 relu(w1 x + b) + d w)

Inputs x, six of them, for decays b in .5 .9 .99, all bias-corrected as in Adam: g r, m_b r with
r = 1 / (sqrt(v_.999) + 1e-8), g over its root mean square in the tensor, the parameter w over its own.

The hidden bias b, the decay d and the rate's exponent rho are outputs of a second small network, whose inputs are
constant over the tensor, so that its cost per parameter is negligible. Its inputs are nine time features tanh(t / s -
1); progress, t / horizon and the logarithm of the remaining share; whether the tensor is a vector, fan-in and fan-out;
the logarithms of the root mean squares of w and of m_.9 r; the cosines of m_.9 with g and with w. Beside its hidden
layer it has a linear path, in which an annealed rate, a power of the remaining share, needs a single weight.

The last layers are initialized to zero: before outer-training it is Adam with learning rate `rate`, annealed as
(1 - t / horizon)^`anneal`. It follows the designs of Metz et al., arXiv 1810.10180 and arXiv 2203.11860, without their
expensive parts: 16 bytes of state per parameter.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from learned.base import HORIZON, Key, LearnedOptimizer, Theta
from learned.features import (
    LEFT,
    PROGRESS_SCALE,
    TIME_SCALES,
    TINY,
    as_float32,
    averaged,
    cosine,
    progress_features,
    rms,
    tensor_inputs,
    time_features,
)

DECAYS = np.array([0.5, 0.9, 0.99], np.float32)
ADAM = 1  # index of Adam's decay among them
SECOND_DECAY, EPS = 0.999, 1e-8
NUM_INPUTS = 3 + len(DECAYS)
NUM_TENSOR_INPUTS = len(TIME_SCALES) + 9
TENSOR_HIDDEN = 16
RATE_SCALE = 5.0  # so that a perturbation of 0.01 changes the rate by 5 %
FEATURES_VERSION = "lean-6+18-linear"


class LeanMLPState(NamedTuple):
    """State of `lean_mlp`; 16 bytes per parameter."""

    count: Array  # (), int32: steps taken
    horizon: Array  # (), float32: steps of the run
    momenta: tuple[optax.Params, ...]  # for each of three decays a float32 leaf of the parameter's shape
    second_moment: optax.Params  # a float32 leaf of the parameter's shape


def lean_mlp(hidden: int = 16, rate: float = 3e-3, anneal: float = 0.0) -> LearnedOptimizer:
    """The design.

    Args:
      hidden: units of the per-parameter network.
      rate: learning rate of Adam, which the design is before outer-training.
      anneal: power of the remaining share of the horizon in the initial rate; 1 is linear decay to nearly zero.

    Returns:
      The learned optimizer; theta is {"w1": (hidden, 6), "b1": (hidden,), "w2": (hidden,), "t1": (16, 18), "c1": (16,),
      "t2": (hidden + 2, 16), "c2": (hidden + 2,), "linear": (hidden + 2, 18)}.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> design = lean_mlp()
      >>> optimizer = design.optimizer(design.init_theta(jax.random.key(0)))
      >>> params = {"w": jnp.ones((3, 2))}
      >>> updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
      >>> updates["w"].shape
      (3, 2)
    """

    def init_theta(key: Key) -> Theta:
        key_hidden, key_tensor = jax.random.split(key)
        linear = jnp.zeros((hidden + 2, NUM_TENSOR_INPUTS))
        return {
            "w1": jax.random.normal(key_hidden, (hidden, NUM_INPUTS)) / np.sqrt(NUM_INPUTS),
            "b1": jnp.zeros((hidden,)),
            "w2": jnp.zeros((hidden,)),
            "t1": jax.random.normal(key_tensor, (TENSOR_HIDDEN, NUM_TENSOR_INPUTS)) / np.sqrt(NUM_TENSOR_INPUTS),
            "c1": jnp.zeros((TENSOR_HIDDEN,)),
            "t2": jnp.zeros((hidden + 2, TENSOR_HIDDEN)),
            "c2": jnp.zeros((hidden + 2,)),
            "linear": linear.at[-1, LEFT].set(anneal * PROGRESS_SCALE / RATE_SCALE),
        }

    def init(params: optax.Params, horizon: int | Array) -> LeanMLPState:
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        horizon = jnp.asarray(horizon, jnp.float32)
        return LeanMLPState(jnp.zeros((), jnp.int32), horizon, (zeros,) * len(DECAYS), zeros)

    def optimizer(theta: Theta, horizon: int | Array = HORIZON) -> optax.GradientTransformationExtraArgs:
        def update(updates, state, params=None, **extra_args):
            del extra_args
            if params is None:
                raise ValueError("lean_mlp reads the parameters: call update(grads, state, params)")
            steps = (state.count + 1).astype(jnp.float32)
            corrections = 1 / (1 - DECAYS**steps)
            second_correction = 1 / (1 - SECOND_DECAY**steps)
            shared = jnp.concatenate([time_features(state.count), progress_features(state.count, state.horizon)])

            # Lists, an element for each tensor.
            structure = jax.tree.structure(updates)
            gs, ws = (as_float32(tree) for tree in (updates, params))
            momenta = [averaged(decay, jax.tree.leaves(m), gs) for decay, m in zip(DECAYS, state.momenta, strict=True)]
            vs = averaged(SECOND_DECAY, jax.tree.leaves(state.second_moment), [g**2 for g in gs])
            over_roots = [1 / (jnp.sqrt(second_correction * v + TINY) + EPS) for v in vs]
            adams = [corrections[ADAM] * m * r for m, r in zip(momenta[ADAM], over_roots, strict=True)]

            # Inputs (tensors, inputs) and outputs (tensors, outputs) of the per-tensor network.
            sizes = [jnp.stack([rms(x) for x in each]) for each in zip(gs, ws, adams, strict=True)]
            compared = zip(momenta[ADAM], gs, ws, strict=True)
            cosines = [jnp.stack([cosine(m, other) for other in others]) for m, *others in compared]
            about = tensor_inputs(shared, gs, [size[1:] for size in sizes], cosines)
            said = jax.nn.relu(about @ theta["t1"].T + theta["c1"][None]) @ theta["t2"].T
            said = said + about @ theta["linear"].T + theta["c2"][None]

            def step(i: int) -> Array:
                # Scales that are constant over the tensor are applied to the weights instead of the inputs.
                scales = jnp.concatenate([jnp.ones(1), corrections, 1 / (sizes[i][:2] + EPS)])
                inputs = [x * over_roots[i] for x in (gs[i], *(m[i] for m in momenta))]
                network = per_parameter(theta["w1"] * scales[None], theta["b1"] + said[i, :-2], theta["w2"])
                direction = adams[i] + network([*inputs, gs[i], ws[i]]) + said[i, -2] * ws[i]
                return rate * jnp.exp(RATE_SCALE * said[i, -1]) * direction

            found = [-step(i).astype(g.dtype) for i, g in enumerate(jax.tree.leaves(updates))]
            momenta, vs = tuple(structure.unflatten(m) for m in momenta), structure.unflatten(vs)
            return structure.unflatten(found), LeanMLPState(state.count + 1, state.horizon, momenta, vs)

        return optax.GradientTransformationExtraArgs(lambda params: init(params, horizon), update)

    return LearnedOptimizer(init_theta, optimizer)


def per_parameter(w1: Array, b1: Array, w2: Array) -> Callable[[Sequence[Array]], Array]:
    """The network w2 relu(w1 x + b1) for every parameter: maps inputs, each of a tensor's shape, to one such output.

    It is written out unit by unit, so that XLA fuses it into one pass over memory. As two matrix products the hidden
    layer is written to memory, and the whole update takes twice as long on a CPU.
    """

    def network(inputs: Sequence[Array]) -> Array:
        output = jnp.zeros_like(inputs[0])
        for unit in range(len(b1)):
            weighted = [w1[unit, i] * x for i, x in enumerate(inputs)]
            output = output + w2[unit] * jax.nn.relu(functools.reduce(jnp.add, weighted) + b1[unit])
        return output

    return network
