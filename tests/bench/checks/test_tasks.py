"""`bench check`: a sound task passes, and a broken one is named for what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.checks.tasks import TASK_CHECKS, TaskSubject
from tasks.task import Problem, Task
from tests.bench.checks.found import broken
from tests.helpers import assert_one_line

SIZES = (64, 16, 16)


def linear_task(loss=None, init=None, take=None, **changes):
    """Linear regression on rows that no two splits share."""
    rng = np.random.default_rng(0)
    arrays = {"x": jnp.asarray(rng.normal(size=(sum(SIZES), 5)), jnp.float32)}
    begins = dict(zip(("train", "validation", "test"), np.cumsum([0, *SIZES]), strict=False))

    def default_take(arrays, cfg, split, indices):
        x = arrays["x"][indices + int(begins[split])]
        return x, jnp.sum(x, axis=1)

    fields = {
        "family": "linear",
        "init": init or (lambda key: {"w": jax.random.normal(key, (5,))}),
        "loss": loss or (lambda params, batch: jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2)),
        "take": take or default_take,
        "sizes": SIZES,
        "horizon": 10,
        "batch_size": 8,
        "chance_loss": 5.0,
    }
    return Task(Problem(**fields | changes), arrays)


def swallowing(params, batch):
    return jnp.mean(jnp.nan_to_num(batch[0] @ params["w"] - batch[1]) ** 2)


def shared_take(arrays, cfg, split, indices):
    x = arrays["x"][indices]
    return x, jnp.sum(x, axis=1)


def printed_loss(params, batch):
    jax.debug.print("loss")
    return jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2)


def random_init(key):
    del key
    return {"w": jnp.asarray(np.random.default_rng().normal(size=5), jnp.float32)}


BROKEN_TASKS = {
    "shared": (linear_task(take=shared_take), {"splits disjoint"}, "examples are in train and in validation alike"),
    "swallows": (linear_task(loss=swallowing), {"NaN"}, "a diverged run would not be seen"),
    "callback": (linear_task(loss=printed_loss), {"host callbacks"}, "calls back to Python"),
    "random": (linear_task(init=random_init), {"deterministic"}, "randomness outside of its key"),
    "constant": (linear_task(init=lambda key: {"w": jnp.ones(5) * 0.3}), {"deterministic"}, "draw the same params"),
    "vector": (linear_task(loss=lambda p, b: (b[0] @ p["w"] - b[1]) ** 2), {"structure, shapes, dtypes"}, "scalar"),
    "flat": (linear_task(loss=lambda p, b: 0.0 * jnp.sum(p["w"]) + 1.0), {"trains"}, "take the train loss from 1 to 1"),
    "huge": (linear_task(loss=lambda p, b: jnp.sum(p["w"] ** 2) * 1e9), {"finite"}, "a hundred times that of chance"),
    "raises": (linear_task(loss=lambda p, b: {}["w"]), {"trains"}, "raises KeyError"),
    "horizon": (linear_task(horizon=0), {"sizes"}, "horizon is 0"),
    "chance": (linear_task(chance_loss=float("nan")), {"sizes"}, "chance_loss is nan"),
}


@pytest.mark.parametrize("name", BROKEN_TASKS)
def test_a_broken_task_is_named_for_what_it_is(name):
    task, expected, words = BROKEN_TASKS[name]
    found = broken({check: TASK_CHECKS[check] for check in expected}, TaskSubject(task))
    assert set(found) == expected, found
    assert any(words in detail for detail in found.values()), found
    for detail in found.values():
        assert_one_line(detail)


def test_a_sound_task_passes_every_check():
    assert broken(TASK_CHECKS, TaskSubject(linear_task())) == {}


def test_a_loss_below_zero_is_sound_and_so_is_that_of_chance():
    """A log-likelihood, of which a predictor that knows nothing may have less than zero already."""

    def loss(params, batch):
        return jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2) - 7.0

    assert broken(TASK_CHECKS, TaskSubject(linear_task(loss=loss, chance_loss=-2.0))) == {}
