"""The first screen as tables: what `bench.score.first_screen` says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.report.table import NONE_TEXT, Column, Entry, Table, plural, text_entry
from bench.score.speedup import three_digits
from bench.score.times import ALL
from bench.score.verdict import beyond_floor
from bench.statistics import Interval
from bench.store.rows import LEARNED

FIRST = "score"  # slug of the table of the first screen
TARGETS = ("hard", "medium", "easy")
SPEEDUP_COLUMNS = tuple(Column(f"{target}_speedup", f"speed-up, {target}", True, True) for target in TARGETS)
MEASURES = {  # key of a row of the first screen -> header
    "step_cost_ratio": "step cost, learned / row",
    "train_loss": "train loss",
    "validation_loss": "validation loss",
    "test_loss": "test loss",
    "success_rate": "success rate",
}
# Key of the first screen -> what it is, what is expected, whether that was measured (protocol rules 8 and 14).
CONTROLS: dict[str, tuple[str, str, Callable[[Interval], bool]]] = {
    "aa": (
        "the same optimizer entered twice: ratio of step costs",
        "0.97 to 1.03, known to 0.05",
        lambda found: 0.97 <= found.estimate <= 1.03 and _half_width(found) <= 0.05,
    ),
    "double_step": (
        "every step performed twice: ratio of step costs",
        "1.9 to 2.1",
        lambda found: 1.9 <= found.estimate <= 2.1,
    ),
    "frozen_success": (
        "rate 0: share of runs that reach the easy target",
        "0",
        lambda found: found.estimate == 0,
    ),
    "adam_10x_minus_adam": (
        "ten times the tuned rate: final train loss minus that at the tuned rate",
        "above 0",
        lambda found: (found.estimate if found.low is None else found.low) > 0,
    ),
}
RACES = (0.9, 1.1)  # predicted over raced (protocol rule 9)


def score_table(screen: dict[str, Any], scope: str, slug: str) -> Table:
    """Speed-up to each target, step cost, final losses and success of every optimizer, as `report.json` has them.

    Args:
      screen: from `bench.score.first_screen`.
      scope: a task, or `bench.score.times.ALL`.
      slug: of the table.
    """
    found = [row for row in screen["rows"] if row["task"] == scope]
    # The learned ones first, in the order of the screen; then the strongest rival on top.
    rows = []
    for row in sorted(found, key=lambda row: (row["role"] != LEARNED, row["role"] != LEARNED and _strength(row))):
        entries = _speedup_entries(screen, row["speedup"])
        entries += [score_entry(row[key]) for key in MEASURES]
        rows.append((text_entry(row["optimizer"], bold=row["role"] == LEARNED), *entries, text_entry(row["role"])))
    columns = (
        Column("optimizer", "optimizer"),
        *SPEEDUP_COLUMNS,
        *(Column(key, header, True, True) for key, header in MEASURES.items()),
        Column("role", "role"),
    )
    failed = [f"{row['optimizer']} {row['failed_runs']}" for row in found if row["failed_runs"]]
    notes = [
        "Speed-up in wall-clock of the learned optimizer over the row's, to the row's own frozen losses at 100, 50 and "
        "25 % of the horizon (hard, medium, easy); in a learned row over the best hand-designed one of each task. "
        "Above 1 the learned one is faster; < marks a bound, since half of its runs never arrive; bold where the "
        "interval excludes 1, by more than the clock's floor.",
        "Losses are those of the last step; the test split is read then only, and the interval of its loss on one task "
        "lets seeds and test images vary. Success rate: share of the row's runs that reach the hard target of the best "
        "hand-designed one.",
    ]
    if slug != FIRST:  # said once, under the first of these tables
        notes = []
    if failed:
        notes.append(f"Failed runs, in no mean: {', '.join(failed)}.")
    name = "all tasks" if scope == ALL else f"task {scope}"
    return Table(slug, f"The learned optimizer against every other, {name}", columns, tuple(rows), tuple(notes))


def validation_table(screen: dict[str, Any], scope: str) -> Table:
    """Speed-ups to the validation losses that the same runs of the reference had, frozen beside the train losses."""
    rows = [
        (
            text_entry(row["optimizer"], bold=row["role"] == LEARNED),
            *_speedup_entries(screen, row["validation_speedup"]),
        )
        for row in screen["rows"]
        if row["task"] == scope
    ]
    columns = (Column("optimizer", "optimizer"), *SPEEDUP_COLUMNS)
    notes = (
        "As the first table, to the row's own frozen validation losses at 100, 50 and 25 % of the horizon: who is fast "
        "on train loss alone is not fast here (protocol rule 10).",
    )
    return Table("validation_score", "Speed-up in wall-clock to validation losses", columns, tuple(rows), notes)


def decomposition_table(screen: dict[str, Any], scope: str) -> Table:
    """The speed-up to the hard target in wall-clock as that in steps over the ratio of step costs (protocol rule 9)."""
    rows = []
    for row in screen["rows"]:
        if row["task"] == scope:
            parts = (row["speedup"]["hard"], row["speedup_in_steps"]["hard"], row["step_cost_ratio"])
            rows.append((text_entry(row["optimizer"], bold=row["role"] == LEARNED), *map(score_entry, parts)))
    columns = (
        Column("optimizer", "optimizer"),
        Column("speedup", "speed-up in wall-clock", True, True),
        Column("speedup_in_steps", "= speed-up in steps", True, True),
        Column("step_cost_ratio", "/ step cost, learned / row", True, True),
    )
    notes = ("Each has an interval of its own: steps from seeds, step costs from timing blocks, wall-clock from both.",)
    return Table("decomposition", "To the hard target: steps, and what a step costs", columns, tuple(rows), notes)


def _strength(row: dict[str, Any]) -> float:
    speedup = row["speedup"]["hard"]["estimate"]
    return float("inf") if speedup is None else speedup


def _speedup_entries(screen: dict[str, Any], speedups: dict[str, dict[str, Any]]) -> list[Entry]:
    """To each target; bold where the interval excludes 1 and the estimate is beyond the clock's floor."""
    floor, entries = screen["controls"]["clock_floor"], []
    for target in TARGETS:
        entry = score_entry(speedups[target])
        found = entry.value
        bold = found is not None and found.excludes(1.0) and beyond_floor(found.estimate, floor)
        entries.append(Entry(entry.text, found, bold))
    return entries


