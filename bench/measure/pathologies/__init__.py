"""The pathologies of outer-training: how estimators of the outer-gradient behave as unrolls get longer.

Metz et al., arXiv 1810.10180, sections 2 to 4. The paper's learned optimizer trains a network of 118 parameters on
handwritten digits; thousands of unrolls of up to a thousand steps take an hour. There are three thetas: the initial
one, the shipped trained one, and the trained one with steps 30 times as large, where unrolls are chaotic. Each part is
a cell:

    gradient_norm/THETA         norm of the backpropagated gradient against the length of the unroll
    slices/THETA                the outer-loss along a line, as it is and smoothed, for several lengths
    truncation/THETA            bias of truncated backpropagation against its window
    variance/THETA/LENGTH       variance of every estimator, from independent replications; the bias of the merged one
    windows/THETA/LENGTH        variance where merging is window by window, against that of whole unrolls
    merged_bias                 the same bias where the truth is known: a heavy-tailed estimate merged with a normal one
    influence_balancing         the problem on which short windows point the wrong way
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from bench.measure.pathologies import heavy_tails, influence, summary, truncation, unrolls, variance
from bench.measure.pathologies.inner import THETAS, Curve, facts

HORIZON = unrolls.LENGTHS[-1]
table = summary.tidy

# Pathology -> (theta name and length where the part has them, replications, tick) -> rows
_MEASURES: dict[str, Callable[..., Curve]] = {
    "gradient_norm": unrolls.gradient_norms,
    "slices": unrolls.slices,
    "truncation": truncation.biases,
    "variance": variance.variances,
    "windows": variance.windows,
    "merged_bias": heavy_tails.merged_means,
    "influence_balancing": influence.paths,
}


def parts() -> dict[str, dict[str, Any]]:
    """The definition of each part: pathology, theta, length, data, learned optimizer."""
    found: dict[str, dict[str, Any]] = {}
    for theta in THETAS:
        known = {"theta": theta, **facts(theta)}
        for name in ("gradient_norm", "slices", "truncation"):
            found[f"{name}/{theta}"] = {"pathology": name, **known}
        for length in unrolls.LENGTHS:
            for name in ("variance", "windows"):
                found[f"{name}/{theta}/{length}"] = {"pathology": name, "length": length, **known}
    for name in ("merged_bias", "influence_balancing"):
        found[name] = {"pathology": name}
    return found


def measure(part: str, entrants, replications: int, tick: Callable[[], None] = lambda: None) -> pd.DataFrame:
    """Measures one part.

    Args:
      part: a name in `parts`.
      entrants: ignored; the part defines the learned optimizer.
      replications: number of independent replications.
      tick: called `replications` times.

    Returns:
      Rows (step, metric, value); see the function of the part for their meaning.
    """
    del entrants
    name, *rest = part.split("/")
    rows = _MEASURES[name](*(int(word) if word.isdecimal() else word for word in rest), replications, tick)
    return pd.DataFrame(rows, columns=["step", "metric", "value"])
