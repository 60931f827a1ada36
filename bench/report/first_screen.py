"""The first screen as tables: what `bench.scoring.first_screen` says, and nothing else."""

from __future__ import annotations

from typing import Any

from bench.report.table import NONE_TEXT, Column, Entry, Table, format_number, text_entry
from bench.statistics import Interval

CONTROLS = {  # key of the first screen -> what it is, what is expected
    "aa": ("the same optimizer entered twice: ratio of step costs", "1"),
    "double_step": ("every step performed twice: ratio of step costs", "2"),
    "adam_10x_minus_adam": ("Adam at ten times its tuned rate, final train loss minus Adam's", "above 0"),
}


def score_table(screen: dict[str, Any]) -> Table:
    """Speed-up to each target, step cost, final losses and success of every optimizer, as `report.json` has them."""
    keys = [f"{target}_speedup" for target in ("hard", "medium", "easy")]
    rows = []
    for row in screen["rows"]:
        found = [row["speedup"][key.removesuffix("_speedup")] for key in keys]
        found += [row[key] for key in SCORE_KEYS]
        entries = [score_entry(value) for value in found]
        rows.append((text_entry(row["task"]), text_entry(row["optimizer"]), text_entry(row["role"]), *entries))
    headers = ("speed-up, hard", "speed-up, medium", "speed-up, easy")
    columns = (
        *(Column(name, name) for name in ("task", "optimizer", "role")),
        *(Column(key, header, True, True) for key, header in zip(keys, headers, strict=True)),
        *(Column(key, header, True, True) for key, header in zip(SCORE_KEYS, SCORE_HEADERS, strict=True)),
    )
    notes = (
        "Speed-up in wall-clock and ratio of step costs: the learned optimizer against the row's optimizer, towards "
        "that optimizer's own frozen losses at 100, 50 and 25 % of the horizon; in a learned row against the best "
        "hand-designed one of the task. Above 1 the learned one is faster; < marks a bound: half of the runs never "
        "arrive. Losses are final; success: share of the row's runs that reach the best hand-designed one's hard "
        "target.",
    )
    return Table("score", "Speed-up, cost, losses and success", columns, tuple(rows), notes)


SCORE_KEYS = ("step_cost_ratio", "train_loss", "validation_loss", "test_loss", "success_rate")
SCORE_HEADERS = ("step cost", "train loss", "validation loss", "test loss", "success rate")


def score_entry(value: dict[str, Any]) -> Entry:
    """A value of the first screen, `{"estimate", "low", "high"}`, with "<" before a bound."""
    if value["estimate"] is None:
        return Entry(NONE_TEXT)
    interval = Interval(value["estimate"], value["low"], value["high"], 0)
    if "bound" in value:
        return Entry(f"<{format_number(value['estimate'], 3)}", interval)
    return _interval_entry(interval)


def _interval_entry(interval: Interval) -> Entry:
    text = format_number(interval.estimate, 3)
    if interval.low is not None and interval.high is not None:
        text += f" [{format_number(interval.low, 3)}, {format_number(interval.high, 3)}]"
    return Entry(text, interval)


def controls_table(screen: dict[str, Any]) -> Table:
    """The controls of the suite: what is expected, what was measured (protocol rules 8 and 14)."""
    found = screen["controls"]
    rows = [
        (text_entry(text), text_entry(expected), score_entry(found[key])) for key, (text, expected) in CONTROLS.items()
    ]
    rank = found["frozen_rank"]
    measured = f"{rank['rank']} of {rank['of']}" if rank["rank"] else NONE_TEXT
    rows.append((text_entry("Adam at rate 0: rank by time to target"), text_entry("last"), Entry(measured)))
    for race in screen["races"]:
        text = f"race on {race['task']} to the {race['target']} target: predicted / raced speed-up"
        value = race["predicted_over_raced"]
        rows.append(
            (text_entry(text), text_entry("0.9 to 1.1"), Entry(format_number(value, 3), Interval(value, None, None, 1)))
        )
    columns = (Column("control", "control"), Column("expected", "expected"), Column("measured", "measured", True))
    return Table("controls", "Controls: rows whose outcome is known", columns, tuple(rows))
