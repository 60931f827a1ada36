"""Runs one training cell: compile, train by chunks under the clock, evaluate outside it.

The clock (protocol rule 6): programs are compiled ahead of time and timed apart; a chunk of steps is one dispatch
and ends with one `block_until_ready`; data lies on the device; the clock stops for evaluation.
"""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import tasks
import tasks.unroll
from bench.entrants import Entrant
from tasks.base import Key, Split, Task
from tasks.unroll import EVAL_EXAMPLES

STEP_METRICS = ("inner_loss", "wall_time_sec")  # of the steps since the last grid point, so absent at step 0
METRICS = (*(f"{split}_loss" for split in EVAL_EXAMPLES), *STEP_METRICS)  # on the evaluation grid
# Of whole splits, a row each, at the step whose parameters they are of (protocol rule 4).
WHOLE_METRICS = ("final_validation_loss", "final_test_loss", "test_loss_at_best_validation")
BLOCK_METRIC = "test_block_loss"  # of the final parameters on a block of test images; "step" is the block
NUM_EVALUATIONS = 100  # protocol rule 10: one evaluation grid for all, every 1 % of the horizon
NUM_TEST_BLOCKS = 25  # test images are resampled by blocks of neighbours (protocol rule 12)


def run_key(task: str, seed: int) -> Key:
    """The key of a run: initialization and data order, the same for all optimizers (protocol rule 5)."""
    return tasks.named_key("run", task, seed)


def evaluation_grid(horizon: int) -> list[int]:
    """Inner steps at which a run is evaluated: 0, every 1 % of the horizon, and the horizon."""
    return sorted({round(k * horizon / NUM_EVALUATIONS) for k in range(NUM_EVALUATIONS + 1)})


def chunk_lengths(horizon: int) -> list[int]:
    """The different numbers of steps between points of the evaluation grid."""
    return sorted({b - a for a, b in itertools.pairwise(evaluation_grid(horizon))})


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """The compiled parts of a cell, shared by all seeds and by all tasks of a family.

    Attributes:
      init_params: (task, key) -> params.
      start: (variables, params) -> InnerState.
      chunks: number of steps -> (task, variables, state, key, repeats) -> (state, inner losses (steps,)): trains that
        many steps `repeats` times in one dispatch; the losses are of the last. Repeats are an argument, so that one
        program serves training, where it is once, and the clock, whose regions are long.
      evaluate: split -> (task, params) -> mean loss on its sample. One program a split: on a CPU, one program of both
        takes nearly twice as long (2 x 1,000 images of `imagenet32_cnn3`: 174 against 95 ms).
      step_bytes: memory of the training program beside the data: parameters and state after it, and temporaries; NaN
        where the backend does not say.
      compile_sec: what compiling took, for each part; what optimizers share is compiled once and charged to the first.
    """

    init_params: Callable[..., Any]
    start: Callable[..., Any]
    chunks: dict[int, Callable[..., Any]]
    evaluate: dict[Split, Callable[..., Any]]
    compile_sec: dict[str, float]
    step_bytes: float = math.nan

    def init(self, task: Task, entrant: Entrant, key: Key) -> tasks.unroll.InnerState:
        """The state before the first step."""
        return self.start(entrant.variables, self.init_params(task, key))


# Jitted once, so that jax's own cache shares them between the optimizers of a task.
_init_params = jax.jit(tasks.unroll.init_params)
_eval_loss = jax.jit(tasks.unroll.eval_loss, static_argnames="split")


@functools.partial(jax.jit, static_argnames="split")
def _loss_on(task: Task, params: Any, split: Split, indices: jax.Array) -> jax.Array:
    return task.loss(params, task.take(split, indices))


