"""`bench check`: a sound optimizer passes, and a broken one is named for what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from baselines import BASELINES, Baseline, LogUniform
from bench.checks.optimizers import OPTIMIZER_CHECKS, OptimizerSubject
from tasks import EvaluationParams
from tests.bench.checks.found import broken
from tests.helpers import assert_one_line

RATE = LogUniform(1e-4, 1.0)


def row(make, default=0.01):
    return Baseline(make, {"learning_rate": RATE}, {"learning_rate": default}, "")


def changed(change, init=None):
    """SGD whose (updates, state) go through a function."""
    sgd = optax.sgd(0.01)

    def update(grads, state, params=None):
        del params
        return change(jax.tree.map(lambda g: -0.01 * g, grads), state)

    return row(lambda h, horizon: optax.GradientTransformation(init or sgd.init, update))


def to_all(function):
    return lambda updates, state: (jax.tree.map(function, updates), state)


def noisy(updates, state):
    return jax.tree.map(lambda u: u + float(np.random.default_rng().normal()), updates), state  # at every trace


def printing(updates, state):
    jax.debug.print("{}", jax.tree.leaves(updates)[0].sum())
    return updates, state


def growing(updates, state):
    return updates, jnp.concatenate([state, jnp.zeros(1)])


def raising(updates, state):
    raise RuntimeError("no such thing")


# Name of a broken optimizer -> (row, the checks that have to say so, words of one of them).
BROKEN_OPTIMIZERS = {
    "raises": (changed(raising), {"structure, shapes, dtypes"}, "raises RuntimeError: no such thing"),
    "NaN": (changed(to_all(lambda u: u * jnp.nan)), {"finite", "descends"}, "an update is not finite"),
    "huge": (changed(to_all(lambda u: u * 1e12)), {"finite"}, "an update is as large as"),
    "retraces": (changed(growing, lambda params: jnp.zeros(1)), {"retraces"}, "were traced 4 times"),
    "callback": (changed(printing), {"host callbacks"}, "calls back to Python from inside the step"),
    "random": (changed(noisy), {"deterministic", "jit = eager"}, "traced twice, differ"),
    "half": (changed(to_all(lambda u: u.astype(jnp.float16))), {"structure, shapes, dtypes"}, "float16"),
    "elsewhere": (
        changed(lambda u, s: (u, s), lambda params: EvaluationParams(jax.tree.map(lambda p: p[None], params))),
        {"structure, shapes, dtypes"},
        "the parameters to evaluate: ['bias'] is",
    ),
    "uphill": (changed(to_all(lambda u: -u)), {"descends"}, "take the loss from"),
    "heavy": (
        changed(lambda u, s: (u, s), lambda params: jax.tree.map(lambda p: jnp.zeros((40, *p.shape)), params)),
        {"cost"},
        "bytes of state per parameter",
    ),
    "unread": (row(lambda h, horizon: optax.sgd(0.01)), {"hyperparameters"}, "does `make` read it?"),
    "default": (row(lambda h, horizon: optax.sgd(h["learning_rate"]), 3.0), {"search space"}, "lies outside"),
}


@pytest.fixture(scope="module", params=BROKEN_OPTIMIZERS)
def broken_optimizer(request):
    """(name, subject): what a check computes of a subject is kept for the next one."""
    return request.param, OptimizerSubject(BROKEN_OPTIMIZERS[request.param][0])


def test_a_broken_optimizer_is_named_for_what_it_is(broken_optimizer):
    name, subject = broken_optimizer
    _, expected, words = BROKEN_OPTIMIZERS[name]
    with np.errstate(all="ignore"):
        found = broken({check: OPTIMIZER_CHECKS[check] for check in OPTIMIZER_CHECKS if check in expected}, subject)
    assert set(found) == expected, found
    assert any(words in detail for detail in found.values()), found
    for detail in found.values():
        assert_one_line(detail)


def test_what_is_not_broken_about_it_is_not_named(broken_optimizer):
    """A finding that follows from another one is fine; one about something else is not."""
    unrelated = {"NaN": "retraces", "huge": "retraces", "callback": "retraces", "half": "deterministic"}
    name, subject = broken_optimizer
    check = unrelated.get(name, "NaN")
    assert check not in BROKEN_OPTIMIZERS[name][1]
    if name != "raises":
        assert OPTIMIZER_CHECKS[check](subject)


def test_a_sound_optimizer_passes_every_check():
    assert broken(OPTIMIZER_CHECKS, OptimizerSubject(BASELINES["adam"])) == {}


@pytest.mark.slow  # compiles Newton-Schulz iterations of three shapes for each check
def test_an_optimizer_of_matrices_with_a_schedule_passes_what_a_matrix_may_break():
    checks = ("structure, shapes, dtypes", "jit = eager", "vmap = loop", "finite", "descends", "cost")
    subject = OptimizerSubject(BASELINES["muon_cosine"])
    assert broken({check: OPTIMIZER_CHECKS[check] for check in checks}, subject) == {}
