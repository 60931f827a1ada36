"""Mean losses of runs, and their differences, with intervals over seeds and test images (protocol rule 12)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.statistics import (
    Interval,
    crossed_interval,
    paired_difference,
    t_interval,
)
from bench.store.rows import Frame, Rows


def test_blocks(rows: Rows, task: str, optimizer: str) -> Frame | None:
    """(block x seed) final test loss on blocks of neighbouring test images; None without rows."""
    return rows.curve(task, optimizer, "test_block_loss")


@functools.cache
def block_classes(rows: Rows, task: str, num_blocks: int) -> NDArray | None:
    """The class of each block of test images, (num_blocks,), -1 for a block with several classes.

    The classes of a task are given, not sampled, so differences between classes are no sampling error.

    Returns:
      None where the images are not ordered by class.
    """
    from tasks.registry import classes_in_order

    classes = classes_in_order(str(rows.train.loc[rows.train["task"] == task, "family"].iloc[0]), "test")
    if classes is None:
        return None
    parts = np.array_split(classes, num_blocks)
    return np.array([part[0] if (part == part[0]).all() else -1 for part in parts])


def _over_images(rows: Rows, tasks: Sequence[str], values: Sequence[NDArray], mean: float | None) -> Interval:
    """The mean over tasks with the crossed interval of block losses (protocol rule 12).

    Args:
      rows: of the suite.
      tasks: names.
      values: block losses of each task, (num_seeds, num_blocks).
      mean: of the losses. The mean over blocks differs slightly from it where blocks differ in size; None uses that.
    """
    strata = [block_classes(rows, task, x.shape[1]) for task, x in zip(tasks, values, strict=True)]
    crossed = crossed_interval(*values, strata=strata)
    mean = crossed.estimate if mean is None else mean
    shift = mean - crossed.estimate
    low, high = (None if end is None else end + shift for end in (crossed.low, crossed.high))
    return Interval(mean, low, high, crossed.n)


def loss(rows: Rows, tasks: Sequence[str], optimizer: str, metric: str) -> tuple[Interval | None, int]:
    """Mean of a loss over the finished runs of tasks, and the number of runs that failed.

    The interval is Student's t over seeds, after averaging each seed over tasks. For the final test loss it also
    accounts for the sampling of test images. Where a run failed there are no bounds.
    """
    table = rows.losses(optimizer, tuple(tasks), metric)
    values = table.to_numpy(dtype=float)
    if not values.size:
        return None, 0
    failed = int(np.isinf(values).sum())
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None, failed
    if failed or np.isnan(values).any():
        return Interval(float(finite.mean()), None, None, len(table)), failed
    if metric == "final_test_loss":
        blocks = [test_blocks(rows, task, optimizer) for task in tasks]
        known = [b.to_numpy(dtype=float).T for b in blocks if b is not None and list(b.columns) == list(table.index)]
        if len(known) == len(tasks) and all(np.isfinite(x).all() for x in known):
            return _over_images(rows, tasks, known, float(values.mean())), 0
    return t_interval(values.mean(axis=1)), 0


def paired_loss(rows: Rows, a: str, b: str, metric: str) -> Interval | None:
    """Loss of a minus loss of b over the seeds of which all runs finished; without bounds where a run failed."""
    x, y = (rows.losses(name, rows.tasks, metric) for name in (a, b))
    seeds = [seed for seed in x.index if seed in y.index]
    x, y = x.loc[seeds].to_numpy(dtype=float), y.loc[seeds].to_numpy(dtype=float)
    whole = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    if not whole.any():
        return None
    found = paired_difference(x[whole], y[whole])
    return found if whole.all() else found.without_bounds()


def paired_test_loss(rows: Rows, a: str, b: str) -> Interval | None:
    """Final test loss of a minus that of b over the seeds that both have, as `paired_loss`.

    The interval accounts for test images too where test losses are stored by blocks of them (protocol rule 12).
    """
    found, differences = paired_loss(rows, a, b, "final_test_loss"), []
    if found is None or found.low is None:
        return found
    for task in rows.tasks:
        x, y = (test_blocks(rows, task, name) for name in (a, b))
        if x is None or y is None or len(x) < 2 or not x.index.equals(y.index):
            return found
        seeds = [seed for seed in x.columns if seed in y.columns]
        differences.append((x[seeds] - y[seeds]).to_numpy(dtype=float).T)
    return _over_images(rows, rows.tasks, differences, found.estimate)


def difference_of_test_loss(
    rows: Rows, tasks: Sequence[str], a: str, b: str, mean: float | None = None
) -> Interval | None:
    """Mean difference of final test loss, a minus b, paired by seed and task (protocol rule 12).

    The interval accounts for seeds and test images, not for the choice of tasks. `mean` is that of the losses; without
    it the mean over blocks is used.

    Returns:
      None unless both optimizers finished with the same seeds on every task and have test losses by blocks of images.
    """
    differences, seeds = [], None
    for task in tasks:
        blocks = [test_blocks(rows, task, name) for name in (a, b)]
        if any(table is None for table in blocks):
            return None
        x, y = (table for table in blocks if table is not None)
        seeds = x.columns if seeds is None else seeds
        if not (x.index.equals(y.index) and x.columns.equals(seeds) and y.columns.equals(seeds)):
            return None
        differences.append((x - y).to_numpy(dtype=float).T)
    if not differences or not all(np.isfinite(values).all() for values in differences):
        return None
    return _over_images(rows, tasks, differences, mean)
