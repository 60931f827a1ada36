"""Statements of a claim, each with its number, and whether it holds.

A statement holds if the whole of its interval lies on the side that is claimed, and is contradicted if it lies on the
other (protocol rule 17). A claim is "shown" if all its statements hold, "shown in part" if some do, and else "not
shown": what was not measured does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UsageError
from bench.statistics import Interval
from bench.store.rows import Frame

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
    holds: bool | None = None
    contradicted: bool = False
    noted: bool = False

    @property
    def mark(self) -> str:
        """What the page puts beside it; nothing where it was not measured, which the text says."""
        if self.holds is None:
            return ""
        return "holds" if self.holds else "contradicted" if self.contradicted else "not shown"


Parts = Iterator[Part]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what was found.

    Attributes:
      name: C1 to C6.
      sentence: what is claimed.
      rule: when a statement holds.
      parts: its statements.
      figures: suite that measures it -> slug of the figure on the suite's page.
      label: of the results.
      missing: the suites of them that have not been run.
    """

    name: str
    sentence: str
    rule: str
    parts: tuple[Part, ...]
    figures: dict[str, str]
    label: str
    missing: tuple[str, ...]

    @property
    def measured(self) -> dict[str, str]:
        """Suite -> its page and the figure there, from the folder of the reports, of the suites that have been run."""
        return {
            suite: f"{suite}/{self.label}/report.html#figure-{slug}"
            for suite, slug in self.figures.items()
            if suite not in self.missing
        }

    @property
    def counted(self) -> list[Part]:
        """The statements that decide."""
        return [part for part in self.parts if not part.noted]

    @property
    def status(self) -> str:
        """One of `SHOWN`, `IN_PART` and `NOT_SHOWN`."""
        holding = [part.holds is True for part in self.counted]
        return SHOWN if all(holding) else IN_PART if any(holding) else NOT_SHOWN

    @property
    def tally(self) -> str:
        """How many of the statements that decide hold, and how many are contradicted."""
        marks = [part.mark for part in self.counted]
        against = f", {n} contradicted" if (n := marks.count("contradicted")) else ""
        holding = marks.count("holds")
        return f"{holding} of {len(marks)} statements hold{'s' if holding == 1 else ''}{against}"


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


def not_measured(what: str) -> Part:
    """A statement that waits for its measurement."""
    return Part(f"Not measured: {what}.")


def beside(text: str) -> Part:
    """A statement that stands beside the claim."""
    return Part(text, noted=True)


def lower(text: str, difference: Interval) -> Part:
    """A statement that a difference lies below 0."""
    low, high = difference.low, difference.high
    return Part(text, high is not None and high < 0, low is not None and low > 0)
