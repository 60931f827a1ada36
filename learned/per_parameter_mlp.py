"""The per-parameter MLP of Metz et al.

Metz, Maheswaranathan, Nixon, Freeman, Sohl-Dickstein, "Understanding and correcting pathologies in the training of
learned optimizers", ICML 2019, arXiv 1810.10180, appendix on the optimizer's architecture.

A network with one hidden layer of 32 ReLU units is applied to every parameter. It has 31 inputs and two outputs
d and m:

    update = -step_scale * d * exp(exp_scale * m)

Inputs, for decays b in .5 .9 .99 .999 .9999: the gradient g; the parameter w; momenta m_b <- b m_b + (1 - b) g;
second moments v_b <- b v_b + (1 - b) g^2; r_b = rsqrt(v_b + 1e-6); m_b r_b; and nine time features tanh(t / s - 1).
Every input but the time features is divided by its root mean square over the tensor. Momenta are not bias-corrected.

Differences: the authors' released code switches the second moments off; here they are on, as in the paper's text. Time
is constant over a tensor, so its part of the first layer is folded into the bias, and the scale of each input into the
weights. The numbers are the same, and the cost is that of 22 inputs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from learned.base import HORIZON, Key, LearnedOptimizer, Theta
from learned.features import TIME_SCALES, time_features

DECAYS = np.array([0.5, 0.9, 0.99, 0.999, 0.9999], np.float32)
NUM_TENSOR_INPUTS = 2 + 4 * len(DECAYS)
NUM_INPUTS = NUM_TENSOR_INPUTS + len(TIME_SCALES)
FEATURES_VERSION = "metz2019-31"


class PerParameterMLPState(NamedTuple):
    """State of `per_parameter_mlp`; 40 bytes per parameter."""

    count: Array  # (), int32: steps taken
    momenta: optax.Params  # a (5, *shape) float32 leaf for each parameter
    second_moments: optax.Params  # likewise


def features(grad: Array, param: Array, momenta: Array, second_moments: Array) -> Array:
    """The inputs that vary over a tensor, in the order of the module docstring, before scaling.

    Args:
      grad: (n,).
      param: (n,).
      momenta: (5, n).
      second_moments: (5, n).

    Returns:
      (22, n), features first: the layout in which the first layer is one matrix product over contiguous rows.
    """
    rsqrt = jax.lax.rsqrt(second_moments + 1e-6)
    return jnp.concatenate([grad[None], param[None], momenta, second_moments, rsqrt, momenta * rsqrt])


def per_parameter_mlp(hidden: int = 32, step_scale: float = 1e-3, exp_scale: float = 1e-3) -> LearnedOptimizer:
    """The design, for a hidden width and output scales.

    Args:
      hidden: units of the hidden layer; 32 in the paper, which makes 1,090 weights.
      step_scale: factor of the step; 1e-3 in the paper.
      exp_scale: factor of m in the exponent; 1e-3 in the paper.

    Returns:
      The learned optimizer; theta is {"w1": (hidden, 31), "b1": (hidden,), "w2": (2, hidden), "b2": (2,)}.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> design = per_parameter_mlp()
      >>> optimizer = design.optimizer(design.init_theta(jax.random.key(0)))
      >>> params = {"w": jnp.ones((3, 2))}
      >>> updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
      >>> updates["w"].shape
      (3, 2)
    """

    def init_theta(key: Key) -> Theta:
        key_hidden, key_out = jax.random.split(key)
        return {
            "w1": jax.random.normal(key_hidden, (hidden, NUM_INPUTS)) / np.sqrt(NUM_INPUTS),
            "b1": jnp.zeros((hidden,)),
            "w2": jax.random.normal(key_out, (2, hidden)) / np.sqrt(hidden),
            "b2": jnp.zeros((2,)),
        }

    def init(params: optax.Params) -> PerParameterMLPState:
        zeros = jax.tree.map(lambda p: jnp.zeros((len(DECAYS), *p.shape), jnp.float32), params)
        return PerParameterMLPState(jnp.zeros((), jnp.int32), zeros, zeros)

    def optimizer(theta: Theta, horizon: int | Array = HORIZON) -> optax.GradientTransformationExtraArgs:
        del horizon  # time is absolute in this design

        def update(updates, state, params=None, **extra_args):
            del extra_args
            grads = updates
            if params is None:
                raise ValueError("per_parameter_mlp reads the parameters: call update(grads, state, params)")
            w1, w2, b2 = theta["w1"], theta["w2"], theta["b2"]
            # Time is the same for all parameters, so it is part of the bias.
            bias = theta["b1"] + w1[:, NUM_TENSOR_INPUTS:] @ time_features(state.count)

            def leaf(grad, param, momenta, second_moments):
                flat = grad.reshape(-1).astype(jnp.float32)
                decays = DECAYS[:, None]
                m = decays * momenta.reshape(len(DECAYS), -1) + (1 - decays) * flat[None]
                v = decays * second_moments.reshape(len(DECAYS), -1) + (1 - decays) * flat[None] ** 2
                inputs = features(flat, param.reshape(-1).astype(jnp.float32), m, v)
                scale = jax.lax.rsqrt(1e-5 + jnp.mean(inputs**2, axis=1))
                activations = jax.nn.relu((w1[:, :NUM_TENSOR_INPUTS] * scale[None]) @ inputs + bias[:, None])
                d, log_size = w2 @ activations + b2[:, None]
                step = step_scale * d * jnp.exp(exp_scale * log_size)
                return (
                    -step.reshape(grad.shape).astype(grad.dtype),
                    m.reshape(momenta.shape),
                    v.reshape(momenta.shape),
                )

            results = jax.tree.map(leaf, grads, params, state.momenta, state.second_moments)
            steps, momenta, second_moments = jax.tree.transpose(
                jax.tree.structure(grads), jax.tree.structure((0, 0, 0)), results
            )
            return steps, PerParameterMLPState(state.count + 1, momenta, second_moments)

        return optax.GradientTransformationExtraArgs(init, update)

    return LearnedOptimizer(init_theta, optimizer)
