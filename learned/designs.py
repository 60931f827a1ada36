"""The designs of learned optimizers: a literal table, name -> constructor."""

import inspect
from collections.abc import Callable, Mapping

import jax

import tasks
from learned import lean_mlp, normalized, orthogonal, per_parameter_mlp
from learned.base import Key, LearnedOptimizer, Theta

DESIGNS: dict[str, Callable[..., LearnedOptimizer]] = {
    "per_parameter_mlp": per_parameter_mlp.per_parameter_mlp,
    "lean_mlp": lean_mlp.lean_mlp,
    "orthogonal": orthogonal.orthogonal,
    "normalized": normalized.normalized,
}
FEATURES_VERSIONS: dict[str, str] = {
    "per_parameter_mlp": per_parameter_mlp.FEATURES_VERSION,
    "lean_mlp": lean_mlp.FEATURES_VERSION,
    "orthogonal": orthogonal.FEATURES_VERSION,
    "normalized": normalized.FEATURES_VERSION,
}


def theta_shapes(name: str, options: Mapping[str, float]) -> Theta:
    """Shapes and dtypes of a design's theta; raises the errors of `make_design`."""
    return jax.eval_shape(make_design(name, options).init_theta, jax.random.key(0))


def run_key(name: str, seed: int) -> Key:
    """The key from which all randomness of an outer-training run is derived."""
    return tasks.named_key("outer-train", name, seed)


def untrained_theta(design: LearnedOptimizer, key: Key) -> Theta:
    """Theta of a design before outer-training, for the key of a run."""
    return design.init_theta(jax.random.fold_in(key, 0))


def make_design(name: str, options: Mapping[str, float]) -> LearnedOptimizer:
    """A design by name.

    Raises:
      tasks.UnknownNameError: the design or an option is unknown.
    """
    if name not in DESIGNS:
        raise tasks.UnknownNameError("design", name, sorted(DESIGNS))
    known = list(inspect.signature(DESIGNS[name]).parameters)
    for option in options:
        if option not in known:
            raise tasks.UnknownNameError(f"option of {name}", option, known)
    return DESIGNS[name](**options)
