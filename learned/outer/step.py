"""The compiled parts of outer-training: one outer step, and outer-validation.

An outer step (Metz et al., arXiv 1810.10180, algorithm 1): an estimator computes a gradient for each sample. Adam
updates theta by their clipped mean, and then the exponential average of theta. Samples are spread over devices; the
number of devices changes rounding only.

An update with a non-finite gradient is skipped, and the step size is halved. Each later update raises the step size by
a tenth, up to its full value.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import tasks
from learned import weights
from learned.base import LearnedOptimizer, Part, Theta
from learned.config import OuterConfig
from learned.designs import make_design, run_key, untrained_theta
from learned.estimators import (
    Estimate,
    Estimator,
    make_by_name,
    merge,
    one_by_one,
    over_devices,
    side_by_side,
    with_own_es,
)
from learned.estimators.base import TASKS_AXIS, Each, all_finite, scaled, signal_to_noise
from learned.objective import FamilyObjective, Objective

LEAST_LOSS = 0.01  # of an unroll, where its logarithm counts


class OuterState(NamedTuple):
    """What an outer step changes."""

    theta: Theta
    average: Theta  # of theta, with decay `ema`
    opt_state: optax.OptState
    carried: Any  # state of the estimator
    step_factor: Array  # (): factor of the step size, below 1 after a non-finite gradient


class Families(NamedTuple):
    """The families of outer-training, with their data."""

    trained: tuple[tasks.TaskFamily, ...]  # an outer step takes one
    judged: tuple[tasks.TaskFamily, ...]  # outer-validation takes all


def load_families(config: OuterConfig, **where: Any) -> Families:
    """The families of a configuration. Arguments and errors as `tasks.load_family`."""
    trained, judged = (
        tuple(tasks.load_family(member, **where) for member in tasks.MIXTURES.get(name, (name,)))
        for name in (config.family, config.validation_family or config.family)
    )
    return Families(trained, judged)


class Engine:
    """The compiled parts of a run.

    Args:
      config: configuration of outer-training.
      families: the families with their data; a single one is also what theta is judged on.
      num_devices: devices that samples are spread over; a divisor of `num_tasks` and `validation_num_tasks`.

    Raises:
      ValueError: there are too few devices, samples do not divide among them, or the weights of `begin_from` are
        missing or have another design; one line.

    Attributes:
      begun_from: digest and card of the weights that initialize theta; None where the design initializes it.
      arrays: the data of all families and the key of the run, on the devices. Programs take the key as an argument, so
        that those of another seed are the same and are compiled once.
      step: (state, arrays, outer_step, num_steps=, horizon=, member=0) -> (state, metrics) for unrolls on tasks of one
        of the families; metrics are scalars by name.
    """

    def __init__(self, config: OuterConfig, families: tasks.TaskFamily | Families, num_devices: int = 1):
        self.config = config
        self.families = Families((families,), (families,)) if isinstance(families, tasks.TaskFamily) else families
        self.mesh = task_mesh(num_devices, config)
        self.design: LearnedOptimizer = make_design(config.design, dict(config.design_options))
        self.begin_theta, self.begun_from = None, None
        if config.begin_from:
            found = weights.read_beginning(config.begin_from, config.design, dict(config.design_options))
            self.begin_theta, self.begun_from = found
        # The state has the same sharding before and after an outer step; else the second step would compile again.
        self.whole = NamedSharding(self.mesh, PartitionSpec())
        split = NamedSharding(self.mesh, PartitionSpec(TASKS_AXIS))
        whole: Any = self.whole
        self.shardings = OuterState(whole, whole, whole, split, whole)
        self.drawn_as = config.drawn_as or config.name
        self.key = run_key(self.drawn_as, config.seed)
        arrays = [tuple(family.arrays for family in part) for part in self.families]
        # The key as numbers: a typed one cannot be put on devices of another process.
        self.arrays = jax.device_put([*arrays, jax.random.key_data(self.key)], self.whole)
        each = self._each(2 * config.num_tasks)
        self.estimators = [
            make_estimator(config, self.objective(family, "outer_train", config.untold), each)
            for family in self.families.trained
        ]
        self.optimizer = outer_optimizer(config)
        static = ("num_steps", "member")
        self.step = jax.jit(self._step, static_argnames=static, out_shardings=(self.shardings, self.whole))
        self._judge = jax.jit(self._loss_on, static_argnames="which", out_shardings=self.whole)
        # Estimators over full unrolls, as of a mixture, carry nothing.
        self._carried_anew = jax.jit(self.estimators[0].init, static_argnums=3, out_shardings=split)

    @property
    def beginning(self) -> dict[str, Any]:
        """The fact "begun_from" of cards and checkpoints; empty where the design initializes theta."""
        return {"begun_from": self.begun_from} if self.begun_from else {}

    def unroll_at(self, outer_step: int) -> tuple[int, int, int]:
        """(index of the family, inner steps of an unroll, inner steps of a whole one) of an outer step."""
        trained = self.families.trained
        member = self.config.member_at(outer_step, len(trained))
        longest = trained[member].problem.horizon if len(trained) > 1 else None
        return member, *self.config.lengths_at(outer_step, longest)

    def objective(self, family: tasks.TaskFamily, pool: str, untold: float = 0.0) -> FamilyObjective:
        """The outer-loss on tasks of a family's pool, a share of them with an optimizer not told the horizon."""
        kind = cast(Objective, self.config.objective)
        config = self.config
        return FamilyObjective(
            self.design,
            family.problem,
            family.sample,
            pool,
            kind,
            config.outer_batch,
            config.score_every,
            untold,
            config.late,
        )

    def _each(self, num_samples: int) -> Each:
        """How samples are computed: one by one on a CPU device, all at once on an accelerator."""
        alone = jax.default_backend() == "cpu"
        each = one_by_one if alone else side_by_side(max(num_samples // self.mesh.size, 1))
        return each if self.mesh.size == 1 else over_devices(self.mesh, each)

    def init(self) -> OuterState:
        """The state before the first outer step."""
        num_steps, horizon = self.config.lengths_at(0)

        def init(key: Array, arrays: Any) -> OuterState:
            theta = self.begin_theta or untrained_theta(self.design, key)
            theta = jax.tree.map(jnp.asarray, theta)
            carried = self.estimators[0].init(theta, arrays[0][0], key, num_steps, horizon)
            return OuterState(theta, theta, self.optimizer.init(theta), carried, jnp.ones(()))

        return jax.jit(init, out_shardings=self.shardings)(self.key, self.arrays)

    def begin_stage(self, state: OuterState, outer_step: int) -> OuterState:
        """The state with new unrolls of the estimator, for a stage that starts at this outer step.

        Programs for other lengths are dropped: on a CPU each takes thousands of memory maps, of which Linux allows a
        process 65,530, and a mixture compiles one for each family and length.
        """
        if self.config.lengths_at(outer_step) != self.config.lengths_at(outer_step - 1):
            self.step.clear_cache()  # pyright: ignore[reportAttributeAccessIssue]
        num_steps, horizon = self.config.lengths_at(outer_step)
        key = tasks.named_key("outer-train stage", self.drawn_as, self.config.seed, outer_step)
        return state._replace(carried=self._carried_anew(state.theta, self.arrays[0][0], key, num_steps, horizon))

    def back_to(self, theta: Theta, state: OuterState) -> OuterState:
        """The state with this theta and a new state of the outer optimizer; the step factor is kept."""
        theta = jax.device_put(theta, self.whole)
        return state._replace(theta=theta, average=theta, opt_state=self.optimizer.init(theta))

    def _step(self, state: OuterState, arrays: Any, outer_step: Array, num_steps: int, horizon: Array, member: int = 0):
        """Estimate, clip, update, average."""
        key = jax.random.fold_in(jax.random.wrap_key_data(arrays[2]), outer_step + 1)
        estimate, carried = self.estimators[member].estimate(
            state.theta, state.carried, arrays[0][member], key, num_steps, horizon
        )
        trained = [part for name, part in self.design.parts if name in self.config.parts]
        gradients = of_parts(trained, estimate.gradients)
        if self.config.relative:
            gradients = of_logarithm(gradients, jnp.mean(estimate.losses, axis=1))
        kept = no_outliers(gradients, self.config.leave_out) if self.config.leave_out else None
        gradient = mean_clipped(gradients, self.config.clip_sample, kept)
        finite = all_finite(gradient)
        metrics = self._metrics(estimate, gradient, finite, state)
        theta, opt_state = self._updated(gradient, finite, state)
        average = jax.tree.map(lambda a, t: self.config.ema * a + (1 - self.config.ema) * t, state.average, theta)
        factor = jnp.where(finite, jnp.minimum(1.0, 1.1 * state.step_factor), 0.5 * state.step_factor)
        return OuterState(theta, average, opt_state, carried, factor), metrics

    def _metrics(self, estimate: Estimate, gradient: Theta, finite: Array, state: OuterState) -> dict[str, Array]:
        """The metrics of an outer step, scalars by name."""
        return {
            "outer_loss": jnp.mean(estimate.losses),
            "gradient_norm": optax.tree.norm(gradient),
            "sample_norm": jnp.median(lengths_of(estimate.gradients)),
            "num_non_finite": estimate.num_non_finite,
            "skipped": ~finite,
            "step_factor": state.step_factor,
            f"signal_to_noise/{self.estimators[0].name}": signal_to_noise(estimate.gradients),
            **estimate.info,
        }

    def _updated(self, gradient: Theta, finite: Array, state: OuterState) -> tuple[Theta, optax.OptState]:
        """Theta and the outer optimizer's state after an update; unchanged if the gradient is not finite."""
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.theta)
        theta = jax.tree.map(lambda t, u: t + state.step_factor * u, state.theta, updates)
        made, before = (theta, opt_state), (state.theta, state.opt_state)
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), made, before)

    def validate(self, theta: Theta, arrays: Any) -> float:
        """Mean outer-loss on the tasks of outer-validation, the same each time."""
        judged = range(len(self.families.judged))
        return float(self._mean(jnp.stack([self._judge(theta, arrays, which=which) for which in judged])))

    def _mean(self, losses: Array) -> Array:
        """The mean of outer-losses, geometric where they are relative, ()."""
        return jnp.exp(jnp.mean(jnp.log(losses))) if self.config.relative else jnp.mean(losses)

    def _loss_on(self, theta: Theta, arrays: Any, which: int) -> Array:
        """Mean outer-loss on outer-validation tasks of one family, ()."""
        config, family = self.config, self.families.judged[which]
        held_out, of_family = self.objective(family, "outer_validation"), arrays[1][which]
        # The tasks of a single family are those that earlier runs were judged on.
        named = config.family if config.validation_family is None else family.problem.family
        keys = jax.random.split(tasks.named_key("outer-validation", named), config.validation_num_tasks)
        num_steps = config.validation_num_steps
        if config.validation_family is not None:
            num_steps = min(num_steps, family.problem.horizon)

        def loss(shared, key):
            theta, arrays = shared
            return held_out(theta, arrays, key, num_steps)

        return self._mean(self._each(config.validation_num_tasks)(loss, (theta, of_family), keys))


