"""The statements of the claims C1 to C6 of the paper: what was found, with its numbers, and whether it holds.

Everything is put together from published reports, whose numbers follow from rows (`bench verify`). A claim consists of
parts. A part holds if the whole of its interval lies on the side that is claimed, and is contradicted if it lies on the
other. The claim is "shown" if all parts hold, "shown in part" if some do, and else "not shown": a part that was not
measured does not hold. The paper is Metz et al., arXiv 1810.10180.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UsageError
from bench.measure import ablation, gradient_norms, objectives
from bench.measure.feedback import OPTIMIZER as REPLAYED
from bench.measure.pathologies.inner import THETAS
from bench.measure.pathologies.summary import EXPLODES, growth
from bench.report.pathologies import LIMITS, within
from bench.report.table import NONE_TEXT
from bench.score.verdict import GROUP_NAMES
from bench.statistics import Interval, estimate_text, three_digits
from bench.store.rows import Frame

PAPERS = gradient_norms.OPTIMIZERS[0]  # the paper's design
SHOWN, IN_PART, NOT_SHOWN = "shown", "shown in part", "not shown"


@dataclass(frozen=True)
class Part:
    """One statement of a claim.

    Attributes:
      text: what was found, with its number; of what was not measured, what that is.
      holds: whether all of the interval lies on the side that is claimed; None if it was not measured.
      contradicted: whether all of it lies on the other side.
      noted: whether it stands beside the claim, and does not count.
    """

    text: str
    holds: bool | None
    contradicted: bool = False
    noted: bool = False

    @property
    def mark(self) -> str:
        """What the page puts beside it; nothing where it was not measured, which the text says."""
        if self.holds is None:
            return ""
        return "holds" if self.holds else "contradicted" if self.contradicted else "not shown"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what was found.

    Attributes:
      name: C1 to C6.
      sentence: what is claimed.
      rule: when a statement holds.
      parts: its statements.
      figures: suite that measures it -> page and anchor, from the folder of the reports.
      missing: the suites of them that have not been run.
    """

    name: str
    sentence: str
    rule: str
    parts: tuple[Part, ...]
    figures: dict[str, str]
    missing: tuple[str, ...]

    @property
    def measured(self) -> dict[str, str]:
        """`figures`, of the suites that have been run."""
        return {suite: figure for suite, figure in self.figures.items() if suite not in self.missing}

    @property
    def status(self) -> str:
        """One of `SHOWN`, `IN_PART` and `NOT_SHOWN`."""
        holding = [part.holds is True for part in self.parts if not part.noted]
        return SHOWN if all(holding) else IN_PART if any(holding) else NOT_SHOWN


# When a statement holds.
FASTER = "its interval lies above 1; what is at most some number of times is not above"
RULES = {
    "C1": f"the median norm is more than {EXPLODES:g} times as large at some length as at the shortest, by the ends of "
    "both intervals; the norm of the bias lies above 0",
    "C2": f"the variance is at most {LIMITS['merged']:g} times the better one's, by the upper ends of all intervals; "
    "the loss after outer-training is below 1 times that before",
    "C3": FASTER,
    "C4": "the interval of the difference lies below 0, that of the ratio below 1",
    "C5": f"in wall-clock, over the best of the paper's three with schedules, {FASTER}; the other groups are in the "
    "table",
    "C6": "the interval of the ratio of final losses lies below 1, that of its logarithm below 0, for every rival "
    "(rule 16)",
}


# Name -> the claim that answers it, the question.
QUESTIONS = {
    "Q1": ("C3", "Does a learned optimizer train faster than tuned hand-designed ones, on the clock?"),
    "Q2": ("C4", "Does it end at a lower test loss, and is the objective of its outer-training why?"),
    "Q3": ("C5", "Does it carry over to data, sizes and nets that outer-training never saw?"),
    "Q4": ("C6", "Do the estimator of the outer-gradient and growing unrolls make the difference?"),
}
# What no number here can show.
LIMITATIONS = (
    "Nothing here is at the scale of the paper, whose outer-training took many machines: nets have 5 thousand to 670 "
    "thousand parameters, and runs of outer-training some hours of a core.",
    "Runs of the ablation take 40 to 1,600 outer steps, at one outer rate for each design that no pair was tuned for, "
    "and are evaluated on the same eight tasks: a pair that lags may be short of updates.",
    "The out-of-distribution tasks are no untouched test: the headline's design was changed after a version of it had "
    "been evaluated on them.",
    "Intervals of the headline hold for one set of weights: they let seeds of training and images vary, and not the "
    "seed of its outer-training.",
)


@dataclass(frozen=True)
class Published:
    """The reports of one label.

    Attributes:
      reports_dir: where reports lie.
      label: of the results.
    """

    reports_dir: Path
    label: str

    def of(self, suite: str) -> Any:
        """The report of a suite, as `bench report SUITE --json` prints it; None where none is published.

        Raises:
          UsageError: it is no JSON.
        """
        path = self.reports_dir / suite / self.label / "report.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UsageError(f"{path} is no JSON: {error}; bench verify {suite}/{self.label}") from None

    def table(self, suite: str) -> Frame | None:
        """The table of a measurement; None where nothing is published."""
        found = self.of(suite)
        return None if found is None else pd.DataFrame(found)


