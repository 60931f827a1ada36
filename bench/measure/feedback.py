"""How much of a learned optimizer is a schedule, and how much is feedback.

The network of `learned.normalized` reads time and shapes, which are the same in every run, and what the run itself
gives: its losses, weights and gradients. Here the shipped theta trains tasks in three ways:

    closed    as it is
    open      its outputs are the mean of those recorded in runs on other tasks, at the same step for the same tensor:
              a schedule that was learned, without feedback
    swapped   what a run itself gives is replaced by what a run on another task gave at the same step

Recorded are runs on outer-validation classes, trained on evaluation classes. A part is a task.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pandas as pd
from jax import Array

import tasks
from bench.statistics import t_interval
from bench.store.rows import Frame
from learned import weights
from learned.base import Theta
from learned.designs import make_design
from learned.normalized import FEEDBACK, NUM_INPUTS, NUM_OUTPUTS, outputs_of
from learned.objective import clip_losses
from tasks import inner_loop

OPTIMIZER = "lopt_home"
FAMILY = "imagenet32_cnn3"
HORIZON = 2000
NUM_TASKS = 5
SCORE_EVERY = 5  # inner steps for each validation batch
WAYS = ("closed", "open", "swapped")
MEAN = "mean_validation_loss"  # along the run
FINAL: dict[str, tasks.Split] = {"final_validation_loss": "validation", "final_test_loss": "test"}
SCORES = (MEAN, *FINAL)


class Record(NamedTuple):
    """What the network read and said along a run."""

    inputs: Array  # (steps, matrices, inputs)
    outputs: Array  # (steps, matrices, outputs)


class RecordingState(NamedTuple):
    """The state of an optimizer that is recorded."""

    state: Any
    record: Record


def parts() -> dict[str, dict[str, Any]]:
    """The definition of each part: task, digests, theta."""
    facts = {"learned_optimizer": OPTIMIZER, "theta_sha256": weights.digest(weights.read(OPTIMIZER)[0])}
    facts |= {"task_digest": tasks.task_digest(FAMILY), "data_digest": tasks.data_facts(FAMILY)["digest"]}
    return {f"{FAMILY}/{k}": {"task": f"{FAMILY}/{k}", "steps": HORIZON, **facts} for k in range(NUM_TASKS)}


def measure(
    part: str, entrants: Sequence[Any], replications: int, tick: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """Trains one task in the three ways.

    Args:
      part: a name in `parts`.
      entrants: ignored; the shipped weights are measured.
      replications: number of seeds, and of runs that are recorded.
      tick: called after each seed.

    Returns:
      Rows (seed, "WAY/SCORE", value) for the ways of `WAYS` and the scores of `SCORES`, losses at most 10, as of a
      diverged run.
    """
    del entrants
    theta, card = weights.read(OPTIMIZER)
    design = make_design(card.design, card.design_options)
    rows = trained_in_each_way(design, jax.tree.map(jnp.asarray, theta), part, HORIZON, replications, tick)
    return pd.DataFrame(rows, columns=["step", "metric", "value"])


def trained_in_each_way(
    design: Any, theta: Theta, part: str, num_steps: int, replications: int, tick: Callable[[], None]
) -> list[tuple[int, str, float]]:
    """The rows of `measure`."""
    family = tasks.load_family(part.split("/")[0])
    task = tasks.load(part)

    @jax.jit
    def recorded(arrays: Any, key: Array) -> Record:
        task_key, run_key = jax.random.split(key)
        other = tasks.Task(family.problem, arrays, family.sample(task_key, "outer_validation"))
        optimizer = recording(design, theta, num_steps)
        state, _ = inner_loop.unroll(other, optimizer, inner_loop.init(other, optimizer, run_key), run_key, num_steps)
        kept: Any = state.opt_state
        return kept.record

    @jax.jit
    def scores(arrays: Any, key: Array, outputs: Array, inputs: Array) -> dict[str, Array]:
        own = tasks.Task(task.problem, arrays, task.cfg)

        def score(params: Any, score_key: Array) -> Array:
            return own.loss(params, own.batch(score_key, "validation"))

        found = {}
        for way, decide in zip(WAYS, (outputs_of, replayed(outputs), with_feedback_of(inputs)), strict=True):
            optimizer = design.optimizer(theta, num_steps, None, decide)
            begin = inner_loop.init(own, optimizer, key)
            state, trace = inner_loop.unroll(own, optimizer, begin, key, num_steps, score, SCORE_EVERY)
            ends = {
                name: inner_loop.eval_loss(own, state.eval_params, split, whole=True) for name, split in FINAL.items()
            }
            along = {MEAN: jnp.mean(clip_losses(trace.score))}
            found |= {f"{way}/{name}": clip_losses(value) for name, value in (along | ends).items()}
        return found

    keys = jax.random.split(tasks.named_key("feedback", part), (2, replications))
    records = [recorded(family.arrays, key) for key in keys[0]]
    mean = jnp.mean(jnp.stack([record.outputs for record in records]), axis=0)
    rows = []
    for seed, (key, record) in enumerate(zip(keys[1], records, strict=True)):
        found = scores(task.arrays, key, mean, record.inputs)
        rows += [(seed, name, float(value)) for name, value in found.items()]
        tick()
    return rows


def recording(design: Any, theta: Theta, num_steps: int) -> optax.GradientTransformationExtraArgs:
    """The optimizer, which keeps what its network reads and says in its state, a `RecordingState`."""
    seen: list[tuple[Array, Array]] = []

    def decide(theta: Theta, count: Array, inputs: Array) -> Array:
        seen[:] = [(inputs, outputs_of(theta, count, inputs))]
        return seen[0][1]

    optimizer = design.optimizer(theta, num_steps, None, decide)

    def init(params: optax.Params) -> RecordingState:
        state = optimizer.init(params)
        num = len(state.sizes.gradient)
        widths = (NUM_INPUTS, NUM_OUTPUTS)
        return RecordingState(state, Record(*(jnp.zeros((num_steps, num, width)) for width in widths)))

    def update(updates, state, params=None, **extra_args):
        place = state.state.count
        updates, inner = optimizer.update(updates, state.state, params, **extra_args)
        record = [kept.at[place].set(new) for kept, new in zip(state.record, seen.pop(), strict=True)]
        return updates, RecordingState(inner, Record(*record))

    return optax.GradientTransformationExtraArgs(init, update)


def replayed(outputs: Array) -> Callable[[Theta, Array, Array], Array]:
    """Says `outputs`, (steps, matrices, outputs), whatever the run gives."""
    return lambda theta, count, inputs: outputs[count]


def with_feedback_of(inputs: Array) -> Callable[[Theta, Array, Array], Array]:
    """Reads what another run gave, `inputs` (steps, matrices, inputs), in place of its own."""
    return lambda theta, count, own: outputs_of(theta, count, own.at[:, FEEDBACK].set(inputs[count][:, FEEDBACK]))


def table(cells: Frame, curves: Frame) -> pd.DataFrame:
    """The table of figures of this measurement.

    Returns:
      A row for each score and way but "closed": `score`, `way`, `tasks`, mean over tasks of the closed loop, `closed`,
      and of the way less the closed loop, `difference`, with the ends `low` and `high` of its interval over tasks.
    """
    done = cells[cells["status"] == "ok"]
    rows = curves[curves["cell"].isin(done["cell"])].merge(done[["cell", "task"]], on="cell")
    means = rows.groupby(["task", "metric"])["value"].mean().unstack("metric")
    found = []
    for score in SCORES if len(means) else ():
        closed = means[f"closed/{score}"]
        for way in WAYS[1:]:
            difference = t_interval((means[f"{way}/{score}"] - closed).to_numpy())
            found.append(
                (score, way, len(means), float(closed.mean()), difference.estimate, difference.low, difference.high)
            )
    return pd.DataFrame(found, columns=["score", "way", "tasks", "closed", "difference", "low", "high"])
