"""The controls of every suite (protocol rules 8 and 14): optimizers whose outcome is known before they run.

again    the A/A control, the base under another name: the ratio of step costs is 1; its interval gives the floor below
         which no difference is claimed
twice    every step performed twice, behind an optimization barrier: the ratio of step costs is 2
frozen   the zero-rate control, learning rate 0: reaches no target and ranks last
10x      ten times the tuned learning rate: worse than the base

and for the learned optimizers that claims are judged on

untrained  theta before outer-training: needs more steps to the target, or ends at a higher test loss
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp

from bench.entries.entrants import Entrant
from bench.store.rows import UNTRAINED
from learned import weights

BASE = "adam"
NUM_TRAINED_SEEDS = 5  # seeds of the controls that train: enough for an interval (bench.statistics.MIN_SEEDS)
ROLE = "control"


def base_of(entrants: Sequence[Entrant]) -> Entrant | None:
    """The optimizer that the controls vary: Adam, else the first hand-designed one with a learning rate, else None."""
    rated = [e for e in entrants if e.role == "hand-designed" and "learning_rate" in e.variables]
    return next((e for e in rated if e.name == BASE), rated[0] if rated else None)


def timed_controls(base: Entrant) -> list[Entrant]:
    """The controls of the clock: the base again, and the base with each step performed twice."""
    again = dataclasses.replace(base, name=control_name(base.name, "again"), role=ROLE)
    twice = dataclasses.replace(base, name=control_name(base.name, "twice"), role=ROLE, repeats=2)
    return [again, twice]


def trained_controls(base: Entrant) -> list[Entrant]:
    """The controls of the losses: the base at rate 0 and at ten times its rate."""
    return [_with_rate(base, "frozen", 0.0), _with_rate(base, "10x", 10.0)]


def untrained_controls(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Learned optimizers whose theta before outer-training is known, with that theta."""
    begun = [(entrant, entrant.untrained()) for entrant in entrants if entrant.untrained is not None]
    return [
        dataclasses.replace(
            entrant,
            name=control_name(entrant.name, UNTRAINED),
            role=ROLE,
            variables=theta,
            identity={**entrant.identity, "theta_sha256": weights.digest(theta)[:16]},
            program=entrant.name,
        )
        for entrant, theta in begun
    ]


def control_name(base: str, control: str) -> str:
    """The name of a control in rows and tables."""
    return f"{base}_{control}"


def _with_rate(base: Entrant, control: str, factor: float) -> Entrant:
    rate = factor * float(base.identity["learning_rate"])
    return dataclasses.replace(
        base,
        name=control_name(base.name, control),
        role=ROLE,
        variables={**base.variables, "learning_rate": jnp.float32(rate)},
        identity={**base.identity, "learning_rate": rate},
        program=base.name,
    )
