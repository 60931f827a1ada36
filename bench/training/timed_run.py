"""Runs one training cell: trains by chunks, which are timed, and evaluates between them, which is not.

The clock (protocol rule 6): programs are compiled ahead of time, and compile time is reported apart. A chunk of steps
is one dispatch and ends with one `block_until_ready`. The data is on the device. The clock stops during evaluation.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from bench.entries.entrants import Entrant
from bench.store.record import Clock, Outcome, Result, Status
from bench.training.programs import Program, block_losses, evaluation_grid, whole_loss
from tasks.inner_loop import EVAL_EXAMPLES, InnerState
from tasks.task import Key, Task

STEP_METRICS = ("inner_loss", "wall_time_sec")  # about the steps since the last grid point, so absent at step 0
METRICS = (*(f"{split}_loss" for split in EVAL_EXAMPLES), *STEP_METRICS)  # on the evaluation grid
# On whole splits; one row each, at the step of the parameters (protocol rule 4).
WHOLE_METRICS = ("final_validation_loss", "final_test_loss", "test_loss_at_best_validation")
BLOCK_METRIC = "test_block_loss"  # final parameters on a block of test images; "step" is the block


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
      program: from `compile_program`, with a chunk of each length in `chunk_lengths`.
      entrant: the optimizer.
      task: the task that it trains.
      key: from `run_key`.
      horizon: inner steps.
      time_limit_sec: wall-clock after which the run ends as "time_limit".
      tick: called after every chunk with its number of steps.

    Returns:
      The outcome, without compile time in its clock. A non-finite inner or evaluation loss ends the run as diverged;
      the rest of its grid is NaN, not missing.
    """
    begin = time.perf_counter()
    grid = evaluation_grid(horizon)
    status, reason, first_bad_step = Status.OK, None, None
    clock = {"train_wall_sec": 0.0, "eval_wall_sec": 0.0}
    values: dict[tuple[int, str], float] = {}
    best = (math.inf, 0, None)  # validation loss, step, params

    def evaluate(step: int, state: InnerState) -> bool:
        nonlocal best
        start = time.perf_counter()
        params = state.eval_params
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
    evaluate(0, state)
    for previous, step in itertools.pairwise(grid):
        start = time.perf_counter()
        chunk = program.chunks[step - previous]
        state, losses = jax.block_until_ready(chunk(task, entrant.variables, state, key, 1))
        clock["train_wall_sec"] += time.perf_counter() - start
        losses = np.asarray(losses)
        values[step, "inner_loss"] = float(losses.mean())
        values[step, "wall_time_sec"] = clock["train_wall_sec"]
        finite = evaluate(step, state)
        tick(step - previous)
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad) or not finite:
            status = Status.DIVERGED
            first_bad_step = previous + int(bad[0]) if len(bad) else step
            reason = f"loss not finite from step {first_bad_step}"
            break
        if time.perf_counter() - begin > time_limit_sec:
            status, reason = Status.TIME_LIMIT, f"stopped after {time_limit_sec:g} s at step {step} of {horizon}"
            break
    rows = whole_grid(values, grid)
    start = time.perf_counter()
    if best[2] is not None:
        rows.append((best[1], "test_loss_at_best_validation", _finite_or_nan(whole_loss(task, best[2], "test"))))
    if status is Status.OK:
        losses, counts = block_losses(task, state.eval_params, "test")
        rows += [(block, BLOCK_METRIC, _finite_or_nan(loss)) for block, loss in enumerate(losses)]
        rows.append((horizon, "final_test_loss", _finite_or_nan(np.average(losses, weights=counts))))
        rows.append(
            (horizon, "final_validation_loss", _finite_or_nan(whole_loss(task, state.eval_params, "validation")))
        )
    clock["eval_wall_sec"] += time.perf_counter() - start
    clock["total_wall_sec"] = time.perf_counter() - begin
    curve = pd.DataFrame(rows, columns=["step", "metric", "value"])
    return Outcome(status, curve, reason, first_bad_step, Result(**summarize(rows)), Clock(**clock))


def _finite_or_nan(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan


def whole_grid(values: Mapping[tuple[int, str], float], grid: Sequence[int]) -> list[tuple[int, str, float]]:
    """Rows (step, metric, value) on the whole grid; missing and infinite values are NaN."""
    rows = []
    for step in grid:
        for metric in METRICS:
            if step > 0 or metric not in STEP_METRICS:
                rows.append((step, metric, _finite_or_nan(values.get((step, metric), math.nan))))
    return rows


def summarize(rows: Sequence[tuple[int, str, float]]) -> dict[str, Any]:
    """The losses in a cell's record, from its curve (protocol rule 4); None where they are not finite.

    The mean train loss leaves out step 0, which does not depend on the optimizer.

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
