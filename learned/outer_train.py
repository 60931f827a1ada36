"""Outer-training: theta by stochastic gradients of the outer-loss over a family's outer-training classes.

A configuration (TOML, `learned/configs/`) names the design, the family, the curriculum of unroll
lengths and the outer optimizer. The best theta by the outer-validation classes is kept.
"""

import dataclasses
import json
import math
import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard, cast

import jax
import jax.numpy as jnp
import optax

import tasks
from learned import cards, weights
from learned.base import Theta
from learned.designs import make_design
from learned.estimators import es
from learned.objective import FamilyObjective, Objective

CONFIG_DIR = Path(__file__).parent / "configs"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of the curriculum: `outer_steps` updates on unrolls of `num_steps` inner steps."""

    num_steps: int
    outer_steps: int


@dataclasses.dataclass(frozen=True)
class OuterConfig:
    """Everything that defines an outer-training run.

    Attributes:
      name: of the theta it makes.
      design: row of `learned.designs.DESIGNS`.
      design_options: keyword arguments of the design.
      family: task family; tasks are drawn from its outer_train pool.
      objective: "train" or "validation", the split that scores a step.
      num_tasks: samples of each gradient estimate.
      sigma: scale of the perturbation.
      learning_rate: of Adam on theta, decayed by a cosine to a tenth over the whole run.
      b1: Adam's first decay.
      clip_norm: global norm that the gradient is clipped to.
      stages: the curriculum.
      validation_num_steps: inner steps of an outer-validation unroll.
      validation_num_tasks: tasks of an outer-validation, the same each time.
      validation_every: outer steps between outer-validations.
      seed: of theta's initialization, tasks and perturbations.
    """

    name: str
    design: str
    family: str
    stages: tuple[Stage, ...]
    design_options: tuple[tuple[str, float], ...] = ()
    objective: str = "train"
    num_tasks: int = 8
    sigma: float = 0.01
    learning_rate: float = 3e-3
    b1: float = 0.9
    clip_norm: float = 1.0
    validation_num_steps: int = 200
    validation_num_tasks: int = 16
    validation_every: int = 25
    seed: int = 0

    @property
    def outer_steps(self) -> int:
        """Outer steps of all stages."""
        return sum(stage.outer_steps for stage in self.stages)

    def num_steps_at(self, outer_step: int) -> int:
        """Unroll length of an outer step."""
        for stage in self.stages:
            if outer_step < stage.outer_steps:
                return stage.num_steps
            outer_step -= stage.outer_steps
        return self.stages[-1].num_steps


def config_names() -> list[str]:
    """Names of the configurations that ship with the package."""
    return sorted(path.stem for path in CONFIG_DIR.glob("*.toml"))


def load_config(name_or_path: str) -> OuterConfig:
    """Reads a configuration by name (`learned/configs/NAME.toml`) or path.

    Raises:
      ValueError: no such configuration, not TOML, an unknown or missing key, or a value of the wrong kind; one line.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else CONFIG_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        raise tasks.UnknownNameError("outer-training config", name_or_path, config_names())
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    known = {field.name: field for field in dataclasses.fields(OuterConfig)}
    for key in table:
        if key not in known:
            raise ValueError(f"{path}: {tasks.UnknownNameError('key', key, sorted(known))}")
    missing = [k for k, f in known.items() if f.default is dataclasses.MISSING and k not in table]
    if missing:
        raise ValueError(f"{path}: expected keys {', '.join(missing)}")
    try:
        table["stages"] = tuple(Stage(**stage) for stage in table["stages"])
        if not table["stages"] or not all(
            _is_count(n) for stage in table["stages"] for n in dataclasses.astuple(stage)
        ):
            raise TypeError("at least one, whole numbers > 0")
    except TypeError as error:
        raise ValueError(f"{path}: stages are tables of num_steps and outer_steps: {error}") from None
    options = table.get("design_options", {})
    if not isinstance(options, dict):
        raise ValueError(f"{path}: expected a table for design_options, got {options!r}")
    for key, value in options.items():
        if not _is_number(value):
            raise ValueError(f"{path}: expected a number for design option {key}, got {value!r}")
    table["design_options"] = tuple(sorted(options.items()))
    for key, value in table.items():
        kind = known[key].type
        if kind is str and not isinstance(value, str):
            raise ValueError(f"{path}: expected text for {key}, got {value!r}")
        if kind is int and not (_is_count(value) or (key == "seed" and value == 0)):
            raise ValueError(
                f"{path}: expected a whole number {'>=' if key == 'seed' else '>'} 0 for {key}, got {value!r}"
            )
        if kind is float and not (_is_number(value) and (value > 0 or (key != "sigma" and value == 0))):
            raise ValueError(f"{path}: expected a number {'>' if key == 'sigma' else '>='} 0 for {key}, got {value!r}")
    config = OuterConfig(**table)
    if config.objective not in ("train", "validation"):
        raise ValueError(f"{path}: expected objective train or validation, got {config.objective!r}")
    try:
        make_design(config.design, dict(config.design_options))
        tasks.family_row(config.family)
    except tasks.UnknownNameError as error:
        raise ValueError(f"{path}: {error}") from None
    return config


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclasses.dataclass
class Progress:
    """What a caller sees after an outer step."""

    outer_step: int
    num_steps: int
    metrics: dict[str, float]
    seconds: float
    inner_steps: int


