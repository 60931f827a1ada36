"""The compiled parts of outer-training: one outer step, and outer-validation.

An outer step (Metz et al., arXiv 1810.10180, algorithm 1): an estimator computes a gradient for each sample. Adam
updates theta by their clipped mean, and then the exponential average of theta. Samples are spread over devices; the
number of devices changes rounding only.

An update with a non-finite gradient is skipped, and the step size is halved. Each later update raises the step size by
a tenth, up to its full value.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import tasks
from learned import weights
from learned.base import LearnedOptimizer, Theta
from learned.config import OuterConfig
from learned.designs import make_design, run_key, untrained_theta
from learned.estimators import Estimate, Estimator, make_by_name, merge, one_by_one, over_devices, side_by_side
from learned.estimators.base import TASKS_AXIS, Each, all_finite, signal_to_noise
from learned.objective import FamilyObjective, Objective


class OuterState(NamedTuple):
    """What an outer step changes."""

    theta: Theta
    average: Theta  # of theta, with decay `ema`
    opt_state: optax.OptState
    carried: Any  # state of the estimator
    step_factor: Array  # (): factor of the step size, below 1 after a non-finite gradient


class Engine:
    """The compiled parts of a run.

    Args:
      config: configuration of outer-training.
      family: task family with its data; see `tasks.load_family`.
      num_devices: devices that samples are spread over; a divisor of `num_tasks` and `validation_num_tasks`.

    Raises:
      ValueError: there are too few devices, samples do not divide among them, or the weights of `begin_from` are
        missing or have another design; one line.

    Attributes:
      begun_from: digest and card of the weights that initialize theta; None where the design initializes it.
      step: (state, arrays, outer_step, num_steps=, horizon=) -> (state, metrics); metrics are scalars by name.
      validate: (theta, arrays) -> mean outer-loss on the tasks of outer-validation, ().
    """

    def __init__(self, config: OuterConfig, family: tasks.TaskFamily, num_devices: int = 1):
        self.config, self.family = config, family
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
        self.arrays = jax.device_put(family.arrays, self.whole)
        self.estimator = make_estimator(config, self.objective("outer_train"), self._each(2 * config.num_tasks))
        self.key = run_key(config.name, config.seed)
        self.optimizer = outer_optimizer(config)
        self.step = jax.jit(self._step, static_argnames="num_steps", out_shardings=(self.shardings, self.whole))
        self.validate = jax.jit(self._validate)
        self._carried_anew = jax.jit(self.estimator.init, static_argnums=3, out_shardings=split)

    @property
    def beginning(self) -> dict[str, Any]:
        """The fact "begun_from" of cards and checkpoints; empty where the design initializes theta."""
        return {"begun_from": self.begun_from} if self.begun_from else {}

    def objective(self, pool: str) -> FamilyObjective:
        """The outer-loss on tasks of a pool."""
        kind = cast(Objective, self.config.objective)
        config = self.config
        return FamilyObjective(
            self.design, self.family.problem, self.family.sample, pool, kind, config.outer_batch, config.score_every
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
            carried = self.estimator.init(theta, arrays, key, num_steps, horizon)
            return OuterState(theta, theta, self.optimizer.init(theta), carried, jnp.ones(()))

        return jax.jit(init, out_shardings=self.shardings)(self.key, self.arrays)

    def begin_stage(self, state: OuterState, outer_step: int) -> OuterState:
        """The state with new unrolls of the estimator, for a stage that starts at this outer step."""
        num_steps, horizon = self.config.lengths_at(outer_step)
        key = tasks.named_key("outer-train stage", self.config.name, self.config.seed, outer_step)
        return state._replace(carried=self._carried_anew(state.theta, self.arrays, key, num_steps, horizon))

    def back_to(self, theta: Theta, state: OuterState) -> OuterState:
        """The state with this theta and a new state of the outer optimizer; the step factor is kept."""
        theta = jax.device_put(theta, self.whole)
        return state._replace(theta=theta, average=theta, opt_state=self.optimizer.init(theta))

    def _step(self, state: OuterState, arrays: Any, outer_step: Array, num_steps: int, horizon: Array):
        """Estimate, clip, update, average."""
        key = jax.random.fold_in(self.key, outer_step + 1)
        estimate, carried = self.estimator.estimate(state.theta, state.carried, arrays, key, num_steps, horizon)
        gradient = mean_clipped(estimate.gradients, self.config.clip_sample)
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
            "num_non_finite": estimate.num_non_finite,
            "skipped": ~finite,
            "step_factor": state.step_factor,
            f"signal_to_noise/{self.estimator.name}": signal_to_noise(estimate.gradients),
            **estimate.info,
        }

    def _updated(self, gradient: Theta, finite: Array, state: OuterState) -> tuple[Theta, optax.OptState]:
        """Theta and the outer optimizer's state after an update; unchanged if the gradient is not finite."""
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.theta)
        theta = jax.tree.map(lambda t, u: t + state.step_factor * u, state.theta, updates)
        made, before = (theta, opt_state), (state.theta, state.opt_state)
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), made, before)

    def _validate(self, theta: Theta, arrays: Any) -> Array:
        """Mean outer-loss on the tasks of outer-validation, the same each time, ()."""
        config, held_out = self.config, self.objective("outer_validation")
        keys = jax.random.split(tasks.named_key("outer-validation", config.family), config.validation_num_tasks)
        each = self._each(config.validation_num_tasks)

        def loss(shared, key):
            theta, arrays = shared
            return held_out(theta, arrays, key, config.validation_num_steps)

        return jnp.mean(each(loss, (theta, arrays), keys))


def mean_clipped(gradients: Theta, limit: float) -> Theta:
    """The mean of per-sample gradients, leaves (num_samples, ...), each `clipped` to the limit; 0 means no clipping."""
    if limit:
        gradients = jax.vmap(lambda sample: clipped(sample, limit))(gradients)
    return jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)


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
    made = [make_by_name(name, objective, config.num_tasks, config.sigma, each) for name in config.estimator]
    return made[0] if len(made) == 1 else merge(*made, shared=config.shared_samples)


def outer_optimizer(config: OuterConfig) -> optax.GradientTransformation:
    """Clipping by value, clipping by norm, Adam with a cosine over the whole run."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.outer_steps, alpha=config.final_learning_rate)
    return optax.chain(
        optax.clip(config.clip_value) if config.clip_value else optax.identity(),
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.adam(schedule, b1=config.b1),
    )
