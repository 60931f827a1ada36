"""A learned optimizer beside its reference on straight lines, where every score can be read off.

The reference falls by 0.01 a step from 3: 2.0, 2.5 and 2.75 at 100, 50 and 25 steps are its targets. A run that falls
by 0.02 a step is at the hard one after 50 steps: twice as fast in steps.
"""

import numpy as np

from tests.bench import synthetic
from tests.bench.synthetic import GRID, falling, rows_of

CONTENDER, REFERENCE = "lopt", "adam"
# The reference falls by .01 a step from 3: 2.0, 2.5, 2.75 at 100, 50, 25 steps.
LEVELS = {REFERENCE: (2.0, 2.5, 2.75)}


def rows_on_t(runs, blocks=None, roles=None, **kwargs):
    """Rows of task "t": optimizer -> curves of each seed, optimizer -> seconds per step of each block."""
    return synthetic.rows_of({"t": runs}, {"t": blocks} if blocks else None, roles, **kwargs)


def targets_on_t(levels, references=None):
    """Targets of task "t"."""
    return {"t": synthetic.frozen(levels, references)}


def raced(contender, seconds=1.0, num_seeds=5):
    """Runs and blocks of the learned optimizer beside the reference on task "t"."""
    runs = {CONTENDER: [contender] * num_seeds, REFERENCE: [falling(0.01)] * num_seeds}
    return rows_on_t(runs, {CONTENDER: [seconds] * 6, REFERENCE: [1.0] * 6}, {CONTENDER: "learned"})


def controlled(tenfold):
    """The base with its four controls."""
    runs = {REFERENCE: [falling(0.01)] * 5, "adam_frozen": [falling(0)] * 5, "adam_10x": [tenfold] * 5}
    blocks = {REFERENCE: [1.0] * 6, "adam_again": [0.99, 1.01] * 3, "adam_twice": [2.0] * 6}
    roles = dict.fromkeys(("adam_frozen", "adam_10x", "adam_again", "adam_twice"), "control")
    return rows_on_t(runs, blocks, roles)


def learning(before, after):
    """A learned optimizer, beside the base, and what it was before outer-training, on as many seeds."""
    beginning, seeds = f"{CONTENDER}_untrained", len(after)
    runs = {REFERENCE: [falling(0.01)] * seeds, "adam_frozen": [falling(0)] * seeds}
    runs |= {CONTENDER: after, beginning: before}
    return rows_on_t(runs, roles={CONTENDER: "learned", beginning: "control", "adam_frozen": "control"})


ROLES = {CONTENDER: "learned"}
FLAT = np.full(len(GRID), 3.0)  # never gets anywhere
TIMED = {CONTENDER: [1.0] * 6, REFERENCE: [1.0] * 6}


def pair(contender, seconds=(1.0,) * 6, num_seeds=5):
    """Runs and blocks of the learned optimizer beside adam on one task; a list of curves gives each seed its own."""
    curves = contender if isinstance(contender, list) else [contender] * num_seeds
    return {CONTENDER: curves, REFERENCE: [falling(0.01)] * len(curves)}, {
        CONTENDER: list(seconds),
        REFERENCE: [1.0] * len(seconds),
    }


def rows_on(**tasks):
    """Rows of several tasks, each given as `pair` makes it."""
    return rows_of(
        {task: runs for task, (runs, _) in tasks.items()}, {t: blocks for t, (_, blocks) in tasks.items()}, ROLES
    )


SUITE_ROLES = ROLES | dict.fromkeys(("adam_again", "adam_twice", "adam_frozen", "adam_10x"), "control")


def suite_rows(contender=None, tenfold=None, num_seeds=5):
    """Two tasks with every control."""
    runs = {
        CONTENDER: [falling(0.02) if contender is None else contender] * num_seeds,
        REFERENCE: [falling(0.01)] * num_seeds,
        "adam_frozen": [FLAT] * num_seeds,
        "adam_10x": [falling(0.005) if tenfold is None else tenfold] * num_seeds,
    }
    timed = TIMED | {"adam_again": [1.0] * 5 + [1.01], "adam_twice": [2.0] * 6}
    return rows_of({"a": runs, "b": runs}, {"a": timed, "b": timed}, SUITE_ROLES)


SLOW = np.full(len(GRID), 2.9)
