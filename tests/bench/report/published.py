"""Published results with a report, and hands that alter them."""

import re

import pandas as pd

from bench.report import verify_report
from tests.bench.synthetic import cells_of, diverging, failed_cell, falling

NAME = ("made", "machine")
ROLES = {"lopt": "learned", "adam_again": "control", "adam_twice": "control"}


def made_cells():
    """Two tasks; every seed has a curve of its own, one run diverges and one ends in an error."""
    runs = {
        task: {
            "lopt": [falling(0.02 + 0.001 * seed, start) for seed in range(5)],
            "adam": [falling(0.01 + 0.0001 * seed, start) for seed in range(5)],
            "sgd": [falling(0.005 + 0.0001 * seed, start) for seed in range(4)],
        }
        for task, start in (("a", 3.0), ("b", 4.0))
    }
    runs["b"]["adam"][3] = diverging(40, 0.01)
    timed = {"lopt": [1.1, 1.2, 1.1, 1.15, 1.1, 1.3], "adam": [1.0, 1.1, 1.0, 1.05, 1.0, 1.2], "sgd": [0.9] * 6}
    timed |= {"adam_again": [1.0, 1.12, 1.0, 1.05, 1.01, 1.2], "adam_twice": [2.0, 2.2, 2.0, 2.1, 2.0, 2.4]}
    return [*cells_of(runs, dict.fromkeys("ab", timed), ROLES), failed_cell("a", "sgd", 4), failed_cell("b", "sgd", 4)]


def verdict(root):
    return verify_report.verify(root / "results", root / "reports", *NAME)


def report(root):
    return root.joinpath("reports", *NAME)


def parts(root):
    """The published cells and curves."""
    folder = root / "results" / "made" / "machine"
    return pd.read_parquet(folder / "cells.parquet"), pd.read_parquet(folder / "curves.parquet")


def repack(root, cells=None, curves=None):
    folder = root / "results" / "made" / "machine"
    for name, frame in (("cells", cells), ("curves", curves)):
        if frame is not None:
            frame.to_parquet(folder / f"{name}.parquet", index=False)


def the_cell(cells, task="b", optimizer="adam", seed=2):
    """Index of one training cell."""
    found = cells[(cells["task"] == task) & (cells["optimizer"] == optimizer) & (cells["seed"] == seed)]
    (index,) = found.index
    return index


def bumped(text):
    """A number with its last digit changed."""
    digit = re.search(r"\d(?=\D*$)", text)
    return f"{text[: digit.start()]}{(int(digit[0]) + 1) % 10}{text[digit.end() :]}"
