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
from learned.estimators import Estimate, Estimator, es, merged, merged_windows, nres, pes, reparam, side_by_side
from learned.estimators.base import OuterObjective

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
    # Each a program of its own: one program of all of them takes half as long again to compile.
    estimate_reparam, estimate_es = (estimate_of(make, inner.objective, length) for make in (reparam, es))
    steps = {make.__name__: step_of(make, inner.objective, window, length) for make in (pes, nres)}

    means, weights = [], []
    for key in keys_of(length, replications):
        shared_key, other_key, carried_key = jax.random.split(key, 3)
        one, other = (run(inner.theta, inner.arrays, shared_key) for run in (estimate_reparam, estimate_es))
        apart = estimate_es(inner.theta, inner.arrays, other_key)
        found = {
            "reparam": one,
            "es": other,
            "es_independent": apart,
            "merged": merge(one, other),
            "merged_independent": merge(one, apart),
        }
        for name, (start, step) in steps.items():
            state = start(inner.theta, inner.arrays, carried_key)
            for i in range(length // window + 1):
                found[name], state = step(inner.theta, state, inner.arrays, jax.random.fold_in(carried_key, i))
        weights.append({name: found[name].info["merge_weight"] for name in ("merged", "merged_independent")})
        means.append(jax.device_get({name: mean(estimate) for name, estimate in found.items()}))
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
    inner = load(theta_name)
    estimates_of = [estimate_of(make, inner.objective, length) for make in (reparam, es, merged_windows)]

    means = []
    for key in keys_of(length, replications):
        shared_key, _, _ = jax.random.split(key, 3)
        one, other, in_windows = (run(inner.theta, inner.arrays, shared_key) for run in estimates_of)
        found = zip(MERGED_IN, (merge(one, other), in_windows), strict=True)
        means.append(jax.device_get({name: mean(estimate) for name, estimate in found}))
        tick()
    estimates = {name: vectors([found[name] for found in means]) for name in MERGED_IN}
    stored = {f"finite/{name}": np.isfinite(estimates[name]).all(axis=1) for name in MERGED_IN}
    stored |= {f"deviation/{name}": deviations(estimates[name]) for name in MERGED_IN}
    whole, in_windows = estimates.values()
    stored["shift/merged_windows"] = products(in_windows - whole)
    return rows_of(stored)


def estimate_of(
    make: Callable[..., Estimator], objective: OuterObjective, length: int
) -> Callable[[Theta, Any, Array], Estimate]:
    """Compiled (theta, arrays, key) -> an estimate over whole unrolls of a length."""
    estimator = make(objective, NUM_SAMPLES, SIGMA, side_by_side(NUM_SAMPLES))

    def estimate(theta: Theta, arrays: Any, key: Array) -> Estimate:
        return estimator.estimate(theta, (), arrays, key, length, length)[0]

    return jax.jit(estimate)


def step_of(
    make: Callable[..., Estimator], objective: OuterObjective, window: int, length: int
) -> tuple[Callable[[Theta, Any, Array], Any], Callable[[Theta, Any, Any, Array], tuple[Estimate, Any]]]:
    """Compiled (theta, arrays, key) -> state, and (theta, state, arrays, key) -> (estimate of one window, state)."""
    estimator = make(objective, NUM_SAMPLES, SIGMA, side_by_side(NUM_SAMPLES))

    def start(theta: Theta, arrays: Any, key: Array) -> Any:
        return estimator.init(theta, arrays, key, window, length)

    def step(theta: Theta, state: Any, arrays: Any, key: Array) -> tuple[Estimate, Any]:
        return estimator.estimate(theta, state, arrays, key, window, length)

    return jax.jit(start), jax.jit(step)


@jax.jit
def merge(one: Estimate, other: Estimate) -> Estimate:
    """reparam and es by the inverse of their variances."""
    return merged(one, other, ("reparam", "es"))


def keys_of(length: int, replications: int) -> Array:
    """The keys of the replications for unrolls of a length."""
    return jax.random.split(tasks.named_key("pathologies", "variance", length), replications)


@jax.jit
def mean(estimate: Estimate) -> Theta:
    """The gradient, the mean of its samples."""
    return jax.tree.map(lambda g: jnp.mean(g, axis=0), estimate.gradients)


def rows_of(stored: Mapping[str, Any]) -> Curve:
    """Rows (replication, metric, value) of a value for each replication."""
    return [(i, name, float(value)) for name, values in stored.items() for i, value in enumerate(values)]
