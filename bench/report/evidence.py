"""What is committed, checked against the rows that it has to follow from: every report, and every card of weights."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import UsageError, nearest, usage_errors
from bench.folders import Folders
from bench.report import cards
from bench.report.verify import published_reports, verify
from bench.score.compare import parse_set
from learned.weights import shipped_names


@dataclasses.dataclass(frozen=True)
class Checked:
    """What came of checking a report or a card.

    Attributes:
      kind: "report" or "card".
      name: "SUITE/LABEL", or the name of a shipped optimizer.
      problem: the first number that does not follow from the rows; None if all do.
      missing: result sets that a card shows and that are not here; then it is not checked.
    """

    kind: str
    name: str
    problem: str | None = None
    missing: tuple[str, ...] = ()


def verify_reports(
    names: Sequence[str] = (),
    *,
    folders: Folders | None = None,
    tell: Callable[[Checked], None] = lambda checked: None,
) -> list[Checked]:
    """Recomputes every published number from committed rows and compares (protocol rule 15).

    Args:
      names: of reports, "SUITE/LABEL"; without any every published report, and the card of every shipped optimizer.
      folders: where results and reports lie; those of the command line without it.
      tell: called with each outcome as it falls.

    Returns:
      An outcome for each report, then for each card.

    Raises:
      UsageError: no such results or report, or none that is published.
    """
    folders = folders or Folders()
    reports = [parse_set(name) for name in names] or published_reports(folders.reports_dir)
    if not reports:
        raise UsageError(f"no published report in {folders.reports_dir}")
    for suite, label in reports:
        if not any((folder / suite / label).is_dir() for folder in (folders.results_dir, folders.reports_dir)):
            raise UsageError(f"no results and no report of {suite}/{label}: `bench list runs` shows what there is")
    cards.published.cache_clear()  # in a notebook, results may have been published since
    found: list[Checked] = []

    def note(checked: Checked) -> None:
        found.append(checked)
        tell(checked)

    for suite, label in reports:
        problem = verify(folders.results_dir, folders.reports_dir, suite, label)
        note(Checked("report", f"{suite}/{label}", problem))
    for name in () if names else shipped_names():
        if missing := cards.missing_results(name, folders.results_dir):
            note(Checked("card", name, missing=tuple(missing)))
        else:
            note(Checked("card", name, cards.verify(name, folders.results_dir)))
    return found


def write_cards(
    names: Sequence[str] = (),
    *,
    folders: Folders | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Writes the cards of shipped learned optimizers again: how they were made, and their published results.

    Args:
      names: of shipped optimizers; all without any.
      folders: where results lie; those of the command line without it.
      log: called with a line for every card.

    Returns:
      The cards, beside the weights.

    Raises:
      UsageError: no such optimizer, published results that are altered, or weights whose folder cannot be written.
    """
    folders, known = folders or Folders(), shipped_names()
    cards.published.cache_clear()  # in a notebook, results may have been published since
    for name in names:
        if name not in known:
            raise nearest("learned optimizer", name, known)
    paths = []
    for name in names or known:
        with usage_errors():
            paths.append(cards.write(name, folders.results_dir))
        log(f"card: {paths[-1]}")
    return paths