def of_parts(parts: Sequence[Part], gradients: Theta) -> Theta:
    """Gradients of samples, leaves (num_samples, ...), with zeros outside these parts of theta; all without parts."""
    if not parts:
        return gradients
    kept = {name: np.zeros(leaf.shape[1:], bool) for name, leaf in gradients.items()}
    for part in parts:
        for name, place in part:
            kept[name][place] = True
    return {name: jnp.where(kept[name], leaf, 0.0) for name, leaf in gradients.items()}


def of_logarithm(gradients: Theta, losses: Array) -> Theta:
    """Gradients of the logarithms of losses (num_samples,), from those of the losses, leaves (num_samples, ...)."""
    return scaled(1 / jnp.maximum(losses, LEAST_LOSS), gradients)


def no_outliers(gradients: Theta, most: float) -> Array:
    """Which samples have gradients of at most `most` times the median length, bool (num_samples,).

    One that is not finite is too long; where most are, all are in.
    """
    lengths = lengths_of(gradients)
    return lengths <= most * jnp.median(lengths)


def lengths_of(gradients: Theta) -> Array:
    """Norms of the samples, (num_samples,); infinite where one is not finite."""
    lengths = jax.vmap(optax.tree.norm)(gradients)
    return jnp.where(jnp.isfinite(lengths), lengths, jnp.inf)