def outer_train(
    config: OuterConfig,
    family: tasks.TaskFamily,
    *,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_best: Callable[[Theta, dict[str, Any]], None] = lambda theta, facts: None,
    budget_seconds: float = float("inf"),
) -> tuple[Theta, list[dict[str, float]], dict[str, Any]]:
    """Runs outer-training.

    Args:
      config: what to run.
      family: its data; see `tasks.load_family`.
      on_step: called after every outer step.
      on_best: called with (theta, facts) whenever outer-validation improves, so that the best is on disk at any time.
      budget_seconds: wall-clock after which the run ends with what it has.

    Returns:
      The best theta by outer-validation, the metrics of every outer step, and the facts of the run (cost, best loss).
    """
    design = make_design(config.design, dict(config.design_options))
    problem, sample = family.problem, family.sample
    objective = cast(Objective, config.objective)
    estimator = es(
        FamilyObjective(design, problem, sample, "outer_train", objective),
        config.num_tasks,
        config.sigma,
        None if jax.default_backend() == "cpu" else config.num_tasks * 2,
    )
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.outer_steps, alpha=0.1)
    outer_optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(schedule, b1=config.b1))
    key = tasks.named_key("outer-train", config.name, config.seed)
    theta = design.init_theta(jax.random.fold_in(key, 0))
    opt_state = outer_optimizer.init(theta)
    state = estimator.init(theta, family.arrays, key, config.num_steps_at(0), config.num_steps_at(0))

    def step(theta, opt_state, state, arrays, outer_step, num_steps: int):
        step_key = jax.random.fold_in(key, outer_step + 1)
        estimate, state = estimator.estimate(theta, state, arrays, step_key, num_steps, num_steps)
        gradient = jax.tree.map(lambda g: jnp.mean(g, axis=0), estimate.gradients)
        updates, opt_state = outer_optimizer.update(gradient, opt_state, theta)
        metrics = {
            "outer_loss": jnp.mean(estimate.losses),
            "gradient_norm": optax.tree.norm(gradient),
            "num_non_finite": estimate.num_non_finite,
        }
        return optax.apply_updates(theta, updates), opt_state, state, metrics

    step = jax.jit(step, static_argnames="num_steps", donate_argnums=(0, 1))
    held_out = FamilyObjective(design, problem, sample, "outer_validation", objective)
    validation_keys = jax.random.split(tasks.named_key("outer-validation", config.family), config.validation_num_tasks)

    @jax.jit
    def validate(theta, arrays):
        losses = jax.lax.map(lambda k: held_out(theta, arrays, k, config.validation_num_steps), validation_keys)
        return jnp.mean(losses)

    start, inner_steps, log = time.monotonic(), 0, []
    best_theta, best = jax.device_get(theta), float("inf")
    facts: dict[str, Any] = {}
    validations: list[tuple[int, int, float]] = []
    for outer_step in range(config.outer_steps):
        num_steps = config.num_steps_at(outer_step)
        theta, opt_state, state, metrics = step(theta, opt_state, state, family.arrays, outer_step, num_steps)
        row = {name: float(value) for name, value in metrics.items()}
        inner_steps += 2 * config.num_tasks * num_steps
        last = outer_step + 1 == config.outer_steps or time.monotonic() - start > budget_seconds
        if (outer_step + 1) % config.validation_every == 0 or last:
            row["outer_validation_loss"] = float(validate(theta, family.arrays))
            validations.append((outer_step + 1, num_steps, round(row["outer_validation_loss"], 4)))
            if row["outer_validation_loss"] < best:
                best, best_theta = row["outer_validation_loss"], jax.device_get(theta)
                facts = {
                    "outer_validation_loss": round(best, 4),
                    "outer_step": outer_step + 1,
                    "inner_steps": inner_steps,
                    "device_hours": round((time.monotonic() - start) / 3600, 3),
                    "device": jax.devices()[0].device_kind,
                    "outer_validation_curve": list(validations),
                }
                on_best(best_theta, facts)
        log.append({"outer_step": outer_step + 1, "num_steps": num_steps, **row})
        on_step(Progress(outer_step + 1, num_steps, row, time.monotonic() - start, inner_steps))
        if last:
            break
    facts |= {
        "total_outer_steps": len(log),
        "total_inner_steps": inner_steps,
        "total_device_hours": round((time.monotonic() - start) / 3600, 3),
    }
    return best_theta, log, facts


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_best(path: Path, config: OuterConfig, theta: Theta, facts: dict[str, Any], extra: dict[str, Any]) -> None:
    """Writes theta with all that made it: config, facts of the run, data digest and commit in `extra`."""
    card = weights.Card(
        name=config.name,
        design=config.design,
        design_options=dict(config.design_options),
        outer_training=json.loads(json.dumps(dataclasses.asdict(config))),
        facts=facts | extra,
    )
    write_atomically(path, weights.save_bytes(theta, card))
    _, card = weights.read(path)
    write_atomically(cards.path_beside(path), cards.render(card).encode())
