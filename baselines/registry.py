"""The hand-designed optimizers: a literal table of optax constructors, search spaces and references.

Constant-rate and scheduled forms are separate rows, each tuned with the full budget (protocol rule 1): Metz et al.
(arXiv 1810.10180) compare with constant rates, but schedules are common in practice.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax import Array
from optax.contrib import MuonDimensionNumbers

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


def constant(rate: float | Array, horizon: int) -> float | Array:
    """The same rate at every step."""
    del horizon
    return rate


Rate = Callable[[float | Array, int], float | Array | optax.Schedule]  # (peak, horizon) -> rate or schedule
Make = Callable[[Hyperparameters, int], optax.GradientTransformation]


def _sgd_momentum(rate: Rate) -> Make:
    return lambda h, horizon: optax.sgd(rate(h["learning_rate"], horizon), momentum=1.0 - h["one_minus_momentum"])


def _rmsprop(rate: Rate) -> Make:
    return lambda h, horizon: optax.rmsprop(rate(h["learning_rate"], horizon), decay=1.0 - h["one_minus_decay"])


def _adam(rate: Rate) -> Make:
    return lambda h, horizon: optax.adam(
        rate(h["learning_rate"], horizon), b1=1.0 - h["one_minus_b1"], b2=1.0 - h["one_minus_b2"]
    )


def _nadamw(rate: Rate) -> Make:
    return lambda h, horizon: optax.nadamw(
        rate(h["learning_rate"], horizon), b1=1.0 - h["one_minus_b1"], weight_decay=h["weight_decay"]
    )


def _kernels_as_matrices(params: optax.Params) -> Any:
    """Treats kernels of any rank as (fan-in, channels) matrices; biases are updated by Adam."""
    return jax.tree.map(
        lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim >= 2 else None, params
    )


def _muon(rate: Rate) -> Make:
    """With weight decay, biases have a fixed learning rate, so that every row searches at most three dimensions."""
    return lambda h, horizon: optax.contrib.muon(
        rate(h["learning_rate"], horizon),
        beta=1.0 - h["one_minus_momentum"],
        weight_decay=h.get("weight_decay", 0.0),
        adam_learning_rate=rate(h.get("adam_learning_rate", 1e-2), horizon),
        muon_weight_dimension_numbers=_kernels_as_matrices,
    )


def _one_minus_decay(low: float) -> LogUniform:
    """Range of 1 - b for an exponential average.

    At 1 there is no memory; at 1e-4 the memory is as long as the longest horizon, 10,000 steps.
    """
    return LogUniform(low, 1.0, low_bound=1e-4, high_bound=1.0)


_RATE_OF_ADAM = LogUniform(3e-4, 1e-1)
_SGD_SPACE = {"learning_rate": LogUniform(1e-3, 3.0), "one_minus_momentum": _one_minus_decay(1e-2)}
_SGD_DEFAULT = {"learning_rate": 1e-2, "one_minus_momentum": 0.1}
_RMSPROP_SPACE = {"learning_rate": LogUniform(1e-4, 3e-2), "one_minus_decay": _one_minus_decay(1e-3)}
_RMSPROP_DEFAULT = {"learning_rate": 1e-3, "one_minus_decay": 0.1}
_ADAM_SPACE = {
    "learning_rate": _RATE_OF_ADAM,
    "one_minus_b1": _one_minus_decay(2e-2),
    "one_minus_b2": _one_minus_decay(1e-4),
}
_ADAM_DEFAULT = {"learning_rate": 1e-3, "one_minus_b1": 0.1, "one_minus_b2": 1e-3}
_NADAMW_SPACE = {
    "learning_rate": _RATE_OF_ADAM,
    "one_minus_b1": _one_minus_decay(2e-2),
    # Below 1e-2 the decay over a horizon, rate x decay x steps, is a few percent or less: no decay.
    "weight_decay": LogUniform(1e-2, 3.0, low_bound=1e-2),
}
_NADAMW_DEFAULT = {"learning_rate": 1e-3, "one_minus_b1": 0.1, "weight_decay": 1e-2}
_MUON_SPACE = {
    "learning_rate": LogUniform(2e-3, 3e-1),
    "one_minus_momentum": _one_minus_decay(1e-2),
    # For biases only: at a lower rate they hardly change over a short horizon, and the kernels are not affected.
    "adam_learning_rate": dataclasses.replace(_RATE_OF_ADAM, low_bound=_RATE_OF_ADAM.low),
}
_MUON_DEFAULT = {"learning_rate": 2e-2, "one_minus_momentum": 0.05, "adam_learning_rate": 1e-3}
_MUONW_SPACE = {
    "learning_rate": _MUON_SPACE["learning_rate"],
    "one_minus_momentum": _MUON_SPACE["one_minus_momentum"],
    "weight_decay": LogUniform(1e-2, 1.0, low_bound=1e-2),  # of kernels; below as for NAdamW
}
_MUONW_DEFAULT = {"learning_rate": 2e-2, "one_minus_momentum": 0.05, "weight_decay": 1e-1}

_SGD = "Polyak 1964; Sutskever, Martens, Dahl, Hinton, ICML 2013"
_RMSPROP = "Tieleman, Hinton, Coursera lecture 6.5, 2012"
_ADAM = "Kingma, Ba, arXiv 1412.6980"
_NADAMW = "Dozat 2016; Loshchilov, Hutter, arXiv 1711.05101; as in AlgoPerf, arXiv 2306.07179"
_MUON = "Jordan et al. 2024, github.com/KellerJordan/Muon; decay of the weights: Liu et al., arXiv 2502.16982"
_COSINE = "; cosine: Loshchilov, Hutter, arXiv 1608.03983"

BASELINES: dict[str, Baseline] = {
    "sgd_momentum": Baseline(_sgd_momentum(constant), _SGD_SPACE, _SGD_DEFAULT, _SGD),
    "rmsprop": Baseline(_rmsprop(constant), _RMSPROP_SPACE, _RMSPROP_DEFAULT, _RMSPROP),
    "adam": Baseline(_adam(constant), _ADAM_SPACE, _ADAM_DEFAULT, _ADAM),
    "muon": Baseline(_muon(constant), _MUON_SPACE, _MUON_DEFAULT, _MUON),
    "sgd_momentum_cosine": Baseline(
        _sgd_momentum(warmup_cosine), _SGD_SPACE, _SGD_DEFAULT, _SGD + _COSINE, scheduled=True
    ),
    "rmsprop_cosine": Baseline(
        _rmsprop(warmup_cosine), _RMSPROP_SPACE, _RMSPROP_DEFAULT, _RMSPROP + _COSINE, scheduled=True
    ),
    "adam_cosine": Baseline(_adam(warmup_cosine), _ADAM_SPACE, _ADAM_DEFAULT, _ADAM + _COSINE, scheduled=True),
    "nadamw_cosine": Baseline(
        _nadamw(warmup_cosine), _NADAMW_SPACE, _NADAMW_DEFAULT, _NADAMW + _COSINE, scheduled=True
    ),
    "muon_cosine": Baseline(_muon(warmup_cosine), _MUON_SPACE, _MUON_DEFAULT, _MUON + _COSINE, scheduled=True),
    "muonw_cosine": Baseline(_muon(warmup_cosine), _MUONW_SPACE, _MUONW_DEFAULT, _MUON + _COSINE, scheduled=True),
}
# Tuned by train loss: shows how much of a learned optimizer's advantage in train loss is due to tuning.
BASELINES["muon_cosine_by_train"] = dataclasses.replace(
    BASELINES["muon_cosine"], tuned_by="train", reference=f"{_MUON}{_COSINE}; tuned by train loss"
)
# Tuned once, on the family that learned optimizers are outer-trained on, and transferred to other tasks as those are.
BASELINES |= {
    f"{name}_family_tuned": dataclasses.replace(
        BASELINES[name],
        values_of=("imagenet32_cnn3", name),
        reference=f"{BASELINES[name].reference}; with the values tuned on imagenet32_cnn3",
    )
    for name in ("adam", "adam_cosine", "muonw_cosine")
}
