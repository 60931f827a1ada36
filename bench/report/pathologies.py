"""The pathologies of outer-training in words and numbers: what was found, and where it differs from the paper.

Every sentence is put together from the rows. The paper is Metz et al., arXiv 1810.10180.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from bench.measure.pathologies import influence, truncation, unrolls, variance
from bench.measure.pathologies.inner import THETAS
from bench.measure.pathologies.summary import ENDED, EXPLODES, WINDOWS_OVER_WHOLE, ended_text, growth, mostly_ended
from bench.report.figures import pathologies as drawn
from bench.report.figures.axes import listed
from bench.report.section import Section
from bench.report.table import Column, Entry, Table, format_interval, format_number, text_entry
from bench.statistics import Interval
from bench.store.rows import Frame
from learned.estimators.merged_windows import NUM_WINDOWS

# The most that the merged variance may be over the better one's: shared samples have noise in common, which allows
# 1.125, and the weights are noisy.
LIMITS = {"merged": 1.25, "merged_independent": 1.10}
SAMPLES = {"merged": "shared", "merged_independent": "independent"}  # what the two estimates are made of
RUGGED = 2.0  # times that a line as it is climbs and descends as far as smoothed
ALIGNED = 0.9  # a cosine that says that a direction is about right


class Found:
    """The tidy table of `bench.measure.pathologies.summary.tidy`, asked by name."""

    def __init__(self, table: Frame):
        self.table = table

    def of(self, pathology: str) -> Frame:
        """The rows of one pathology."""
        return self.table[self.table["pathology"] == pathology]

    def interval(self, pathology: str, theta: str, at: float, name: str) -> Interval:
        """An estimate with its interval."""
        rows = self.of(pathology)
        row = rows[(rows["theta"] == theta) & (rows["at"] == at) & (rows["name"] == name)].iloc[0]
        return Interval.read(row)

    def __call__(self, pathology: str, theta: str, at: float, name: str) -> float:
        """An estimate."""
        return self.interval(pathology, theta, at, name).estimate

    def thetas(self, pathology: str) -> list[str]:
        """Those that were measured."""
        return [theta for theta in THETAS if (self.of(pathology)["theta"] == theta).any()]

    def places(self, pathology: str, theta: str) -> list[float]:
        """Lengths or windows that were measured."""
        rows = self.of(pathology)
        return sorted(set(rows.loc[rows["theta"] == theta, "at"]))


def sections(table: pd.DataFrame, cells: Frame, curves: Frame) -> list[Section]:
    """The page's sections, of the parts that were run.

    Args:
      table: from `bench.measure.pathologies.summary.tidy`.
      cells: rows of the measurement.
      curves: their curves.
    """
    found = Found(table)
    makers = {
        "gradient_norm": _gradient_norms,
        "slices": _slices,
        "truncation": _truncation,
        "variance": _variances,
        "merged_bias": _merged_bias,
        "influence_balancing": _influence,
    }
    return [make(found, drawn.part_curves(cells, curves, name)) for name, make in makers.items() if len(found.of(name))]


def _number(value: float) -> str:
    if math.isnan(value):
        return "not known"
    return format_number(value, 3) if math.isfinite(value) else "not finite"


def _steps(value: float) -> str:
    return f"{value:,.0f}"


def _table(slug: str, caption: str, rows: Frame, at: str | None, theta: bool = True) -> Table:
    """Rows of the tidy table as they are, an interval in one column."""
    columns = [Column("theta", "theta")] if theta else []
    columns += [Column("at", at, number=True)] if at else []
    columns += [Column("name", "what"), Column("estimate", "estimate", interval=True)]
    entries = []
    for _, row in rows.iterrows():
        value = Interval.read(row)
        text = format_interval(value) if math.isfinite(value.estimate) else _number(value.estimate)
        entry = [text_entry(row["theta"])] if theta else []
        entry += [Entry(f"{row['at']:,.10g}", float(row["at"]))] if at else []
        entries.append((*entry, text_entry(row["name"]), Entry(text, value)))
    return Table(slug, caption, tuple(columns), tuple(entries))


def _gradient_norms(found: Found, curves: dict[str, Frame]) -> Section:
    name, sentences, explodes = "gradient_norm", [], []
    for theta in found.thetas(name):
        lengths, parts = found.places(name, theta), []
        for kind in ("median", "largest"):
            norms = [found(name, theta, length, kind) for length in lengths]
            peak = int(np.argmax(norms))  # the first that is infinite, if one is
            part = f"the {kind} norm goes from {_number(norms[0])} at {_steps(lengths[0])} steps to "
            if 0 < peak < len(norms) - 1 and math.isfinite(norms[peak]):
                part += f"{_number(norms[peak])} at {_steps(lengths[peak])} and {_number(norms[-1])} at "
                part += _steps(lengths[-1])
            elif math.isfinite(norms[peak]):
                part += f"{_number(norms[-1])} at {_steps(lengths[-1])}"
            else:
                part += f"{_number(norms[peak - 1])} at {_steps(lengths[peak - 1])}, and overflows beyond"
            parts.append(part)
        rows = found.of(name)
        grown = growth(rows[(rows["theta"] == theta) & (rows["name"] == "median")])
        sentences.append(f"At the {theta} theta {'; '.join(parts)}: the median {grown}.")
        if grown.explodes:
            explodes.append(theta)
    if explodes:
        end = (
            f"At the {listed(explodes)} theta the median grows by more than a factor of {EXPLODES:g}, by its "
            "intervals too: the paper's explosion."
        )
        if others := [theta for theta in found.thetas(name) if theta not in explodes]:
            end += f" At the {listed(others)} theta it does not: there backpropagation stays usable."
    else:
        end = (
            "The paper has gradients explode with the length of the unroll. Here no median is known to grow by more "
            f"than a factor of {EXPLODES:g}: at these thetas, on this small network, backpropagation stays usable."
        )
    alt = f"Norm of the backpropagated gradient against the length of the unroll. {' '.join(sentences)}"
    held = [ended_text(f"At the {theta} theta", length) for theta, length in ended(found.table).items()]
    return Section(
        "gradient-norm",
        "Gradients of long unrolls",
        [" ".join([*sentences, end]), *held],
        [drawn.gradient_norm_figure(curves, alt)],
        [_table(name, "Gradient norm of one unroll", found.of(name), "length")],
    )


def ended(table: Frame) -> dict[str, int]:
    """Theta -> the length from which on most unrolls have diverged, where there is one."""
    rows = table[(table["pathology"] == "gradient_norm") & (table["name"] == ENDED)]
    shares = {theta: rows[rows["theta"] == theta] for theta in THETAS}
    found = {theta: mostly_ended(of_theta) for theta, of_theta in shares.items() if len(of_theta)}
    return {theta: length for theta, length in found.items() if length is not None}


def _slices(found: Found, curves: dict[str, Frame]) -> Section:
    name, sentences = "slices", []
    ratios: dict[str, dict[int, float]] = {}
    for theta in found.thetas(name):
        parts = []
        for length in unrolls.SLICED_LENGTHS:
            raw, smoothed = (found(name, theta, length, f"variation of {kind}") for kind in ("raw", "smoothed"))
            parts.append(f"{_number(raw)} against {_number(smoothed)} at {length:,} steps")
            ratios.setdefault(theta, {})[length] = raw / smoothed
        sentences.append(f"At the {theta} theta the loss climbs and descends, as it is and smoothed, {listed(parts)}.")
    sentences.append("A line that only falls and rises once is equally long both ways, up to what smoothing flattens.")
    rugged = [theta for theta, found_at in ratios.items() if max(found_at.values()) > RUGGED]
    for theta in rugged:
        lengths = listed([_steps(n) for n in ratios[theta]])
        times = listed([_number(ratio) for ratio in ratios[theta].values()])
        sentences.append(
            f"At the {theta} theta it is {times} times as long as smoothed at {lengths} steps: the paper's ruggedness, "
            "which smoothing repairs."
        )
    if smooth := [theta for theta in ratios if theta not in rugged]:
        worst = max(ratio for theta in smooth for ratio in ratios[theta].values())
        sentences.append(
            f"At the {listed(smooth)} theta at most {_number(worst)} times: there the loss is smooth as it is, where "
            "the paper has it rugged."
        )
    alt = f"Slices of the outer-loss through theta, as they are and smoothed. {' '.join(sentences)}"
    return Section(
        "slices",
        "The outer-loss along a line",
        [" ".join(sentences)],
        [drawn.slice_figure(curves, alt)],
        [_table(name, "Total variation of the outer-loss along the line", found.of(name), "length")],
    )


def _truncation(found: Found, curves: dict[str, Frame]) -> Section:
    del curves
    name, sentences, cosines = "truncation", [], []
    for theta in found.thetas(name):
        if not math.isfinite(found(name, theta, truncation.LENGTH, "norm of the gradient")):
            sentences.append(
                f"At the {theta} theta the backpropagated whole gradient is lost in its own noise, so that there is "
                "nothing to compare windows to."
            )
            continue
        parts = []
        for window in truncation.WINDOWS[:-1]:
            cosine, bias = (found(name, theta, window, what) for what in ("cosine", "relative bias"))
            parts.append(f"{_number(cosine)} and {_number(bias)} for windows of {window}")
            cosines.append(cosine)
        sentences.append(
            f"At the {theta} theta, cosine with the whole gradient and bias over its norm are {listed(parts)}."
        )
    head = f"Unrolls of {truncation.LENGTH} steps, each cut into windows whose first state is held fixed."
    end = (
        "A bias near 1 means that a window sees next to nothing of the whole gradient, however many tasks are averaged."
    )
    if cosines and min(cosines) > ALIGNED:
        end += (
            " Its direction is about right all the same, for every window: what is missing is length, a milder bias "
            "than the paper's. Influence balancing is a problem where the direction is wrong."
        )
    alt = f"Truncated backpropagation against its window. {' '.join(sentences)}"
    return Section(
        "truncation",
        "Truncated backpropagation is biased",
        [" ".join([head, *sentences, end])],
        [drawn.truncation_figure(found.of(name), alt)],
        [
            _table(
                name, f"Bias of truncated backpropagation on unrolls of {truncation.LENGTH}", found.of(name), "window"
            )
        ],
    )


def _variances(found: Found, curves: dict[str, Frame]) -> Section:
    del curves
    name, first, second = "variance", [], []
    ratios: dict[str, list[Interval]] = {merged: [] for merged in LIMITS}
    for theta in found.thetas(name):
        lengths = found.places(name, theta)
        rp, es = (
            {n: found(name, theta, n, f"variance of {estimator}") for n in lengths} for estimator in ("reparam", "es")
        )
        above = [n for n in lengths if not rp[n] < es[n]]
        last = lengths[-1]
        both = f"{_number(rp[last])} against {_number(es[last])} at {_steps(last)} steps"
        if not above:
            first.append(
                f"At the {theta} theta reparameterization never crosses ES: {both}. The paper has ES better on long "
                "unrolls."
            )
        elif len(above) == len(lengths):
            first.append(f"At the {theta} theta ES has the smaller variance at every length: {both}.")
        else:
            first.append(
                f"At the {theta} theta ES has the smaller variance at {listed([_steps(n) for n in above])} steps, "
                f"reparameterization at the others: {both}. That is the paper's crossing."
            )
        for merged in LIMITS:
            ratios[merged] += [
                found.interval(name, theta, n, f"variance of {merged} over the better's") for n in lengths
            ]
        pes, nres = (found(name, theta, last, f"variance of {estimator}") for estimator in ("pes", "nres"))
        share = variance.window_of(int(last)) / last
        second.append(
            f"At the {theta} theta and {_steps(last)} steps, for {format_number(share, 2)} of the inner steps of ES, "
            f"the variance of PES is {_number(pes / es[last])} times, of NRES {_number(nres / es[last])} times that of "
            f"ES: at equal inner steps {_number(pes / es[last] * share)} and {_number(nres / es[last] * share)} times."
        )
    words = []
    for merged, limit in LIMITS.items():
        largest, smallest = (pick(ratios[merged], key=lambda ratio: ratio.estimate) for pick in (max, min))
        beyond = sum(not within(ratio, limit) for ratio in ratios[merged])
        words.append(
            f"With {SAMPLES[merged]} samples the merged estimator's variance is {format_interval(smallest)} to "
            f"{format_interval(largest)} times the smaller one: by the upper ends of the intervals at most the "
            f"{limit:g} times that are allowed "
            + (f"at all but {beyond} of {len(ratios[merged])} lengths and thetas." if beyond else "at every length.")
        )
    claim = " ".join(words)
    alt = f"Variance of gradient estimates against the length of the unroll. {' '.join(first)} {claim}"
    in_windows = _in_windows(found)
    rows = pd.concat([found.of(name), found.of("windows")])
    shown = [*variance.ESTIMATORS, *variance.MERGED_IN[1:]] if in_windows else variance.ESTIMATORS
    return Section(
        "variance",
        "Variance of the estimators",
        [" ".join([*first, claim]), *in_windows, " ".join(second), bias_sentence(found)],
        [
            drawn.variance_figure(rows, shown, alt),
            drawn.ratio_figure(rows, tuple(LIMITS), LIMITS, claim),
        ],
        [_table(name, "Variances, weights and biases of estimates from 32 samples", rows, "length")],
    )


def within(ratio: Interval, limit: float) -> bool:
    """Whether all of a ratio's interval is at most the limit; without an interval it is not known to be."""
    return ratio.high is not None and ratio.high <= limit


