"""C3, C5 and half of C4: speed, test loss and other tasks, of the headline; and what of it was learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.measure.feedback import OPTIMIZER as REPLAYED
from bench.report.claims.statements import Part, Parts, Published, beside, lower, not_measured
from bench.report.table import NONE_TEXT, difference_word
from bench.score.verdict import GROUP_NAMES
from bench.statistics import Interval, estimate_text, three_digits

FASTER = "the interval of the speed-up in wall-clock lies above 1 (what is at most some number of times is not above)"
RULES = {"C3": FASTER, "C5": f"{FASTER}, or that of the difference in test loss below 0"}


def faster(published: Published) -> Parts:
    """C3."""
    headline = _headline(published, "paper")
    if not headline:
        yield not_measured("the time to the final validation loss of tuned optimizers")
        return
    yield from _speedups(headline["validation"], f"{headline['optimizer']} to final validation loss")
    yield from _untrained_steps(published, "paper")
    yield from _over_themselves(published, "paper")


def lower_test_loss(published: Published) -> Parts:
    """C4, of the headline against hand-designed optimizers."""
    yield from _test_loss(published, "paper") or [not_measured("final test losses")]


def elsewhere(published: Published) -> Parts:
    """C5."""
    headline = _headline(published, "ood")
    if not headline:
        yield not_measured("tasks that are out of distribution")
        return
    for kind, against in headline["by_architecture"].items():
        yield from _speedups(against, f"{kind[0].upper()}{kind[1:]} nets")
    yield from _test_loss(published, "ood")
    yield from _untrained_steps(published, "ood")
    yield from _over_themselves(published, "ood")


def _headline(published: Published, suite: str) -> Any:
    found = published.of(suite)
    return found and found["headline"]


def _speedups(against: Any, where: str) -> Iterator[Part]:
    """Over the groups of hand-designed rows, the strongest first."""
    for found in reversed(against):
        bound = found["speedup"].get("bound", "")
        interval = Interval.read(found["speedup"])
        yield Part(
            f"{where}: in wall-clock {_times(found['speedup'])}, in steps {_times(found['speedup_in_steps'])} times "
            f"over {GROUP_NAMES[found['group']]} ({found['reference']}).",
            not bound and interval.low is not None and interval.low > 1,
            interval.high is not None and interval.high < 1,
        )


def _times(found: Any) -> str:
    """A speed-up of a report; what is only a bound has no interval."""
    if found["estimate"] is None:
        return NONE_TEXT
    text = estimate_text(found["estimate"], found["low"], found["high"], bound="bound" in found)
    if "bound" not in found:
        return text
    upper = "" if found["high"] is None else f" (95 %: {three_digits(found['high'])})"
    return f"{text.replace('<', 'at most ')}{upper}"


def _test_loss(published: Published, suite: str) -> list[Part]:
    """The final test loss of the headline against the best hand-designed one, and before outer-training."""
    headline = _headline(published, suite)
    if not headline or not headline["test_loss"]:
        return []
    name, found = headline["optimizer"], headline["test_loss"]
    difference = Interval.read(found["difference"])
    parts = [
        lower(
            f"The final test loss of {name} less that of {found['reference']}, the best hand-designed one: "
            f"{difference.text(0.0)}; lower on {found['tasks_below']} of {found['tasks']} tasks.",
            difference,
        )
    ]
    before = _control(published, suite, "untrained_test_loss")
    if before is not None:
        words = {"higher": "lowers it", "lower": "raises it"}
        what = words.get(difference_word(before), "is not shown to change it")
        parts.append(
            beside(
                f"Before outer-training, the final test loss of {name} is higher by {before.text(0.0)}: "
                f"outer-training {what}."
            )
        )
    return parts


def _untrained_steps(published: Published, suite: str) -> Iterator[Part]:
    """How much faster outer-training made the headline, by the control that has its design before it."""
    found = _control(published, suite, "untrained")
    if found is not None:
        faster = found.low is not None and found.low > 1
        yield beside(
            f"Before outer-training, the design of {_headline(published, suite)['optimizer']} takes "
            f"{found.text(1.0)} times the steps to the target that it takes after: "
            + ("outer-training made it faster." if faster else "the lead is not shown to come from outer-training.")
        )


def _over_themselves(published: Published, suite: str) -> Iterator[Part]:
    """By how much the measure favours whoever arrives first, from the references entered against themselves."""
    found = published.of(suite)["controls"].get("over_itself", {})
    known = [f"{GROUP_NAMES[group]} {_times(times)}" for group, times in found.items() if times["estimate"] is not None]
    if known:
        yield beside(
            "A first arrival counts, and a noisy curve may arrive early: by the same measure references are faster "
            f"than themselves, {'; '.join(known)} times over all tasks. Speed-ups may be too large by so much."
        )


def _control(published: Published, suite: str, name: str) -> Interval | None:
    """A control of the headline."""
    found = published.of(suite)["controls"].get(name, {}).get(_headline(published, suite)["optimizer"])
    return None if found is None or found["estimate"] is None else Interval.read(found)


WAYS = {"open": "its mean outputs on other tasks, a schedule, in place of its own", "swapped": "another run's feedback"}


def what_was_learned(published: Published) -> list[Part]:
    """How much of the learned optimizer is a schedule: its outputs replayed, and another run's feedback."""
    table = published.table("feedback")
    if table is None or table.empty:
        return [not_measured("the schedule of the learned optimizer replayed without feedback")]
    parts = []
    for row in table.to_dict("records"):
        difference = Interval.read(row | {"estimate": row["difference"]})
        loss = f"{row['score'].replace('_', ' ')} of {REPLAYED}, {three_digits(row['closed'])},"
        parts.append(
            beside(
                f"With {WAYS[row['way']]}, the {loss} rises by {difference.text(0.0)} on {row['tasks']} tasks: "
                f"{difference_word(difference)}."
            )
        )
    return [*parts, *_share_of_feedback(published, table)]


def _share_of_feedback(published: Published, table: Any) -> Iterator[Part]:
    """What of the lead in test loss feedback can at most be."""
    headline = _headline(published, "paper")
    rows = table[(table["score"] == "final_test_loss") & (table["way"] == "open") & table["high"].notna()]
    if headline and headline["test_loss"] and len(rows):
        most, difference = float(rows["high"].iloc[0]), Interval.read(headline["test_loss"]["difference"])
        if difference.estimate < 0:
            lead = f"the lead of {three_digits(-difference.estimate)} over {headline['test_loss']['reference']}"
            share = (
                f"{max(most, 0.0) / -difference.estimate:.0%} of {lead} on the suite paper"
                if difference.excludes(0.0)
                else f"what of {lead} on the suite paper that is cannot be said, as this lead is not resolved itself"
            )
            yield beside(
                f"So without feedback the test loss rises by at most {three_digits(most)}, the upper end: {share}. "
                "What it does to the time to a loss was not measured."
            )
