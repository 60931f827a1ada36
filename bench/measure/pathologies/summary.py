"""The figures of the pathologies in one tidy table, computed from their rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bench.measure.pathologies import influence, truncation, unrolls, variance
from bench.measure.pathologies.inner import THETAS
from bench.measure.pathologies.moments import jackknife
from bench.statistics import Interval, estimate_text, median_interval, t_interval, three_digits
from bench.store.rows import Frame
from learned.objective import LOSS_CLIP

MERGED = ("merged", "merged_independent")
EXPLODES = 100.0  # a gradient norm that grows by more than this factor
BEYOND = 1e300  # stands for an infinite norm where norms are put in order: any that is finite is below
WINDOWS_OVER_WHOLE = "variance of merged_windows over that of merged"
ENDED = "ended"  # the share of unrolls that have diverged


class Figure(NamedTuple):
    """One number of the table."""

    pathology: str
    theta: str  # of `inner.THETAS`, or ""
    at: float  # length of the unroll, window, or standard deviation of the log; 0 where there is none
    name: str
    value: Interval


def tidy(cells: Frame, curves: Frame) -> pd.DataFrame:
    """The figures as a table.

    Args:
      cells: rows of this measurement; failed ones are ignored.
      curves: their curves.

    Returns:
      Columns pathology, theta, at, name, estimate, low, high (95 % interval; NaN without one), n.
    """
    rows = [
        (*figure[:4], figure.value.estimate, figure.value.low, figure.value.high, figure.value.n)
        for figure in figures(cells, curves)
    ]
    table = pd.DataFrame(rows, columns=["pathology", "theta", "at", "name", "estimate", "low", "high", "n"])
    numbers = ["at", "estimate", "low", "high"]
    table[numbers] = table[numbers].astype(np.float64)
    return table


def figures(cells: Frame, curves: Frame) -> list[Figure]:
    """The figures of all cells, in the order of the parts."""
    read = {
        "gradient_norm": _gradient_norms,
        "slices": _slices,
        "truncation": _truncation,
        "variance": _variances,
        "windows": _windows,
        "merged_bias": _merged_bias,
        "influence_balancing": _influence,
    }
    found: list[Figure] = []
    configs = list(parts_that_ran(cells))
    order = list(read)
    configs.sort(
        key=lambda item: (
            order.index(item[1]["pathology"]),
            THETAS.index(item[1]["theta"]) if "theta" in item[1] else 0,
            item[1].get("length", 0),
        )
    )
    for cell, config in configs:
        curve = curves[curves["cell"] == cell]
        name, theta = config["pathology"], config.get("theta", "")
        found += [Figure(name, theta, *rest) for rest in read[name](curve, config)]
    return found


def parts_that_ran(cells: Frame) -> Iterator[tuple[str, dict[str, Any]]]:
    """(cell, configuration) of the cells of this measurement that did not fail."""
    ok = cells[(cells["kind"] == "measure") & (cells["status"] == "ok")]
    for cell, text in zip(ok["cell"], ok["config"], strict=True):
        yield str(cell), json.loads(text)


def wide(curve: Frame) -> dict[str, np.ndarray]:
    """metric -> values in the order of steps."""
    groups = curve.sort_values("step", kind="stable").groupby("metric", sort=False)["value"]
    return {str(name): values.to_numpy(np.float64) for name, values in groups}


Part = Iterator[tuple[float, str, Interval]]


def _gradient_norms(curve: Frame, config: Any) -> Part:
    del config
    ended = ended_unrolls(curve)
    for length, values in curve.groupby("step")["value"]:
        norms = or_infinite(values)
        finite = np.isfinite(norms)
        yield float(length), "median", median_of_norms(norms)
        yield float(length), "largest", Interval(float(norms.max()), None, None, len(norms))
        yield float(length), "finite", Interval(float(finite.mean()), None, None, len(norms))
        yield float(length), ENDED, Interval(ended[int(length)], None, None, len(norms))


def ended_unrolls(curve: Frame) -> dict[int, float]:
    """Length -> the share of unrolls whose gradient of the sum over steps is the same at the next length.

    Those have diverged: each later loss is held at `LOSS_CLIP` and has no gradient. Their gradient of the mean over
    steps, whose norm is stored, falls as one over the length. NaN at the longest length.
    """
    norms = curve.pivot_table(index="step", columns="metric", values="value", observed=True)
    of_sums = norms.mul(norms.index.to_numpy(), axis=0).to_numpy()
    same = np.isclose(of_sums[1:], of_sums[:-1], rtol=1e-3, atol=0.0) & np.isfinite(of_sums[1:])
    shares = same.mean(axis=1)
    return dict(zip(map(int, norms.index), [*map(float, shares), math.nan], strict=True))


def mostly_ended(shares: Frame) -> int | None:
    """The length from which on most unrolls have diverged; None where there is none.

    Args:
      shares: columns "at" and "estimate", from `ended_unrolls`; the longest length counts as the one before it.
    """
    shares = shares.sort_values("at")
    most = shares["estimate"].astype(float).ffill() > 0.5
    before = max(shares.loc[~most, "at"], default=0)
    return next((int(length) for length in shares["at"] if length > before), None)


def ended_text(where: str, length: int) -> str:
    """What it means that most unrolls have diverged from a length on."""
    return (
        f"{where}, most unrolls have diverged from {length:,} steps on: each further loss is held at {LOSS_CLIP:g} and "
        "adds no gradient, so that the norm of the gradient of the mean falls as one over the length."
    )


def median_of_norms(values: np.ndarray) -> Interval:
    """The median with its distribution-free interval, whose ends are norms; one that is infinite is not known."""
    found = median_interval(np.minimum(values, BEYOND))
    low, high = (end if end is not None and end < BEYOND else None for end in (found.low, found.high))
    return Interval(float(np.median(values)), low, high, found.n)


def _slices(curve: Frame, config: Any) -> Part:
    """Total variation of the outer-loss along the line."""
    del config
    columns = wide(curve)
    for length in unrolls.SLICED_LENGTHS:
        for kind in ("raw", "smoothed"):
            losses = columns[f"{kind}/{length}"]
            yield float(length), f"variation of {kind}", Interval(float(np.abs(np.diff(losses)).sum()), None, None, 1)


def _truncation(curve: Frame, config: Any) -> Part:
    del config
    columns = wide(curve)
    true = (columns["true"], 2)
    whole = jackknife(np.asarray, true)
    known = whole.low is not None and whole.low > 0

    def compared(function: Callable[..., Any], *stored: tuple[Any, int]) -> Interval:
        """NaN where the full gradient is not distinguishable from zero, so that nothing can be compared to it."""
        return jackknife(function, *stored) if known else Interval(np.nan, None, None, len(columns["true"]))

    for window in truncation.WINDOWS[:-1]:
        size, along, bias = ((columns[f"{name}/{window}"], 2) for name in ("truncated", "along", "bias"))
        yield float(window), "cosine", compared(lambda a, s, t: a / np.sqrt(s * t), along, size, true)
        yield float(window), "relative bias", compared(lambda b, t: np.sqrt(np.maximum(b, 0) / t), bias, true)
    yield float(truncation.LENGTH), "norm of the gradient", compared(lambda t: np.sqrt(np.maximum(t, 0)), true)


def _variances(curve: Frame, config: Any) -> Part:
    columns, length = wide(curve), float(config["length"])
    deviations = {name: or_infinite(columns[f"deviation/{name}"]) for name in variance.ESTIMATORS}
    for name in variance.ESTIMATORS:
        yield length, f"variance of {name}", jackknife(np.asarray, (deviations[name], 1), log=True)
        finite = columns[f"finite/{name}"]
        if not finite.all():
            yield length, f"finite {name}", Interval(float(finite.mean()), None, None, len(finite))
    better = min(("reparam", "es"), key=lambda name: deviations[name].mean())
    signal = columns[f"signal/{better}"]
    yield length, "squared gradient", jackknife(np.asarray, (signal, 2))
    for name in MERGED:
        ratio = jackknife(lambda a, b: a / b, (deviations[name], 1), (deviations[better], 1), log=True)
        yield length, f"variance of {name} over the better's", ratio
        bias = jackknife(np.asarray, (columns[f"bias_to_{better}/{name}"], 2))
        yield length, f"squared bias of {name}", bias
        yield length, f"weight of reparam in {name}", t_interval(columns[f"merge_weight/{name}"])


def _windows(curve: Frame, config: Any) -> Part:
    columns, length = wide(curve), float(config["length"])
    whole, apart = (or_infinite(columns[f"deviation/{name}"]) for name in variance.MERGED_IN)
    yield length, "variance of merged_windows", jackknife(np.asarray, (apart, 1), log=True)
    ratio = jackknife(lambda a, b: a / b, (apart, 1), (whole, 1), log=True)
    yield length, WINDOWS_OVER_WHOLE, ratio
    yield (
        length,
        "squared shift of merged_windows from merged",
        jackknife(np.asarray, (columns["shift/merged_windows"], 2)),
    )


@dataclass(frozen=True)
class Growth:
    """How far the median norm of a gradient grows with the length of the unroll: the largest against the shortest.

    Attributes:
      times: the factor, infinite where a norm is beyond the largest float32.
      least: what it is known to be at some length, by the ends of the two intervals that are nearest to each other.
      most: what it is known not to be beyond at any, by those that are furthest apart.
      shortest: the shortest length.
      largest: the length, the first if there are several, whose norm is the largest.
      longest: the longest length.
      at_longest: the norm there against the shortest.
    """

    times: float
    least: float
    most: float
    shortest: int
    largest: int
    longest: int
    at_longest: float

    @property
    def explodes(self) -> bool:
        """Whether all of the interval is beyond `EXPLODES`."""
        return self.least > EXPLODES

    def __str__(self) -> str:
        if self.largest == self.shortest:
            return f"is largest at {self.shortest:,} steps, the shortest"
        if not math.isfinite(self.times):
            return f"grows beyond the largest float32 from {self.shortest:,} to {self.largest:,} steps"
        text = (
            f"grows {estimate_text(self.times, self.least, self.most)} times from {self.shortest:,} to "
            f"{self.largest:,} steps, where it is largest"
        )
        if self.longest == self.largest:
            return text
        return f"{text}, and is {three_digits(self.at_longest)} times as large at {self.longest:,}"


def growth(norms: Frame) -> Growth:
    """The growth of a median norm.

    Args:
      norms: columns "at", "estimate", "low" and "high", a row for each length; an estimate that is missing is infinite,
        an end of an interval that is missing says nothing.
    """
    norms = norms.sort_values("at")
    values = norms["estimate"].astype(float).fillna(math.inf).to_numpy()
    lows, highs = norms["low"].astype(float).fillna(0.0), norms["high"].astype(float).fillna(math.inf)
    peak = int(np.argmax(values))
    times, least = values[peak] / values[0], lows.max() / highs.iloc[0]
    most = highs.max() / lows.iloc[0] if lows.iloc[0] else math.inf
    if math.isinf(times):
        least = most = times
    lengths = norms["at"].astype(int)
    return Growth(
        float(times),
        float(least),
        float(most),
        int(lengths.iloc[0]),
        int(lengths.iloc[peak]),
        int(lengths.iloc[-1]),
        float(values[-1] / values[0]),
    )


def or_infinite(values: ArrayLike) -> NDArray[np.float64]:
    """The values with every non-finite one as inf: it overflowed, or is inf - inf."""
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values), values, np.inf)


def _merged_bias(curve: Frame, config: Any) -> Part:
    del config
    for name, values in wide(curve).items():
        _, scale, num_samples = name.split("/")
        yield float(scale), f"mean of {num_samples} samples merged", t_interval(values)


def _influence(curve: Frame, config: Any) -> Part:
    del config
    columns = wide(curve)
    yield 0.0, "exact gradient", Interval(float(columns["gradient/exact"][0]), None, None, 1)
    for name in influence.NAMES:
        for window in influence.WINDOWS:
            values = columns[f"gradient/{name}/{window}"]
            yield float(window), f"gradient of {name}", t_interval(values)
        yield (
            float(influence.PATH_WINDOW),
            f"theta at the end of {name}",
            Interval(columns[f"theta/{name}"][-1], None, None, 1),
        )
        yield (
            float(influence.PATH_WINDOW),
            f"loss at the end of {name}",
            Interval(columns[f"loss/{name}"][-1], None, None, 1),
        )
