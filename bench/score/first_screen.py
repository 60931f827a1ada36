"""The first screen of a report: scores and races, and what `bench report SUITE --json` prints of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from bench.score.controls import Controls
from bench.score.races import Race, races
from bench.score.speedup import Speedup
from bench.score.times import TargetsByTask, reference_text
from bench.score.verdict import Scores, score
from bench.statistics import (
    Interval,
)
from bench.store.rows import Rows


@dataclasses.dataclass(frozen=True)
class Screen:
    """What the first screen of a report shows, and what it is of.

    Attributes:
      suite: name.
      label: of the results.
      device: that they were made on.
      scores: every estimate and end of an interval rounded to six digits, which is what is printed.
      races: as they are.
      floor: the clock's (protocol rule 8), rounded likewise; None without its control.
      targets: by task.
    """

    suite: str
    label: str
    device: str
    scores: Scores
    races: tuple[Race, ...]
    floor: float | None
    targets: TargetsByTask


def first_screen(
    rows: Rows, targets: TargetsByTask, suite: str, label: str, device: str, headline: str | None
) -> Screen:
    """The scores of a suite and its races; arguments as `bench.score.verdict.score`, and what they are of."""
    scores = score(rows, targets, headline)
    floor = six_digits(scores.controls.floor if scores.controls else None)
    return Screen(suite, label, device, _six(scores), tuple(races(rows, targets)), floor, targets)


def six_digits(value: float | None) -> float | None:
    """A number as it is printed; None where it is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _six(value: Any) -> Any:
    """Scores, or a part of them, with all numbers of intervals and speed-ups to six digits."""
    if isinstance(value, Interval | Speedup):
        estimate = six_digits(value.estimate)
        if estimate is None:
            return None
        ends = {"low": six_digits(value.low), "high": six_digits(value.high)}
        steps = {"steps": _six(value.steps)} if isinstance(value, Speedup) else {}
        return dataclasses.replace(value, estimate=estimate, **ends, **steps)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: _six(getattr(value, f.name)) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {key: _six(item) for key, item in value.items()}
    return tuple(map(_six, value)) if isinstance(value, tuple) else value


def as_json(screen: Screen) -> dict[str, Any]:
    """What `bench report SUITE --json` prints: JSON-ready, no infinities or NaN."""
    scores, measured = screen.scores, screen.scores.controls
    return {
        "suite": screen.suite,
        "label": screen.label,
        "device": screen.device,
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
            "clock_floor": screen.floor,
            "adam_10x_failed": measured.tenfold_failed if measured else 0,
            **({"untrained": _untrained_json(measured)} if measured and measured.untrained else {}),
            **(
                {"untrained_test_loss": {name: _json(found) for name, found in measured.untrained_test.items()}}
                if measured and measured.untrained_test
                else {}
            ),
            "by_task": {
                key: dict(zip(("lowest", "highest"), map(six_digits, ends), strict=True))
                for key, ends in (measured.by_task if measured else {}).items()
            },
        },
        "races": [
            {
                "task": race.task,
                "target": race.target,
                "contender": race.contender,
                "reference": race.reference,
                "raced": six_digits(race.raced),
                "predicted": six_digits(race.predicted),
                "predicted_over_raced": six_digits(race.predicted_over_raced),
            }
            for race in screen.races
            if race.raced is not None and race.predicted is not None
        ],
        "races_not_decided": [
            {"task": race.task, "target": race.target, "contender": race.contender, "reference": race.reference}
            | {"not_arrived": list(race.missed)}
            for race in screen.races
            if race.raced is None
        ],
        "targets": {task: {"digest": found.digest, "made_at": found.made_at} for task, found in screen.targets.items()},
    }


def _untrained_json(measured: Controls) -> dict[str, dict[str, Any]]:
    return {
        name: _json(found) | dict(zip(("misses_untrained", "misses"), measured.untrained_misses[name], strict=True))
        for name, found in measured.untrained.items()
    }


def _json(found: Interval | Speedup | None) -> dict[str, Any]:
    if found is None:
        return {"estimate": None, "low": None, "high": None}
    values = {name: getattr(found, name) for name in ("estimate", "low", "high")}
    return values | ({"bound": "<"} if isinstance(found, Speedup) and found.bound else {})