def block_losses(task: Task, params: Any, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Mean losses on up to `NUM_TEST_BLOCKS` blocks of a whole split, and the examples in each, (blocks,) both."""
    size = task.problem.size(split)
    blocks = np.array_split(np.arange(size, dtype=np.int32), min(NUM_TEST_BLOCKS, size))
    losses = [_loss_on(task, params, split, jnp.asarray(block)) for block in blocks]
    return np.array(jax.device_get(losses), np.float64), np.array([len(block) for block in blocks])


def whole_loss(task: Task, params: Any, split: Split) -> float:
    """Mean loss on a whole split."""
    losses, counts = block_losses(task, params, split)
    return float(np.average(losses, weights=counts))


def compile_program(entrant: Entrant, task: Task, horizon: int, chunk_steps: Sequence[int]) -> Program:
    """Compiles an entrant's programs for tasks like `task` ahead of time."""
    seconds: dict[str, float] = {}

    def compiled(name: str, function: Any, *args, **static):
        begin = time.perf_counter()
        program = function.lower(*args, **static).compile()
        seconds[name] = time.perf_counter() - begin
        return program

    def start(variables, params):
        return tasks.unroll.start(entrant.make(variables, horizon), params)

    def chunk_of(num_steps: int):
        def chunk(task, variables, state, key, repeats):
            optimizer = entrant.make(variables, horizon)

            def steps(_, carry):
                state, _ = carry
                for _ in range(entrant.repeats - 1):
                    # The same work again must depend on its having been done, to the last update: a barrier alone is
                    # taken away on CPUs, two equal loops become one, and of a loop of one step that is asked for its
                    # loss nothing is left but the forward pass. Unless a number is NaN, nothing is added.
                    end, done = tasks.unroll.unroll(task, optimizer, state, key, num_steps)
                    total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(end.params)) + done.inner_loss[-1]
                    failed = jax.lax.optimization_barrier(jnp.isnan(total)).astype(jnp.int32)
                    state = state._replace(inner_step=state.inner_step + failed)
                state, trace = tasks.unroll.unroll(task, optimizer, state, key, num_steps)
                return state, trace.inner_loss

            return jax.lax.fori_loop(0, repeats, steps, (state, jnp.zeros(num_steps)))

        return chunk

    key = run_key("", 0)
    params = jax.eval_shape(_init_params, task, key)
    state = jax.eval_shape(start, entrant.variables, params)
    chunks = {
        n: compiled(f"chunk{n}", jax.jit(chunk_of(n)), task, entrant.variables, state, key, 1) for n in chunk_steps
    }
    memory = chunks[min(chunks)].memory_analysis() if chunks else None
    return Program(
        init_params=compiled("init_params", _init_params, task, key),
        start=compiled("start", jax.jit(start), entrant.variables, params),
        chunks=chunks,
        step_bytes=memory.temp_size_in_bytes + memory.output_size_in_bytes if memory else math.nan,
        evaluate={
            split: compiled(f"evaluate_{split}", _eval_loss, task, params, split=split) for split in EVAL_EXAMPLES
        },
        compile_sec=seconds,
    )


class Outcome(NamedTuple):
    """What a cell came to: the parts of its record, and its curve (step, metric, value)."""

    status: str
    reason: str | None
    first_bad_step: int | None
    result: dict[str, Any]
    clock: dict[str, float]
    curve: pd.DataFrame


