"""The hand-designed optimizers: a literal table of optax constructors, search spaces and references.

Constant-rate and scheduled forms are rows of their own, each tuned with the full budget (protocol rule 1): Metz et al.
(arXiv 1810.10180) compare with constant rates, a reviewer with schedules.
"""

import jax.numpy as jnp
import optax
from jax import Array

from baselines.base import Baseline, Hyperparameters, LogUniform

WARMUP_FRACTION = 0.05


def warmup_cosine(peak: float | Array, horizon: int) -> optax.Schedule:
    """Linear warm-up over 5 % of the horizon to `peak`, then a cosine to zero at the horizon.

    Written out because `optax.warmup_cosine_decay_schedule` refuses a traced peak, and tuning runs all trials in one
    program.
    """
    warmup = max(1, round(WARMUP_FRACTION * horizon))

    def schedule(count):
        rising = (count + 1) / warmup
        progress = jnp.clip((count + 1 - warmup) / max(1, horizon - warmup), 0.0, 1.0)
        return peak * jnp.where(count < warmup, rising, 0.5 * (1.0 + jnp.cos(jnp.pi * progress)))

    return schedule


def _sgd_momentum(h: Hyperparameters, horizon: int) -> optax.GradientTransformation:
    del horizon
    return optax.sgd(h["learning_rate"], momentum=1.0 - h["one_minus_momentum"])


def _rmsprop(h: Hyperparameters, horizon: int) -> optax.GradientTransformation:
    del horizon
    return optax.rmsprop(h["learning_rate"], decay=1.0 - h["one_minus_decay"])


def _adam(h: Hyperparameters, horizon: int) -> optax.GradientTransformation:
    del horizon
    return optax.adam(h["learning_rate"], b1=1.0 - h["one_minus_b1"], b2=1.0 - h["one_minus_b2"])


def _adam_cosine(h: Hyperparameters, horizon: int) -> optax.GradientTransformation:
    rate = warmup_cosine(h["learning_rate"], horizon)
    return optax.adam(rate, b1=1.0 - h["one_minus_b1"], b2=1.0 - h["one_minus_b2"])


def _one_minus_decay(low: float) -> LogUniform:
    """Range of 1 - b for an exponential average.

    At 1 it has no memory; at 1e-4 it outlasts the longest horizon, 10,000 steps.
    """
    return LogUniform(low, 1.0, low_bound=1e-4, high_bound=1.0)


_ADAM_SPACE = {
    "learning_rate": LogUniform(3e-4, 1e-1),
    "one_minus_b1": _one_minus_decay(2e-2),
    "one_minus_b2": _one_minus_decay(1e-4),
}
_ADAM_DEFAULT = {"learning_rate": 1e-3, "one_minus_b1": 0.1, "one_minus_b2": 1e-3}

BASELINES: dict[str, Baseline] = {
    "sgd_momentum": Baseline(
        make=_sgd_momentum,
        space={"learning_rate": LogUniform(1e-3, 3.0), "one_minus_momentum": _one_minus_decay(1e-2)},
        default={"learning_rate": 1e-2, "one_minus_momentum": 0.1},
        reference="Polyak 1964; Sutskever, Martens, Dahl, Hinton, ICML 2013",
    ),
    "rmsprop": Baseline(
        make=_rmsprop,
        space={"learning_rate": LogUniform(1e-4, 3e-2), "one_minus_decay": _one_minus_decay(1e-3)},
        default={"learning_rate": 1e-3, "one_minus_decay": 0.1},
        reference="Tieleman, Hinton, Coursera lecture 6.5, 2012",
    ),
    "adam": Baseline(
        make=_adam,
        space=_ADAM_SPACE,
        default=_ADAM_DEFAULT,
        reference="Kingma, Ba, arXiv 1412.6980",
    ),
    "adam_cosine": Baseline(
        make=_adam_cosine,
        space=_ADAM_SPACE,
        default=_ADAM_DEFAULT,
        reference="Kingma, Ba, arXiv 1412.6980; cosine: Loshchilov, Hutter, arXiv 1608.03983",
        scheduled=True,
    ),
}
