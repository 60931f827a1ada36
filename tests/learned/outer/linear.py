"""Outer-training on least squares, which several test files share."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from learned.config import OuterConfig
from learned.curriculum import Stage
from learned.outer import Callbacks, Engine, RunFolder, outer_train
from tests.helpers import linear_family

CONFIG = OuterConfig(
    name="test",
    design="per_parameter_mlp",
    family="linear",
    stages=(Stage(10, 60),),
    design_options=(("exp_scale", 0.0), ("hidden", 4), ("step_scale", 0.1)),
    num_tasks=4,
    sigma=0.05,
    learning_rate=0.1,
    validation_num_steps=10,
    validation_num_tasks=8,
    validation_every=2,
)
# Two lengths, an average of theta: all that a resumed run must take up again.
FULL = dataclasses.replace(CONFIG, stages=(Stage(5, 6), Stage(8, 6)), ema=0.5, validation_every=5)
PES = dataclasses.replace(FULL, estimator=("pes",), window=5)


@functools.cache
def engine(config):
    """Compiled once for all runs of a configuration; what a run changes is not in it."""
    return Engine(config, linear_family())


def train(config):
    """(best theta, metrics, facts) of a run that keeps no files."""
    return outer_train(engine(config))


class Stop(Exception):
    """Raised in the middle of a run, as if the process had ended there."""


def run(config, folder, stop_after=None, stopping=Stop, budget_sec=float("inf"), **options):
    """(best theta, metrics, facts), or None where the run was stopped; options are those of `RunFolder`."""

    def on_step(progress):
        if progress.outer_step == stop_after:
            raise stopping

    kept = RunFolder(folder, **options) if folder else None
    try:
        return outer_train(engine(config), kept, callbacks=Callbacks(on_step=on_step), budget_sec=budget_sec)
    except stopping:
        return None


class Broken:
    """An estimator whose gradient is NaN at chosen outer steps, as when every sample of a merge has failed."""

    name = "broken"

    def __init__(self, made, bad):
        self.made, self.bad = made, bad

    def init(self, *args):
        return jnp.zeros((1,), jnp.int32)

    def estimate(self, theta, state, arrays, key, num_steps, horizon):
        found, _ = self.made.estimate(theta, (), arrays, key, num_steps, horizon)
        bad = jnp.isin(state[0], jnp.asarray(self.bad))
        return found._replace(gradients=jax.tree.map(lambda g: jnp.where(bad, jnp.nan, g), found.gradients)), state + 1
