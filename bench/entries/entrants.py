"""Entrants: hand-designed and learned optimizers behind one interface, so that the harness treats both alike.

An entrant is `make(variables, horizon) -> optax transformation`. Its variables are tuned hyperparameters or theta, and
are always an argument of the compiled program.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import learned
from baselines import BASELINES, Baseline, find_tuned
from bench.entries.plugins import Registry
from bench.errors import UsageError, nearest, usage_errors
from learned import elsewhere, weights
from learned.designs import make_design, run_key, untrained_theta
from learned.elsewhere import ELSEWHERE


@dataclasses.dataclass(frozen=True, eq=False)
class Entrant:
    """One optimizer of a comparison, ready to run on the tasks of a family.

    Attributes:
      name: the real name, not an alias.
      role: "hand-designed", "learned" or "control".
      make: (variables, horizon) -> optax transformation.
      variables: pytree of float32 arrays: hyperparameters, or theta.
      identity: the hyperparameters that a record stores, JSON-ready.
      tuned_horizon: the horizon that they were tuned at; None for defaults and learned optimizers.
      repeats: how often the harness performs each step; 2 for the control of protocol rule 14.
      program: name of the entrant whose compiled program this one shares, where only variables differ; else empty.
      untrained: for a headline optimizer, a function that makes theta before outer-training; else None.
    """

    name: str
    role: str
    make: Callable[[Any, int], optax.GradientTransformation]
    variables: Any
    identity: Mapping[str, Any]
    tuned_horizon: int | None = None
    repeats: int = 1
    program: str = ""
    untrained: Callable[[], Any] | None = None


def optimizer_names(registry: Registry | None = None) -> list[str]:
    """Names that the option `-o` accepts."""
    plugged = (*registry.baselines, *registry.learned) if registry else ()
    return [*BASELINES, *plugged, *weights.shipped_names(), *learned.ALIASES, *ELSEWHERE]


def real_name(name: str) -> str:
    """The name with an alias resolved."""
    return learned.ALIASES.get(name, name)


def resolve(
    name: str,
    family: str,
    horizon: int,
    *,
    overrides: Mapping[str, float] | None = None,
    tuned_dir: Path | None = None,
    registry: Registry | None = None,
) -> Entrant:
    """The entrant with a name, for a family and a horizon.

    Args:
      name: a row of `BASELINES` or of a plug-in, an optimizer of optax (`baselines.of_optax`), one of
        `learned.ALIASES` or `weights.known_names`, a row of `learned.elsewhere.ELSEWHERE`, or the path of a weights
        file.
      family: task family whose tuned values are used.
      horizon: inner steps; the values tuned at the nearest horizon are used.
      overrides: hyperparameters set by hand.
      tuned_dir: folder of the user's own tuned values.
      registry: tables with the plug-ins' optimizers, and the folder of weights from elsewhere.

    Raises:
      UsageError: the name or a hyperparameter is unknown, weights from elsewhere are not there, or tuned values or
        weights are damaged.
    """
    name, overrides, registry = real_name(name), overrides or {}, registry or Registry()
    with usage_errors():
        if row := registry.baseline(name):
            return _hand_designed(name, row, family, horizon, overrides, tuned_dir, registry)
        if name in (*registry.learned, *ELSEWHERE, *weights.known_names()) or name.endswith(".safetensors"):
            if overrides:
                raise UsageError(f"{name} is learned and has no hyperparameter {next(iter(overrides))!r} to set")
            if name in ELSEWHERE:
                return _elsewhere(name, registry.weights_dir or elsewhere.default_folder(registry.cache_dir))
            return _external(name, registry) if name in registry.learned else _learned(name)
    raise nearest("optimizer", name, optimizer_names(registry))


def _hand_designed(
    name: str,
    baseline: Baseline,
    family: str,
    horizon: int,
    overrides: Mapping[str, float],
    tuned_dir: Path | None,
    registry: Registry,
) -> Entrant:
    tuned_on, tuned_name = baseline.values_of or (family, name)
    tuned = find_tuned(tuned_on, horizon, tuned_name, local_dir=tuned_dir)
    values = dict(tuned.hyperparameters if tuned else baseline.default)
    if tuned and set(values) != set(baseline.default):
        raise UsageError(f"{tuned.path}: expected {sorted(baseline.default)} of {name}, got {sorted(values)}")
    for key in overrides:
        if key not in baseline.default:
            raise nearest(f"hyperparameter of {name}", key, list(baseline.default))
    values |= {key: float(value) for key, value in overrides.items()}
    return Entrant(
        name=name,
        role="hand-designed",
        make=baseline.make,
        variables={key: jnp.float32(value) for key, value in values.items()},
        identity=values
        | ({"tuned_on": tuned_on} if baseline.values_of else {})
        | ({"set_by_hand": sorted(overrides)} if overrides else {})
        | ({"source": registry.sources[name]} if name in registry.sources else {}),
        tuned_horizon=tuned.horizon if tuned else None,
    )


def _learned(name: str) -> Entrant:
    theta, card = weights.read(name)
    design = make_design(card.design, card.design_options)
    digest = weights.digest(theta)
    judged = name == learned.HEADLINE
    return Entrant(
        # A file may hold another theta under a shipped name: the digest distinguishes them.
        name=f"{card.name}@{digest[:8]}" if name.endswith(".safetensors") else card.name,
        role="learned",
        make=design.optimizer,
        variables=jax.tree.map(jnp.asarray, theta),
        identity={"design": card.design, **card.design_options, "theta_sha256": digest[:16]},
        untrained=(lambda: untrained_theta(design, run_key(card.name, card.outer_training["seed"])))
        if judged
        else None,
    )


def _elsewhere(name: str, folder: Path) -> Entrant:
    theta = elsewhere.read(name, folder)
    digest = weights.digest(theta)
    return Entrant(
        # As for a file: what is said of the row's origin is true of the published weights alone.
        name=name if elsewhere.is_published(name, theta) else f"{name}@{digest[:8]}",
        role="learned",
        make=ELSEWHERE[name].make,
        variables=jax.tree.map(jnp.asarray, theta),
        identity={"design": name, "theta_sha256": digest[:16]},
    )


def _external(name: str, registry: Registry) -> Entrant:
    row, source = registry.learned[name], registry.sources.get(name, "")
    theta = jax.tree.map(jnp.asarray, row.theta)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(theta)}
    identity = {"source": source, "theta_sha256": weights.digest(named)[:16]}
    return Entrant(name=name, role="learned", make=row.make, variables=theta, identity=identity)
