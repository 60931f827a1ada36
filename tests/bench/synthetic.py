"""Rows made by hand, in the form in which the harness stores them: what scoring, verify and compare are tested on."""

import math

import msgspec
import numpy as np
import pandas as pd

from bench.store.record import CURVE_COLUMNS, Record, cell_id, cell_row
from bench.store.rows import read_rows
from bench.training.timed_run import summarize, whole_grid
from bench.tuning import targets

HORIZON = 100
GRID = np.arange(0, HORIZON + 1, 5)  # coarser than the harness's own: straight lines need no more points
PROVENANCE = {"git": {"commit": "0123abc", "dirty": False}, "device": {"kind": "cpu"}, "argv": ["bench", "run"]}


def falling(rate, start=3.0):
    """A loss that falls by `rate` a step."""
    return start - rate * GRID


def diverging(after, rate=0.0, start=3.0):
    """The same, not a number from the first point of the grid after a step."""
    return np.where(after < GRID, np.nan, falling(rate, start))


def _cell(kind, task, curve, config, **fields):
    """A stored cell: (record, curve with the cell's name)."""
    config = {"kind": kind, "suite": "made", "task": task, "family": task, "horizon": HORIZON} | config
    config |= {"batch_size": 4, "num_params": 7, "chance_loss": 3.0, "device_kind": "cpu", "version": "0"}
    name = cell_id(config)
    record = {"cell": name, "config": config, "status": "ok", "started_at": "2026-01-02T00:00:00+00:00"}
    frame = pd.DataFrame(curve, columns=["step", "metric", "value"]).assign(cell=name)
    return msgspec.convert(record | {"provenance": PROVENANCE} | fields, Record), frame


def train_cell(
    task, optimizer, seed, losses, role="hand-designed", *, validation=None, test=None, finals=None, settings=None
):
    """A run whose train loss is `losses` on an even grid, such as `GRID`, NaN from where it diverged.

    Validation and test losses are the train loss where nothing else is given: `validation` on the grid, `test` one
    number or one a block of images. `finals` replaces final losses of whole splits, `settings` parts of the config.
    """
    losses = np.asarray(losses, float)
    validation = losses if validation is None else np.asarray(validation, float)
    grid = np.linspace(0, HORIZON, len(losses)).astype(int)
    bad = np.flatnonzero(~np.isfinite(losses))
    last = grid[bad[0]] if len(bad) else HORIZON + 1
    values = {}
    for step, train, held_out in zip(grid.tolist(), losses, validation, strict=True):
        clock = 0.01 * step if step < last else math.nan
        values |= {(step, "train_loss"): train, (step, "validation_loss"): held_out}
        values |= {(step, "inner_loss"): train, (step, "wall_time_sec"): clock}
    rows = whole_grid(values, grid.tolist())
    best = int(np.nanargmin(validation))
    rows.append((int(grid[best]), "test_loss_at_best_validation", float(losses[best])))
    if not len(bad):
        blocks = np.atleast_1d(losses[-1] if test is None else test)
        final = {"test": float(np.mean(blocks)), "validation": float(validation[-1])} | (finals or {})
        rows += [(block, "test_block_loss", float(value)) for block, value in enumerate(blocks)]
        rows += [(HORIZON, f"final_{split}_loss", value) for split, value in final.items()]
    fields = {
        "status": "diverged" if len(bad) else "ok",
        "reason": f"loss not finite from step {last}" if len(bad) else None,
        "first_bad_step": int(last) if len(bad) else None,
        "result": summarize(rows),
        "clock": {
            "train_wall_sec": 0.01 * float(grid[bad[0] - 1] if len(bad) else HORIZON),
            "eval_wall_sec": 0.5,
            "compile_sec": 1.5,
            "total_wall_sec": 2.0,
        },
    }
    config = {"optimizer": optimizer, "role": role, "seed": seed, "hyperparameters": {}, "tuned_horizon": HORIZON}
    config |= settings or {}
    return _cell("train", task, rows, config, **fields)


