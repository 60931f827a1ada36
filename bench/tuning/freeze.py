"""How targets are frozen: tuned hand-designed optimizers run on tuning seeds (protocol rule 10)."""

import datetime
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.statistics.crossing import SMOOTHING
from bench.tuning.targets import GROUPS, METRICS, NUM_SEEDS, SHARES, finite, levels_of, needed_steps


def freeze(
    task_name: str,
    task: Any,
    entrants: Sequence[Any],
    horizon: int,
    programs: dict[str, Any],
    facts: Mapping[str, Any],
    *,
    earlier: Mapping[str, Any] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Runs hand-designed optimizers on the tuning seeds of a task and takes the targets from their curves.

    Args:
      task_name: of the registry.
      task: the loaded `tasks.Task`.
      entrants: tuned hand-designed rows.
      horizon: inner steps.
      programs: compiled programs by optimizer, shared between tasks of a family; added to.
      facts: stored with the record: task and data digests, versions.
      earlier: the record that this one extends, of the same task and data; its rows are taken over as they are, but for
        entrants that have other hyperparameters now.
      tick: called after every run.

    Returns:
      The record, JSON-ready, for `write`.
    """
    from bench.clock import engine
    from bench.suites.seeds import FIRST_TUNING_SEED

    grid = engine.evaluation_grid(horizon)
    needed = needed_steps(grid, horizon)
    seeds = [FIRST_TUNING_SEED + k for k in range(NUM_SEEDS)]
    rows, final_validation = {}, {}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    changed = {entrant.name: entrant for entrant in entrants if not known_row(earlier, entrant)}
    if earlier:
        for name, row in earlier["optimizers"].items():
            if name not in changed:
                rows[name] = {"made_at": earlier["made_at"], **row}
                finals = [math.inf if v is None else v for v in row["final_validation_losses"]]
                final_validation[name] = float(np.median(finals))
    for entrant in changed.values():
        if entrant.name not in programs:
            programs[entrant.name] = engine.compile_program(entrant, task, horizon, engine.chunk_lengths(horizon))
        program = programs[entrant.name]
        curves = {metric: np.full((len(grid), NUM_SEEDS), np.nan) for metric in METRICS}
        finals = []
        for column, seed in enumerate(seeds):
            key = engine.run_key(task_name, seed)
            state = program.init(task, entrant, key)
            for i, (previous, step) in enumerate(itertools.pairwise(grid), 1):
                state, _ = program.chunks[step - previous](task, entrant.variables, state, key, 1)
                if step in needed:
                    for split, loss in program.evaluate.items():
                        curves[f"{split}_loss"][i, column] = loss(task, state.params)
            finals.append(engine.whole_loss(task, state.params, "validation"))
            tick()
        levels = {metric: levels_of(grid, values, horizon) for metric, values in curves.items()}
        final_validation[entrant.name] = float(np.median([v if math.isfinite(v) else math.inf for v in finals]))
        rows[entrant.name] = {
            "hyperparameters": dict(entrant.identity),
            "final_validation_losses": finals,
            "levels": levels,
            "made_at": now,
        }
    references = {}
    for group, members in GROUPS.items():
        there = [name for name in (members or tuple(rows)) if math.isfinite(final_validation.get(name, math.inf))]
        if there:
            references[group] = min(there, key=lambda name: final_validation[name])
    return {
        "task": task_name,
        "horizon": horizon,
        "seeds": seeds,
        "smoothing": SMOOTHING,
        "shares": SHARES,
        **facts,
        "optimizers": rows,
        "references": references,
        **({"extends": [*earlier.get("extends", ()), _version(earlier)]} if earlier else {}),
        "made_at": now,
    }


def known_row(earlier: Mapping[str, Any] | None, entrant: Any) -> dict[str, Any] | None:
    """What an earlier record holds of an entrant, if it ran with the same hyperparameters; else None."""
    row = (earlier or {}).get("optimizers", {}).get(entrant.name)
    return row if row and row["hyperparameters"] == finite(dict(entrant.identity)) else None


def _version(record: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one version of a record from another."""
    return {key: record[key] for key in ("digest", "made_at", "commit")}
