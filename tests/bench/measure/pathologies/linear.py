"""What is unrolled in place of handwritten digits: least squares, whose programs compile in a fraction of the time."""

import functools

import jax
import jax.numpy as jnp

from bench.measure.pathologies.inner import OPTIMIZER, Inner
from learned import weights
from learned.designs import make_design
from learned.objective import FamilyObjective
from tests.helpers import linear_family


@functools.cache
def load(theta_name):
    """The outer-loss on least squares of the trained optimizer of the pathologies."""
    assert theta_name == "trained"
    theta, card = weights.read(OPTIMIZER)
    family = linear_family()
    objective = FamilyObjective(
        make_design(card.design, card.design_options), family.problem, family.sample, "outer_train"
    )
    return Inner(objective, jax.tree.map(jnp.asarray, theta), family.arrays)