def mean_clipped(gradients: Theta, limit: float, kept: Array | None = None) -> Theta:
    """The mean of per-sample gradients, leaves (num_samples, ...), each `clipped` to the limit; 0 means no clipping.

    Where `kept`, bool (num_samples,), is given, it is the mean of those samples.
    """
    if limit:
        gradients = jax.vmap(lambda sample: clipped(sample, limit))(gradients)

    def mean(g: Array) -> Array:
        return jnp.mean(g, axis=0, where=None if kept is None else kept.reshape(-1, *(1,) * (g.ndim - 1)))

    return jax.tree.map(mean, gradients)


def clipped(gradient: Theta, limit: float) -> Theta:
    """A gradient scaled to a norm of at most the limit; non-finite values stay non-finite."""
    scale = jnp.minimum(1.0, limit / optax.tree.norm(gradient))
    return jax.tree.map(lambda g: scale * g, gradient)


def task_mesh(num_devices: int, config: OuterConfig) -> Mesh:
    """A mesh of the first devices along the axis "tasks".

    Raises:
      ValueError: there are too few devices, or samples do not divide among them; one line.
    """
    devices = jax.devices()
    if num_devices > len(devices):
        raise ValueError(f"expected at most {len(devices)} devices, which is what there is, got {num_devices}")
    for key in ("num_tasks", "validation_num_tasks"):
        if getattr(config, key) % num_devices:
            raise ValueError(f"expected a multiple of {num_devices} devices for {key}, got {getattr(config, key)}")
    return jax.make_mesh((num_devices,), (TASKS_AXIS,), axis_types=(AxisType.Auto,), devices=devices[:num_devices])


def make_estimator(config: OuterConfig, objective: FamilyObjective, each: Each = one_by_one) -> Estimator:
    """The estimator of a configuration, or its two estimators merged."""
    made = [
        make_by_name(name, objective, config.num_tasks, config.sigma, each, config.late) for name in config.estimator
    ]
    if config.shares_unrolls:
        return with_own_es(made[0], config.num_tasks, config.sigma)
    return made[0] if len(made) == 1 else merge(*made, shared=config.shared_samples)


def outer_optimizer(config: OuterConfig) -> optax.GradientTransformation:
    """Clipping by value, clipping by norm, Adam with a cosine over the whole run."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.outer_steps, alpha=config.final_learning_rate)
    return optax.chain(
        optax.clip(config.clip_value) if config.clip_value else optax.identity(),
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.adam(schedule, b1=config.b1),
    )
