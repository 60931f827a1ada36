"""Comparison of designs of learned optimizers: their costs, and their losses after the same short outer-training.

There are four parts for each design. DESIGN/cost times its update on the trees of `update_cost` and its training step
on convolutional and fully connected nets, relative to Adam, in interleaved randomized blocks (protocol rule 7), and
counts bytes of state per parameter. DESIGN/compile times the compilation of a training step of a small transformer.
Both need a quiet machine. DESIGN/loss and DESIGN/mlp_loss run one short
outer-training each, on a convolutional and on a fully connected net, the same for all designs, and compute the loss on
outer-validation classes before and after.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

import tasks
from bench.entries.entrants import Entrant
from bench.measure import update_cost
from bench.measure.compiling import compile_seconds
from bench.statistics import ratio_interval
from bench.store.rows import Frame
from bench.training.step_times import time_entrants
from learned.config import OuterConfig
from learned.curriculum import Stage
from learned.designs import make_design, run_key, theta_shapes, untrained_theta
from learned.outer import Callbacks, Engine, outer_train

HORIZON = 2000
NUM_COMPILATIONS = 5  # of each optimizer, in turn


class Variant(NamedTuple):
    """A design with its options."""

    design: str
    options: dict[str, float]


# The numbers are widths of the per-parameter network's hidden layer, 32 in the paper. Per-tensor networks have the
# width of the shipped weights.
VARIANTS = {
    "per_parameter_mlp_32": Variant("per_parameter_mlp", {}),
    "per_parameter_mlp_8": Variant("per_parameter_mlp", {"hidden": 8}),
    "lean_mlp_32": Variant("lean_mlp", {"hidden": 32, "anneal": 1.0}),
    "lean_mlp_16": Variant("lean_mlp", {"anneal": 1.0}),
    "lean_mlp_8": Variant("lean_mlp", {"hidden": 8, "anneal": 1.0}),
    "orthogonal_share": Variant("orthogonal", {"anneal": 1.0}),
    "orthogonal": Variant("orthogonal", {"anneal": 1.0, "share": 0.0}),
    # What gets Newton-Schulz steps, and how many; by default convolutions and output layers, and four.
    "normalized": Variant("normalized", {}),
    "normalized_3_steps": Variant("normalized", {"num_iterations": 3}),
    "normalized_5_steps": Variant("normalized", {"num_iterations": 5}),
    "normalized_columns": Variant("normalized", {"largest_kernel": 0, "largest_dense": 0}),
    "normalized_all": Variant("normalized", {"largest_kernel": 4096, "largest_dense": 4096}),
}
TREES = ("cnn_20k", "cnn_75k", "cnn_670k", "mlp_20k", "mlp_75k", "mlp_670k")
# Families; a training step on one of their tasks.
STEPS_ON = ("imagenet16_cnn3", "imagenet32_cnn3", "mnist28_mlp", "mnist28_mlp_wide")
SHOWN = (
    *("design", "num_weights", "bytes_per_parameter", "step/imagenet32_cnn3", "step/mnist28_mlp"),
    *("loss_after", "mlp_loss_after"),
)
COMPILED_AGAINST = ("adam", "muon")
# The same number of inner steps for all designs; the cost of a step is reported beside the loss.
OUTER = OuterConfig(
    name="designs",
    design="",
    family="imagenet16_cnn3",
    estimator=("reparam",),
    num_tasks=2,
    learning_rate=1.5e-3,
    clip_sample=2.0,
    ema=0.9,
    stages=(Stage(200, 10), Stage(500, 30)),
    validation_num_steps=HORIZON,
    validation_num_tasks=8,
    validation_every=10,
)
# Part -> its outer-training, on a convolutional and on a fully connected net.
OUTER_ON = {"loss": OUTER, "mlp_loss": dataclasses.replace(OUTER, family="imagenet16_mlp_128")}


def parts() -> dict[str, dict[str, Any]]:
    """The definition of each part: design, options, number of weights, and for a loss the outer-training."""
    found = {}
    for name, (design, options) in VARIANTS.items():
        num_weights = update_cost.num_params(theta_shapes(design, options))
        facts = {"design": design, "design_options": options, "num_weights": num_weights}
        found |= {f"{name}/cost": facts, f"{name}/compile": facts}
        found |= {f"{name}/{loss}": facts | {"outer": outer.as_dict()} for loss, outer in OUTER_ON.items()}
    return found


def measure(
    part: str, entrants: Sequence[Entrant], num_blocks: int, tick: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """Costs or short outer-training of one design.

    Args:
      part: a name in `VARIANTS`, followed by "/cost", "/compile", "/loss" or "/mlp_loss".
      entrants: optimizers to time for comparison, with Adam and Muon among them.
      num_blocks: number of interleaved blocks of each tree and each family.
      tick: called after every block of a step's costs.

    Returns:
      Rows (step, metric, value). For costs: the metrics of `update_cost.measure` as "TREE/...", and
      "step_seconds/FAMILY/NAME", whose step is the block. For a compilation: "compile_seconds/NAME". For a loss:
      "outer_validation_loss", whose step is the number of outer steps done, and at step 0 "inner_steps" of the whole
      outer-training.
    """
    name, _, which = part.partition("/")
    if which in OUTER_ON:
        rows = _outer_training(name, OUTER_ON[which])
    else:
        timed = [*entrants, _entrant(name)]
        rows = _costs(timed, num_blocks, tick) if which == "cost" else _compilations(timed, tick)
    return pd.DataFrame(rows, columns=["step", "metric", "value"])


def _entrant(name: str) -> Entrant:
    """A variant before outer-training."""
    design, options = VARIANTS[name]
    made = make_design(design, options)
    theta = jax.jit(functools.partial(untrained_theta, made))(run_key(OUTER.name, OUTER.seed))
    return Entrant(name, "learned", made.optimizer, theta, {"design": design, **options})


def _compilations(timed: Sequence[Entrant], tick: Callable[[], None]) -> list[tuple[int, str, float]]:
    """Times to compile a training step of a transformer."""
    seconds = compile_seconds(timed, NUM_COMPILATIONS, tick)
    return [
        (block, f"compile_seconds/{entrant.name}", seconds[block, i])
        for i, entrant in enumerate(timed)
        for block in range(NUM_COMPILATIONS)
    ]


def _costs(timed: Sequence[Entrant], num_blocks: int, tick: Callable[[], None]) -> list[tuple[int, str, float]]:
    """Times of updates and training steps of optimizers, and bytes of state."""
    rows: list[tuple[int, str, float]] = []
    for tree in TREES:
        found = update_cost.measure(tree, timed, num_blocks)
        rows += zip(found["step"], tree + "/" + found["metric"], found["value"], strict=True)
    for family_name in STEPS_ON:
        family = tasks.load_family(family_name)
        task = family.task(family.sample(tasks.named_key("designs", family_name), "outer_train"))
        ticks = tick if family_name == STEPS_ON[-1] else lambda: None
        seconds = time_entrants(timed, task, HORIZON, num_blocks=num_blocks, tick=ticks).seconds_per_step
        rows += [
            (block, f"step_seconds/{family_name}/{entrant.name}", seconds[block, i])
            for i, entrant in enumerate(timed)
            for block in range(num_blocks)
        ]
    return rows


def _outer_training(name: str, outer: OuterConfig) -> list[tuple[int, str, float]]:
    """Outer-validation losses of one design before and during outer-training."""
    design, options = VARIANTS[name]
    config = dataclasses.replace(outer, design=design, design_options=tuple(sorted(options.items())))
    family = tasks.load_family(config.family)
    engine = Engine(config, family)
    rows = [(0, "outer_validation_loss", float(engine.validate(engine.init().average, engine.arrays)))]

    def on_step(progress: Any) -> None:
        if "outer_validation_loss" in progress.metrics:
            rows.append((progress.outer_step, "outer_validation_loss", progress.metrics["outer_validation_loss"]))

    _, _, facts = outer_train(engine, callbacks=Callbacks(on_step=on_step))
    return [*rows, (0, "inner_steps", facts["total_inner_steps"])]


def table(cells: Frame, curves: Frame) -> pd.DataFrame:
    """The table of figures of this measurement.

    Args:
      cells: its cells; designs without a finished part are left out.
      curves: their curves.

    Returns:
      A row for each design, in the order of `VARIANTS`: `design` (its name there), `num_weights`,
      `bytes_per_parameter` of optimizer state; `step/FAMILY`, a training step over Adam's (median within blocks), with
      its 95 % interval in `.../low` and `.../high`; `compile/adam` and `compile/muon`, the compilation over theirs
      (median within blocks); `update/TREE`, an update over Adam's, and `update/TREE/seconds`;
      `loss_before` and `loss_after`, the best during outer-training, on outer-validation classes over 2,000 inner
      steps; `inner_steps` of the outer-training; the same three for the fully connected net, as `mlp_loss_before` and
      so on. Figures of an unfinished part are NaN.
    """
    values: dict[str, dict[str, Any]] = {}
    num_weights: dict[str, int] = {}
    for _, cell in cells[cells["status"] == "ok"].iterrows():
        part, curve = str(cell["task"]).partition("/")[2], curves[curves["cell"] == cell["cell"]]
        values[part] = {
            str(metric): rows.sort_values("step")["value"].to_numpy() for metric, rows in curve.groupby("metric")
        }
        num_weights[part.partition("/")[0]] = json.loads(cell["config"])["num_weights"]
    columns = [
        "bytes_per_parameter",
        *(f"step/{family}{end}" for family in STEPS_ON for end in ("", "/low", "/high")),
        *(f"update/{tree}{end}" for tree in TREES for end in ("", "/seconds")),
        *(f"compile/{reference}" for reference in COMPILED_AGAINST),
        *(f"{loss}_{end}" for loss in OUTER_ON for end in ("before", "after", "inner_steps")),
    ]
    found = []
    for name in VARIANTS:
        if name not in num_weights:
            continue
        row = {"design": name, "num_weights": num_weights[name], **dict.fromkeys(columns, math.nan)}
        if cost := values.get(f"{name}/cost"):
            row["bytes_per_parameter"] = float(cost[f"{TREES[0]}/bytes_per_parameter/{name}"][0])
            for family in STEPS_ON:
                own, reference = (f"step_seconds/{family}/{each}" for each in (name, update_cost.REFERENCE))
                if own not in cost:  # measured before this family was added
                    continue
                ratio = ratio_interval(cost[own], cost[reference])
                row |= {f"step/{family}": ratio.estimate}
                row |= {f"step/{family}/low": ratio.low, f"step/{family}/high": ratio.high}
            for tree in TREES:
                own, reference = (cost[f"{tree}/update_seconds/{each}"] for each in (name, update_cost.REFERENCE))
                row[f"update/{tree}"] = ratio_interval(own, reference).estimate
                row[f"update/{tree}/seconds"] = float(np.median(own))
        if compiled := values.get(f"{name}/compile"):
            for reference in COMPILED_AGAINST:
                ratios = compiled[f"compile_seconds/{name}"] / compiled[f"compile_seconds/{reference}"]
                row[f"compile/{reference}"] = float(np.median(ratios))
        for which in OUTER_ON:
            if loss := values.get(f"{name}/{which}"):
                losses, inner_steps = loss["outer_validation_loss"], loss["inner_steps"][0]
                row |= {f"{which}_before": losses[0], f"{which}_after": np.min(losses[1:])}
                row |= {f"{which}_inner_steps": inner_steps}
        found.append(row)
    return pd.DataFrame(found, columns=["design", "num_weights", *columns])
