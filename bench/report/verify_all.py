"""What is committed, checked against the rows that it has to follow from: reports, pages of claims, cards of weights.

Run as a module it is a process that checks what it is sent; `verify_reports` has two of them.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from bench.errors import UsageError
from bench.folders import Folders
from bench.processes import Child, EndedError, all_messages, speaking
from bench.report import cards
from bench.report.claims import page as claims
from bench.report.verify_report import published_reports, verify
from bench.score.compare import parse_set
from learned.weights import shipped_names

NUM_PROCESSES = 2
POLL_SEC = 0.1
CARDS_SHARE = 0.5  # of what it takes to check the reports of the same rows: a card reads and indexes them too

# ("report", SUITE, LABEL), ("claims", LABEL), or
# ("card", NAME, ...): all cards together, since all of them read all published results.
Job: TypeAlias = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Checked:
    """What came of checking a report or a card.

    Attributes:
      kind: "report", "claims" or "card".
      name: "SUITE/LABEL", the label of a page of claims, or the name of a shipped optimizer.
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
    advance: Callable[[float], None] = lambda share: None,
) -> list[Checked]:
    """Recomputes every published number from committed rows and compares (protocol rule 15).

    Several reports are checked by two processes beside this one.

    Args:
      names: of reports, "SUITE/LABEL"; without any every published report and page of claims, and the card of every
        shipped optimizer.
      folders: where results and reports lie; those of the command line without it.
      tell: called with each outcome, in the order of what is returned, as soon as it is known.
      advance: called with the share of the work that has been done since the last call.

    Returns:
      An outcome for each report, then for each page of claims, then for each card.

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
    shipped = () if names else shipped_names()
    absent = {name: tuple(cards.missing_results(name, folders.results_dir)) for name in shipped}
    labels = [] if names else claims.published_claims(folders.reports_dir)
    jobs: list[Job] = [*(("report", *report) for report in reports), *(("claims", label) for label in labels)]
    if there := [name for name, missing in absent.items() if not missing]:
        jobs.append(("card", *there))
    weights = {job: _weight(job, folders) for job in jobs}
    expected = [("report", f"{suite}/{label}") for suite, label in reports]
    expected += [("claims", label) for label in labels] + [("card", name) for name in absent]
    known = {("card", name): Checked("card", name, missing=missing) for name, missing in absent.items() if missing}
    found: list[Checked] = []

    def note(outcomes: Sequence[Checked]) -> None:
        known.update({(checked.kind, checked.name): checked for checked in outcomes})
        while len(found) < len(expected) and expected[len(found)] in known:
            found.append(known[expected[len(found)]])
            tell(found[-1])

    note(())
    for job, outcomes in _outcomes(jobs, weights, folders):
        note(outcomes)
        advance(weights[job] / sum(weights.values()))
    return found


def _weight(job: Job, folders: Folders) -> float:
    """What a job takes, in proportion: bytes of the curves that it reads."""
    kind, *which = job
    pattern, share = ("/".join(which), 1.0) if kind == "report" else ("*/*", CARDS_SHARE)
    return 1.0 + share * sum(path.stat().st_size for path in folders.results_dir.glob(f"{pattern}/curves.parquet"))


def _outcomes(
    jobs: Sequence[Job], weights: dict[Job, float], folders: Folders
) -> Iterator[tuple[Job, Sequence[Checked]]]:
    """Each job with its outcomes, as they fall: heavy ones begin first, so that no process waits long for the other."""
    left = sorted(jobs, key=lambda job: -weights[job])
    answered = set()
    if len(jobs) > 1:
        for job, outcomes in _spread(left, folders):
            answered.add(job)
            yield job, outcomes
    # One job is not worth a process. What a process did not come to an end with is done here, where an error shows.
    cards.published.cache_clear()  # in a notebook, results may have been published since
    for job in [job for job in left if job not in answered]:
        yield job, _check(job, folders)


def _spread(jobs: Sequence[Job], folders: Folders) -> Iterator[tuple[Job, Sequence[Checked]]]:
    """Jobs with their outcomes, from processes; without those on which a process failed."""
    waiting, busy = list(jobs), {}
    with contextlib.ExitStack() as stack:
        for _ in range(min(NUM_PROCESSES, len(waiting))):
            where = [str(folders.results_dir), str(folders.reports_dir)]
            child = stack.enter_context(Child("bench.report.verify_all", where))
            busy[child] = waiting.pop(0)
            child.send(busy[child])
        while busy:
            for child, job in list(busy.items()):
                try:
                    message = child.receive(POLL_SEC)
                except EndedError:
                    del busy[child]
                    continue
                if message is None:
                    continue
                del busy[child]
                if waiting:
                    busy[child] = waiting.pop(0)
                    child.send(busy[child])
                if "checked" in message:
                    yield job, [Checked(**{**fields, "missing": ()}) for fields in message["checked"]]


def _check(job: Job, folders: Folders) -> list[Checked]:
    kind, *which = job
    if kind == "claims":
        return [Checked("claims", label, claims.verify_claims(folders.reports_dir, label)) for label in which]
    if kind == "card":
        return [Checked("card", name, cards.verify(name, folders.results_dir)) for name in which]
    suite, label = which
    return [Checked("report", f"{suite}/{label}", verify(folders.results_dir, folders.reports_dir, suite, label))]


def _work() -> None:
    """What runs in a process: checks what its standard input tells, one job after the other."""
    from bench.device import select_device

    told = all_messages()
    folders = Folders(*map(Path, next(told)))
    with speaking() as say:
        select_device("cpu")  # nothing is timed, and an accelerator would be asked for memory by every process
        for job in told:
            try:
                say(checked=[dataclasses.asdict(checked) for checked in _check(tuple(job), folders)])
            except Exception as error:
                say(error=str(error))


if __name__ == "__main__":
    _work()
