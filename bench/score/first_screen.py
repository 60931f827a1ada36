"""What `bench report SUITE --json` prints: the scores as data for JSON."""

from __future__ import annotations

import math
from typing import Any

from bench.score.controls import Controls
from bench.score.races import races
from bench.score.speedup import Speedup
from bench.score.times import TargetsByTask, reference_text
from bench.score.verdict import score
from bench.statistics import (
    Interval,
)
from bench.store.rows import Rows


def first_screen(rows: Rows, targets: TargetsByTask, suite: str, label: str, device: str, headline: str | None) -> dict:
    """What `bench report SUITE --json` prints: JSON-ready, no infinities or NaN."""
    scores = score(rows, targets, headline)
    measured, ran = scores.controls, races(rows, targets)
    return {
        "suite": suite,
        "label": label,
        "device": device,
        "verdict": {
            "text": scores.verdict,
            "word": scores.word,
            "optimizer": scores.contender,
            "against": [
                {
                    "group": group,
                    "reference": reference_text(scores.group_references[group]),
                    "speedup": {target: _json(found) for target, found in by_target.items()},
                }
                for group, by_target in scores.against.items()
            ],
        },
        "rows": [
            {
                "task": row.task,
                "optimizer": row.optimizer,
                "role": row.role,
                "speedup": {target: _json(found) for target, found in row.speedups.items()},
                "speedup_in_steps": {
                    target: _json(found and found.steps) | ({"bound": "<"} if found and found.bound else {})
                    for target, found in row.speedups.items()
                },
                "validation_speedup": {target: _json(found) for target, found in row.validation_speedups.items()},
                "step_cost_ratio": _json(row.step_cost),
                **{name: _json(interval) for name, interval in row.losses.items()},
                "success_rate": _json(row.success),
                "failed_runs": row.num_failed,
            }
            for row in scores.rows
        ],
        "controls": {
            "aa": _json(measured.aa if measured else None),
            "double_step": _json(measured.double_step if measured else None),
            "frozen_success": _json(measured.frozen_success if measured else None),
            "frozen_rank": dict(zip(("rank", "of"), (measured and measured.frozen_rank) or (None, None), strict=True)),
            "frozen_tied_with": list(measured.frozen_ties) if measured else [],
            "adam_10x_minus_adam": _json(measured.tenfold if measured else None),
            "clock_floor": _rounded(measured.floor if measured else None),
            "adam_10x_failed": measured.tenfold_failed if measured else 0,
            **({"untrained": _untrained_json(measured)} if measured and measured.untrained else {}),
            **(
                {"untrained_test_loss": {name: _json(found) for name, found in measured.untrained_test.items()}}
                if measured and measured.untrained_test
                else {}
            ),
            "by_task": {
                key: dict(zip(("lowest", "highest"), map(_rounded, ends), strict=True))
                for key, ends in (measured.by_task if measured else {}).items()
            },
        },
        "races": [
            {
                "task": race.task,
                "target": race.target,
                "contender": race.contender,
                "reference": race.reference,
                "raced": _rounded(race.raced),
                "predicted": _rounded(race.predicted),
                "predicted_over_raced": _rounded(race.predicted / race.raced),
            }
            for race in ran
            if race.raced is not None and race.predicted is not None
        ],
        "races_not_decided": [
            {"task": race.task, "target": race.target, "contender": race.contender, "reference": race.reference}
            | {"not_arrived": list(race.missed)}
            for race in ran
            if race.raced is None
        ],
        "targets": {task: {"digest": found.digest, "made_at": found.made_at} for task, found in targets.items()},
    }


def _untrained_json(measured: Controls) -> dict[str, dict[str, Any]]:
    return {
        name: _json(found) | dict(zip(("misses_untrained", "misses"), measured.untrained_misses[name], strict=True))
        for name, found in measured.untrained.items()
    }


def _json(found: Interval | Speedup | None) -> dict[str, Any]:
    if found is None:
        return {"estimate": None, "low": None, "high": None}
    values = {name: _rounded(getattr(found, name)) for name in ("estimate", "low", "high")}
    return values | ({"bound": "<"} if isinstance(found, Speedup) and found.bound else {})


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
