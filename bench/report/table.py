"""Tables as values: how an entry reads and what it is, and the files a table is written to."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.statistics import CONFIDENCE, Interval, significant

NONE_TEXT = "–"
PERCENT = f"{CONFIDENCE:.0%}".replace("%", " %")
WRITTEN_DIGITS = 9  # significant, of a number in a file: the last ones of a double differ between kinds of CPU


@dataclass(frozen=True)
class Entry:
    """One field of a table: how it reads and what it is."""

    text: str
    value: Any = None  # Interval, number, text or None: what the CSV file holds
    bold: bool = False


@dataclass(frozen=True)
class Column:
    """A column; an interval takes four columns of the CSV file: key, key_low, key_high, key_n."""

    key: str
    header: str
    interval: bool = False
    number: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption, its notes and the name of its files."""

    slug: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...] = ()

    def csv(self) -> str:
        """Comma-separated, nine significant digits, intervals spread over four columns."""
        header: list[str] = []
        for column in self.columns:
            header += [column.key + part for part in (("", "_low", "_high", "_n") if column.interval else ("",))]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        for row in self.rows:
            fields: list[Any] = []
            for column, entry in zip(self.columns, row, strict=True):
                if not column.interval:
                    fields.append(entry.value)
                elif isinstance(entry.value, Interval):
                    fields += [entry.value.estimate, entry.value.low, entry.value.high, entry.value.n or None]
                else:
                    fields += [None] * 4
            writer.writerow([as_written(field) for field in fields])
        return out.getvalue()

    def markdown(self) -> str:
        """GitHub-flavoured Markdown, as the page shows it."""
        lines = [f"**{_markdown(self.caption)}**", ""]
        lines.append("| " + " | ".join(_markdown(column.header) for column in self.columns) + " |")
        lines.append("|" + "|".join(" ---: " if c.number or c.interval else " --- " for c in self.columns) + "|")
        for row in self.rows:
            texts = [f"**{_markdown(e.text)}**" if e.bold else _markdown(e.text) for e in row]
            lines.append("| " + " | ".join(texts) + " |")
        lines += [""] + [f"- {_markdown(note)}" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"

    def latex(self) -> str:
        """A LaTeX table with rules of the `booktabs` package, to paste into a paper."""
        alignment = "".join("r" if c.number or c.interval else "l" for c in self.columns)
        lines = [
            "% needs \\usepackage{booktabs}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_latex(self.caption)}}}",
            f"\\label{{tab:{self.slug}}}",
            f"\\begin{{tabular}}{{{alignment}}}",
            "\\toprule",
            " & ".join(_latex(column.header) for column in self.columns) + r" \\",
            "\\midrule",
        ]
        for row in self.rows:
            texts = [f"\\textbf{{{_latex(e.text)}}}" if e.bold else _latex(e.text) for e in row]
            lines.append(" & ".join(texts) + r" \\")
        lines += ["\\bottomrule", "\\end{tabular}", "\\end{table}"]
        return "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    for character, escaped in _MARKDOWN:
        text = text.replace(character, escaped)
    return text


# In this order. A bracket makes a link only before a parenthesis; intervals keep theirs as they are.
_MARKDOWN = (
    ("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("_", "\\_"), ("`", "\\`"),
    ("](", "]\\("), ("\n", " "), ("\r", " "),
)  # fmt: skip


_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\n": " ", "–": "--",
    "<": "$<$", ">": "$>$", "×": "$\\times$", "µ": "$\\mu$", "±": "$\\pm$",
    "†": "\\dag{}", "‡": "\\ddag{}", "§": "\\S{}",
    "[": "{[}", "]": "{]}",  # a bracket at the start of a row would be read as an option of the line break before it
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def as_written(value: Any) -> Any:
    """A float at the precision of files, so that any machine writes the same from the rows; anything else as it is."""
    return significant(value, WRITTEN_DIGITS) if isinstance(value, float) else value


def format_number(value: float | None, digits: int = 4) -> str:
    """Four significant digits, or a dash."""
    if value is None or not math.isfinite(value):
        return NONE_TEXT
    return f"{value:.{digits}g}" if value == 0 or 1e-4 <= abs(value) < 1e5 else f"{value:.{digits - 2}e}"


def format_interval(interval: Interval | None, *, scale: float = 1.0, sign: bool = False) -> str:
    """Estimate and [low, high], with as many decimals as two digits of the half-width carry, if a sixth decimal does.

    Numbers that are too large or too small to be read so have three digits and an exponent.
    """
    if interval is None:
        return NONE_TEXT
    flag = "+" if sign else ""
    if interval.low is None or interval.high is None:
        text = format_number(interval.estimate * scale)
        return f"+{text}" if sign and interval.estimate > 0 else text
    low, estimate, high = (scale * x for x in (interval.low, interval.estimate, interval.high))
    half = (high - low) / 2
    largest = max(abs(low), abs(high))
    if largest >= 1e5 or (largest < 1e-4 and half > 0):
        return f"{estimate:{flag}.3g} [{low:{flag}.3g}, {high:{flag}.3g}]"
    decimals = 4 if half < 5e-7 else min(max(1 - math.floor(math.log10(half)), 0), 6)
    return f"{estimate:{flag}.{decimals}f} [{low:{flag}.{decimals}f}, {high:{flag}.{decimals}f}]"


def format_half_width(interval: Interval | None) -> str:
    """Estimate and half-width of a t interval, which is symmetric: short enough for a terminal."""
    if interval is None or interval.low is None or interval.high is None:
        return format_interval(interval)
    text, _, bounds = format_interval(interval).partition(" [")
    if "e" in text + bounds:
        return text
    decimals = len(text.partition(".")[2])
    return f"{text} ±{(interval.high - interval.low) / 2:.{decimals}f}"


def difference_word(difference: Interval) -> str:
    """Which way a difference goes, "lower" or "higher", or that none is shown."""
    if difference.low is None:
        return "too few for an interval"
    if not difference.excludes(0):
        return "no difference shown"
    return "lower" if difference.estimate < 0 else "higher"


def text_entry(text: Any, bold: bool = False) -> Entry:
    """A field of text; a dash for a missing value."""
    missing = text is None or text is pd.NA or (isinstance(text, float) and math.isnan(text))
    return Entry(NONE_TEXT if missing else str(text), None if missing else text, bold)


def whole_entry(value: Any) -> Entry:
    """A count that a column with missing values may have turned into a float."""
    return text_entry(None) if pd.isna(value) else Entry(f"{int(value):,}", int(value))


def plural(count: int, noun: str) -> str:
    """ "1 seed", "1,400 seeds"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
