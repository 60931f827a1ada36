"""`bench compare A B`: two result sets, paired by task, optimizer and seed, B against A."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.errors import UsageError, nearest
from bench.folders import Folders
from bench.statistics import Interval, paired_difference
from bench.store.published import LOCAL
from bench.store.record import RESULT_COLUMNS, Results
from bench.store.rows import Frame, as_floats
from bench.store.settings import differences, setting_of
from bench.store.store import Store

METRIC = "final_test_loss"
KEYS = ["task", "optimizer", "seed"]
LOSSES = tuple(name for name in RESULT_COLUMNS if name != "best_validation_step")  # of the cells table


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two result sets side by side.

    Attributes:
      a: "SUITE/LABEL", or "SUITE" for the user's own runs.
      b: likewise.
      metric: the loss that is compared.
      rows: from `compare`, one for each task and optimizer that both sets hold.
      only: the runs that one side alone has, which are compared with nothing.
      left_out: of each side, lines on stored runs of other settings.
    """

    a: str
    b: str
    metric: str
    rows: list[dict[str, Any]]
    only: tuple[Unpaired, ...] = ()
    left_out: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def regressions(self, threshold: float) -> list[dict[str, Any]]:
        """Rows that are worse in B by more than `threshold`, a relative change; see the function of this name."""
        return regressions(self.rows, threshold)

    @property
    def vanished(self) -> list[Unpaired]:
        """Rows of A of which B has no run."""
        return [runs for runs in self.only if runs.side == "A" and len(runs.seeds) == runs.of]


@dataclasses.dataclass(frozen=True)
class Unpaired:
    """Runs of a row that one side alone has.

    Attributes:
      side: "A" or "B".
      task: name.
      optimizer: name.
      seeds: of these runs.
      of: number of runs of the row on that side.
    """

    side: str
    task: str
    optimizer: str
    seeds: tuple[int, ...]
    of: int

    def __str__(self) -> str:
        some = f"{len(self.seeds)} of {self.of} seeds of " if len(self.seeds) < self.of else ""
        return f"{self.side} only: {some}{self.optimizer} on {self.task}"


def compare_results(a: str, b: str, *, metric: str = METRIC, folders: Folders | None = None) -> Comparison:
    """Compares two result sets, paired by task, optimizer and seed, B against A.

    Args:
      a: "SUITE/LABEL", or "SUITE" for the user's own runs.
      b: likewise.
      metric: one of `LOSSES`.
      folders: where results lie; by default those of the command line.

    Raises:
      UsageError: there is no such metric, nothing is stored, horizons differ, or the sets have nothing in common.
    """
    if metric not in LOSSES:
        raise nearest("metric", metric, LOSSES)
    folders = folders or Folders()
    sides = [Store(folders.results_dir, *parse_set(text)).read() for text in (a, b)]
    left_out = (sides[0].left_out, sides[1].left_out)
    return Comparison(a, b, metric, compare(sides[0], sides[1], a, b, metric), unpaired(*sides), left_out)


def parse_set(text: str) -> tuple[str, str]:
    """(suite, label) of "SUITE" or "SUITE/LABEL"; without a label, the user's own runs."""
    suite, _, label = text.partition("/")
    return suite, label or LOCAL


def unpaired(a: Results, b: Results) -> tuple[Unpaired, ...]:
    """The runs that one side alone has, by side and row."""
    seeds = []
    for results in (a, b):
        train: Frame = results.cells[results.cells["kind"] == "train"]
        rows = {row: set(runs["seed"].astype(int)) for row, runs in train.groupby(["task", "optimizer"], sort=False)}
        seeds.append(rows)
    found = []
    for side, own, other in (("A", *seeds), ("B", *reversed(seeds))):
        for (task, optimizer), runs in own.items():
            if alone := runs - other.get((task, optimizer), set()):
                found.append(Unpaired(side, task, optimizer, tuple(sorted(alone)), len(runs)))
    return tuple(found)


def compare(one: Results, other: Results, a: str, b: str, metric: str = METRIC) -> list[dict[str, Any]]:
    """Relative change of a loss from A to B for every task and optimizer that both hold.

        change = mean over seeds of (b - a) / |mean over seeds of a|,    with the t interval of the paired differences

    Args:
      one: the results of A.
      other: the results of B.
      a: their name, for messages.
      b: likewise.
      metric: a loss of the cells table.

    Returns:
      Rows with "task", "optimizer", "pairs", the means "a" and "b", "change" (an `Interval`, relative; None where a run
      failed or the mean of a is 0), the numbers of failed runs "failed_a" and "failed_b", and "settings", how those of
      A differ from those of B; None if they do not.

    Raises:
      UsageError: nothing is stored, horizons or batch sizes differ, or the sets have nothing in common.
    """
    frames = []
    for results in (one, other):
        cells: Frame = results.cells
        train = cells[cells["kind"] == "train"]
        losses = as_floats(train[metric]).where(train["status"] == "ok", np.inf).fillna(np.inf)
        frames.append(train[[*KEYS, "horizon", "batch_size", "config", "provenance"]].assign(loss=losses))
    both = frames[0].merge(frames[1], on=KEYS, suffixes=("_a", "_b"))
    if both.empty:
        raise UsageError(f"{a} and {b} have no task, optimizer and seed in common: nothing to compare")
    for setting in ("horizon", "batch_size"):
        uneven = both[both[f"{setting}_a"] != both[f"{setting}_b"]]
        if len(uneven):
            row = uneven.iloc[0]
            raise UsageError(
                f"{row['task']}: {setting.replace('_', ' ')} is {row[f'{setting}_a']} in {a} and {row[f'{setting}_b']} "
                f"in {b}: their losses do not compare"
            )
    rows = []
    for (task, optimizer), pairs in both.groupby(["task", "optimizer"], sort=False):
        x, y = pairs["loss_a"].to_numpy(float), pairs["loss_b"].to_numpy(float)
        failed = int(np.isinf(x).sum()), int(np.isinf(y).sum())
        change = None
        if not any(failed) and x.mean() != 0:
            difference, size = paired_difference(y, x), abs(float(x.mean()))
            low, high = (None if end is None else end / size for end in (difference.low, difference.high))
            change = Interval(difference.estimate / size, low, high, difference.n)
        means = (float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else None for values in (x, y))
        rows.append(
            dict(zip(("a", "b"), means, strict=True))
            | {"task": task, "optimizer": optimizer, "pairs": len(pairs), "change": change}
            | {"failed_a": failed[0], "failed_b": failed[1], "settings": _settings(pairs.iloc[0])}
        )
    return rows


def _settings(pair: Frame) -> str | None:
    """How the settings of two runs differ."""
    of_a, of_b = (
        setting_of(json.loads(pair[f"config_{side}"]), json.loads(pair[f"provenance_{side}"])) for side in ("a", "b")
    )
    return differences(of_a, of_b) or None


def regressions(rows: Sequence[dict[str, Any]], threshold: float) -> list[dict[str, Any]]:
    """Rows that are worse in B by more than `threshold`, a relative change.

    The estimate must exceed the threshold; where there is an interval (from `bench.statistics.MIN_SEEDS` pairs on), it
    must also lie above 0. More failed runs in B are a regression whatever the losses.
    """
    found = []
    for row in rows:
        change = row["change"]
        worse = change is not None and change.estimate > threshold and (change.low is None or change.low > 0)
        if worse or row["failed_b"] > row["failed_a"]:
            found.append(row)
    return found