def score_entry(value: dict[str, Any]) -> Entry:
    """A value of the first screen, `{"estimate", "low", "high"}`, with "<" before a bound."""
    if value["estimate"] is None:
        return Entry(NONE_TEXT)
    interval = Interval(value["estimate"], value["low"], value["high"], 0)
    if "bound" in value:
        return Entry(f"<{three_digits(value['estimate'])}", interval)
    text = three_digits(interval.estimate)
    if interval.low is not None and interval.high is not None:
        text += f" [{three_digits(interval.low)}, {three_digits(interval.high)}]"
    return Entry(text, interval)


def controls_table(screen: dict[str, Any]) -> Table:
    """The controls of the suite: what is expected, what was measured (protocol rules 8, 9 and 14)."""
    found = screen["controls"]
    rows = []
    for key, (text, expected, holds) in CONTROLS.items():
        entry = score_entry(found[key])
        held = holds(entry.value) if isinstance(entry.value, Interval) else None
        remark = None
        if failed := found["adam_10x_failed"] if key == "adam_10x_minus_adam" else 0:
            held = held is not False  # a failed run is worse than any that finished
            remark = f"{plural(failed, 'run')} failed, in no mean"
        ends = found["by_task"].get(key)
        if ends and ends["lowest"] != ends["highest"]:
            remark = "by task " + " to ".join(three_digits(end) for end in ends.values())
        rows.append((text_entry(text), text_entry(expected), entry, _held(held), text_entry(remark)))
    rank = found["frozen_rank"]
    shown = f"{rank['rank']} of {rank['of']}" if rank["rank"] else NONE_TEXT
    last = rank["rank"] == rank["of"] if rank["rank"] else None
    tied = f"shared with {', '.join(found['frozen_tied_with'])}" if found["frozen_tied_with"] else None
    place = text_entry("rate 0: rank by time to target"), text_entry("last"), Entry(shown), _held(last)
    rows.insert(3, (*place, text_entry(tied)))
    headline = screen["verdict"]["optimizer"]  # judged on speed, its twin on test loss
    for name, value in found.get("untrained", {}).items():
        entry = score_entry(value)
        text = f"{name} before outer-training: steps to the hard target, over those after it"
        before, after = value["misses_untrained"], value["misses"]
        remark = f"misses count as the horizon: {before} before, {after} after" if before or after else None
        rows.append((text_entry(text), *_expected_above(1, entry, name == headline), text_entry(remark)))
    for name, value in found.get("untrained_test_loss", {}).items():
        entry = score_entry(value)
        text = f"{name} before outer-training: final test loss, minus that after it"
        # Of the headline nothing is expected: outer-training on train loss may well teach to memorize.
        rows.append((text_entry(text), *_expected_above(0, entry, name != headline), text_entry(None)))
    if screen["races"] or screen["races_not_decided"]:
        ratios = [race["predicted_over_raced"] for race in screen["races"]]
        on = plural(len({race["task"] for race in screen["races"]}), "task")
        text = "speed-up predicted from steps and step cost, over that of a race"
        entry, held, remark = Entry(NONE_TEXT), None, "no race is decided: one of the two never arrives"
        if ratios:
            ends = " to ".join(dict.fromkeys(three_digits(value) for value in (min(ratios), max(ratios))))
            entry, held = Entry(ends), RACES[0] <= min(ratios) and max(ratios) <= RACES[1]
            remark = f"{plural(len(ratios), 'target')} reached by both on {on}"
        rows.append((text_entry(text), text_entry("{} to {}".format(*RACES)), entry, _held(held), text_entry(remark)))
    columns = (
        *(Column("control", "control"), Column("expected", "expected"), Column("measured", "measured", True)),
        Column("held", "as expected"),
        Column("remark", "beside it"),
    )
    return Table("controls", "Controls: what is known before it is measured", columns, tuple(rows))


