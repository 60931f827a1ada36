"""Outer-training: theta by stochastic gradients of the outer-loss over a family's outer-training classes.

One outer step (Metz et al., arXiv 1810.10180, algorithm 1): per-sample gradients from an estimator, or from two merged;
their mean, clipped, to Adam; an average of theta. Every so often the outer-validation classes judge it, and the best
theta is kept. Samples are spread over devices; with the same configuration their number changes rounding alone.

What goes wrong is counted and survived: an update whose gradient is not finite is skipped and the step size halved,
to recover by a tenth an update; after `patience` such updates in a row theta goes back to the best.

A run can be stopped at any outer step, also killed, and resumed to the same theta, to the last bit on as many devices
of the same kind: a checkpoint holds theta, the outer optimizer, the estimator's inner states and all counters, and
everything random follows from (seed, outer step). With a stage of the curriculum the unrolls that truncated estimators
carry begin anew: the end of a stage fits in a small file, from which a run goes on elsewhere.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
import pandas as pd
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import tasks
from learned import cards, weights
from learned.base import LearnedOptimizer, Theta
from learned.checkpoints import Checkpoints, DamagedError, read_stage, stage_bytes
from learned.config import OuterConfig
from learned.curriculum import stage_ends
from learned.designs import make_design, run_key, theta_shapes, untrained_theta
from learned.estimators import PERTURBED, Estimator, make_by_name, merge, one_by_one, over_devices, side_by_side
from learned.estimators.base import TASKS_AXIS, Each, all_finite, signal_to_noise
from learned.objective import FamilyObjective, Objective
from tasks.files import write_atomically

CHECKPOINT_SEC = 60.0
METRICS_FILE = "metrics.parquet"
STAGE_FILE = "stage.safetensors"  # the end of the last whole stage


class OuterState(NamedTuple):
    """What an outer step changes."""

    theta: Theta
    average: Theta  # of theta, with decay `ema`
    opt_state: optax.OptState
    carried: Any  # by the estimator
    step_factor: Array  # (): of the step size, below 1 after a gradient that was not finite


@dataclasses.dataclass(frozen=True)
class Record:
    """What the host knows of a run; JSON-ready, part of a checkpoint."""

    outer_step: int = 0  # outer steps done
    inner_steps: int = 0  # one net, one step; both signs count
    seconds: float = 0.0  # of all sittings
    device_seconds: float = 0.0  # the same, times the devices of each
    skipped: int = 0
    skipped_in_a_row: int = 0
    restored: int = 0  # times that theta went back to the best
    best: dict[str, Any] = dataclasses.field(default_factory=dict)  # facts of the best theta


class Position(NamedTuple):
    """Where a run stands after a whole outer step; replaced, never changed, so that an interruption cannot tear it."""

    state: OuterState
    record: Record
    best_theta: Theta = ()


@dataclasses.dataclass
class Progress:
    """What a caller sees after an outer step."""

    outer_step: int
    num_steps: int
    metrics: dict[str, float]
    seconds: float
    inner_steps: int
    skipped: int = 0


class Engine:
    """The compiled parts of a run.

    Args:
      config: what to run.
      family: its data.
      num_devices: devices that samples are spread over; a divisor of `num_tasks` and `validation_num_tasks`.

    Raises:
      ValueError: fewer devices than asked for, samples that do not divide among them, or weights to begin from that are
        not there or of another design; one line.

    Attributes:
      begun_from: digest and card of the weights that the run begins from, None where it begins from its design alone.
    """

    def __init__(self, config: OuterConfig, family: tasks.TaskFamily, num_devices: int = 1):
        self.config, self.family = config, family
        self.mesh = task_mesh(num_devices, config)
        self.design: LearnedOptimizer = make_design(config.design, dict(config.design_options))
        self.begin_theta, self.begun_from = None, None
        if config.begin_from:
            found = weights.read_beginning(config.begin_from, config.design, dict(config.design_options))
            self.begin_theta, self.begun_from = found
        # What an outer step is given and gives lies in the same way, else its second call would compile anew.
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

    def objective(self, pool: str) -> FamilyObjective:
        """The outer-loss on tasks of a pool."""
        kind = cast(Objective, self.config.objective)
        config = self.config
        return FamilyObjective(
            self.design, self.family.problem, self.family.sample, pool, kind, config.outer_batch, config.score_every
        )

    def _each(self, num_samples: int) -> Each:
        """One device after the other on a CPU performs its samples one by one, an accelerator all at once."""
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
        """What the estimator carries begins anew, in a stage that begins with this outer step."""
        num_steps, horizon = self.config.lengths_at(outer_step)
        key = tasks.named_key("outer-train stage", self.config.name, self.config.seed, outer_step)
        return state._replace(carried=self._carried_anew(state.theta, self.arrays, key, num_steps, horizon))

    def back_to(self, theta: Theta, state: OuterState) -> OuterState:
        """Theta again, with an outer optimizer that knows nothing; the step factor stays as small as it has become."""
        theta = jax.device_put(theta, self.whole)
        return state._replace(theta=theta, average=theta, opt_state=self.optimizer.init(theta))

    def _step(self, state: OuterState, arrays: Any, outer_step: Array, num_steps: int, horizon: Array):
        key = jax.random.fold_in(self.key, outer_step + 1)
        estimate, carried = self.estimator.estimate(state.theta, state.carried, arrays, key, num_steps, horizon)
        gradients = estimate.gradients
        if self.config.clip_sample:
            gradients = jax.vmap(lambda sample: clipped(sample, self.config.clip_sample))(gradients)
        gradient = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)
        finite = all_finite(gradient)
        metrics = {
            "outer_loss": jnp.mean(estimate.losses),
            "gradient_norm": optax.tree.norm(gradient),
            "num_non_finite": estimate.num_non_finite,
            "skipped": ~finite,
            "step_factor": state.step_factor,
            f"signal_to_noise/{self.estimator.name}": signal_to_noise(estimate.gradients),
            **estimate.info,
        }
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.theta)
        theta = jax.tree.map(lambda t, u: t + state.step_factor * u, state.theta, updates)
        kept = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
        theta, opt_state = kept(theta, state.theta), kept(opt_state, state.opt_state)
        average = jax.tree.map(lambda a, t: self.config.ema * a + (1 - self.config.ema) * t, state.average, theta)
        factor = jnp.where(finite, jnp.minimum(1.0, 1.1 * state.step_factor), 0.5 * state.step_factor)
        return OuterState(theta, average, opt_state, carried, factor), metrics

    def _validate(self, theta: Theta, arrays: Any) -> Array:
        """Mean outer-loss on the tasks of outer-validation, the same each time, ()."""
        config, held_out = self.config, self.objective("outer_validation")
        keys = jax.random.split(tasks.named_key("outer-validation", config.family), config.validation_num_tasks)
        each = self._each(config.validation_num_tasks)

        def loss(shared, key):
            theta, arrays = shared
            return held_out(theta, arrays, key, config.validation_num_steps)

        return jnp.mean(each(loss, (theta, arrays), keys))


def clipped(gradient: Theta, limit: float) -> Theta:
    """A gradient whose norm is at most the limit; what is not finite stays so."""
    scale = jnp.minimum(1.0, limit / optax.tree.norm(gradient))
    return jax.tree.map(lambda g: scale * g, gradient)


def task_mesh(num_devices: int, config: OuterConfig) -> Mesh:
    """The first devices in a row, the axis "tasks"."""
    devices = jax.devices()
    if num_devices > len(devices):
        raise ValueError(f"expected at most {len(devices)} devices, which is what there is, got {num_devices}")
    for key in ("num_tasks", "validation_num_tasks"):
        if getattr(config, key) % num_devices:
            raise ValueError(f"expected a multiple of {num_devices} devices for {key}, got {getattr(config, key)}")
    return jax.make_mesh((num_devices,), (TASKS_AXIS,), axis_types=(AxisType.Auto,), devices=devices[:num_devices])


def make_estimator(config: OuterConfig, objective: FamilyObjective, each: Each = one_by_one) -> Estimator:
    """The estimator that a configuration names."""
    made = [make_by_name(name, objective, config.num_tasks, config.sigma, each) for name in config.estimator]
    return made[0] if len(made) == 1 else merge(*made, shared=config.shared_samples)


def outer_optimizer(config: OuterConfig) -> optax.GradientTransformation:
    """Clipping by value, clipping by norm, Adam."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.outer_steps, alpha=config.final_learning_rate)
    return optax.chain(
        optax.clip(config.clip_value) if config.clip_value else optax.identity(),
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.adam(schedule, b1=config.b1),
    )


