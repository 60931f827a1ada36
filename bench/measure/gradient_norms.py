"""Norms of the outer-gradient as unrolls grow, on a convolutional net: does orthogonalizing updates keep them tame?

As the part of the same name of `bench.measure.pathologies`, but on a larger net, for the paper's design and for those
whose updates are orthogonalized, before outer-training and after it. The first two were outer-trained on this net;
`lopt_home` on nets of 8 and 16 pixels, and then on fully connected ones. A part is OPTIMIZER/THETA.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

import tasks
from bench.measure.pathologies.moments import flattened
from bench.measure.pathologies.summary import (
    ENDED,
    Growth,
    ended_unrolls,
    growth,
    median_of_norms,
    mostly_ended,
    or_infinite,
)
from bench.store.rows import Frame
from learned import weights
from learned.designs import make_design
from learned.estimators import reparam, side_by_side
from learned.objective import FamilyObjective

FAMILY = "imagenet16_cnn3"
POOL = "outer_validation"  # of classes
OPTIMIZERS = ("lopt_paper", "lopt_ortho_small", "lopt_home")
THETAS = ("initial", "trained")
LENGTHS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)
SIDE_BY_SIDE = 4  # unrolls at once: the longest hold the activations of all their steps
COLUMNS = [
    *("optimizer", "theta", "steps", "median", "low", "high"),
    *("quarter", "three_quarters", "largest", "finite", ENDED),
]


def parts() -> dict[str, dict[str, Any]]:
    """The definition of each part: weights and their digest, design, task, data."""
    found = {}
    for name in OPTIMIZERS:
        theta, card = weights.read(name)
        facts = {"design": card.design, "design_options": card.design_options, "theta_sha256": weights.digest(theta)}
        facts |= {"lengths": LENGTHS, "pool": POOL, "data_digest": tasks.data_facts(FAMILY)["digest"]}
        found |= {f"{name}/{which}": {"learned_optimizer": name, "theta": which, **facts} for which in THETAS}
    return found


def measure(
    part: str, entrants: Sequence[Any], replications: int, tick: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """Norms of the gradient at theta, unsmoothed, each of one unroll of train losses.

    Args:
      part: a name in `parts`.
      entrants: ignored; the part defines the learned optimizer.
      replications: number of unrolls; the i-th has the same task and batches at each length.
      tick: called as many times.

    Returns:
      Rows (length, "gradient_norm/i", norm).
    """
    del entrants
    name, which = part.split("/")
    theta, card = weights.read(name)
    design, family = make_design(card.design, card.design_options), tasks.load_family(FAMILY)
    if which == "initial":
        theta = jax.jit(design.init_theta)(tasks.named_key("gradient_norms", "initial"))
    objective = FamilyObjective(design, family.problem, family.sample, POOL, "train")
    rows = norms(objective, theta, family.arrays, replications, tick)
    return pd.DataFrame(rows, columns=["step", "metric", "value"])


def norms(
    objective: Any, theta: Any, arrays: Any, replications: int, tick: Callable[[], None]
) -> list[tuple[int, str, float]]:
    """The rows of `measure`."""
    # With sigma = 0 both signs are the same unroll.
    estimator = reparam(objective, replications, 0.0, side_by_side(SIDE_BY_SIDE))
    key = tasks.named_key("gradient_norms", FAMILY)
    rows = []
    for place, length in enumerate(LENGTHS, 1):
        estimate = jax.jit(lambda theta, arrays, n=length: estimator.estimate(theta, (), arrays, key, n, n)[0])
        gradients = jax.device_get(estimate(theta, arrays).gradients)
        with np.errstate(over="ignore"):
            found = np.linalg.norm(flattened(gradients), axis=1)
        rows += [(length, f"gradient_norm/{i}", float(norm)) for i, norm in enumerate(found)]
        for _ in range(place * replications // len(LENGTHS) - (place - 1) * replications // len(LENGTHS)):
            tick()
    return rows


def table(cells: Frame, curves: Frame) -> pd.DataFrame:
    """The table of figures of this measurement.

    Returns:
      A row for each part and length: `optimizer`, `theta`, `steps`, `median` of the norms with the ends `low` and
      `high` of its interval, their quartiles `quarter` and `three_quarters`, the `largest`, the share that is `finite`,
      and the share of unrolls that have `ended` (`bench.measure.pathologies.summary.ended_unrolls`). The paper's design
      comes first, then the others of `OPTIMIZERS`.
    """
    rows = []
    ok = cells[cells["status"] == "ok"]
    found = {tuple(str(task).split("/")[-2:]): cell for task, cell in zip(ok["task"], ok["cell"], strict=True)}
    for name, which in sorted(found, key=lambda pair: (OPTIMIZERS.index(pair[0]), pair[1])):
        curve = curves[curves["cell"] == found[name, which]]
        ended = ended_unrolls(curve)
        for length, values in curve.groupby("step")["value"]:
            norms = or_infinite(values)
            median = median_of_norms(norms)
            ends = (float(np.quantile(norms, share, method="inverted_cdf")) for share in (0.25, 0.75))
            interval = (median.estimate, median.low, median.high)
            shares = (np.isfinite(norms).mean(), ended[int(length)])
            rows.append((name, which, length, *interval, *ends, norms.max(), *shares))
    return pd.DataFrame(rows, columns=COLUMNS)


def growths(table: Frame) -> dict[tuple[str, str], Growth]:
    """How far the median of each optimizer and theta grows with the length, in the order of the table.

    Args:
      table: from `table`.
    """
    medians = table.rename(columns={"steps": "at", "median": "estimate"})
    parts = medians.groupby(["optimizer", "theta"], sort=False)
    return {(str(name), str(theta)): growth(rows) for (name, theta), rows in parts}


def largest(table: Frame) -> dict[str, dict[str, float]]:
    """Theta -> optimizer -> the largest norm of an unroll at any length, infinite where one is not finite.

    Args:
      table: from `table`.
    """
    norms = table.assign(largest=or_infinite(table["largest"].astype(float)))
    return {
        str(theta): {str(name): float(found["largest"].max()) for name, found in rows.groupby("optimizer", sort=False)}
        for theta, rows in norms.groupby("theta")
    }


def ended(table: Frame) -> dict[tuple[str, str], int]:
    """(optimizer, theta) -> the length from which on most of its unrolls have diverged, where there is one.

    Args:
      table: from `table`.
    """
    shares = table.rename(columns={"steps": "at", ENDED: "estimate"})
    found = {
        (str(name), str(theta)): mostly_ended(rows)
        for (name, theta), rows in shares.groupby(["optimizer", "theta"], sort=False)
    }
    return {part: length for part, length in found.items() if length is not None}