def claims(published: Published) -> list[Claim]:
    """C1 to C6, from what is published."""
    found = [
        ("C1", "Long unrolls make the outer-gradient explode, and truncating them makes it biased.", _c1,
         {"pathologies": "gradient-norm", "gradient_norms": "gradient-norm"}),
        ("C2", "Merging backpropagation with ES by inverse variance is about as good as the better of the two at every "
         "length of unroll, and trains optimizers.", _c2, {"pathologies": "variance", "ablation": "losses"}),
        ("C3", "The learned optimizer trains the tasks faster than tuned hand-designed ones, on the clock.", _c3,
         {"paper": "figure-leaders_validation_loss_seconds"}),
        ("C4", "Outer-training on validation loss gives a lower test loss than tuned hand-designed optimizers do, and "
         "than outer-training on train loss.", _c4,
         {"paper": "figure-test_loss_by_task", "objectives": "differences"}),
        ("C5", "It carries over to data, sizes and nets that outer-training never saw.", _c5,
         {"ood": "table-by_architecture"}),
        ("C6", "Merging the two estimators, and growing unrolls, each lower the loss after outer-training.", _c6,
         {"ablation": "losses"}),
    ]  # fmt: skip
    return [
        Claim(
            name,
            sentence,
            RULES[name],
            tuple(parts(published)),
            {suite: f"{suite}/{published.label}/report.html#{anchor}" for suite, anchor in anchors.items()},
            tuple(suite for suite in anchors if published.of(suite) is None),
        )
        for name, sentence, parts, anchors in found
    ]


def questions(found: list[Claim]) -> list[Claim]:
    """The four questions that the benchmark asks, answered by the claims C3 to C6."""
    by_name = {claim.name: claim for claim in found}
    return [
        dataclasses.replace(by_name[claim], name=name, sentence=question)
        for name, (claim, question) in QUESTIONS.items()
    ]


Parts = Iterator[Part]


def _missing(what: str) -> Part:
    return Part(f"Not measured: {what}.", None)


def _c1(published: Published) -> Parts:
    table = published.table("pathologies")
    if table is None:
        yield _missing("gradient norms and the bias of truncation")
        return
    norms = table[(table["pathology"] == "gradient_norm") & (table["name"] == "median")]
    for theta in THETAS:
        found = growth(norms[norms["theta"] == theta])
        yield Part(f"At the {theta} theta the median norm {found}.", found.explodes, found.most <= EXPLODES)
    yield from _c1_on_the_cnn(published)
    biases = table[(table["pathology"] == "truncation") & (table["name"] == "relative bias")]
    known = biases[biases["estimate"].notna()]
    shortest = known[known["at"] == known["at"].min()]
    least: dict[str, Any] = shortest.nsmallest(1, "estimate").to_dict("records")[0]
    yield Part(
        f"Windows of {least['at']:g} steps miss {_text(Interval.read(least))} of the gradient, by the norm of the "
        f"bias, at the {least['theta']} theta, where it is least.",
        bool((shortest["low"] > 0).all()),
    )


def _c1_on_the_cnn(published: Published) -> Parts:
    """Of the paper's design; how much less gradients grow where updates are orthogonalized stands beside it."""
    table = published.table("gradient_norms")
    if table is None:
        yield _missing("gradient norms on a convolutional net")
        return
    grown = gradient_norms.growths(table)
    others = "; ".join(f"of {name}, {which}, it {found}" for (name, which), found in grown.items() if name != PAPERS)
    for which in gradient_norms.THETAS:
        if (PAPERS, which) not in grown:
            yield _missing(f"gradient norms of {PAPERS}, {which}, on a convolutional net")
            continue
        found = grown[PAPERS, which]
        yield Part(
            f"On the 16x16 CNN the median norm of {PAPERS}, {which}, {found}.", found.explodes, found.most <= EXPLODES
        )
    if others:
        yield Part(f"There, with orthogonalized updates, {others}.", None, noted=True)


def _c2(published: Published) -> Parts:
    table = published.table("pathologies")
    if table is None:
        yield _missing("the variance of the estimators")
    else:
        named = table[(table["pathology"] == "variance") & (table["name"] == "variance of merged over the better's")]
        ratios = [Interval.read(row) for _, row in named.iterrows()]
        largest = max(ratios, key=lambda ratio: ratio.estimate)
        known = [ratio.high for ratio in ratios if ratio.high is not None]
        yield Part(
            f"The variance of the merged estimate over the better one's is at most {_text(largest)} over {len(ratios)} "
            f"lengths and thetas; the upper ends of {len(known)} known intervals are at most "
            f"{three_digits(max(known, default=math.inf))}.",
            all(within(ratio, LIMITS["merged"]) for ratio in ratios),
            any(ratio.low is not None and ratio.low > LIMITS["merged"] for ratio in ratios),
        )
        yield from _c2_in_windows(table[table["name"] == "variance of merged_windows over that of merged"])
    runs = published.table("ablation")
    gains = {} if runs is None else ablation.gains(runs)
    for design, gain in gains.items():
        yield _lower(
            f"Outer-training of {design} with it, by growing unrolls, on train loss takes final validation loss to "
            f"{_text(gain.exponential())} times that before, over outer seeds.",
            gain,
        )
    if len(gains) < len(ablation.DESIGNS):
        yield _missing("outer-training with the merged estimator, all seeds of both designs")