def outer_train(
    config: OuterConfig,
    family: tasks.TaskFamily,
    *,
    folder: Path | None = None,
    resume: bool = False,
    num_devices: int = 1,
    engine: Engine | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_best: Callable[[Theta, dict[str, Any]], None] = lambda theta, facts: None,
    on_checkpoint: Callable[[pd.DataFrame], None] = lambda metrics: None,
    on_damage: Callable[[Path], None] = lambda path: None,
    budget_seconds: float = float("inf"),
    checkpoint_seconds: float = CHECKPOINT_SEC,
    provenance: Mapping[str, Any] | None = None,
) -> tuple[Theta, list[dict[str, float]], dict[str, Any]]:
    """Runs outer-training.

    Args:
      config: what to run.
      family: its data; see `tasks.load_family`.
      folder: where checkpoints and metrics go; None keeps none.
      resume: whether to go on from the folder's last checkpoint, or else from its end of a stage, if it has one.
      num_devices: devices that samples are spread over.
      engine: the compiled parts, of the same configuration, family and devices, where they are made already.
      on_step: called after every outer step.
      on_best: called with (theta, facts) whenever outer-validation improves, so that the best is on disk at any time.
      on_checkpoint: called with the metrics so far after every checkpoint.
      on_damage: called with the new path of a damaged checkpoint set aside; the run goes on from an earlier one.
      budget_seconds: wall-clock after which the run ends with what it has; resumed, it goes on.
      checkpoint_seconds: wall-clock between checkpoints; there is one at the end, and when interrupted.
      provenance: "data", "commit" and "processor" of the last sitting, kept beside its checkpoints with the digest and
        card of the weights it begins from; a run of other data, or from others, is not resumed.

    Returns:
      The best theta by outer-validation, the metrics of every outer step, and the facts of the run (cost, best loss).

    Raises:
      ValueError: a checkpoint of another configuration or of other data, or devices that do not fit; one line.
    """
    engine = engine or Engine(config, family, num_devices)
    begun = {"begun_from": engine.begun_from} if engine.begun_from else {}
    provenance = dict(provenance or {}) | begun
    at = Position(engine.init(), Record())
    at = at._replace(best_theta=jax.device_get(at.state.average))
    log: list[dict[str, float]] = []
    ends = stage_ends(config.stages)
    with Checkpoints(folder / "checkpoints") if folder else contextlib.nullcontext() as checkpoints:
        if checkpoints and folder and resume:
            at = _resumed(at, config, provenance, checkpoints, folder, on_damage)
            log = _log_until(folder, at.record.outer_step)
        begin, before = time.monotonic(), at.record
        last_saved = begin

        def save() -> None:
            nonlocal last_saved
            if checkpoints and folder:
                metrics = log[: at.record.outer_step]
                write_metrics(
                    folder, metrics
                )  # first: a checkpoint's metrics are there, and what is past it is cut off
                record = dataclasses.asdict(at.record)
                facts = {"config": config.as_dict(), "record": record, "provenance": provenance}
                if at.record.outer_step in ends:
                    write_atomically(folder / STAGE_FILE, stage_bytes(_without_carried(at), facts))
                checkpoints.save(at.record.outer_step, (at.state, at.best_theta), facts)
                on_checkpoint(pd.DataFrame(metrics))
                last_saved = time.monotonic()

        def judged(position: Position, row: dict[str, float]) -> Position:
            """Notes the outer-validation loss; keeps theta if it is the best so far."""
            row["outer_validation_loss"] = loss = float(engine.validate(position.state.average, engine.arrays))
            if not loss < position.record.best.get("loss", float("inf")):
                return position
            record = position.record
            best = {
                "loss": loss,
                "outer_step": record.outer_step,
                "inner_steps": record.inner_steps,
                "device_hours": round(record.device_seconds / 3600, 3),
                "device": jax.devices()[0].device_kind,
            }
            position = Position(
                position.state, dataclasses.replace(record, best=best), jax.device_get(position.state.average)
            )
            on_best(position.best_theta, facts_of_best(best, log) | begun)
            return position

        try:
            while at.record.outer_step < config.outer_steps:
                num_steps, horizon = config.lengths_at(at.record.outer_step)
                state = at.state
                if at.record.outer_step in ends:
                    state = engine.begin_stage(state, at.record.outer_step)
                state, metrics = engine.step(
                    state, engine.arrays, at.record.outer_step, num_steps=num_steps, horizon=horizon
                )
                row: dict[str, float] = {"outer_step": at.record.outer_step + 1}
                row |= {"num_steps": num_steps, "horizon": horizon}
                row |= {name: float(value) for name, value in metrics.items()}
                skipped, elapsed = int(row["skipped"]), time.monotonic() - begin
                record = dataclasses.replace(
                    at.record,
                    outer_step=at.record.outer_step + 1,
                    inner_steps=at.record.inner_steps + inner_steps_of(config, num_steps),
                    seconds=before.seconds + elapsed,
                    device_seconds=before.device_seconds + num_devices * elapsed,
                    skipped=at.record.skipped + skipped,
                    skipped_in_a_row=at.record.skipped_in_a_row + 1 if skipped else 0,
                )
                if record.skipped_in_a_row >= config.patience:
                    state = engine.back_to(at.best_theta, state)
                    record = dataclasses.replace(record, skipped_in_a_row=0, restored=record.restored + 1)
                log[record.outer_step - 1 :] = [row]
                moved = at._replace(state=state, record=record)
                over = elapsed > budget_seconds
                if record.outer_step % config.validation_every == 0 or record.outer_step in ends:
                    moved = judged(moved, row)
                at = moved
                if over or record.outer_step in ends or time.monotonic() - last_saved > checkpoint_seconds:
                    save()
                if over and "outer_validation_loss" not in row:
                    at = judged(at, row)  # for whoever looks now; no checkpoint knows, so that resuming changes nothing
                on_step(Progress(record.outer_step, num_steps, row, record.seconds, record.inner_steps, record.skipped))
                if over:
                    break
        except KeyboardInterrupt:
            if at.record.outer_step:
                save()  # of the last whole outer step
            raise
    return at.best_theta, log, summary(at.record, log) | begun


