"""What is read off a report: its tables, its page, its tables in the terminal."""

import csv
import io
from html.parser import HTMLParser

from bench.report.page import terminal_tables


def read_table(out, slug):
    rows = list(csv.DictReader(io.StringIO((out / "tables" / f"{slug}.csv").read_text(encoding="utf-8"))))
    return {row[next(iter(row))]: row for row in rows}


class Page(HTMLParser):
    """Collects tags, and checks that they nest."""

    VOID = {"meta", "link", "img", "br", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def render_terminal(cells, curves, width=80):
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(terminal_tables(cells, curves))
    return console.export_text()


def entries(table, name):
    """Column key -> entry, of the row of this name."""
    return next(
        dict(zip((c.key for c in table.columns), row, strict=True)) for row in table.rows if row[0].value == name
    )
