"""C1 and half of C2: what long unrolls do to the outer-gradient, and what merging two estimates does."""

from __future__ import annotations

import math
from typing import Any

from bench.measure import gradient_norms
from bench.measure.pathologies.inner import THETAS
from bench.measure.pathologies.summary import EXPLODES, WINDOWS_OVER_WHOLE, ended_text, growth
from bench.report import pathologies
from bench.report.claims.statements import Part, Parts, Published, beside, not_measured
from bench.report.gradient_norms import largest_norms
from bench.report.pathologies import LIMITS, SAMPLES, Found, within
from bench.statistics import Interval, three_digits
from bench.store.rows import Frame

PAPERS = gradient_norms.OPTIMIZERS[0]  # the paper's design
RULES = {
    "C1": f"the median norm is more than {EXPLODES:g} times as large at some length as at the shortest, by the ends of "
    "both intervals that are nearest to each other, which with those farthest apart stand in its brackets; the bias of "
    "windows lies above 0",
    "C2": "the variance is at most "
    f"{' and '.join(f'{limit:g} times the smaller one with {SAMPLES[name]} samples' for name, limit in LIMITS.items())}"
    ", by the upper ends of all intervals; the loss after outer-training is below 1 times that before",
}


def exploding(published: Published) -> Parts:
    """C1."""
    table = published.table("pathologies")
    if table is None:
        yield not_measured("gradient norms and the bias of truncation")
        return
    found = Found(table)
    norms = found.of("gradient_norm")
    for theta in THETAS:
        grown = growth(norms[(norms["theta"] == theta) & (norms["name"] == "median")])
        yield Part(f"At the {theta} theta the median norm {grown}.", grown.explodes, grown.most <= EXPLODES)
    for theta, length in pathologies.ended(table).items():
        yield beside(ended_text(f"At the {theta} theta", length))
    yield from _on_the_cnn(published)
    biases = table[(table["pathology"] == "truncation") & (table["name"] == "relative bias")]
    known = biases[biases["estimate"].notna()]
    shortest = known[known["at"] == known["at"].min()]
    least: dict[str, Any] = shortest.nsmallest(1, "estimate").to_dict("records")[0]
    cosine = found.interval("truncation", least["theta"], least["at"], "cosine")
    yield Part(
        f"The gradient by windows of {least['at']:g} steps is {Interval.read(least).text()} times the whole "
        f"gradient's length away from it at the {least['theta']} theta, where that is least.",
        bool((shortest["low"] > 0).all()),
    )
    right = "about right" if cosine.estimate > pathologies.ALIGNED else "off too"
    yield beside(
        f"The direction of the gradient by windows of {least['at']:g} steps is {right} at the {least['theta']} theta: "
        f"its cosine with the whole one is {cosine.text()}."
    )


def _on_the_cnn(published: Published) -> Parts:
    """Of the paper's design; how much less gradients grow where updates are orthogonalized stands beside it."""
    table = published.table("gradient_norms")
    if table is None:
        yield not_measured("gradient norms on a convolutional net")
        return
    grown = gradient_norms.growths(table)
    others = "; ".join(f"of {name}, {which}, {found}" for (name, which), found in grown.items() if name != PAPERS)
    for which in gradient_norms.THETAS:
        if (PAPERS, which) not in grown:
            yield not_measured(f"gradient norms of {PAPERS}, {which}, on a convolutional net")
            continue
        found = grown[PAPERS, which]
        yield Part(
            f"On the 16x16 CNN the median norm of {PAPERS}, the paper's design, {which}, {found}.",
            found.explodes,
            found.most <= EXPLODES,
        )
    for part, length in gradient_norms.ended(table).items():
        yield beside(ended_text(f"There, of {', '.join(part)}", length))
    if others:
        yield beside(f"There, with orthogonalized updates, the median norm {others}.")
    yield beside(largest_norms(table))


def merging(published: Published) -> Parts:
    """The variance of merged estimates, of C2."""
    table = published.table("pathologies")
    if table is None:
        yield not_measured("the variance of the estimators")
        return
    found = Found(table)
    variances = found.of("variance")
    for merged, limit in LIMITS.items():
        rows = variances[variances["name"] == f"variance of {merged} over the better's"]
        ratios = [Interval.read(row) for _, row in rows.iterrows()]
        if not ratios:
            yield not_measured(f"the variance merged from {SAMPLES[merged]} samples")
            continue
        largest = max(ratios, key=lambda ratio: ratio.estimate)
        known = [ratio.high for ratio in ratios if ratio.high is not None]
        yield Part(
            f"Merged from {SAMPLES[merged]} samples, the variance over the smaller one is at most {largest.text()} "
            f"over {len(ratios)} lengths and thetas; the upper ends of {len(known)} known intervals are at most "
            f"{three_digits(max(known, default=math.inf))}.",
            all(within(ratio, limit) for ratio in ratios),
            any(ratio.low is not None and ratio.low > limit for ratio in ratios),
        )
    weights = variances[variances["name"] == "weight of reparam in merged"]["estimate"]
    if len(weights):
        one = int(((weights > 0.999) | (weights < 0.001)).sum())
        yield beside(
            f"At {one} of the {len(weights)} lengths and thetas one estimate has a weight beyond 0.999: there the "
            "merged one is about as good because it is that one."
        )
        yield beside(pathologies.bias_sentence(found))
    yield from _in_windows(table[table["name"] == WINDOWS_OVER_WHOLE])


def _in_windows(rows: Frame) -> Parts:
    """What merging window by window gains, where it was measured."""
    if len(rows):
        ends = [rows.loc[index] for index in (rows["estimate"].idxmin(), rows["estimate"].idxmax())]
        least, most = (
            f"{Interval.read(row).text()} (the {row['theta']} theta, {row['at']:,.0f} steps)" for row in ends
        )
        yield beside(
            f"Merged window by window, the variance is {least} to {most} times that of merging whole unrolls, over "
            f"{len(rows)} lengths and thetas."
        )
