import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tasks
import tasks.inner_loop
from learned import LearnedOptimizer
from learned.objective import FamilyObjective, clip_losses, mean_over
from tests.helpers import LINEAR, LINEAR_SIZES, linear_arrays, linear_family

# The simplest learned optimizer: gradient descent whose rate is theta.
RATE = LearnedOptimizer(
    init_theta=lambda key: {"rate": jnp.array(0.1)}, optimizer=lambda theta, horizon=None: optax.sgd(theta["rate"])
)
THETA, KEY, NUM_STEPS = {"rate": jnp.float32(0.1)}, jax.random.key(3), 4


def objective(kind):
    family = linear_family()
    return FamilyObjective(RATE, family.problem, family.sample, "outer_train", kind)


@pytest.fixture(scope="module")
def per_step():
    """Losses of each step under both objectives, and the run that they score, in one program."""

    @jax.jit
    def all_of_it(theta, arrays):
        task_key, run_key = jax.random.split(KEY)
        task = tasks.Task(LINEAR, arrays, linear_family().sample(task_key, "outer_train"))
        optimizer = RATE.optimizer(theta)
        state = tasks.inner_loop.init(task, optimizer, run_key)
        # The score hands out the parameters after each step and the step's own key.
        _, trace = tasks.inner_loop.unroll(
            task,
            optimizer,
            state,
            run_key,
            NUM_STEPS,
            lambda params, key: (params, jax.random.randint(key, (LINEAR.batch_size,), 0, LINEAR_SIZES["validation"])),
        )
        return {
            "train": objective("train").per_step(theta, arrays, KEY, NUM_STEPS),
            "validation": objective("validation").per_step(theta, arrays, KEY, NUM_STEPS),
            "mean": objective("train")(theta, arrays, KEY, NUM_STEPS),
            "run": trace,
            "cfg": task.cfg,
        }

    return jax.device_get(all_of_it(THETA, linear_family().arrays))


def test_losses_above_ten_and_losses_that_are_none_count_as_ten():
    losses = jnp.array([-1.0, 0.0, 9.5, 10.0, 10.5, math.inf, -math.inf, math.nan])
    np.testing.assert_array_equal(clip_losses(losses), [-1.0, 0.0, 9.5, 10, 10, 10, 10, 10])


def test_clipped_losses_pass_no_gradient_and_others_all_of_it():
    gradient = jax.grad(lambda losses: jnp.sum(clip_losses(losses)))(jnp.array([1.0, 11.0, math.inf]))
    np.testing.assert_array_equal(gradient, [1.0, 0.0, 0.0])


def test_the_train_objective_is_the_losses_of_the_inner_batches(per_step):
    assert per_step["train"].shape == (NUM_STEPS,)
    np.testing.assert_allclose(per_step["train"], per_step["run"].inner_loss, rtol=1e-6)


def test_the_validation_objective_scores_the_parameters_after_a_step_on_the_validation_split(per_step):
    params, indices = per_step["run"].score
    arrays = linear_arrays()
    for step in range(NUM_STEPS):
        x = arrays["validation_inputs"][indices[step]]
        y = per_step["cfg"] * arrays["validation_targets"][indices[step]]
        residual = x @ params["w"][step] + params["b"][step] - y
        np.testing.assert_allclose(per_step["validation"][step], np.mean(residual**2) / 2, rtol=1e-5)


def test_late_losses_count_in_proportion_to_their_step():
    losses = jnp.array([4.0, 2.0, 1.0])
    assert float(mean_over(losses, late=False)) == pytest.approx(7 / 3)
    assert float(mean_over(losses, late=True)) == pytest.approx((4 + 4 + 3) / 6)
    assert float(mean_over(jnp.full(7, 3.0), late=True)) == pytest.approx(3.0)


def test_the_outer_loss_is_the_clipped_mean_over_the_unroll(per_step):
    assert per_step["mean"].shape == ()
    np.testing.assert_allclose(per_step["mean"], np.mean(np.minimum(per_step["train"], 10.0)), rtol=1e-6)


def test_the_task_comes_from_the_pool_of_the_objective():
    family = linear_family()
    asked = []

    def sample(key, pool):
        asked.append(pool)
        return family.sample(key, pool)

    for pool in family.pools:
        jax.eval_shape(lambda pool=pool: FamilyObjective(RATE, LINEAR, sample, pool)(THETA, family.arrays, KEY, 2))
    assert list(dict.fromkeys(asked)) == ["outer_train", "outer_validation"]
