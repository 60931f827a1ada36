"""The bias of truncated backpropagation against its window.

Metz et al., arXiv 1810.10180, section 2.3: the gradient of a window ignores how theta changed the state before it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

import tasks
from bench.measure.pathologies.inner import Curve, load
from bench.measure.pathologies.moments import products, vectors
from learned.estimators.base import OuterObjective, mean_loss

LENGTH = 200  # of the unrolls
WINDOWS = (5, 10, 20, 50, 100, LENGTH)
UNROLLS_PER_REPLICATION = 8  # whose mean gradient is a replication


def truncated_gradient(objective: OuterObjective, theta, arrays, key, window: int, length: int):
    """The gradient of a window's mean loss with its first state held fixed, averaged over the windows of an unroll."""

    def loss(theta):
        def one(state, _):
            state, losses = objective.advance(theta, arrays, jax.lax.stop_gradient(state), key, window)
            return state, mean_loss(losses)[0]

        _, losses = jax.lax.scan(one, objective.start(theta, arrays, key, length), length=length // window)
        return jnp.mean(losses)

    return jax.grad(loss)(theta)


def biases(theta_name: str, replications: int, tick: Callable[[], None]) -> Curve:
    """Truncated gradients of the same unrolls for every window length; the longest is the whole unroll.

    Returns:
      Rows (replication, metric, value), values being `moments.products`: "true" of the exact gradient g;
      "truncated/K" of the truncated one g_K; "along/K" of g_K with g; "bias/K" of their difference.
    """
    inner = load(theta_name)
    keys = jax.random.split(tasks.named_key("pathologies", "truncation"), (replications, UNROLLS_PER_REPLICATION))

    @jax.jit
    def replicate(theta, arrays, keys):
        def mean_gradient(window):
            each = jax.vmap(lambda k: truncated_gradient(inner.objective, theta, arrays, k, window, LENGTH))
            return jax.tree.map(lambda g: jnp.mean(g, axis=0), each(keys))

        return {window: mean_gradient(window) for window in WINDOWS}

    found = []
    for some in keys:
        found.append(jax.device_get(replicate(inner.theta, inner.arrays, some)))
        tick()
    gradients = {window: vectors([some[window] for some in found]) for window in WINDOWS}
    true = gradients[LENGTH]
    stored = {"true": products(true)}
    for window in WINDOWS[:-1]:
        stored[f"truncated/{window}"] = products(gradients[window])
        stored[f"along/{window}"] = (products(gradients[window], true) + products(true, gradients[window])) / 2
        stored[f"bias/{window}"] = products(gradients[window] - true)
    return [(i, name, float(value)) for name, values in stored.items() for i, value in enumerate(values)]