def _in_windows(found: Found) -> list[str]:
    """What merging window by window gains; nothing where it was not measured."""
    parts = []
    for theta in found.thetas("windows"):
        lengths = found.places("windows", theta)
        ratios = {n: found.interval("windows", theta, n, WINDOWS_OVER_WHOLE) for n in lengths}
        last, least = lengths[-1], min(lengths, key=lambda n: ratios[n].estimate)
        parts.append(f"at the {theta} theta {format_interval(ratios[last])} times as large at {_steps(last)} steps")
        if least != last:
            parts[-1] += f", and least at {_steps(least)}, {format_interval(ratios[least])} times"
    if not parts:
        return []
    return [
        f"Merged in {NUM_WINDOWS} windows of the unroll the variance is, against that merged whole, with the same "
        f"samples: {'; '.join(parts)}."
    ]


def bias_sentence(found: Found) -> str:
    """Whether the merged estimator's bias is beyond its error, at how many lengths, and where it is largest."""
    rows = found.of("variance")
    rows = rows[rows["name"].str.startswith("squared bias of ")]
    beyond, unknown, share, where = 0, 0, 0.0, rows.iloc[0]
    for _, row in rows.iterrows():
        signal = found.interval("variance", row["theta"], row["at"], "squared gradient")
        if signal.low is None or signal.low <= 0 or math.isnan(row["high"]):
            unknown += 1
            continue
        beyond += int(row["low"] > 0)
        if (here := math.sqrt(max(row["high"], 0.0) / signal.estimate)) > share:
            share, where = here, row
    theta, at, merged = str(where["theta"]), float(where["at"]), str(where["name"]).rpartition(" ")[2]
    kind = "shared" if merged == "merged" else "independent"
    weight = found("variance", theta, at, f"weight of reparam in {merged}")
    lost = f"; in {unknown} the gradient itself is lost in noise" if unknown else ""
    return (
        f"A bias of the merged estimator, against the better of its two, is beyond its error in {beyond} of "
        f"{len(rows)} cases, where chance gives {format_number(0.025 * len(rows), 2)}{lost}. What is not "
        f"excluded is at most {_number(share)} of the gradient's norm, at {_steps(at)} steps of the {theta} theta with "
        f"{kind} samples, where reparameterization has {_number(weight)} of the weight."
    )


