"""The objective alone swapped: outer-training on validation loss against outer-training on train loss.

Metz et al., arXiv 1810.10180, claim that the first gives a lower test loss. Here everything else is the same: design,
family, unrolls, outer seeds, inner steps. A part is DESIGN/OBJECTIVE/SEED.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd

import tasks
from bench.measure.ablation import CALLED, POOL, RATES, SEEDS, final_losses, outer_trained
from bench.measure.ablation import DESIGNS as ABLATED
from bench.measure.designs import Variant
from bench.measure.pathologies.summary import wide
from bench.statistics import Interval, geometric_mean, t_interval
from bench.store.rows import Frame
from learned.config import OuterConfig
from learned.curriculum import Stage
from learned.objective import Objective

FAMILY = "imagenet16_cnn3"
HORIZON = 1000  # of unrolls and of the evaluation: nets begin to overfit
NUM_TASKS = 8  # of the evaluation
OUTER_STEPS = 24
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
LOSSES = ("final_test_loss", "final_validation_loss", "final_train_loss")
BEFORE = "final_test_loss_untrained"  # before outer-training
COLUMNS = ["design", "objective", "seed", "seconds", *LOSSES, BEFORE]


class Swapped(NamedTuple):
    """A design whose objective is swapped, and what its outer-training needs.

    Attributes:
      variant: the design with its options.
      called: what pages call it.
      outer_rate: learning rate of the outer-training.
      estimator: of the outer-gradient.
      begin_from: name of the weights that theta begins from; None for the design's own beginning.
    """

    variant: Variant
    called: str
    outer_rate: float
    estimator: tuple[str, ...]
    begin_from: str | None = None


# The paper's design begins from weights that were outer-trained on train loss, and merges backpropagation with ES: at
# its initial theta gradients overflow on unrolls of this length, and no update would be made.
DESIGNS = {
    "per_parameter_mlp": Swapped(
        ABLATED["per_parameter_mlp"],
        CALLED["per_parameter_mlp"],
        RATES["per_parameter_mlp"],
        ("reparam", "es"),
        begin_from="lopt_paper",
    ),
    "normalized": Swapped(Variant("normalized", {}), "the design of lopt_home", 1e-3, ("reparam",)),
}


def config_of(design: str, objective: Objective, seed: int) -> OuterConfig:
    """The outer-training of a part. Theta is chosen by its own objective too."""
    swapped = DESIGNS[design]
    return OuterConfig(
        name=f"objectives/{design}/{objective}",
        design=swapped.variant.design,
        design_options=tuple(sorted(swapped.variant.options.items())),
        family=FAMILY,
        objective=objective,
        outer_batch=True,
        score_every=5,
        begin_from=swapped.begin_from,
        estimator=swapped.estimator,
        num_tasks=4,
        learning_rate=swapped.outer_rate,
        clip_sample=2.0,
        ema=0.7,
        validation_num_steps=HORIZON,
        validation_num_tasks=8,
        validation_every=OUTER_STEPS // 4,
        seed=seed,
        drawn_as=f"objectives/{design}",
        stages=(Stage(HORIZON // 4, OUTER_STEPS // 2, HORIZON, "geometric"), Stage(HORIZON, OUTER_STEPS // 2)),
    )


def parts() -> dict[str, dict[str, Any]]:
    """The definition of each part: the outer-training, and what is evaluated."""
    return {
        f"{design}/{objective}/{seed}": {
            "outer": config_of(design, objective, seed).as_dict(),
            "evaluated": {"tasks": NUM_TASKS, "steps": HORIZON, "pool": POOL},
        }
        for design, objective, seed in itertools.product(DESIGNS, OBJECTIVES, range(SEEDS))
    }


def measure(
    part: str, entrants: Sequence[Any], replications: int, tick: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """Outer-trains and evaluates one part.

    Args:
      part: a name in `parts`.
      entrants: ignored; the part defines the learned optimizer.
      replications: 1; outer seeds are parts.
      tick: called at the end.

    Returns:
      Rows (step, metric, value): those of the outer-training, as `bench.measure.ablation.measure` returns them, and at
      the number of the evaluation task the losses of `LOSSES`, and the test loss before outer-training.
    """
    del entrants, replications
    design, objective, seed = part.split("/")
    run = outer_trained(config_of(design, objective, int(seed)))  # pyright: ignore[reportArgumentType]
    found = final_losses(run.design, run.theta, run.family, HORIZON, NUM_TASKS, get_args(tasks.Split), POOL)
    run.rows.extend((task, f"final_{split}_loss", loss) for split in found for task, loss in enumerate(found[split]))
    before = final_losses(run.design, run.untrained, run.family, HORIZON, NUM_TASKS, ("test",), POOL)
    run.rows.extend((task, BEFORE, loss) for task, loss in enumerate(before["test"]))
    tick()
    return pd.DataFrame(run.rows, columns=["step", "metric", "value"])


def table(cells: Frame, curves: Frame) -> pd.DataFrame:
    """The table of figures of this measurement.

    Returns:
      A row for each finished part: `design`, `objective`, `seed`, `seconds` of outer-training, and geometric means over
      the evaluation tasks of `final_test_loss`, `final_validation_loss`, `final_train_loss` and
      `final_test_loss_untrained`.
    """
    found = []
    for _, cell in cells[cells["status"] == "ok"].sort_values("task").iterrows():
        design, objective, seed = str(cell["task"]).split("/")[-3:]
        curve = curves[curves["cell"] == cell["cell"]]
        values = wide(curve)
        losses = [geometric_mean(values[name]) for name in (*LOSSES, BEFORE)]
        found.append((design, objective, int(seed), float(values["seconds"][-1]), *losses))
    return pd.DataFrame(found, columns=COLUMNS)


def differences(table: Frame) -> dict[str, Interval]:
    """The logarithm of the final test loss, validation less train objective, by design: mean and interval over seeds.

    Designs with a seed that is missing are left out.
    """
    logs = _log_losses(table)
    return {design: t_interval(found["validation"] - found["train"]) for design, found in logs.items()}


def changes(table: Frame) -> dict[str, dict[str, Interval]]:
    """The logarithm of the final test loss less that before outer-training, by design and objective.

    Means and intervals over seeds. Designs with a seed that is missing are left out.
    """
    logs = _log_losses(table)
    return {
        design: {objective: t_interval(found[objective] - found["before"]) for objective in OBJECTIVES}
        for design, found in logs.items()
    }


def _log_losses(table: Frame) -> dict[str, dict[str, np.ndarray]]:
    """Design -> objective, and "before" -> logarithms of final test losses by seed."""
    found = {}
    for design in DESIGNS:
        rows = table[table["design"] == design].sort_values(["objective", "seed"])
        by_objective = {objective: rows[rows["objective"] == objective] for objective in OBJECTIVES}
        if all(len(of_objective) == SEEDS for of_objective in by_objective.values()):
            losses = {objective: of["final_test_loss"] for objective, of in by_objective.items()}
            losses["before"] = by_objective["train"][BEFORE]
            found[design] = {name: np.log(values.to_numpy(np.float64)) for name, values in losses.items()}
    return found
