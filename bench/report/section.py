"""A section of a page: what was found in words, the figures, the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.figures import Figure
from bench.report.table import Table


@dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
      anchor: of links to it.
      heading: its title.
      paragraphs: what was found.
      figures: drawn when asked for.
      tables: the numbers.
      unfolded: whether the numbers are seen at once, where they are the finding.
    """

    anchor: str
    heading: str
    paragraphs: Sequence[str]
    figures: Sequence[Figure]
    tables: Sequence[Table]
    unfolded: bool = False
