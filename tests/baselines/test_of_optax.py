"""Optimizers of optax by their name: rows like any other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from baselines import of_optax
from bench.checks.contract import examine
from bench.checks.optimizers import OPTIMIZER_CHECKS, OptimizerSubject
from bench.entries.entrants import resolve
from bench.suites.choose import apply_settings
from bench.suites.suite import build_suite
from tests.helpers import assert_one_line


@pytest.mark.parametrize(("name", "rate"), [("optax.lion", 1e-3), ("optax.contrib.prodigy", 1.0)])
def test_a_row_is_the_constructor_with_its_rate_and_all_else_as_optax_has_it(name, rate):
    row = of_optax(name)
    assert row.default == {"learning_rate": rate}
    assert (row.space["learning_rate"].low, row.space["learning_rate"].high) == pytest.approx((rate / 100, rate * 100))
    made = optax.lion(0.02) if name == "optax.lion" else optax.contrib.prodigy(0.02)
    params, grads = {"w": jnp.array([0.3, -0.2])}, {"w": jnp.array([1.0, 2.0])}
    ours = row.make({"learning_rate": 0.02}, 100)
    expected, got = (o.update(grads, o.init(params), params)[0]["w"] for o in (made, ours))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "name",
    ["optax.lion", "optax.contrib.prodigy"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("optax.adamw", "optax.contrib.schedule_free_sgd")],
)
def test_a_row_keeps_the_contracts_that_plug_ins_are_checked_for(name):
    assert [finding for finding in examine(OPTIMIZER_CHECKS, OptimizerSubject(of_optax(name))) if not finding[1]] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("optax.lyon", "expected an optimizer of optax or optax.contrib"),
        ("optax.os.system", "expected an optimizer of optax or optax.contrib"),
        ("optax._src.alias.adam", "expected an optimizer of optax or optax.contrib"),
        ("optax.__name__", "expected an optimizer of optax or optax.contrib"),
        ("optax.scale_by_rprop", "expected an optimizer of optax or optax.contrib"),
        ("optax.clip", "takes no learning_rate"),
        ("optax.", "expected an optimizer of optax or optax.contrib"),
        ("optax.lbfgs", "a step is made of gradients, parameters and the loss: .*'value_fn'"),
        ("optax.contrib.sophia", "a step is made of gradients, parameters and the loss: .*obj_fn must be provided"),
        ("optax.contrib.schedule_free", "needs base_optimizer"),
    ],
)
def test_what_is_no_optimizer_of_optax_is_refused_in_one_line(name, words):
    with pytest.raises(ValueError, match=words) as caught:
        of_optax(name)
    assert_one_line(caught.value)


def test_a_rate_by_its_other_name_is_searched_under_that_name_and_the_loss_is_given():
    row = of_optax("optax.polyak_sgd")
    assert row.default == {"max_learning_rate": 1.0}
    optimizer = row.make({"max_learning_rate": 10.0}, 100)
    params, grads = {"w": jnp.zeros(2)}, {"w": jnp.array([1.0, 2.0])}
    updates, _ = optimizer.update(grads, optimizer.init(params), params, value=jnp.float32(0.5))
    np.testing.assert_allclose(updates["w"], [-0.1, -0.2], rtol=1e-6)  # the loss over the squared norm, 0.5 / 5


def test_it_is_an_entrant_and_its_rate_can_be_set():
    entrant = resolve("optax.contrib.prodigy", "digits8_mlp", 100)
    assert (entrant.role, entrant.tuned_horizon) == ("hand-designed", None)
    suite = build_suite("s", {"kind": "train", "tasks": ["digits8_mlp"], "optimizers": ["optax.lion"], "seeds": "0"})
    changed = apply_settings(suite, ["optax.lion.learning_rate=0.5"])
    assert changed.overrides == {"optax.lion": {"learning_rate": 0.5}}
    params = {"w": jnp.zeros(3)}
    made = resolve("optax.lion", "digits8_mlp", 100, overrides=changed.overrides["optax.lion"])
    state = made.make(made.variables, 100).init(params)
    assert jax.tree.leaves(state)
