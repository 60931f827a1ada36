"""How the hand-designed rows were tuned: every trial of the committed tuning records, as numbers and as tables.

A learned optimizer has no trial: its outer-training is its tuning (protocol rule 3).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from baselines import find_tuned, read_tuned, tuned_by
from bench.report.table import Column, Entry, Table, format_interval, format_number, plural, text_entry
from bench.statistics import Interval, best_of_k
from bench.store.rows import HAND_DESIGNED, Rows, slugs

BUDGETS = (1, 2, 4, 8, 16, 32, 64)
LEARNING_RATE = "learning_rate"
NO_TRIALS = "A learned optimizer has no trial here: its outer-training is its tuning."


@dataclass(frozen=True)
class Tuning:
    """The trials that one optimizer's values were chosen from.

    Attributes:
      optimizer: name.
      learning_rates: of each trial; empty for an optimizer without one.
      losses: mean validation loss of each trial over the tuning tasks, inf where it diverged.
      chosen: index of the trial whose values are used, the best once the finalists had been rerun.
      earlier_rounds: searches before this one, in a narrower space.
    """

    optimizer: str
    learning_rates: tuple[float, ...]
    losses: tuple[float, ...]
    chosen: int
    earlier_rounds: int

    @property
    def learning_rate(self) -> float | None:
        """The chosen one."""
        return self.learning_rates[self.chosen] if self.learning_rates else None

    def budgets(self) -> list[int]:
        """1, 2, 4, ... up to the number of trials."""
        return [k for k in BUDGETS if k <= len(self.losses)]

    def best_of(self, k: int) -> Interval:
        """Median and quartiles of the lowest loss among k of the trials."""
        return best_of_k(self.losses, k)


@dataclass(frozen=True)
class TuningGroup:
    """What was tuned on one (family, horizon), best chosen trial first."""

    family: str
    horizon: int
    slug: str
    tunings: tuple[Tuning, ...]


@functools.cache  # rows are compared by identity; figures and tables read the same records
def tuning_groups(rows: Rows) -> tuple[TuningGroup, ...]:
    """The tuning behind the hand-designed rows, by (family, horizon that they were tuned at), in the order of the rows.

    A row whose hyperparameters are not those of its record, or without a record, is left out, and one that was tuned on
    train loss: its trials have no validation loss to stand beside those of others.
    """
    groups: dict[tuple[str, int], dict[str, Tuning]] = {}
    train = rows.train[(rows.train["role"] == HAND_DESIGNED) & rows.train["tuned_horizon"].notna()]
    columns = ["family", "tuned_horizon", "optimizer", "hyperparameters"]
    for family, horizon, optimizer, hyperparameters in train[columns].drop_duplicates().itertuples(index=False):
        tuning = _read(str(family), int(horizon), str(optimizer), json.loads(hyperparameters or "{}"))
        if tuning is not None:
            groups.setdefault((str(family), int(horizon)), {})[tuning.optimizer] = tuning
    names = slugs(f"{family}_{horizon}" for family, horizon in groups)
    return tuple(
        TuningGroup(
            family,
            horizon,
            names[f"{family}_{horizon}"],
            tuple(sorted(found.values(), key=lambda tuning: (min(tuning.losses), tuning.optimizer))),
        )
        for (family, horizon), found in groups.items()
    )


def tuning_tables(rows: Rows) -> list[Table]:
    """For each (family, horizon): optimizer, chosen learning rate, best of 1, 2, 4 ... trials."""
    return [_table(group) for group in tuning_groups(rows)]


def record_of(family: str, horizon: int, optimizer: str, hyperparameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the tuning that gave these hyperparameters; None where there is no record of them."""
    found = find_tuned(family, horizon, optimizer)
    if found is None or found.horizon != horizon or found.hyperparameters != hyperparameters:
        return None
    return read_tuned(found.path)


def _read(family: str, horizon: int, optimizer: str, hyperparameters: Mapping[str, Any]) -> Tuning | None:
    record = record_of(family, horizon, optimizer, hyperparameters)
    if record is None or tuned_by(record) != "validation":
        return None
    trials = record["trials"]
    rates = [trial["hyperparameters"].get(LEARNING_RATE) for trial in trials]
    return Tuning(
        optimizer,
        tuple(float(rate) for rate in rates) if all(rates) else (),
        tuple(_mean(trial["validation_losses"]) for trial in trials),
        int(record["best_trial"]),
        len(record.get("earlier_rounds", ())),
    )


def _mean(losses: Sequence[float | None]) -> float:
    """A trial that diverged on one of its tasks, null in the record, has diverged."""
    return float(np.mean([math.inf if loss is None else loss for loss in losses]))


def _table(group: TuningGroup) -> Table:
    budgets = [k for k in BUDGETS if any(k in tuning.budgets() for tuning in group.tunings)]
    columns = [Column("optimizer", "optimizer"), Column("learning_rate", "chosen learning rate", number=True)]
    columns += [Column(f"best_of_{k}", f"best of {k}", interval=True) for k in budgets]
    rows = []
    for tuning in group.tunings:
        row = [text_entry(tuning.optimizer), Entry(format_number(tuning.learning_rate, 3), tuning.learning_rate)]
        row += [_best_entry(tuning, k) for k in budgets]
        rows.append(tuple(row))
    widened = [tuning.optimizer for tuning in group.tunings if tuning.earlier_rounds]
    notes = [
        "Mean validation loss on the tuning tasks of the best among k of the trials, drawn without replacement: median "
        "and, in brackets, quartiles over the draws, the spread of tuning luck. Every trial counts with its first "
        "runs; the finalists' reruns, which chose among them, are left out.",
        NO_TRIALS,
    ]
    if widened:
        notes.append(
            f"The last search, after its space was widened, which gave these a larger budget: {', '.join(widened)}."
        )
    return Table(
        slug=f"tuning_{group.slug}",
        caption=f"Tuning on {group.family}, {plural(group.horizon, 'step')}: validation loss by number of trials",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _best_entry(tuning: Tuning, k: int) -> Entry:
    if k > len(tuning.losses):
        return text_entry(None)
    best = tuning.best_of(k)
    if all(map(math.isfinite, (best.estimate, best.low or 0.0, best.high or 0.0))):
        return Entry(format_interval(best), best)
    low, estimate, high = ("∞" if x == math.inf else format_number(x, 3) for x in (best.low, best.estimate, best.high))
    return Entry(f"{estimate} [{low}, {high}]", best)
