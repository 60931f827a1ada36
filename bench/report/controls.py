"""The controls and the races as tables: what is known before it is measured, and speed-ups checked by a race."""

from __future__ import annotations

from collections.abc import Callable

from bench.report.first_screen import score_entry
from bench.report.table import NONE_TEXT, Column, Entry, Table, plural, text_entry
from bench.score.controls import Controls
from bench.score.first_screen import Screen, six_digits
from bench.score.speedup import Speedup
from bench.score.times_to_target import reference_text
from bench.score.verdict import GROUP_NAMES
from bench.statistics import Interval, three_digits

# Field of `Controls` -> what it is, what is expected, whether that was measured (protocol rules 8 and 14).
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
    "zero_rate_success": (
        "rate 0: share of runs that reach the easy target",
        "0",
        lambda found: found.estimate == 0,
    ),
    "tenfold": (
        "ten times the tuned rate: final train loss minus that at the tuned rate",
        "above 0",
        lambda found: (found.estimate if found.low is None else found.low) > 0,
    ),
}
NO_CONTROLS = Controls("", None, None, None, None, None, 0)
RACES = (0.9, 1.1)  # predicted over raced (protocol rule 9)


def controls_table(screen: Screen) -> Table:
    """The controls of the suite: what is expected, what was measured (protocol rules 8, 9 and 14)."""
    found = screen.scores.controls or NO_CONTROLS
    rows = []
    for key, (text, expected, holds) in CONTROLS.items():
        entry = score_entry(getattr(found, key))
        held = holds(entry.value) if isinstance(entry.value, Interval) else None
        remark = None
        if failed := found.tenfold_failed if key == "tenfold" else 0:
            held = held is not False  # a failed run is worse than any that finished
            remark = f"{plural(failed, 'run')} failed, in no mean"
        lowest, highest = map(six_digits, found.by_task.get(key, (None, None)))
        if lowest is not None and highest is not None and lowest != highest:
            remark = f"by task {three_digits(lowest)} to {three_digits(highest)}"
        rows.append((text_entry(text), text_entry(expected), entry, _held(held), text_entry(remark)))
    rank, of = found.zero_rate_rank or (None, None)
    shown = f"{rank} of {of}" if rank else NONE_TEXT
    tied = f"shared with {', '.join(found.zero_rate_ties)}" if found.zero_rate_ties else None
    place = text_entry("rate 0: rank by time to target"), text_entry("last"), Entry(shown)
    rows.insert(3, (*place, _held(rank == of if rank else None), text_entry(tied)))
    headline = screen.scores.optimizer  # of others nothing is expected: on train loss one may learn to memorize
    for name, value in found.untrained.items():
        entry = score_entry(value)
        text = f"{name} before outer-training: steps to the hard target, over those after it"
        before, after = found.untrained_misses[name]
        remark = f"misses count as the horizon: {before} before, {after} after" if before or after else None
        if before and not after:
            remark = f"misses count as the horizon, so the ratio is a lower bound: {before} before, 0 after"
        rows.append((text_entry(text), *_expected_above(1, entry, name == headline), text_entry(remark)))
    for name, value in found.untrained_test.items():
        entry = score_entry(value)
        text = f"{name} before outer-training: final test loss, minus that after it"
        rows.append((text_entry(text), *_expected_above(0, entry, name == headline), text_entry(None)))
    rows += [_over_itself(screen, group, value) for group, value in screen.scores.over_itself.items()]
    if screen.races:
        decided = [race for race in screen.races if race.raced is not None and race.predicted is not None]
        ratios = [ratio for race in decided if (ratio := six_digits(race.predicted_over_raced)) is not None]
        on = plural(len({race.task for race in decided}), "task")
        text = "speed-up predicted from steps and step cost, over that of a race"
        entry, held, remark = Entry(NONE_TEXT), None, "no race is decided: one of the two never arrives"
        if ratios:
            ends = " to ".join(dict.fromkeys(three_digits(value) for value in (min(ratios), max(ratios))))
            entry, held = Entry(ends), RACES[0] <= min(ratios) and max(ratios) <= RACES[1]
            remark = f"{plural(len(ratios), 'target')} reached by both on {on}; raced: {_raced(screen)}"
        rows.append((text_entry(text), text_entry("{} to {}".format(*RACES)), entry, _held(held), text_entry(remark)))
    columns = (
        *(Column("control", "control"), Column("expected", "expected"), Column("measured", "measured", True)),
        Column("held", "as expected"),
        Column("remark", "beside it"),
    )
    return Table("controls", "Controls: what is known before it is measured", columns, tuple(rows))


def _over_itself(screen: Screen, group: str, found: Speedup) -> tuple[Entry, ...]:
    """The same measure with the rival on both sides: a first arrival counts, and a noisy curve may arrive early."""
    steps = found.steps
    held = None if steps.low is None or steps.high is None else steps.low <= 1 <= steps.high
    return (
        text_entry(f"{GROUP_NAMES[group]}, over itself: speed-up in steps to its own final validation loss"),
        text_entry("1"),
        score_entry(steps, bound=found.bound),
        _held(held),
        text_entry(reference_text(screen.scores.group_references[group])),
    )


def held_counts(controls: Table) -> dict[str, int]:
    """How many controls are as expected ("yes"), are not ("no"), or are not judged ("unknown")."""
    column = [column.key for column in controls.columns].index("held")
    texts = [row[column].text for row in controls.rows]
    return {"yes": texts.count("yes"), "no": texts.count("no"), "unknown": texts.count(NONE_TEXT)}


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


def _raced(screen: Screen) -> str:
    """Who was raced to which loss of whom."""
    by_pair: dict[tuple[str, str], set[str]] = {}
    for race in screen.races:
        by_pair.setdefault((race.optimizer, race.metric), set()).add(race.reference)
    return "; ".join(
        f"{name} to the {metric.replace('_', ' ')} of {', '.join(sorted(of))}" for (name, metric), of in by_pair.items()
    )


def races_table(screen: Screen) -> Table | None:
    """Every target of every race: the speed-up as raced and as predicted, or who never arrives; None without a race."""
    if not screen.races:
        return None
    rows, keys = [], ("raced", "predicted", "predicted_over_raced")
    for race in sorted(screen.races, key=lambda race: race.raced is None):
        names = [text_entry(text) for text in (race.task, race.target, race.optimizer, race.reference)]
        values = [six_digits(getattr(race, key)) for key in keys]
        entries = [Entry(NONE_TEXT) if value is None else Entry(three_digits(value), value) for value in values]
        rows.append((*names, *entries, text_entry(", ".join(race.missed) or None)))
    columns = (
        *(Column(key, key) for key in ("task", "target", "contender", "reference")),
        *(Column(key, key.replace("_over_", " / "), number=True) for key in keys),
        Column("not_arrived", "does not arrive"),
    )
    notes = (
        "Both train side by side in one process, a chunk each in turn, until both have reached the loss; each has a "
        "clock that runs over its own chunks alone. Predicted: the ratio of steps over that of step costs.",
    )
    headline = screen.scores.optimizer
    if headline and headline not in {race.optimizer for race in screen.races}:
        notes += (f"{headline}, which the verdict is about, was not raced.",)
    return Table("races", f"Races, {_raced(screen)}: wall-clock speed-up", columns, tuple(rows), notes)