def _resumed(
    begin: Position,
    config: OuterConfig,
    provenance: dict[str, Any],
    checkpoints: Checkpoints,
    folder: Path,
    on_damage: Callable[[Path], None],
) -> Position:
    """The last checkpoint that is whole, else the end of the last whole stage, else where a run begins."""

    def refuse_another(facts: dict[str, Any]) -> None:
        _refuse_another(facts["config"], config.as_dict())
        stored, wanted = (
            {
                "data": found.get("data"),
                "the weights it begins from": (found.get("begun_from") or {}).get("theta_sha256"),
            }
            for found in (facts["provenance"], provenance)
        )
        _refuse_another(stored, wanted)

    while checkpoints.latest() is not None:
        try:
            facts = checkpoints.facts()
            refuse_another(facts)
            state, best_theta = checkpoints.arrays((begin.state, begin.best_theta), facts)
        except DamagedError:
            on_damage(checkpoints.set_aside())
            continue
        return Position(state, Record(**facts["record"]), jax.device_get(best_theta))
    if (folder / STAGE_FILE).is_file():
        refuse_another(read_stage(folder / STAGE_FILE)[1])
        (light, best_theta), facts = read_stage(folder / STAGE_FILE, _without_carried(begin))
        where = jax.tree.map(lambda leaf: leaf.sharding, begin.state._replace(carried=()))
        state = jax.device_put(light, where)._replace(carried=begin.state.carried)
    else:
        return begin
    return Position(state, Record(**facts["record"]), jax.device_get(best_theta))