def failed_cell(task, optimizer, seed, role="hand-designed"):
    """A run that ended in an error: a record and no curve."""
    config = {"optimizer": optimizer, "role": role, "seed": seed, "hyperparameters": {}, "tuned_horizon": HORIZON}
    return _cell("train", task, [], config, status="error", reason="RuntimeError: no such thing")


def time_cell(task, blocks, controls=()):
    """A timing: optimizer -> seconds per step of each block."""
    curve = [
        (block, f"seconds_per_step/{name}", value)
        for name, values in blocks.items()
        for block, value in enumerate(values)
    ]
    curve += [(0, f"compile_seconds/{name}", 1.25) for name in blocks]
    return _cell("time", task, curve, {"controls": list(controls), "hyperparameters": {}})


def cells_of(runs, blocks=None, roles=None, **kwargs):
    """Cells of several tasks.

    Args:
      runs: task -> optimizer -> curves on `GRID`, a list of them for seeds 0, 1, .. or a dict by seed.
      blocks: task -> optimizer -> seconds per step of each block.
      roles: optimizer -> role; hand-designed without one.
    """
    roles = roles or {}
    cells = []
    for task, by_optimizer in runs.items():
        for name, by_seed in by_optimizer.items():
            by_seed = by_seed if isinstance(by_seed, dict) else dict(enumerate(by_seed))
            for seed, losses in by_seed.items():
                cells.append(train_cell(task, name, seed, losses, roles.get(name, "hand-designed"), **kwargs))
    for task, timed in (blocks or {}).items():
        cells.append(time_cell(task, timed, [name for name in timed if roles.get(name) == "control"]))
    return cells


def frames(cells, label="machine"):
    """(cells, curves) as the store reads them."""
    return (
        pd.DataFrame([cell_row(record, label) for record, _ in cells]),
        pd.concat([curve for _, curve in cells])[CURVE_COLUMNS].reset_index(drop=True),
    )


SCORED = ("train_loss", "validation_loss", "test_block_loss", "seconds_per_step", "compile_seconds")


def rows_of(runs, blocks=None, roles=None, **kwargs):
    """Checked rows of `cells_of`, with no other curves than scores are made from."""
    cells, curves = frames(cells_of(runs, blocks, roles, **kwargs))
    return read_rows(cells, curves[curves["metric"].str.partition("/")[0].isin(SCORED)])


def frozen(levels, references=None):
    """Targets of one task: optimizer -> (hard, medium, easy), or metric -> those; the first one is the reference."""
    by_metric = {
        name: row if isinstance(row, dict) else {"train_loss": row, "validation_loss": row}
        for name, row in levels.items()
    }
    return targets.Targets(
        task="",
        horizon=HORIZON,
        levels={
            name: {metric: dict(zip(targets.SHARES, values, strict=True)) for metric, values in row.items()}
            for name, row in by_metric.items()
        },
        references=references if references is not None else dict.fromkeys(targets.GROUPS, next(iter(levels))),
        made_at="2026-01-01T00:00:00+00:00",
        digest="",
        identities={},
    )


def targets_record(task, levels, reference):
    """The record that `bench freeze` would write: optimizer -> (hard, medium, easy)."""
    optimizers = {}
    for name, row in levels.items():
        by_target = {target: v if math.isfinite(v) else None for target, v in zip(targets.SHARES, row, strict=True)}
        metrics = dict.fromkeys(targets.METRICS, by_target)
        optimizers[name] = {"hyperparameters": {}, "final_validation_losses": [], "levels": metrics}
    references = dict.fromkeys(targets.GROUPS, reference)
    record = {"task": task, "horizon": HORIZON, "optimizers": optimizers, "references": references}
    return record | {"made_at": "2026-01-01T00:00:00+00:00"}
