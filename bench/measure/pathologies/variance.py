"""The variance of every estimator against the length of the unroll, and the bias of the merged one.

Merging window by window is a part of its own, since it takes a backward pass for each window.

Metz et al., arXiv 1810.10180, section 4. The plug-in 1 / (1 / s_a^2 + 1 / s_b^2) is not a measurement of the merged
variance, since its weights come from the same samples; independent replications of whole estimates are.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import tasks
from bench.measure.pathologies.inner import SIGMA, Curve, load
from bench.measure.pathologies.moments import deviations, products, vectors
from learned.base import Theta
from learned.estimators import Estimate, es, merged, merged_windows, nres, pes, reparam, side_by_side

NUM_SAMPLES = 32  # of an estimate
ESTIMATORS = ("reparam", "es", "merged", "merged_independent", "pes", "nres")
WINDOW = 10  # inner steps of an outer step of pes and nres
MERGED_IN = ("merged", "merged_windows")  # of whole unrolls, and window by window


def window_of(length: int) -> int:
    """The window of pes and nres on unrolls of this length."""
    return min(WINDOW, length)


def variances(theta_name: str, length: int, replications: int, tick: Callable[[], None]) -> Curve:
    """Gradient estimates at a fixed theta, each from 32 samples.

    "merged" combines reparam and es with the same tasks and perturbations, "merged_independent" reparam and an es with
    others. pes and nres are estimates of one outer step, taken after all particles have entered an episode of full
    length, at positions spread over the unroll: they estimate the gradient of a whole unroll from one window of steps.

    Returns:
      Rows (replication, metric, value): "deviation/NAME" (`moments.deviations`); "signal/NAME" (`moments.products`);
      "finite/NAME", 0 where the estimate is not finite; "bias/NAME", products of the merged minus its es and of it
      minus its reparam; "merge_weight/NAME", the mean weight of reparam.
    """
    inner = load(theta_name)
    window = window_of(length)
    pairs, both = side_by_side(NUM_SAMPLES), side_by_side(2 * NUM_SAMPLES)
    rp, plain = (make(inner.objective, NUM_SAMPLES, SIGMA, each) for make, each in ((reparam, pairs), (es, both)))
    truncated = {make.__name__: make(inner.objective, NUM_SAMPLES, SIGMA, pairs) for make in (pes, nres)}

    @jax.jit
    def replicate(theta, arrays, key) -> tuple[dict[str, Theta], dict[str, Any]]:
        shared_key, other_key, carried_key = jax.random.split(key, 3)
        one, other = (e.estimate(theta, (), arrays, shared_key, length, length)[0] for e in (rp, plain))
        apart, _ = plain.estimate(theta, (), arrays, other_key, length, length)
        found = {
            "reparam": one,
            "es": other,
            "es_independent": apart,
            "merged": merged(one, other, ("reparam", "es")),
            "merged_independent": merged(one, apart, ("reparam", "es")),
        }
        for name, estimator in truncated.items():

            def outer_step(i, state, estimator=estimator):
                key = jax.random.fold_in(carried_key, i)
                return estimator.estimate(theta, state, arrays, key, window, length)[1]

            state = estimator.init(theta, arrays, carried_key, window, length)
            state = jax.lax.fori_loop(0, length // window, outer_step, state)
            last_key = jax.random.fold_in(carried_key, length // window)
            found[name] = estimator.estimate(theta, state, arrays, last_key, window, length)[0]
        weights = {name: found[name].info["merge_weight"] for name in ("merged", "merged_independent")}
        return {name: mean(estimate) for name, estimate in found.items()}, weights

    means, weights = [], []
    for key in keys_of(length, replications):
        found, weight = jax.device_get(replicate(inner.theta, inner.arrays, key))
        means.append(found)
        weights.append(weight)
        tick()
    estimates = {name: vectors([found[name] for found in means]) for name in means[0]}
    stored: dict[str, Any] = {}
    for name in ESTIMATORS:
        finite = np.isfinite(estimates[name]).all(axis=1)
        stored[f"finite/{name}"] = finite
        stored[f"deviation/{name}"] = deviations(estimates[name])
        stored[f"signal/{name}"] = products(estimates[name])
    for name, with_es in (("merged", "es"), ("merged_independent", "es_independent")):
        stored[f"bias_to_es/{name}"] = products(estimates[name] - estimates[with_es])
        stored[f"bias_to_reparam/{name}"] = products(estimates[name] - estimates["reparam"])
        stored[f"merge_weight/{name}"] = [weight[name] for weight in weights]
    return rows_of(stored)


def windows(theta_name: str, length: int, replications: int, tick: Callable[[], None]) -> Curve:
    """Merging of whole unrolls and window by window (`learned.estimators.merged_windows`), from the same samples.

    The samples of the first are those of "merged" in `variances`.

    Returns:
      Rows (replication, metric, value): "deviation/NAME" and "finite/NAME" as in `variances`, for `MERGED_IN`, and
      "shift/merged_windows", products of the second minus the first.
    """
    inner, each = load(theta_name), side_by_side(NUM_SAMPLES)
    rp, plain, apart = (make(inner.objective, NUM_SAMPLES, SIGMA, each) for make in (reparam, es, merged_windows))

    @jax.jit
    def replicate(theta, arrays, key) -> dict[str, Theta]:
        shared_key, _, _ = jax.random.split(key, 3)
        one, other, in_windows = (
            e.estimate(theta, (), arrays, shared_key, length, length)[0] for e in (rp, plain, apart)
        )
        whole = merged(one, other, ("reparam", "es"))
        return {name: mean(found) for name, found in zip(MERGED_IN, (whole, in_windows), strict=True)}

    means = []
    for key in keys_of(length, replications):
        means.append(jax.device_get(replicate(inner.theta, inner.arrays, key)))
        tick()
    estimates = {name: vectors([found[name] for found in means]) for name in MERGED_IN}
    stored = {f"finite/{name}": np.isfinite(estimates[name]).all(axis=1) for name in MERGED_IN}
    stored |= {f"deviation/{name}": deviations(estimates[name]) for name in MERGED_IN}
    whole, in_windows = estimates.values()
    stored["shift/merged_windows"] = products(in_windows - whole)
    return rows_of(stored)


def keys_of(length: int, replications: int) -> Array:
    """The keys of the replications for unrolls of a length."""
    return jax.random.split(tasks.named_key("pathologies", "variance", length), replications)


def mean(estimate: Estimate) -> Theta:
    """The gradient, the mean of its samples."""
    return jax.tree.map(lambda g: jnp.mean(g, axis=0), estimate.gradients)


def rows_of(stored: Mapping[str, Any]) -> Curve:
    """Rows (replication, metric, value) of a value for each replication."""
    return [(i, name, float(value)) for name, values in stored.items() for i, value in enumerate(values)]
