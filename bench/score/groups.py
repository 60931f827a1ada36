"""Who may be told apart: groups of optimizers by final test loss, in place of ranks (protocol rule 12)."""

from __future__ import annotations

from collections.abc import Sequence

from bench.score.headline import test_loss_difference
from bench.store.rows import Rows


def significance_groups(rows: Rows, order: Sequence[str]) -> dict[str, int]:
    """Optimizer -> number of its group, from 1; a group begins with the first that can be told from the one before.

    An optimizer is compared with the first of the group: it belongs there unless the interval of their difference, over
    seeds and test images, lies above zero. Those without an interval, as after a failed run, are in no group.

    Args:
      rows: of the suite.
      order: the optimizers, lowest final test loss first.
    """
    groups: dict[str, int] = {}
    first = None
    for name in order:
        if first is None:
            itself = test_loss_difference(rows, name, name)
            if itself is None or itself.low is None:
                continue
            first, groups[name] = name, 1
            continue
        difference = test_loss_difference(rows, name, first)
        if difference is None or difference.low is None:
            continue
        apart = difference.low > 0
        groups[name] = max(groups.values()) + apart
        first = name if apart else first
    return groups
