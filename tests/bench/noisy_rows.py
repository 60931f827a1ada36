"""Cells and curves with noise, as the store hands them over: what a whole report is drawn from."""

import json
import zlib

import numpy as np
import pandas as pd

from bench.store.rows import CELL_COLUMNS

TITLE = {"title": "A report", "suite": "quick", "label": "local"}
# name -> (role, floor of the loss, rate of descent, seconds per step)
OPTIMIZERS = {
    "adam": ("hand-designed", 0.30, 6.0, 1.0e-3),
    "adam_cosine": ("hand-designed", 0.25, 7.0, 1.02e-3),
    "muon": ("hand-designed", 0.22, 8.0, 1.9e-3),
    "sgdm": ("hand-designed", 0.40, 3.0, 0.8e-3),
    "lopt": ("learned", 0.24, 12.0, 2.4e-3),
}
LEAN = {"num_points": 6, "curve_metrics": ("train_loss",)}  # fewer figures, for speed
PROVENANCE = {
    "git": {"commit": "0123abc", "dirty": False},
    "versions": {"python": "3.11", "jax": "0.10.2"},
    "device": {"kind": "cpu", "count": 1, "cpu_model": "Some CPU"},
    "data_set": {"name": "digits", "version": "1", "digest": "sha256:feed", "note": "8x8, bundled"},
    "argv": ["bench", "run"],
}


def make_frames(
    optimizers=OPTIMIZERS, tasks=("digits_mlp", "digits_conv"), num_seeds=5, statuses=None, timed=True, num_points=26,
    num_blocks=8, horizon=500, provenance=PROVENANCE, curve_metrics=("train_loss", "validation_loss"),
):  # fmt: skip
    """Cells and curves as the store hands them over; `statuses` maps (task, optimizer, seed) to a failure."""
    statuses = statuses or {}
    cells, curves = [], []

    def add(cell, steps, metric, values):
        steps, values = np.broadcast_arrays(np.atleast_1d(steps), np.asarray(values, float))
        curves.append(pd.DataFrame({"cell": cell, "step": steps, "metric": metric, "value": values}))

    def row(cell, **fields):
        empty = dict.fromkeys(CELL_COLUMNS)
        recorded = {"started_at": "2025-01-01T00:00:00", "provenance": json.dumps(provenance), "status": "ok"}
        return empty | recorded | {"cell": cell, "suite": "quick", "label": "local"} | fields

    for task in tasks:
        for name, (role, floor, rate, seconds) in optimizers.items():
            for seed in range(num_seeds):
                cell, status = f"{task}.{name}.{seed}", statuses.get((task, name, seed), "ok")
                rng = np.random.default_rng(zlib.crc32(cell.encode()))
                effect = np.random.default_rng(seed).normal(scale=0.01)  # of the seed, common to all optimizers
                steps = np.linspace(0, horizon, num_points).astype(int)
                decay = np.exp(-rate * steps / horizon)
                losses = {}
                for metric, gap in (("train_loss", 0.8), ("validation_loss", 1.0), ("test_loss", 1.03)):
                    noise = rng.normal(scale=0.003, size=num_points)
                    losses[metric] = gap * (floor + effect + noise) * (1 - decay) + 2.3 * decay
                bad = horizon // 2
                if status == "diverged":
                    for values in losses.values():
                        values[steps > bad] = np.nan
                fields = {} if status == "error" else {
                    "final_train_loss": losses["train_loss"][-1],
                    "final_validation_loss": losses["validation_loss"][-1],
                    "final_test_loss": losses["test_loss"][-1],
                    "mean_train_loss": losses["train_loss"][1:].mean(),
                    "best_validation_step": steps[np.nanargmin(losses["validation_loss"])],
                    "test_loss_at_best_validation": losses["test_loss"][np.nanargmin(losses["validation_loss"])],
                    "train_wall_sec": horizon * seconds, "eval_wall_sec": 0.4, "compile_sec": 1.5,
                }  # fmt: skip
                stretched = name == "sgdm"
                tuned = None if role == "learned" else (2000 if stretched else horizon)
                cells.append(row(
                    cell, kind="train", task=task, family="digits", optimizer=name, role=role, seed=seed, status=status,
                    reason=None if status == "ok" else f"{status} for a test",
                    first_bad_step=bad + 1 if status == "diverged" else None, horizon=horizon, batch_size=64,
                    num_params=1234, chance_loss=2.3026, tuned_horizon=tuned,
                    hyperparameters=json.dumps({} if role == "learned" else {"learning_rate": 1e-3}), **fields,
                ))  # fmt: skip
                if status == "error":
                    continue
                for metric in curve_metrics:
                    add(cell, steps, metric, losses[metric])
                add(cell, steps[1:], "inner_loss", losses["train_loss"][1:])
                add(cell, steps, "wall_time_sec", 1.1 * seconds * steps)
        if timed:
            cell = f"{task}.time"
            cells.append(row(cell, kind="time", task=task, family="digits"))
            rng = np.random.default_rng(7)
            spell = 1 + 0.05 * rng.random(num_blocks)
            for name, (_, _, _, seconds) in optimizers.items():
                noise = 1 + 0.01 * rng.random(num_blocks)
                add(cell, np.arange(num_blocks), f"seconds_per_step/{name}", seconds * spell * noise)
                add(cell, 0, f"compile_seconds/{name}", 1.25)
                add(cell, 0, f"step_bytes/{name}", 3000.0 if name == "lopt" else 2000.0)
    frame = pd.DataFrame(cells)
    for column in ("seed", "first_bad_step", "tuned_horizon", "best_validation_step"):
        frame[column] = frame[column].astype("Int64")
    empty = pd.DataFrame({"cell": [], "step": [], "metric": [], "value": []}).astype({"cell": str, "metric": str})
    return frame, pd.concat(curves, ignore_index=True) if curves else empty


def chosen(*names):
    return {name: OPTIMIZERS[name] for name in names}


FAILURES = {("digits_mlp", "adam", 3): "diverged", ("digits_mlp", "muon", 0): "error"}
