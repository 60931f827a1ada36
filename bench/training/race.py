"""A race: optimizers train in turns until all reach a loss, each with its own clock (protocol rule 9)."""

import functools
import itertools
import time
from collections.abc import Callable, Sequence

import jax
import pandas as pd

from bench.entries.entrants import Entrant
from bench.statistics.crossing import SMOOTHING, steps_to
from bench.training.programs import Program, chunk_lengths, compile_program, evaluation_grid
from bench.training.step_times import filling, training_region
from tasks.inner_loop import eval_loss
from tasks.task import Task

MIN_RACE_SEC = 0.02  # shorter than `MIN_REGION_SEC`, since a race has a hundred times as many timed regions


def race(
    entrants: Sequence[Entrant],
    task: Task,
    key: jax.Array,
    horizon: int,
    level: float,
    *,
    compile_for: Callable[[Entrant], Program] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """Trains entrants in turns in one process until all have reached a loss (protocol rule 9).

    Each trains one chunk, from one point of the evaluation grid to the next; the order alternates. Each has its own
    clock, which runs during its chunks only. Where a chunk is too short to be timed, the clock times several chunks in
    one dispatch and counts the share of one; training then advances by one chunk.

    Args:
      entrants: the optimizers.
      task: the task that they train.
      key: key of the run, the same for all.
      horizon: inner steps after which the race ends even if the loss is not reached.
      level: smoothed validation loss to reach.
      compile_for: entrant -> a program with chunks of the grid's lengths; by default programs are compiled here.
      tick: called after every point of the grid.

    Returns:
      Rows (step, metric, value) with metrics "validation_loss/NAME" and "wall_time_sec/NAME", from step 0 to the end.
    """
    grid = evaluation_grid(horizon)
    lengths = chunk_lengths(horizon)
    compile_for = compile_for or (lambda entrant: compile_program(entrant, task, horizon, lengths))
    programs = [compile_for(entrant) for entrant in entrants]
    validation_loss = jax.jit(functools.partial(eval_loss, split="validation"))
    shortest = []
    for program, entrant in zip(programs, entrants, strict=True):  # warm up
        state = program.init(task, entrant, key)
        for length in lengths:
            jax.block_until_ready(program.chunks[length](task, entrant.variables, state, key, 1))
        float(validation_loss(task, state.eval_params))
        shortest.append(training_region(program, entrant, task, key, lengths[0], 1))
    repeats = filling(shortest, MIN_RACE_SEC).tolist()
    states = [jax.block_until_ready(p.init(task, e, key)) for p, e in zip(programs, entrants, strict=True)]
    clocks, rows = [0.0] * len(entrants), []
    losses: list[list[float]] = [[] for _ in entrants]

    def record(i: int, step: int) -> None:
        losses[i].append(float(validation_loss(task, states[i].eval_params)))
        rows.append((step, f"validation_loss/{entrants[i].name}", losses[i][-1]))
        rows.append((step, f"wall_time_sec/{entrants[i].name}", clocks[i]))

    for i in range(len(entrants)):
        record(i, 0)
    for number, (previous, step) in enumerate(itertools.pairwise(grid)):
        order = range(len(entrants)) if number % 2 == 0 else reversed(range(len(entrants)))
        for i in order:
            chunk = programs[i].chunks[step - previous]
            begin = time.perf_counter()
            ahead = jax.block_until_ready(chunk(task, entrants[i].variables, states[i], key, repeats[i]))
            clocks[i] += (time.perf_counter() - begin) / repeats[i]
            states[i], _ = ahead if repeats[i] == 1 else chunk(task, entrants[i].variables, states[i], key, 1)
            record(i, step)
        tick()
        # The last points of a smoothed curve still change with the next points, so they do not count yet.
        settled = [grid[: len(values)][:-SMOOTHING] for values in losses]
        if all(
            len(steps) and steps_to(level, grid[: len(values)], values) <= steps[-1]
            for steps, values in zip(settled, losses, strict=True)
        ):
            break
    return pd.DataFrame(rows, columns=["step", "metric", "value"])
