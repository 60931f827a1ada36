"""Designs of learned optimizers in words and numbers: what each costs, and what a short outer-training makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from bench.measure.designs import COMPILED_AGAINST, HORIZON, OUTER, OUTER_ON, STEPS_ON, TREES
from bench.report.figures import designs as drawn
from bench.report.figures.axes import listed
from bench.report.section import Section
from bench.report.table import NONE_TEXT, Column, Entry, Table, format_interval, format_number, whole_entry
from bench.statistics import Interval
from bench.store.rows import Frame

FULL_SIZE = "imagenet32_cnn3"
# The most that a training step may cost, over Adam's: of the lean design, with the width of the hidden layer it has
# unless told otherwise, of the paper's, and of the one for any net.
AIMS: Mapping[str, Mapping[str, float]] = {
    "lean_mlp_16": {FULL_SIZE: 1.08},
    "per_parameter_mlp_32": {FULL_SIZE: 1.22},
    "normalized": {FULL_SIZE: 1.10, "mnist28_mlp": 1.5, "mnist28_mlp_wide": 2.0},
}
PANELS = {"loss": FULL_SIZE, "mlp_loss": "mnist28_mlp"}  # part -> family whose step it is drawn against
MICRO = 1e6


def sections(table: pd.DataFrame, cells: Frame, curves: Frame) -> list[Section]:
    """The page's sections, of the parts that were run.

    Args:
      table: from `bench.measure.designs.table`.
      cells: rows of the measurement.
      curves: their curves.
    """
    del cells, curves
    known = table[[f"{part}_after" for part in OUTER_ON]].notna().any(axis=1)
    costs, losses = table[table["bytes_per_parameter"].notna()], table[known]
    return [*([_costs(costs)] if len(costs) else []), *([_losses(losses)] if len(losses) else [])]


def _name(row: Any) -> tuple[Entry, ...]:
    return (Entry(row["design"], row["design"]), whole_entry(row["num_weights"]))


_NAME = (Column("design", "design"), Column("num_weights", "weights", number=True))


def step_cost(row: Any, family: str) -> Interval | None:
    """A training step over Adam's, of a row of the table; None where it was not measured."""
    if math.isnan(row[f"step/{family}"]):
        return None
    low, high = (
        None if math.isnan(row[f"step/{family}/{end}"]) else row[f"step/{family}/{end}"] for end in ("low", "high")
    )
    return Interval(float(row[f"step/{family}"]), low, high, 0)


def _costs(table: Frame) -> Section:
    """What a step and an update cost before any outer-training."""
    rows = {row["design"]: row for _, row in table.iterrows()}
    aims = []
    for name, family, aim in ((name, *pair) for name, of_name in AIMS.items() for pair in of_name.items()):
        found = step_cost(rows[name], family) if name in rows else None
        if found is None:
            continue
        most = found.estimate if found.high is None else found.high
        within = "within" if most <= aim else "not within"
        aims.append(f"{name} on {family} {format_interval(found)} ({within} {aim:g})")
    paragraphs = [
        "A training step is forward pass, backward pass and update, inside the inner loop of the benchmark, and an "
        "update is the optimizer alone on a tree of given shapes: convolutional and fully connected, of 20, 75 and 670 "
        "thousand parameters. Both were timed beside Adam in interleaved blocks, on as many cores as the provenance "
        "says; ratios are taken within a block.",
    ]
    if aims:
        paragraphs.append(
            "A training step over Adam's, with its interval (and whether all of it is within what the design was "
            f"given): {listed(aims)}."
        )
    steps = Table(
        "design_steps",
        "Cost of a training step over Adam's, state, and time to compile",
        (
            *_NAME,
            Column("bytes_per_parameter", "bytes of state a parameter", number=True),
            *(Column(f"step_{family}", f"step on {family}", interval=True) for family in STEPS_ON),
            *(Column(f"compile_{name}", f"compilation over {name}'s", number=True) for name in COMPILED_AGAINST),
        ),
        tuple(
            (
                *_name(row),
                Entry(format_number(row["bytes_per_parameter"], 3), row["bytes_per_parameter"]),
                *(Entry(format_interval(cost), cost) for cost in (step_cost(row, family) for family in STEPS_ON)),
                *(_number(row[f"compile/{name}"]) for name in COMPILED_AGAINST),
            )
            for row in rows.values()
        ),
        ("Compilation is that of a training step of a transformer of two blocks.",),
    )
    seconds = _updates(
        "design_updates",
        "Microseconds of an update alone",
        rows,
        lambda row, tree: row[f"update/{tree}/seconds"] * MICRO,
        lambda value: f"{value:,.0f}",
    )
    ratios = _updates(
        "design_update_ratios",
        "An update alone, over Adam's",
        rows,
        lambda row, tree: row[f"update/{tree}"],
        lambda value: format_number(value, 3),
    )
    return Section("costs", "What a design costs", paragraphs, [], [steps, seconds, ratios], unfolded=True)


def _updates(
    slug: str,
    caption: str,
    rows: Mapping[str, Any],
    value: Callable[[Any, str], float],
    text: Callable[[float], str],
) -> Table:
    """A number for each design and tree, medians over blocks."""
    return Table(
        slug,
        caption,
        (_NAME[0], *(Column(f"update_{tree}", tree, number=True) for tree in TREES)),
        tuple(
            (_name(row)[0], *(Entry(text(value(row, tree)), value(row, tree)) for tree in TREES))
            for row in rows.values()
        ),
        ("Medians over blocks.",),
    )


def _losses(table: Frame) -> Section:
    """What the same short outer-training makes of each."""
    run = [part for part in OUTER_ON if table[f"{part}_after"].notna().any()]
    lowest = []
    for part in run:
        row = table.loc[table[f"{part}_after"].idxmin()]
        lowest.append(f"{row['design']} on {OUTER_ON[part].family}, {format_number(row[f'{part}_after'])}")
    inner_steps = max(table[f"{part}_inner_steps"].max() for part in run)
    paragraphs = [
        f"Each design was outer-trained by one recipe, on train loss of {listed([OUTER_ON[p].family for p in run])} "
        "alone, by backpropagation through perturbed unrolls, that of lopt_ortho_small: "
        f"{sum(stage.outer_steps for stage in OUTER.stages)} outer steps, {inner_steps:,.0f} inner steps. The loss is "
        f"the mean train loss over {HORIZON:,} inner steps on {OUTER.validation_num_tasks} tasks of the "
        "outer-validation classes, before and after; after is the best along the way. One outer seed each, and no "
        "recipe of its own for any design: small differences say nothing.",
        f"Lowest after it: {listed(lowest)}.",
    ]
    ends = [(part, when) for part in run for when in ("before", "after")]
    losses = Table(
        "design_losses",
        "Outer-validation loss before and after the same outer-training",
        (*_NAME, *(Column(f"{part}_{when}", f"{OUTER_ON[part].family}, {when}", number=True) for part, when in ends)),
        tuple((*_name(row), *(_number(row[f"{part}_{when}"]) for part, when in ends)) for _, row in table.iterrows()),
    )
    pairs = [(PANELS[part], f"{part}_after") for part in run]
    both = table.dropna(subset=[f"step/{family}" for family, _ in pairs] + [key for _, key in pairs])
    figures = [drawn.loss_against_cost(both, dict(pairs))] if len(both) else []
    return Section("losses", "What outer-training makes of it", paragraphs, figures, [losses], unfolded=True)


def _number(value: float) -> Entry:
    return Entry(NONE_TEXT) if math.isnan(value) else Entry(format_number(value), value)
