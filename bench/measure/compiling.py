"""The time to compile a training step of a transformer of two blocks, which has many tensors of few shapes."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array

from bench.entries.entrants import Entrant

HORIZON = 1000  # for schedules
VOCABULARY, LENGTH, BATCH_SIZE = 256, 64, 8
WIDTH, HEADS, BLOCKS = 128, 4, 2


class Transformer(nn.Module):
    """A decoder without a causal mask, which does not change what there is to compile."""

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """Maps tokens (batch, length) to logits (batch, length, vocabulary)."""
        x = nn.Embed(VOCABULARY, WIDTH)(tokens) + nn.Embed(LENGTH, WIDTH)(jnp.arange(LENGTH))[None]
        for _ in range(BLOCKS):
            x = x + nn.MultiHeadDotProductAttention(HEADS)(nn.LayerNorm()(x))
            x = x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))
        return nn.Dense(VOCABULARY)(nn.LayerNorm()(x))


def compile_seconds(
    entrants: Sequence[Entrant], num_blocks: int, tick: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Times how long XLA takes to compile a training step, without tracing.

    Args:
      entrants: the optimizers.
      num_blocks: how often each is compiled, in turn.
      tick: called after every compilation.

    Returns:
      (num_blocks, entrants), in seconds.

    Raises:
      ValueError: JAX_COMPILATION_CACHE_DIR is set: what is in the cache would not be compiled.
    """
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("expected no JAX_COMPILATION_CACHE_DIR: what is in the cache would not be compiled")
    net, tokens = Transformer(), jnp.zeros((BATCH_SIZE, LENGTH), jnp.int32)
    params = jax.eval_shape(net.init, jax.random.key(0), tokens)["params"]

    def loss_of(params):
        logits: Any = net.apply({"params": params}, tokens)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean()

    def timed(entrant: Entrant) -> float:
        def step(variables, params, state):
            optimizer = optax.with_extra_args_support(entrant.make(variables, HORIZON))
            loss, grads = jax.value_and_grad(loss_of)(params)
            updates, state = optimizer.update(grads, state, params, value=loss)
            return optax.apply_updates(params, updates), state, loss

        state = jax.eval_shape(lambda variables, p: entrant.make(variables, HORIZON).init(p), entrant.variables, params)
        lowered = jax.jit(step).lower(entrant.variables, params, state)
        start = time.perf_counter()
        lowered.compile()
        seconds = time.perf_counter() - start
        tick()
        return seconds

    return np.array([[timed(entrant) for entrant in entrants] for _ in range(num_blocks)])
