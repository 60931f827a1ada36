"""Seconds per step by interleaved randomized blocks.

In each block every optimizer runs once, in random order, on one device; ratios are taken within a block (protocol
rule 7: google/benchmark's random interleaving; Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM
2013). Compile time is reported apart, and the clock stops on `block_until_ready`.
"""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from bench.entries.entrants import Entrant
from bench.statistics import Interval, significant
from bench.training.programs import Program, chunk_lengths, compile_program, run_key
from tasks.task import Task

MIN_REGION_SEC = 0.05  # a timed region is long compared with dispatch and the clock's resolution
NUM_TRIES = 3  # runs of a region, of which the fastest estimates its length
NUM_BLOCKS = 20


def printed(interval: Interval) -> dict[str, float]:
    """An interval of a median as `bench time` prints it; it needs at least six blocks."""
    assert interval.low is not None
    assert interval.high is not None
    ends = {"median": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: significant(value, 5) for name, value in ends.items()}


class Timings(NamedTuple):
    """Measured blocks.

    Attributes:
      seconds_per_step: (num_blocks, num_optimizers).
      compile_sec: (num_optimizers,), compile time of the training program.
      step_bytes: (num_optimizers,), its memory without the data, NaN where it is not known.
    """

    seconds_per_step: np.ndarray
    compile_sec: np.ndarray
    step_bytes: np.ndarray


def interleave(
    regions: Sequence[Callable[[], None]], num_blocks: int, seed: int = 0, tick: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Times every region once in each block, in random order.

    Args:
      regions: callables that return when their work is done.
      num_blocks: number of blocks.
      seed: seed of the random orders.
      tick: called after every block.

    Returns:
      Seconds, (num_blocks, num_regions).
    """
    rng = np.random.default_rng(seed)
    seconds = np.empty((num_blocks, len(regions)))
    collecting = gc.isenabled()
    gc.disable()  # a garbage collection during a region would be counted as its time
    try:
        for block in range(num_blocks):
            for index in rng.permutation(len(regions)):
                start = time.perf_counter()
                regions[index]()
                seconds[block, index] = time.perf_counter() - start
            tick()
    finally:
        if collecting:
            gc.enable()
    return seconds


def filling(regions: Sequence[Callable[[], None]], seconds: float) -> np.ndarray:
    """The number of repeats after which each of some warm regions takes `seconds`, (num_regions,), int.

    The numbers differ between regions: a Muon step on a wide layer costs as much as hundreds of SGD steps, and with
    SGD's number of repeats its region would take minutes.
    """
    return np.maximum(1, np.ceil(seconds / interleave(regions, NUM_TRIES).min(axis=0))).astype(int)


def chunk_steps(horizon: int) -> int:
    """Steps of the chunk that a timed region repeats: the shortest chunk of training."""
    return chunk_lengths(horizon)[0]


def training_region(
    program: Program, entrant: Entrant, task: Task, key: jax.Array, num_steps: int, repeats: int
) -> Callable[[], None]:
    """A region that trains `repeats` chunks of `num_steps` in one dispatch, continuing from its last state."""
    state = jax.block_until_ready(program.init(task, entrant, key))
    chunk = program.chunks[num_steps]

    def region() -> None:
        nonlocal state
        state, losses = chunk(task, entrant.variables, state, key, repeats)
        jax.block_until_ready((state, losses))

    return region


def time_entrants(
    entrants: Sequence[Entrant],
    task: Task,
    horizon: int,
    *,
    num_blocks: int = NUM_BLOCKS,
    compile_for: Callable[[Entrant], Program] | None = None,
    tick: Callable[[], None] = lambda: None,
    failed: Callable[[Entrant, BaseException], None] | None = None,
) -> Timings:
    """Times the training step of entrants on a task.

    Args:
      entrants: the optimizers.
      task: the task that they train.
      horizon: inner steps, for schedules.
      num_blocks: number of interleaved blocks.
      compile_for: entrant -> a program with the grid's chunks; by default programs are compiled here.
      tick: called after every block.
      failed: called with an entrant that cannot be compiled or take a step, and its exception. It is left out, and the
        others are timed. Without it, or where none is left, the exception is raised.

    Returns:
      The timings, columns in the order of those of `entrants` that are timed.
    """
    key, num_steps = run_key("timing", 0), chunk_steps(horizon)
    compile_for = compile_for or (lambda entrant: compile_program(entrant, task, horizon, [num_steps]))
    timed, programs, regions = [], [], []
    for number, entrant in enumerate(entrants, 1):
        try:
            program = compile_for(entrant)
            region = training_region(program, entrant, task, key, num_steps, 1)
            region()
        except (Exception, SystemExit) as error:  # whatever an optimizer raises
            if failed is None or (number == len(entrants) and not timed):
                raise
            failed(entrant, error)
            continue
        timed, programs, regions = [*timed, entrant], [*programs, program], [*regions, region]
    repeats = filling(regions, MIN_REGION_SEC)
    each = zip(programs, timed, repeats.tolist(), strict=True)
    regions = [training_region(program, entrant, task, key, num_steps, number) for program, entrant, number in each]
    seconds = interleave(regions, num_blocks, tick=tick) / (repeats * num_steps)
    compile_sec = [program.compile_sec[f"chunk{num_steps}"] for program in programs]
    return Timings(seconds, np.array(compile_sec), np.array([program.step_bytes for program in programs]))


def curve(timings: Timings, names: Sequence[str]) -> pd.DataFrame:
    """Timings as the curve of a cell of kind "time"; the step is the number of the block."""
    rows: list[tuple[int, str, Any]] = [
        (block, f"seconds_per_step/{name}", timings.seconds_per_step[block, i])
        for block in range(len(timings.seconds_per_step))
        for i, name in enumerate(names)
    ]
    rows += [(0, f"compile_seconds/{name}", timings.compile_sec[i]) for i, name in enumerate(names)]
    known = [(name, timings.step_bytes[i]) for i, name in enumerate(names) if np.isfinite(timings.step_bytes[i])]
    rows += [(0, f"step_bytes/{name}", value) for name, value in known]
    return pd.DataFrame(rows, columns=["step", "metric", "value"])
