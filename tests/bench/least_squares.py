"""Entrants on least squares in three dimensions, compiled once; and plans of a suite on that task."""

import dataclasses
import time

import jax.numpy as jnp
import numpy as np
import optax

from bench.cells.plan import plan
from bench.entries.entrants import Entrant
from bench.entries.plugins import Registry
from bench.suites.suite import Suite
from bench.training.programs import chunk_lengths, compile_program, run_key
from bench.training.timed_run import run_cell
from tests.helpers import linear_task


def descent(name="sgd", rate=0.05, transformation=optax.sgd, **changes):
    """A hand-designed entrant on its own."""
    row = Entrant(
        name,
        "hand-designed",
        lambda variables, horizon, transformation=transformation: transformation(variables["learning_rate"]),
        {"learning_rate": jnp.float32(rate)},
        {"learning_rate": rate},
    )
    return dataclasses.replace(row, **changes)


PROGRAMS = {}


def program_of(entrant, horizon=5):
    """Compiled once for each transformation, since rates are arguments of it."""
    key = (entrant.make.__defaults__, entrant.repeats, horizon)
    if key not in PROGRAMS:
        lengths = chunk_lengths(horizon)
        PROGRAMS[key] = compile_program(entrant, linear_task(), horizon, lengths)
    return PROGRAMS[key]


def run(entrant, task, seed=0, horizon=5):
    """One cell of least squares: (outcome, program)."""
    program = program_of(entrant, horizon)
    return run_cell(program, entrant, task, run_key("linear", seed), horizon), program


def planned(optimizers=("adam", "sgd_momentum"), seeds=(0, 1, 2), **changes):
    """The cells of a suite on one task of a plug-in, which needs no data."""
    chosen = Suite("made", tuple(optimizers), ("linear",), tuple(seeds), **changes)
    return plan(chosen, Registry(task_builders={"linear": linear_task}))


class Late:
    """A result of asynchronous work: there at once, ready only after a wait."""

    def __init__(self, seconds, log):
        self.seconds, self.log = seconds, log

    def block_until_ready(self):
        time.sleep(self.seconds)
        self.log.append("waited for")
        return self

    def __array__(self, dtype=None, copy=None):
        return np.ones(1)


CHUNK_SEC, EVALUATION_SEC = 0.01, 0.005


def slow_program(task, entrant, log):
    """Of a horizon of 10: a chunk is dispatched at once and takes `CHUNK_SEC`, an evaluation `EVALUATION_SEC`."""

    def chunk(task, variables, state, key, repeats):
        log.append("dispatched")
        return state, Late(CHUNK_SEC, log)

    def evaluate(task, params):
        log.append("evaluated")
        time.sleep(EVALUATION_SEC)
        return 1.0

    program = compile_program(entrant, task, 10, [])
    return dataclasses.replace(program, chunks={1: chunk}, evaluate=dict.fromkeys(("train", "validation"), evaluate))