def run_cell(
    program: Program,
    entrant: Entrant,
    task: Task,
    key: Key,
    horizon: int,
    *,
    time_limit_sec: float = math.inf,
    tick: Callable[[int], None] = lambda steps: None,
) -> Outcome:
    """Trains a task for the horizon, evaluating on the grid.

    Args:
      program: from `compile_program`, with a chunk for every difference of the evaluation grid.
      entrant: what trains.
      task: what is trained.
      key: from `run_key`.
      horizon: inner steps.
      time_limit_sec: wall-clock after which the cell ends as "time_limit".
      tick: called with the steps of every finished chunk.

    Returns:
      The outcome. Divergence, a non-finite inner or evaluation loss, ends the run; the rest of its grid is NaN, never a
      missing row.
    """
    begin = time.perf_counter()
    grid = evaluation_grid(horizon)
    status, reason, first_bad_step = "ok", None, None
    clock = {"train_wall_sec": 0.0, "eval_wall_sec": 0.0}
    values: dict[tuple[int, str], float] = {}
    best = (math.inf, 0, None)  # validation loss, step, params

    def evaluate(step: int, params) -> bool:
        nonlocal best
        start = time.perf_counter()
        dispatched = {split: loss(task, params) for split, loss in program.evaluate.items()}
        losses = {split: float(loss) for split, loss in dispatched.items()}
        clock["eval_wall_sec"] += time.perf_counter() - start
        values.update({(step, f"{split}_loss"): loss for split, loss in losses.items()})
        if losses["validation"] < best[0]:
            best = (losses["validation"], step, params)
        return all(map(math.isfinite, losses.values()))

    start = time.perf_counter()
    state = jax.block_until_ready(program.init(task, entrant, key))
    clock["train_wall_sec"] += time.perf_counter() - start
    evaluate(0, state.params)
    for previous, step in itertools.pairwise(grid):
        start = time.perf_counter()
        chunk = program.chunks[step - previous]
        state, losses = jax.block_until_ready(chunk(task, entrant.variables, state, key, 1))
        clock["train_wall_sec"] += time.perf_counter() - start
        losses = np.asarray(losses)
        values[step, "inner_loss"] = float(losses.mean())
        values[step, "wall_time_sec"] = clock["train_wall_sec"]
        finite = evaluate(step, state.params)
        tick(step - previous)
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad) or not finite:
            status = "diverged"
            first_bad_step = previous + int(bad[0]) if len(bad) else step
            reason = f"loss not finite from step {first_bad_step}"
            break
        if time.perf_counter() - begin > time_limit_sec:
            status, reason = "time_limit", f"stopped after {time_limit_sec:g} s at step {step} of {horizon}"
            break
    rows = whole_grid(values, grid)
    start = time.perf_counter()
    if best[2] is not None:
        rows.append((best[1], "test_loss_at_best_validation", _finite_or_nan(whole_loss(task, best[2], "test"))))
    if status == "ok":
        losses, counts = block_losses(task, state.params, "test")
        rows += [(block, BLOCK_METRIC, _finite_or_nan(loss)) for block, loss in enumerate(losses)]
        rows.append((horizon, "final_test_loss", _finite_or_nan(np.average(losses, weights=counts))))
        rows.append((horizon, "final_validation_loss", _finite_or_nan(whole_loss(task, state.params, "validation"))))
    clock["eval_wall_sec"] += time.perf_counter() - start
    clock["total_wall_sec"] = time.perf_counter() - begin
    curve = pd.DataFrame(rows, columns=["step", "metric", "value"])
    return Outcome(status, reason, first_bad_step, summarize(rows), clock, curve)


def _finite_or_nan(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan


def whole_grid(values: Mapping[tuple[int, str], float], grid: Sequence[int]) -> list[tuple[int, str, float]]:
    """Rows (step, metric, value) on the whole grid: what an ended run did not reach, and what is infinite, is NaN."""
    rows = []
    for step in grid:
        for metric in METRICS:
            if step > 0 or metric not in STEP_METRICS:
                rows.append((step, metric, _finite_or_nan(values.get((step, metric), math.nan))))
    return rows


def summarize(rows: Sequence[tuple[int, str, float]]) -> dict[str, Any]:
    """The numbers of a cell's record, from its curve (protocol rule 4); None where they are not finite.

    The horizon's mean leaves out step 0, which no optimizer has a part in.

    Args:
      rows: (step, metric, value), steps of a metric ascending, as `run_cell` makes them.
    """
    series: dict[str, dict[int, float]] = {}
    for step, metric, value in rows:
        series.setdefault(metric, {})[step] = value
    train = series["train_loss"]
    result = {"final_train_loss": train[max(train)]}
    result["mean_train_loss"] = float(np.mean([value for step, value in train.items() if step > 0]))
    for metric in WHOLE_METRICS:
        result[metric] = next(iter(series.get(metric, {}).values()), math.nan)
    validation = {step: value for step, value in series["validation_loss"].items() if math.isfinite(value)}
    return {
        **{name: value if math.isfinite(value) else None for name, value in result.items()},
        "best_validation_step": min(validation, key=lambda step: validation[step]) if validation else None,
    }
