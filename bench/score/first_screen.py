"""The first screen of a report: scores and races, and their JSON (`bench report SUITE --json`)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from bench.score.controls import Controls
from bench.score.headline import Against, Headline, read_headline
from bench.score.races import Race, races
from bench.score.speedup import Speedup
from bench.score.times_to_target import TargetsByTask, reference_text
from bench.score.verdict import Scores, score
from bench.statistics import (
    Interval,
    significant,
)
from bench.store.rows import Rows


@dataclasses.dataclass(frozen=True)
class Screen:
    """What the first screen of a report shows.

    Attributes:
      suite: its name.
      label: label of the results.
      device: device that the results were made on.
      scores: with every estimate and bound rounded to six digits, as printed.
      headline: likewise; None where the headline optimizer did not run.
      races: not rounded.
      floor: the A/A floor over all tasks (protocol rule 8), rounded to six digits; None without the A/A control.
      floors: by task, its own.
      targets: by task.
    """

    suite: str
    label: str
    device: str
    scores: Scores
    headline: Headline | None
    races: tuple[Race, ...]
    floor: float | None
    targets: TargetsByTask
    floors: Mapping[str, float | None] = dataclasses.field(default_factory=dict)

    def floor_of(self, scope: str) -> float | None:
        """The floor on a task, or over all of them."""
        return self.floors.get(scope, self.floor)


def first_screen(
    rows: Rows, targets: TargetsByTask, suite: str, label: str, device: str, headline: str | None
) -> Screen:
    """The scores and races of a suite; `rows`, `targets` and `headline` as in `bench.score.verdict.score`."""
    scores = score(rows, targets, headline)
    measured = scores.controls
    floor = six_digits(measured.floor if measured else None)
    floors = {task: six_digits(measured.floor_of(task)) for task in rows.tasks} if measured else {}
    claims = _six(read_headline(rows, targets, headline))
    return Screen(suite, label, device, _six(scores), claims, tuple(races(rows, targets)), floor, targets, floors)


def six_digits(value: float | None) -> float | None:
    """A number rounded to six digits, as printed; None where it is missing or not finite."""
    return None if value is None or not math.isfinite(value) else significant(value)


def _six(value: Any) -> Any:
    """Scores, or a part of them, with the numbers of all intervals and speed-ups rounded to six digits."""
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
            "optimizer": scores.optimizer,
            "against": [
                {
                    "group": group,
                    "reference": reference_text(scores.group_references[group]),
                    "speedup": {target: _json(found) for target, found in by_target.items()},
                }
                for group, by_target in scores.against.items()
            ],
        },
        "headline": screen.headline and _headline_json(screen.headline),
        "rows": [
            {
                "task": row.task,
                "optimizer": row.optimizer,
                "role": row.role,
                "speedup": {target: _json(found) for target, found in row.speedups.items()},
                "speedup_in_steps": {target: _json_of_steps(found) for target, found in row.speedups.items()},
                "train_speedup": {target: _json(found) for target, found in row.train_speedups.items()},
                "step_cost_ratio": _json(row.step_cost),
                **{name: _json(interval) for name, interval in row.losses.items()},
                "success_rate": _json(row.success),
                "failed_runs": row.num_failed,
                **({"set_by_hand": list(row.set_by_hand)} if row.set_by_hand else {}),
            }
            for row in scores.rows
        ],
        "controls": {
            "aa": _json(measured.aa if measured else None),
            "double_step": _json(measured.double_step if measured else None),
            "frozen_success": _json(measured.zero_rate_success if measured else None),
            "frozen_rank": dict(
                zip(("rank", "of"), (measured and measured.zero_rate_rank) or (None, None), strict=True)
            ),
            "frozen_tied_with": list(measured.zero_rate_ties) if measured else [],
            "adam_10x_minus_adam": _json(measured.tenfold if measured else None),
            "over_itself": {group: _json_of_steps(found) for group, found in scores.over_itself.items()},
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
                "loss": race.metric,
                "contender": race.optimizer,
                "reference": race.reference,
                "raced": six_digits(race.raced),
                "predicted": six_digits(race.predicted),
                "predicted_over_raced": six_digits(race.predicted_over_raced),
            }
            for race in screen.races
            if race.raced is not None and race.predicted is not None
        ],
        "races_not_decided": [
            {"task": race.task, "target": race.target, "loss": race.metric}
            | {"contender": race.optimizer, "reference": race.reference, "not_arrived": list(race.missed)}
            for race in screen.races
            if race.raced is None
        ],
        "targets": {task: {"digest": found.digest, "made_at": found.made_at} for task, found in screen.targets.items()},
    }


def _against_json(against: Against) -> dict[str, Any]:
    return {
        "group": against.group,
        "reference": reference_text(against.reference),
        "speedup": _json(against.speedup),
        "speedup_in_steps": _json_of_steps(against.speedup),
        "to_best": _json(against.to_best),
    }


def _headline_json(found: Headline) -> dict[str, Any]:
    test = found.test_loss
    return {
        "optimizer": found.optimizer,
        "validation": [_against_json(against) for against in found.validation],
        "by_architecture": {kind: list(map(_against_json, own)) for kind, own in found.by_architecture.items()},
        "test_loss": test
        and {
            "reference": test.reference,
            "difference": _json(test.difference),
            "tasks_below": test.tasks_below,
            "tasks": test.tasks,
        },
        "outer_seeds": [
            {"optimizer": seed.optimizer, "speedup": _json(seed.speedup), "difference": _json(seed.difference)}
            for seed in found.outer_seeds
        ],
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


def _json_of_steps(found: Speedup | None) -> dict[str, Any]:
    return _json(found and found.steps) | ({"bound": "<"} if found and found.bound else {})
