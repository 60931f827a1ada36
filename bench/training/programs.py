"""The compiled parts of a run: programs compiled ahead of time, the evaluation grid, and losses on whole splits."""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tasks
import tasks.inner_loop
from bench.entries.entrants import Entrant
from tasks.inner_loop import EVAL_EXAMPLES
from tasks.task import Key, Split, Task

NUM_EVALUATIONS = 100  # protocol rule 10: one evaluation grid for all, every 1 % of the horizon
NUM_TEST_BLOCKS = 25  # blocks of neighbouring test images, for the interval over images (protocol rule 12)


def run_key(task: str, seed: int) -> Key:
    """The key of a run: initialization and data order, the same for all optimizers (protocol rule 5)."""
    return tasks.named_key("run", task, seed)


def evaluation_grid(horizon: int) -> list[int]:
    """Inner steps at which a run is evaluated: 0, every 1 % of the horizon, and the horizon."""
    return sorted({round(k * horizon / NUM_EVALUATIONS) for k in range(NUM_EVALUATIONS + 1)})


def chunk_lengths(horizon: int) -> list[int]:
    """The distinct numbers of steps between neighbouring points of the evaluation grid, ascending."""
    return sorted({b - a for a, b in itertools.pairwise(evaluation_grid(horizon))})


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """The compiled parts of a cell, shared by all seeds and by all tasks of a family.

    Attributes:
      init_params: (task, key) -> params.
      start: (variables, params) -> InnerState.
      chunks: number of steps -> (task, variables, state, key, repeats) -> (state, inner losses (steps,)): trains that
        many steps `repeats` times in one dispatch; the losses are those of the last repeat. `repeats` is an argument,
        so that one program serves training (once) and timing (as often as fills a timed region).
      evaluate: split -> (task, params) -> mean loss on the evaluation sample. There is a program for each split: on a
        CPU, one program for both takes nearly twice as long (2 x 1,000 images of `imagenet32_cnn3`: 174 against 95 ms).
      step_bytes: memory of the training program without the data: outputs and temporaries; NaN where the backend does
        not report it.
      compile_sec: compile time of each part. Parts that optimizers share are compiled once, for the first of them.
    """

    init_params: Callable[..., Any]
    start: Callable[..., Any]
    chunks: dict[int, Callable[..., Any]]
    evaluate: dict[Split, Callable[..., Any]]
    compile_sec: dict[str, float]
    step_bytes: float = math.nan

    def init(self, task: Task, entrant: Entrant, key: Key) -> tasks.inner_loop.InnerState:
        """The state before the first step."""
        return self.start(entrant.variables, self.init_params(task, key))


# Jitted at module level, so that jax's cache shares them between the optimizers of a task.
_init_params = jax.jit(tasks.inner_loop.init_params)
_eval_loss = jax.jit(tasks.inner_loop.eval_loss, static_argnames="split")


@functools.partial(jax.jit, static_argnames="split")
def _loss_on(task: Task, params: Any, split: Split, indices: jax.Array) -> jax.Array:
    return task.loss(params, task.take(split, indices))


def block_losses(task: Task, params: Any, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Mean losses on up to `NUM_TEST_BLOCKS` blocks of a whole split, and their numbers of examples, both (blocks,)."""
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
        return tasks.inner_loop.start(entrant.make(variables, horizon), params)

    def chunk_of(num_steps: int):
        def chunk(task, variables, state, key, repeats):
            optimizer = entrant.make(variables, horizon)

            def steps(_, carry):
                state, _ = carry
                for _ in range(entrant.repeats - 1):
                    # A data dependency on the result of the first pass keeps XLA from removing the second. An
                    # optimization barrier alone is not enough: on CPUs it is dropped, and two equal loops are merged.
                    # The dependency covers the updated parameters, else a loop of one step that only returns its loss
                    # is reduced to the forward pass. It adds 0 to the step count unless a number is NaN.
                    end, done = tasks.inner_loop.unroll(task, optimizer, state, key, num_steps)
                    total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(end.params)) + done.inner_loss[-1]
                    failed = jax.lax.optimization_barrier(jnp.isnan(total)).astype(jnp.int32)
                    state = state._replace(inner_step=state.inner_step + failed)
                state, trace = tasks.inner_loop.unroll(task, optimizer, state, key, num_steps)
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