def _expected_above(bound: float, entry: Entry, expected: bool) -> tuple[Entry, Entry, Entry]:
    """What is expected of a measured interval, the interval, whether it is so; nothing where nothing is expected."""
    if not expected:
        return text_entry(None), entry, _held(None)
    measured = entry.value
    held = measured is not None and measured.low is not None and measured.low > bound
    if measured is not None and measured.low is None and measured.estimate > bound:
        held = None  # below five seeds there is no interval, and what is above is not known to be
    return text_entry(f"above {bound:g}"), entry, _held(held)


def _half_width(found: Interval) -> float:
    """Of an interval; infinite without one."""
    return float("inf") if found.low is None or found.high is None else (found.high - found.low) / 2


def _held(held: bool | None) -> Entry:
    return Entry(NONE_TEXT) if held is None else text_entry("yes" if held else "no", bold=not held)


def races_table(screen: dict[str, Any]) -> Table | None:
    """Every target of every race: the speed-up as raced and as predicted, or who never arrives; None without a race."""
    if not screen["races"] and not screen["races_not_decided"]:
        return None
    keys = ("raced", "predicted", "predicted_over_raced")
    rows = []
    for race in screen["races"] + screen["races_not_decided"]:
        names = [text_entry(race[key]) for key in ("task", "target", "contender", "reference")]
        values = [Entry(three_digits(race[key]), race[key]) if key in race else Entry(NONE_TEXT) for key in keys]
        rows.append((*names, *values, text_entry(", ".join(race.get("not_arrived", [])) or None)))
    columns = (
        *(Column(key, key) for key in ("task", "target", "contender", "reference")),
        *(Column(key, key.replace("_over_", " / "), number=True) for key in keys),
        Column("not_arrived", "does not arrive"),
    )
    notes = (
        "Both train side by side in one process, a chunk each in turn, until both have reached the loss; each has a "
        "clock that runs over its own chunks alone. Predicted: the ratio of steps over that of step costs.",
    )
    return Table("races", "Races: wall-clock speed-up to a target", columns, tuple(rows), notes)