def _merged_bias(found: Found, curves: dict[str, Frame]) -> Section:
    del curves
    name, rows = "merged_bias", found.of("merged_bias")
    scales, names = found.places(name, ""), list(dict.fromkeys(rows["name"]))
    parts = []
    for scale in scales[-2:]:
        values = [_number(found(name, "", scale, what)) for what in names]
        parts.append(f"{listed(values)} where the logarithm's standard deviation is {scale:g}")
    counts = listed([what.split()[2] for what in names])
    text = (
        f"Where the truth is known to be 1: estimates of {counts} samples, merged, average {'; '.join(parts)}. "
        "The weights come from the same samples as the means, and a sample that misses its tail has both a small mean "
        "and a small variance: merging is biased towards zero just where one estimate explodes, which the paper does "
        "not say."
    )
    return Section(
        "merged-bias",
        "Merging is biased where it is needed",
        [text],
        [drawn.heavy_tail_figure(rows, text)],
        [_table(name, "Means of merged estimates of 1", rows, "standard deviation of the log", theta=False)],
    )


def _influence(found: Found, curves: dict[str, Frame]) -> Section:
    name, window = "influence_balancing", influence.PATH_WINDOW
    exact = found(name, "", 0.0, "exact gradient")
    parts, ends = [], []
    for estimator in influence.NAMES:
        label = drawn.ESTIMATORS[estimator][0].removesuffix(", one window")
        gradient = found.interval(name, "", window, f"gradient of {estimator}")
        exactly = gradient.low == gradient.high  # it has no perturbation, and the problem no randomness
        parts.append(f"{label} {_number(gradient.estimate) if exactly else format_interval(gradient)}")
        ends.append(f"{_number(found(name, '', window, f'loss at the end of {estimator}'))} with {label}")
    wrong = [e for e in influence.NAMES if np.sign(found(name, "", window, f"gradient of {e}")) != np.sign(exact)]
    names = listed([drawn.ESTIMATORS[e][0] for e in wrong])
    verdict = (
        f"{names[:1].upper()}{names[1:]} point the wrong way, as in Vicol et al., arXiv 2112.13835."
        if wrong
        else "None points the wrong way."
    )
    text = (
        f"The gradient at 0.5 is {_number(exact)}; with windows of {window} of {influence.HORIZON} steps the "
        f"estimators find {listed(parts)}. {verdict} After {influence.NUM_UPDATES} outer steps "
        f"the loss of a whole unroll is {listed(ends)}."
    )
    return Section(
        "influence-balancing",
        "Influence balancing: short windows point the wrong way",
        [text],
        [drawn.influence_figure(found.of(name), curves[""], text)],
        [_table(name, "Gradients at theta = 0.5, and where descent leads", found.of(name), "window", theta=False)],
    )