def _without_carried(at: Position) -> tuple[OuterState, Theta]:
    """All arrays that outlive a stage."""
    return at.state._replace(carried=()), at.best_theta


def facts_of_best(best: dict[str, Any], log: list[dict[str, float]]) -> dict[str, Any]:
    """What a card says of the best theta: where it was found, at what cost, and the curve of outer-validation."""
    curve = [
        [int(row["outer_step"]), int(row["horizon"]), round(row["outer_validation_loss"], 4)]
        for row in log
        if "outer_validation_loss" in row
    ]
    facts = {name: value for name, value in best.items() if name != "loss"}
    return {"outer_validation_loss": round(best["loss"], 4), **facts, "outer_validation_curve": curve}


def summary(record: Record, log: list[dict[str, float]]) -> dict[str, Any]:
    """The facts of the best theta and of the whole run."""
    return facts_of_best(record.best, log) | {
        "total_outer_steps": record.outer_step,
        "total_inner_steps": record.inner_steps,
        "total_device_hours": round(record.device_seconds / 3600, 3),
        "skipped_updates": record.skipped,
        "restored": record.restored,
    }


def inner_steps_of(config: OuterConfig, num_steps: int) -> int:
    """Inner steps of an outer step: one net, one step; both signs count, and so does each of two that are merged."""
    return config.num_tasks * num_steps * sum(2 if name in PERTURBED else 1 for name in config.estimator)


