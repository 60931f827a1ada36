"""What a claimant would say of the contender, and the page does not show."""

from __future__ import annotations

from collections.abc import Collection

from baselines import BASELINES
from bench.report.summary import sorted_optimizers
from bench.report.table import NONE_TEXT, Table
from bench.score.first_screen import Screen
from bench.score.headline import test_loss_difference
from bench.score.speedup import Speedup, speedup_in_words
from bench.score.times_to_target import ALL, reference_text
from bench.score.verdict import GROUP_NAMES, NOTHING_TO_JUDGE_BY, beyond_floor, verdict_word
from bench.statistics import estimate_text
from bench.store.rows import Rows

TARGET = "hard"  # which claims are about


def not_shown(screen: Screen, rows: Rows, controls: Table) -> list[str]:
    """Items of the list "Not shown", each what would follow "it is not shown"; none without a contender.

    Args:
      screen: from `bench.score.first_screen`.
      rows: of the suite, controls left out.
      controls: from `bench.report.controls.controls_table`.
    """
    if screen.scores.optimizer is None:
        return []
    return [
        *_faster(screen),
        *_cheaper(screen),
        *_lower_test_loss(screen.scores.optimizer, rows),
        *_as_controls_expect(controls),
        *_beyond_the_rows(screen, rows),
    ]


def _faster(screen: Screen) -> list[str]:
    """Than each group over all tasks, and than the best hand-designed row on each."""

    def is_faster(found: Speedup | None, scope: str) -> bool:
        return found is not None and verdict_word(found, screen.floor_of(scope)) == "faster"

    own = [row for row in screen.scores.rows if row.optimizer == screen.scores.optimizer and row.task != ALL]
    if all(row.speedups[TARGET] is None for row in own):
        return [f"that it is faster than any row: {NOTHING_TO_JUDGE_BY}"]
    items = []
    for group, name in GROUP_NAMES.items():
        over_all = screen.scores.against.get(group, {}).get(TARGET)
        if not is_faster(over_all, ALL):
            who = reference_text(screen.scores.group_references.get(group, {})) or NONE_TEXT
            items.append(f"that it is faster than {name} ({who}): {speedup_in_words(over_all)}")
    slow = [row for row in own if not is_faster(row.speedups[TARGET], row.task)]
    if slow and len(own) > 1:
        each = ", ".join(f"{row.task} {speedup_in_words(row.speedups[TARGET])}" for row in slow)
        items.append(f"on {len(slow)} of {len(own)} tasks, that it is faster than the best hand-designed there: {each}")
    return items


def _cheaper(screen: Screen) -> list[str]:
    """A step than that of the best hand-designed row, over all tasks."""
    over_all = next((row for row in screen.scores.rows if row.optimizer == screen.scores.optimizer), None)
    cost = over_all and over_all.step_cost
    if over_all is None or cost is None:
        return []
    below = cost.high is not None and cost.high < 1
    if below and beyond_floor(cost.estimate, screen.floor_of(over_all.task)):
        return []
    text = estimate_text(cost.estimate, cost.low, cost.high)
    return [f"that a step of it is cheaper than one of the best hand-designed: {text} of its cost"]


def _lower_test_loss(contender: str, rows: Rows) -> list[str]:
    words = ("above that of", "not told apart from that of", "not judged beside that of")
    by_word: dict[str, list[str]] = {word: [] for word in words}
    for name in sorted_optimizers(rows, rows.tasks):
        if name == contender or name not in rows.trained:
            continue
        difference = test_loss_difference(rows, contender, name)
        if difference is None or difference.low is None:
            by_word[words[2]].append(name)
        elif not difference.excludes(0):
            by_word[words[1]].append(name)
        elif difference.estimate > 0:
            by_word[words[0]].append(name)
    parts = "; ".join(f"it is {word} {', '.join(names)}" for word, names in by_word.items() if names)
    return [f"that its final test loss is lower: {parts}"] if parts else []


def _as_controls_expect(controls: Table) -> list[str]:
    columns = [column.key for column in controls.columns]
    rows = ({key: entry.text for key, entry in zip(columns, row, strict=True)} for row in controls.rows)
    return [
        f"what a control expects, {row['expected']}: {row['control']}, {row['measured']}"
        for row in rows
        if row["held"] == "no"
    ]


def _beyond_the_rows(screen: Screen, rows: Rows) -> list[str]:
    """Other outer seeds, and hand-designed rows that did not run."""
    items = []
    if screen.headline is not None and not screen.headline.outer_seeds:
        items.append("that weights from another seed of outer-training do as well: none ran here")
    if others := hand_designed_beside(rows.trained):
        items.append(f"anything beside hand-designed rows that did not run here: {', '.join(others)}")
    return items


def hand_designed_beside(ran: Collection[str]) -> list[str]:
    """Hand-designed rows with values of their own that are not among those that ran."""
    return [name for name, row in BASELINES.items() if row.values_of is None and name not in ran]
