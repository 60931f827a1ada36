"""An outer-training of two short stages on least squares."""

import contextlib
import dataclasses

import pytest

from bench.outer.run import run
from learned.curriculum import Stage
from tests.helpers import linear_family
from tests.learned.outer.linear import CONFIG, engine

METRICS = {
    "outer_step": 50.0,
    "num_steps": 10.0,
    "horizon": 10.0,
    "outer_loss": 2.0,
    "gradient_norm": 0.25,
    "skipped": 0.0,
    "signal_to_noise/reparam": 4.0,
    "signal_to_noise/es": 1.0,
    "merge_weight": 0.75,
}


STAGES = dataclasses.replace(CONFIG, stages=(Stage(5, 3), Stage(5, 3)), validation_every=2)
FACTS = {"name": "linear", "version": "1", "digest": "0" * 16}


@contextlib.contextmanager
def compiled_once():
    """While this lasts, runs of one configuration share an engine; what a run changes is not in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("learned.outer.Engine", lambda config, family, num_devices=1: engine(config))
        yield


def outer_train(results_dir, steps, resume=False):
    """A run of `STAGES` that is interrupted after so many outer steps of all."""

    class Stop(Exception):
        pass

    def advance(share, line):
        if f"outer step {steps}/" in line:
            raise Stop

    with contextlib.suppress(Stop), compiled_once():
        run(
            STAGES,
            linear_family(),
            FACTS,
            results_dir,
            resume=resume,
            num_devices=1,
            budget_sec=float("inf"),
            log=lambda line: None,
            advance=advance,
        )
