"""The thetas that the pathologies are measured at."""

import jax.numpy as jnp
import numpy as np

from bench.measure.pathologies import inner
from learned import weights


def test_overstepping_is_the_trained_theta_with_every_step_thirty_times_as_large():
    trained, overstepping = (inner.load(name) for name in ("trained", "overstepping"))
    assert weights.digest(trained.theta) == weights.digest(overstepping.theta)
    params, grads = {"w": jnp.ones((3, 2))}, {"w": jnp.arange(6.0).reshape(3, 2)}
    steps = []
    for where in (trained, overstepping):
        optimizer = where.objective.design.optimizer(where.theta)
        steps.append(optimizer.update(grads, optimizer.init(params), params)[0]["w"])
    np.testing.assert_allclose(steps[1], 30 * steps[0], rtol=1e-5)
