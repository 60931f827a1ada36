"""The unrolls that are measured: the paper's learned optimizer on a small network on handwritten digits."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import tasks
from learned import weights
from learned.base import Theta
from learned.designs import make_design
from learned.objective import FamilyObjective

TASK = "digits4_mlp"
OPTIMIZER = "lopt_paper_small"  # the paper's network; its weights are the trained theta
# "overstepping" is the trained theta with every step `OVERSTEP` times as large, where unrolls are chaotic.
THETAS = ("initial", "trained", "overstepping")
OVERSTEP = 30.0
SIGMA = 0.01  # scale of all perturbations, as in the paper

Curve = list[tuple[int, str, float]]  # (step, metric, value), as a cell stores them


class Inner(NamedTuple):
    """An outer-loss, a theta, and the data."""

    objective: FamilyObjective
    theta: Theta
    arrays: Any


@functools.cache
def load(theta_name: str) -> Inner:
    """The outer-loss of the paper's learned optimizer and a theta of `THETAS`."""
    theta, card = weights.read(OPTIMIZER)
    options = dict(card.design_options)
    if theta_name == "overstepping":
        options["step_scale"] *= OVERSTEP
    design = make_design(card.design, options)
    if theta_name == "initial":
        theta = jax.jit(design.init_theta)(tasks.named_key("pathologies", "initial"))
    family = tasks.load_family(TASK)
    objective = FamilyObjective(design, family.problem, family.sample, "train")
    return Inner(objective, jax.tree.map(jnp.asarray, theta), family.arrays)


def facts(theta_name: str) -> dict[str, Any]:
    """What identifies the unrolls: the task, and digests of task, data and theta."""
    return {
        **({"overstep": OVERSTEP} if theta_name == "overstepping" else {}),
        "inner_task": TASK,
        "task_digest": tasks.task_digest(TASK),
        "data_digest": tasks.data_facts(TASK)["digest"],
        "learned_optimizer": OPTIMIZER,
        "theta_sha256": weights.digest(load(theta_name).theta),
        "sigma": SIGMA,
    }
