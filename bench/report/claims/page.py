"""The page of the claims of the paper, C1 to C6: each with its statements, a status, a figure and a command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.folders import Folders
from bench.measure.pathologies.inner import OVERSTEP
from bench.report.claims.paper import LIMITATIONS, claims, questions
from bench.report.claims.racing import what_was_learned
from bench.report.claims.statements import Claim, Published
from bench.report.page import template
from bench.report.verify_report import first_difference, published_reports
from tasks.files import write_atomically

FOLDER, PAGE, JSON = "claims", "index.html", "claims.json"  # of a label, among the reports
SCRIPT = re.compile(r"<script.*?</script>\n?", flags=re.DOTALL)  # in a figure


def listed(found: list[Claim], marks: tuple[str, ...]) -> list[tuple[str, str]]:
    """(claim, statement) of the statements that the page puts one of these marks beside."""
    return [(claim.name, part.text) for claim in found for part in claim.parts if part.mark in marks and not part.noted]


def commands(suites: Iterable[str]) -> str:
    """What runs the suites."""
    return "; ".join(f"bench run {suite}" for suite in suites)


def as_json(found: list[Claim]) -> str:
    """The claims, and the questions that they answer, as `bench claims --json` prints them."""
    rows = [
        {
            "name": claim.name,
            "sentence": claim.sentence,
            "status": claim.status,
            "number": " ".join(f"{part.text} ({part.mark})" if part.mark else part.text for part in claim.counted),
            "figure": next(iter(claim.measured.values()), None),
            "command": commands(claim.figures),
        }
        for claim in (*found, *(question for question, _ in questions(found)))
    ]
    return f"{json.dumps(rows, indent=1)}\n"


def images(published: Published, claim: Claim) -> dict[str, str]:
    """Suite -> the figure of the claim as the published page of the suite has it, without what it is operated by."""
    found = {}
    for suite, slug in claim.figures.items():
        path = published.reports_dir / suite / published.label / "report.html"
        page = path.read_text(encoding="utf-8") if path.is_file() else ""
        figure = re.search(rf'<figure id="figure-{slug}"(.*?</figure>)', page, flags=re.DOTALL)
        if figure:
            found[suite] = f"<figure{SCRIPT.sub('', figure[1])}"
    return found


def files(reports_dir: Path, label: str) -> dict[str, str]:
    """The page of claims and its JSON: name -> content."""
    published = Published(reports_dir, label)
    found = claims(published)
    learned = what_was_learned(published)
    measured = published.of("feedback") is not None
    context: dict[str, Any] = {
        "title": f"The six claims ({label})",
        "label": label,
        "claims": found,
        "commands": commands,
        "images": {claim.name: images(published, claim) for claim in found},
        "questions": list(questions(found)),
        "learned": learned,
        "measured": measured,
        "contradicted": listed(found, ("contradicted",)),
        "unproven": [*listed(found, ("not shown", "")), *(() if measured else [("", part.text) for part in learned])],
        "limitations": LIMITATIONS,
        "overstep": f"{OVERSTEP:g}",
    }
    return {PAGE: template("claims").render(**context), JSON: as_json(found)}


def write_claims(label: str | None = None, *, folders: Folders | None = None) -> Path:
    """Writes the page of claims, and `claims.json` beside it, to `claims/LABEL` among the reports.

    Args:
      label: of the published results; None is the only one that there is.
      folders: where results and reports lie; those of the command line without it.

    Returns:
      The path of the page.

    Raises:
      UsageError: no label is given, and nothing is published or under several ones.
    """
    folders = folders or Folders()
    label = label or _only_label(folders.reports_dir)
    out_dir = folders.reports_dir / FOLDER / label
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, content in files(folders.reports_dir, label).items():
        write_atomically(out_dir / name, content.encode())
    return out_dir / PAGE


def _only_label(reports_dir: Path) -> str:
    """The label of all published reports.

    Raises:
      UsageError: there is none, or there are several.
    """
    labels = sorted({label for _, label in published_reports(reports_dir)})
    if len(labels) != 1:
        several = f"there are {', '.join(labels)}: name one with --label" if labels else "none is published"
        raise UsageError(f"claims are about the results of one label; in {reports_dir} {several}")
    return labels[0]


def published_claims(reports_dir: Path) -> list[str]:
    """Labels of committed pages of claims."""
    return [path.parent.name for path in sorted(reports_dir.glob(f"{FOLDER}/*/{PAGE}"))]


def verify_claims(reports_dir: Path, label: str) -> str | None:
    """The first difference between the committed page of claims and one made now; None if there is none."""
    out_dir = reports_dir / FOLDER / label
    for name, content in files(reports_dir, label).items():
        path = out_dir / name
        if not path.is_file():
            return f"{path}: missing"
        if (old := path.read_text(encoding="utf-8")) != content:
            return f"{path}: {first_difference(path, old, content)}"
    return None