def _refuse_another(stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key in sorted(stored.keys() | wanted.keys()):
        if stored.get(key) != wanted.get(key):
            raise ValueError(
                f"the checkpoint was made with {key} = {stored.get(key)!r}, the configuration has "
                f"{wanted.get(key)!r}: give it another name, or go on with the configuration it was made with"
            )


def has_checkpoint(folder: Path) -> int | None:
    """Outer step of a folder's last checkpoint, or None."""
    if not (folder / "checkpoints").is_dir():
        return None
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.latest()


def outer_step_reached(folder: Path) -> int | None:
    """Outer step that a run in a folder would go on from: of its last checkpoint, else its end of a stage, or None."""
    reached = has_checkpoint(folder)
    if reached is None and (folder / STAGE_FILE).is_file():
        reached = int(read_stage(folder / STAGE_FILE)[1]["record"]["outer_step"])
    return reached


def _log_until(folder: Path, outer_step: int) -> list[dict[str, float]]:
    """The metrics of a run up to an outer step.

    Raises:
      ValueError: they are not there, or end earlier; one line.
    """
    if not outer_step:
        return []
    path = folder / METRICS_FILE
    log = read_metrics(folder)[:outer_step] if path.is_file() else []
    if len(log) != outer_step:
        raise ValueError(f"{path}: expected metrics of {outer_step} outer steps, got {len(log)}")
    return log


def stage_end(folder: Path, config: OuterConfig) -> tuple[Theta, list[dict[str, float]], dict[str, Any]]:
    """What `outer_train` would have returned at the end of a run's last whole stage; its provenance is among the facts.

    Raises:
      ValueError: no stage has ended, the run is of another configuration, or its metrics are not those; one line.
    """
    path = folder / STAGE_FILE
    if not path.is_file():
        raise ValueError(f"{folder}: expected {STAGE_FILE}, which a run writes at the end of a stage; go on with it")
    theta = theta_shapes(config.design, dict(config.design_options))
    (_, best_theta), facts = read_stage(path, ((), theta))
    _refuse_another(facts["config"], config.as_dict())
    record = Record(**facts["record"])
    log = _log_until(folder, record.outer_step)
    return best_theta, log, summary(record, log) | facts["provenance"]


def write_metrics(folder: Path, log: list[dict[str, float]]) -> None:
    """Writes the metrics of a run, a row for each outer step."""
    write_atomically(folder / METRICS_FILE, pd.DataFrame(log).to_parquet(index=False))


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The metrics of a run; what a row does not have is left out of it.

    Raises:
      ValueError: the file is damaged; one line.
    """
    try:
        rows = pd.read_parquet(folder / METRICS_FILE).to_dict("records")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder / METRICS_FILE}: damaged ({reason}): restore it, or delete {folder}") from None
    return [{str(name): value for name, value in row.items() if not pd.isna(value)} for row in rows]


def save_best(path: Path, config: OuterConfig, theta: Theta, facts: dict[str, Any]) -> None:
    """Writes theta with all that made it: config, and as facts what the run found and cost, its data and commit."""
    card = weights.Card(
        name=config.name,
        design=config.design,
        design_options=dict(config.design_options),
        outer_training=config.as_dict(),
        facts=facts,
    )
    write_atomically(path, weights.save_bytes(theta, card))
    _, card = weights.read(path)
    write_atomically(cards.path_beside(path), cards.render(card).encode())
