"""`bench compare A B`: two result sets, paired by task, optimizer and seed, B against A."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import UsageError, nearest
from bench.folders import Folders
from bench.statistics import Interval, paired_difference
from bench.store.published import LOCAL
from bench.store.record import RESULT_COLUMNS
from bench.store.rows import Frame, as_floats
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
    """

    a: str
    b: str
    metric: str
    rows: list[dict[str, Any]]

    def regressions(self, threshold: float) -> list[dict[str, Any]]:
        """Rows that are worse in B by more than `threshold`, a relative change; see the function of this name."""
        return regressions(self.rows, threshold)


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
    return Comparison(a, b, metric, compare((folders or Folders()).results_dir, a, b, metric))


def parse_set(text: str) -> tuple[str, str]:
    """(suite, label) of "SUITE" or "SUITE/LABEL"; without a label, the user's own runs."""
    suite, _, label = text.partition("/")
    return suite, label or LOCAL


def compare(results_dir: Path, a: str, b: str, metric: str = METRIC) -> list[dict[str, Any]]:
    """Relative change of a loss from A to B for every task and optimizer that both hold.

        change = mean over seeds of (b - a) / |mean over seeds of a|,    with the t interval of the paired differences

    Args:
      results_dir: where results are.
      a: "SUITE/LABEL" or "SUITE".
      b: likewise.
      metric: a loss of the cells table.

    Returns:
      Rows with "task", "optimizer", "pairs", the means "a" and "b", "change" (an `Interval`, relative; None where a run
      failed or the mean of a is 0), and the numbers of failed runs "failed_a" and "failed_b".

    Raises:
      UsageError: nothing is stored, horizons or batch sizes differ, or the sets have nothing in common.
    """
    frames = []
    for text in (a, b):
        cells: Frame = Store(results_dir, *parse_set(text)).read().cells
        train = cells[cells["kind"] == "train"]
        losses = as_floats(train[metric]).where(train["status"] == "ok", np.inf).fillna(np.inf)
        frames.append(train[[*KEYS, "horizon", "batch_size"]].assign(loss=losses))
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
            | {"failed_a": failed[0], "failed_b": failed[1]}
        )
    return rows


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