def _c2_in_windows(rows: Frame) -> Parts:
    """What merging window by window gains, beside the claim, where it was measured."""
    if len(rows):
        ends = [rows.loc[index] for index in (rows["estimate"].idxmin(), rows["estimate"].idxmax())]
        least, most = (
            f"{_text(Interval.read(row))} (the {row['theta']} theta, {row['at']:,.0f} steps)" for row in ends
        )
        yield Part(
            f"Merged window by window, the variance is {least} to {most} times that of merging whole unrolls, over "
            f"{len(rows)} lengths and thetas.",
            None,
            noted=True,
        )


def _speedups(against: Any, where: str) -> Parts:
    """Of a headline over the groups of hand-designed rows."""
    for found in against:
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
    return text.replace("<", "at most ")


def _text(interval: Interval) -> str:
    return estimate_text(interval.estimate, interval.low, interval.high)


def _lower(text: str, difference: Interval) -> Part:
    """A statement that a difference lies below 0."""
    low, high = difference.low, difference.high
    return Part(text, high is not None and high < 0, low is not None and low > 0)


def _headline(published: Published, suite: str) -> Any:
    found = published.of(suite)
    return found and found["headline"]


def _c3(published: Published) -> Parts:
    headline = _headline(published, "paper")
    if not headline:
        yield _missing("the time to the final validation loss of tuned optimizers")
        return
    yield from _speedups(headline["validation"], f"{headline['optimizer']} to final validation loss")


def _c4(published: Published) -> Parts:
    headline = _headline(published, "paper")
    if headline and headline["test_loss"]:
        found = headline["test_loss"]
        interval = Interval.read(found["difference"])
        yield _lower(
            f"The final test loss of {headline['optimizer']} less that of {found['reference']}, the best hand-designed "
            f"one: {_text(interval)}; lower on {found['tasks_below']} of {found['tasks']} tasks.",
            interval,
        )
    else:
        yield _missing("final test losses")
    runs = published.table("objectives")
    swapped = {} if runs is None else objectives.differences(runs)
    for design, difference in swapped.items():
        yield _lower(
            f"Outer-trained on validation loss, {objectives.DESIGNS[design].called} ends at "
            f"{_text(difference.exponential())} times the test loss that it has after outer-training on train loss, "
            "over outer seeds.",
            difference,
        )
    if unknown := [design.called for name, design in objectives.DESIGNS.items() if name not in swapped]:
        yield _missing(f"the same configuration with the objective alone swapped, for {' and '.join(unknown)}")


def _c5(published: Published) -> Parts:
    headline = _headline(published, "ood")
    if not headline:
        yield _missing("tasks that are out of distribution")
        return
    for kind, against in headline["by_architecture"].items():
        scheduled = [found for found in against if found["group"] == "paper_scheduled"]
        yield from _speedups(scheduled, f"{kind[0].upper()}{kind[1:]} nets")


def _c6(published: Published) -> Parts:
    runs = published.table("ablation")
    found = [] if runs is None else ablation.verdicts(runs)
    for verdict in found:
        numbers = " and ".join(
            f"{_text(d.exponential())} times that with {name}" for name, d in verdict.differences.items()
        )
        yield Part(
            f"{verdict.design}: {ablation.CLAIMS[verdict.claim]}: {numbers}.",
            verdict.status == SHOWN,
            verdict.status == "contradicted",
        )
    if len(found) < len(ablation.CLAIMS) * len(ablation.DESIGNS):
        yield _missing("all pairs of estimator and unrolls, for both designs")


def what_was_learned(published: Published) -> list[Part]:
    """How much of the learned optimizer is a schedule: its outputs replayed, and another run's feedback."""
    table = published.table("feedback")
    if table is None or table.empty:
        return [_missing("the schedule of the learned optimizer replayed without feedback")]
    names = {"open": "its mean outputs on other tasks replayed", "swapped": "the feedback of another run"}
    return [
        Part(
            f"{row['score'].replace('_', ' ').capitalize()} of {REPLAYED}: {three_digits(row['closed'])}. With "
            f"{names[row['way']]} the difference is {_text(Interval.read(row | {'estimate': row['difference']}))}, "
            "above 0 where it is worse.",
            None if row["low"] is None else row["low"] > 0,
        )
        for row in table.to_dict("records")
    ]
