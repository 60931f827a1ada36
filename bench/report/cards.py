"""The card of shipped weights with what came of them: published results and limits, every number from committed rows.

`learned.cards` says how weights were made, from the weights alone. Results lie with the results.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import UsageError, nearest, usage_errors
from bench.folders import Folders
from bench.report.build import targets_of
from bench.report.comparison import best_baseline, compare
from bench.report.fairness import payback_text
from bench.report.summary import HEADLINE_LOSS, STEP_COST_REFERENCE, loss_summary, num_diverged
from bench.report.table import (
    NONE_TEXT,
    Column,
    Entry,
    Table,
    format_interval,
    format_number,
    plural,
    text_entry,
    whole_entry,
)
from bench.report.verify_report import first_difference
from bench.score.exposure import outer_training
from bench.score.fairness import made_with, payback
from bench.score.speedup import format_speedup, speedup
from bench.score.times_to_target import (
    PAPER_TARGET,
    TargetsByTask,
    hand_designed_names,
    reference_text,
    references,
    step_cost_ratio,
    tuned_by_train,
)
from bench.score.verdict import GROUP_NAMES
from bench.store.published import LOCAL
from bench.store.rows import Rows, read_rows
from bench.store.store import Store
from bench.tuning.targets import GROUPS
from learned import cards, weights
from tasks.files import write_atomically


@dataclass(frozen=True)
class Published:
    """The published rows of a suite that trains, and the targets of its tasks."""

    suite: str
    label: str
    rows: Rows
    targets: TargetsByTask


@functools.cache
def published(results_dir: Path) -> tuple[Published, ...]:
    """Every published result set that trained, by suite and label."""
    found = []
    for path in sorted(results_dir.glob("*/*/cells.parquet")):
        suite, label = path.parts[-3:-1]
        if label == LOCAL:
            continue
        results = Store(results_dir, suite, label).read()
        if set(results.cells["kind"]) != {"measure"}:
            found.append(
                Published(suite, label, read_rows(results.cells, results.curves), targets_of(results, results_dir))
            )
    return tuple(found)


def render(name: str, results_dir: Path, weights_dir: Path | None = None) -> str:
    """The card of shipped weights as Markdown: how they were made, what came of it, where they fail.

    Results are those of published rows that were made with these weights.
    """
    theta, card = weights.read(path_of(name, weights_dir).with_suffix(".safetensors"))
    shown = [
        found
        for found in published(results_dir)
        if name in found.rows.trained and made_with(found.rows, name, weights.digest(theta))
    ]
    results = "No published result set has them.\n"
    if shown:
        limits = []
        for found in shown:
            lines = [f"- {line}" for line in _limits(found, name, card)]
            limits += [f"**{found.suite}/{found.label}**", "", *lines, ""]
        results = "\n".join([results_table(shown, name).markdown(), "## Limits", "", *limits])
    return cards.render(card, f"## Results\n\n{results}")


def results_table(shown: list[Published], name: str) -> Table:
    """A row for each result set: speed-ups to the hard target, and the test loss beside that of the best rival."""
    rows = []
    for found in shown:
        tasks, seeds = found.rows.tasks, found.rows.runs(name, found.rows.tasks)["seed"].nunique()
        horizons = sorted({found.rows.horizon(task) for task in tasks})
        entries = [
            text_entry(f"{found.suite}/{found.label}"),
            text_entry(f"{plural(len(tasks), 'task')}, {plural(seeds, 'seed')}"),
            text_entry(" to ".join(f"{end:,}" for end in dict.fromkeys((horizons[0], horizons[-1])))),
        ]
        for group in GROUP_NAMES:
            reference = references(found.rows, found.targets, group)
            against = speedup(found.rows, found.targets, tasks, name, reference, PAPER_TARGET) if reference else None
            text = f"{format_speedup(against)} ({reference_text(reference)})" if against else NONE_TEXT
            entries.append(Entry(text, against and against.estimate))
        best = best_baseline(found.rows, tasks, HEADLINE_LOSS)
        difference = compare(found.rows, name, best, tasks, HEADLINE_LOSS).difference if best else None
        entries.append(Entry(f"{format_interval(difference, sign=True)} ({best})" if difference else NONE_TEXT))
        entries.append(whole_entry(num_diverged(found.rows, name, tasks)))
        rows.append(tuple(entries))
    columns = (
        *(Column("results", "results"), Column("runs", "runs"), Column("horizon", "horizon", number=True)),
        *(Column(group, f"over {text}", number=True) for group, text in GROUP_NAMES.items()),
        Column("test_loss", "final test loss, minus the best hand-designed", number=True),
        Column("diverged", "diverged runs", number=True),
    )
    notes = (
        "Speed-up in wall-clock to the hard target: the validation loss that the best of a group has at the end of the "
        "horizon. Above 1 these weights are faster; <: a bound, since on some task half of the runs never arrive.",
        "Intervals at 95 %, as in the reports. Below 0 the test loss is lower than that of the best hand-designed row. "
        "Diverged: a loss that is not finite, or a last train loss above that of chance.",
    )
    return Table("results", "Published results of these weights", columns, tuple(rows), notes)


def _limits(found: Published, name: str, card: weights.Card) -> Iterator[str]:
    """What a user should know before relying on these weights, a sentence each."""
    rows, tasks = found.rows, found.rows.tasks
    reference = references(rows, found.targets, "all_hand_designed")
    each = {task: speedup(rows, found.targets, (task,), name, reference, PAPER_TARGET) for task in reference}
    known = {task: value for task, value in each.items() if value is not None}
    if known:
        faster = [task for task, value in known.items() if not value.bound and value.estimate > 1]
        missed = [task for task, value in known.items() if value.bound]
        lowest = min(known, key=lambda task: known[task].estimate)
        yield (
            f"Faster than the best hand-designed on {len(faster)} of {plural(len(known), 'task')}; "
            + (
                f"half of the runs never arrive on {len(missed)}."
                if missed
                else f"the lowest speed-up is {format_speedup(known[lowest])}, on {lowest}."
            )
        )
    for rival in tuned_by_train(rows):
        against = speedup(rows, found.targets, tasks, name, dict.fromkeys(tasks, rival), PAPER_TARGET, "train_loss")
        if against:
            told = f"Over {rival}, tuned by train loss, to the train loss that it ends at"
            yield f"{told}: {format_speedup(against)}."
    losses = ("final_train_loss", "final_validation_loss", HEADLINE_LOSS)
    means = [loss_summary(rows, name, tasks, metric) for metric in losses]
    if all(mean is not None for mean in means):
        train, validation, test = (format_number(mean.estimate, 3) for mean in means if mean is not None)
        best = best_baseline(rows, tasks, HEADLINE_LOSS)
        rival = loss_summary(rows, best, tasks, HEADLINE_LOSS) if best else None
        beside = f"; {best} has a test loss of {format_number(rival.estimate, 3)}" if rival else ""
        yield f"It ends at train loss {train}, validation loss {validation}, test loss {test}{beside}."
    if below := _below(rows, name):
        yield f"Its mean test loss is {below}."
    costs = [step_cost_ratio(rows, (task,), name, STEP_COST_REFERENCE) for task in tasks]
    if ratios := [cost.estimate for cost in costs if cost is not None]:
        ends = " to ".join(dict.fromkeys(format_number(ratio, 3) for ratio in (min(ratios), max(ratios))))
        yield f"A training step takes {ends} times as long as Adam's."
    memory = [
        rows.step_bytes[task, name] / rows.step_bytes[task, STEP_COST_REFERENCE]
        for task in tasks
        if {(task, name), (task, STEP_COST_REFERENCE)} <= set(rows.step_bytes)
    ]
    if memory:
        yield f"A training step takes {format_number(float(np.median(memory)), 3)} times Adam's memory."
    paid = payback(rows, found.targets, name, outer_training(card))
    if paid and math.isfinite(paid.saved_sec):
        yield f"Its outer-training is repaid after {payback_text(paid)}."


def _below(rows: Rows, name: str) -> str:
    """On how many tasks the mean final test loss is below the lowest of each group of hand-designed rows, in words."""
    parts = []
    for group, text in GROUP_NAMES.items():
        rivals = [rival for rival in hand_designed_names(rows) if rival in (GROUPS[group] or (rival,))]
        won = compared = 0
        for task in rows.tasks:
            losses = [loss_summary(rows, rival, (task,), HEADLINE_LOSS) for rival in rivals]
            lowest = min((found.estimate for found in losses if found is not None), default=None)
            own = loss_summary(rows, name, (task,), HEADLINE_LOSS)
            if lowest is not None and own is not None:
                won, compared = won + (own.estimate < lowest), compared + 1
        if compared:
            parts.append(f"below {text} on {won} of {plural(compared, 'task')}")
    return ", ".join(parts)


def path_of(name: str, weights_dir: Path | None = None) -> Path:
    """Where the card of shipped weights lies."""
    return cards.path_beside((weights_dir or weights.WEIGHTS_DIR) / f"{name}.safetensors")


def write(name: str, results_dir: Path, weights_dir: Path | None = None) -> Path:
    """Writes the card beside the weights, which ship with the package or lie in a folder.

    Raises:
      OSError: the folder cannot be written.
    """
    path = path_of(name, weights_dir)
    write_atomically(path, render(name, results_dir, weights_dir).encode())
    return path


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
      UsageError: no such optimizer, published results that are altered or that a card shows and that are not here, an
        installed package, or weights whose folder cannot be written.
    """
    folders, known = folders or Folders(), weights.shipped_names()
    if {"site-packages", "dist-packages"} & set(weights.WEIGHTS_DIR.parts):
        raise UsageError(f"{weights.WEIGHTS_DIR} is part of an installed package: cards are written in a clone")
    published.cache_clear()  # in a notebook, results may have been published since
    for name in names:
        if name not in known:
            raise nearest("learned optimizer", name, known)
    paths = []
    for name in names or known:
        if missing := missing_results(name, folders.results_dir):  # before any is written
            raise UsageError(
                f"the card of {name} shows results that are not in {folders.results_dir}: {', '.join(missing)}; "
                "nothing is written"
            )
    for name in names or known:
        with usage_errors():
            paths.append(write(name, folders.results_dir))
        log(f"card: {paths[-1]}")
    return paths


def missing_results(name: str, results_dir: Path) -> list[str]:
    """Result sets, SUITE/LABEL, that a shipped card shows and this folder lacks: there it cannot be checked."""
    path = path_of(name)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    shown = re.findall(r"^\| ([\w.-]+/[\w.-]+) \|", text, re.MULTILINE)
    return [which for which in shown if not (results_dir / which / "cells.parquet").is_file()]


def verify(name: str, results_dir: Path) -> str | None:
    """The first line of a shipped card that does not follow from weights and committed rows; None if all do."""
    path = path_of(name)
    if not path.is_file():
        return f"{path}: missing"
    try:
        old, new = path.read_text(encoding="utf-8"), render(name, results_dir)
    except UsageError as error:  # of results that are altered
        return str(error)
    return None if old == new else f"{path}: {first_difference(path, old, new)}"
