"""The hand-designed optimizers: a literal table of optax constructors, search spaces and references.

Constant-rate and scheduled forms are separate rows, each tuned with the full budget (protocol rule 1): Metz et al.
(arXiv 1810.10180) compare with constant rates, but schedules are common in practice. A row searches at most four
hyperparameters, with twice as many trials where there are four.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
import optax.contrib
from jax import Array

from baselines.averages import average_params, by_power
from baselines.base import Baseline, Hyperparameters, LogUniform
from baselines.muon import kernels, muon
from baselines.soap import scale_by_soap

WARMUP_FRACTION = 0.05


def warmup_steps(horizon: int) -> int:
    """Steps of linear warm-up: 5 % of the horizon, at least one."""
    return max(1, round(WARMUP_FRACTION * horizon))


def warmup_cosine(peak: float | Array, horizon: int) -> optax.Schedule:
    """Linear warm-up over 5 % of the horizon to `peak`, then a cosine to zero at the horizon.

    Written out because `optax.warmup_cosine_decay_schedule` refuses a traced peak, and tuning runs all trials in one
    program.
    """
    warmup = warmup_steps(horizon)

    def schedule(count):
        rising = (count + 1) / warmup
        progress = jnp.clip((count + 1 - warmup) / max(1, horizon - warmup), 0.0, 1.0)
        return peak * jnp.where(count < warmup, rising, 0.5 * (1.0 + jnp.cos(jnp.pi * progress)))

    return schedule


def warmup_linear(peak: float | Array, horizon: int) -> optax.Schedule:
    """Linear warm-up over 5 % of the horizon to `peak`, then a line to zero at the horizon."""
    warmup = warmup_steps(horizon)

    def schedule(count):
        falling = (horizon - count - 1) / max(1, horizon - warmup)
        return peak * jnp.where(count < warmup, (count + 1) / warmup, jnp.maximum(falling, 0.0))

    return schedule


def warmup_constant(peak: float | Array, horizon: int) -> optax.Schedule:
    """Linear warm-up over 5 % of the horizon to `peak`, which stays."""
    warmup = warmup_steps(horizon)
    return lambda count: peak * jnp.minimum((count + 1) / warmup, 1.0)


def constant(rate: float | Array, horizon: int) -> float | Array:
    """The same rate at every step."""
    del horizon
    return rate


Rate = Callable[[float | Array, int], float | Array | optax.Schedule]  # (peak, horizon) -> rate or schedule
Make = Callable[[Hyperparameters, int], optax.GradientTransformation]


def _sgd_momentum(rate: Rate) -> Make:
    return lambda h, horizon: optax.sgd(rate(h["learning_rate"], horizon), momentum=1.0 - h["one_minus_momentum"])


def _sgdw(rate: Rate) -> Make:
    """The decay, of kernels, is not part of the momentum; it follows the schedule."""
    return lambda h, horizon: optax.chain(
        optax.trace(decay=1.0 - h["one_minus_momentum"]),
        optax.add_decayed_weights(h["weight_decay"], kernels),
        optax.scale_by_learning_rate(rate(h["learning_rate"], horizon)),
    )


def _rmsprop(rate: Rate) -> Make:
    return lambda h, horizon: optax.rmsprop(rate(h["learning_rate"], horizon), decay=1.0 - h["one_minus_decay"])


def _adam(rate: Rate) -> Make:
    return lambda h, horizon: optax.adam(
        rate(h["learning_rate"], horizon), b1=1.0 - h["one_minus_b1"], b2=1.0 - h["one_minus_b2"]
    )


def _with_decay(optimizer: Callable[..., optax.GradientTransformation]) -> Callable[[Rate], Make]:
    """What takes the arguments of `optax.adamw`; the decay is of kernels, as in Muon's rows and in learned ones.

    Where b1 is not searched, it is 0.9.
    """
    return lambda rate: (
        lambda h, horizon: optimizer(
            rate(h["learning_rate"], horizon),
            b1=1.0 - h.get("one_minus_b1", 0.1),
            b2=1.0 - h["one_minus_b2"],
            weight_decay=h["weight_decay"],
            mask=kernels,
        )
    )


def _nadamw(rate: Rate) -> Make:
    """The decay is of biases too, as `optax.nadamw` has it by default; b2 stays 0.999."""
    return lambda h, horizon: optax.nadamw(
        rate(h["learning_rate"], horizon), b1=1.0 - h["one_minus_b1"], weight_decay=h["weight_decay"]
    )


def _soap(
    rate: float | Array | optax.Schedule, *, b1: Any, b2: Any, weight_decay: Any, mask: Any
) -> optax.GradientTransformation:
    return optax.chain(
        scale_by_soap(b1, b2), optax.add_decayed_weights(weight_decay, mask), optax.scale_by_learning_rate(rate)
    )


def _ademamix(rate: Rate) -> Make:
    """With the warm-ups of the paper, over the horizon, and its alpha of 5; of the fast average b1 stays 0.9."""

    def make(h: Hyperparameters, horizon: int) -> optax.GradientTransformation:
        fast, slow = jnp.log(0.9), jnp.log1p(-h["one_minus_b3"])

        def b3(count: Any) -> Array:
            """Half-lives grow evenly from that of b1."""
            share = jnp.minimum(count / horizon, 1.0)
            return jnp.exp(fast * slow / ((1.0 - share) * slow + share * fast))

        return optax.contrib.ademamix(
            rate(h["learning_rate"], horizon),
            b2=1.0 - h["one_minus_b2"],
            b3=b3,
            alpha=lambda count: 5.0 * jnp.minimum(count / horizon, 1.0),
            mu_dtype=jnp.float32,  # what a schedule is multiplied with becomes it anyway
            weight_decay=h["weight_decay"],
            mask=kernels,
        )

    return make


def _prodigy(rate: Rate) -> Make:
    """The rate multiplies the step, and the estimate of the method in so far as that grows with the way gone.

    The warm-up is left out of the estimate's denominator, as the authors advise, so that a rate below 1 lowers the
    estimate too. The decay is of biases too: optax's form has no mask.
    """
    return lambda h, horizon: optax.contrib.prodigy(
        rate(h["learning_rate"], horizon),
        betas=(1.0 - h["one_minus_b1"], 1.0 - h["one_minus_b2"]),
        weight_decay=h["weight_decay"],
        safeguard_warmup=True,
    )


def _schedule_free_adamw(rate: Rate) -> Make:
    """Evaluated at the average of its iterates (`tasks.evaluation`)."""

    def make(h: Hyperparameters, horizon: int) -> optax.GradientTransformation:
        rates = rate(h["learning_rate"], horizon)
        b2, decay = 1.0 - h["one_minus_b2"], h["weight_decay"]
        adamw = optax.adamw(rates, b1=0.0, b2=b2, weight_decay=decay, mask=kernels)
        return optax.contrib.schedule_free(adamw, rates, b1=1.0 - h["one_minus_b1"])

    return make


def _muon(rate: Rate) -> Make:
    """Where the rate of biases is not searched, it is fixed."""
    return lambda h, horizon: muon(
        rate(h["learning_rate"], horizon),
        beta=1.0 - h["one_minus_momentum"],
        weight_decay=h.get("weight_decay", 0.0),
        adam_learning_rate=rate(h.get("adam_learning_rate", 1e-2), horizon),
    )


def _averaged(make: Make) -> Make:
    """Evaluated at the average, by a power of the number of steps, beside a schedule."""
    return lambda h, horizon: optax.chain(make(h, horizon), average_params(by_power(h["average_power"])))


def _soap_muon(rate: Rate) -> Make:
    """Muon without a momentum of its own, on SOAP's direction for kernels; SOAP's b2 stays 0.95."""
    return lambda h, horizon: optax.chain(
        optax.masked(scale_by_soap(b1=1.0 - h["one_minus_momentum"]), kernels),
        muon(
            rate(h["learning_rate"], horizon),
            beta=0.0,
            nesterov=False,
            weight_decay=h["weight_decay"],
            adam_learning_rate=rate(h["adam_learning_rate"], horizon),
        ),
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
_DECAY = _NADAMW_SPACE["weight_decay"]
_SGDW_SPACE = {
    **_SGD_SPACE,
    "weight_decay": LogUniform(1e-4, 1e-1, low_bound=1e-4),  # below as for NAdamW: rates of SGD are ten times as large
}
_SGDW_DEFAULT = {**_SGD_DEFAULT, "weight_decay": 1e-3}
_ADAMW_SPACE = {**_ADAM_SPACE, "weight_decay": _DECAY}
_ADAMW_DEFAULT = {**_ADAM_DEFAULT, "weight_decay": 1e-2}
_MUONW_BIAS_SPACE = {
    **_MUONW_SPACE,
    # To 0.3: on imagenet32_cnn3 muon_cosine chose 0.05, near the end of its own range.
    "adam_learning_rate": dataclasses.replace(_MUON_SPACE["adam_learning_rate"], high=0.3),
}
_MUONW_BIAS_DEFAULT = {**_MUONW_DEFAULT, "adam_learning_rate": 1e-3}
_MUONW_AVERAGE_SPACE = {**_MUONW_SPACE, "average_power": LogUniform(2.0, 64.0, low_bound=0.25)}
_MUONW_AVERAGE_DEFAULT = {**_MUONW_DEFAULT, "average_power": 8.0}
_SOAP_DEFAULT = {"learning_rate": 3e-3, "one_minus_b1": 0.05, "one_minus_b2": 0.05, "weight_decay": 1e-2}
_LION_SPACE = {
    **_ADAMW_SPACE,
    # A step has the size of the rate in every coordinate: the paper takes a third to a tenth of Adam's, and a decay as
    # many times larger.
    "learning_rate": LogUniform(3e-5, 1e-2),
    # Of its momentum, which b1 mixes with the gradient: 0.01 in the paper.
    "one_minus_b2": LogUniform(3e-3, 0.3, low_bound=1e-4, high_bound=1.0),
    "weight_decay": LogUniform(3e-2, 10.0, low_bound=3e-2),
}
_LION_DEFAULT = {"learning_rate": 1e-3, "one_minus_b1": 0.1, "one_minus_b2": 1e-2, "weight_decay": 3e-2}
_ADEMAMIX_SPACE = {
    "learning_rate": _RATE_OF_ADAM,
    "one_minus_b2": _ADAM_SPACE["one_minus_b2"],
    "one_minus_b3": LogUniform(1e-4, 1e-1, low_bound=1e-4, high_bound=1.0),  # slower than b1
    "weight_decay": _DECAY,
}
_ADEMAMIX_DEFAULT = {"learning_rate": 1e-3, "one_minus_b2": 1e-3, "one_minus_b3": 1e-3, "weight_decay": 1e-2}
_PRODIGY_SPACE = {
    **_ADAMW_SPACE,
    "learning_rate": LogUniform(0.3, 5.0),  # at 0.1 the estimate stays where it begins, and nothing trains
    "one_minus_b2": LogUniform(1e-4, 1e-1, low_bound=1e-4, high_bound=1.0),  # sqrt(b2) is the memory of the estimate
}
_PRODIGY_DEFAULT = {**_ADAMW_DEFAULT, "learning_rate": 1.0}
_SCHEDULE_FREE_SPACE = {
    **_ADAMW_SPACE,
    # The share of the average in the point of the gradient: at 0 the average cannot be told from it.
    "one_minus_b1": LogUniform(2e-2, 0.5, low_bound=1e-4, high_bound=0.9),
}
_SCHEDULE_FREE_DEFAULT = {**_ADAMW_DEFAULT, "learning_rate": 2.5e-3}
_ADAMW_AVERAGE_SPACE = {
    "learning_rate": _RATE_OF_ADAM,
    "one_minus_b2": _ADAM_SPACE["one_minus_b2"],
    "weight_decay": _DECAY,
    "average_power": _MUONW_AVERAGE_SPACE["average_power"],
}
_ADAMW_AVERAGE_DEFAULT = {"learning_rate": 1e-3, "one_minus_b2": 1e-3, "weight_decay": 1e-2, "average_power": 8.0}

_SGD = "Polyak 1964; Sutskever, Martens, Dahl, Hinton, ICML 2013"
_RMSPROP = "Tieleman, Hinton, Coursera lecture 6.5, 2012"
_ADAM = "Kingma, Ba, arXiv 1412.6980"
_ADAMW = "Loshchilov, Hutter, arXiv 1711.05101"
_NADAMW = "Dozat 2016; Loshchilov, Hutter, arXiv 1711.05101; as in AlgoPerf, arXiv 2306.07179"
_MUON = "Jordan et al. 2024, github.com/KellerJordan/Muon; decay of the weights: Liu et al., arXiv 2502.16982"
_SOAP = "Vyas et al., arXiv 2409.11321"
_SOAP_MUON = "Vyas et al. 2025, Improving SOAP using iterative whitening and Muon, nikhilvyas.github.io/SOAP_Muon.pdf"
_LION = "Chen et al., arXiv 2302.06675"
_ADEMAMIX = "Pagliardini, Ablin, Grangier, arXiv 2409.03137"
_PRODIGY = "Mishchenko, Defazio, arXiv 2306.06101"
_SCHEDULE_FREE = "Defazio et al., arXiv 2405.15682"
_AVERAGED = "; averaged weights: Shamir, Zhang, arXiv 1212.1824"
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
    # Rivals matched in decay and in what is searched; evaluated where each is meant to be (`tasks.evaluation`).
    "sgdw_cosine": Baseline(
        _sgdw(warmup_cosine), _SGDW_SPACE, _SGDW_DEFAULT, f"{_SGD}; {_ADAMW}{_COSINE}", scheduled=True
    ),
    "adamw_cosine": Baseline(
        _with_decay(optax.adamw)(warmup_cosine), _ADAMW_SPACE, _ADAMW_DEFAULT, _ADAMW + _COSINE, scheduled=True
    ),
    "nadamw_b2_cosine": Baseline(
        _with_decay(optax.nadamw)(warmup_cosine), _ADAMW_SPACE, _ADAMW_DEFAULT, _NADAMW + _COSINE, scheduled=True
    ),
    "muonw_average_cosine": Baseline(
        _averaged(_muon(warmup_cosine)),
        _MUONW_AVERAGE_SPACE,
        _MUONW_AVERAGE_DEFAULT,
        _MUON + _COSINE + _AVERAGED,
        scheduled=True,
    ),
    "muonw_linear": Baseline(_muon(warmup_linear), _MUONW_SPACE, _MUONW_DEFAULT, _MUON, scheduled=True),
    "muonw_bias_cosine": Baseline(
        _muon(warmup_cosine), _MUONW_BIAS_SPACE, _MUONW_BIAS_DEFAULT, _MUON + _COSINE, scheduled=True
    ),
    "lion_cosine": Baseline(
        _with_decay(optax.lion)(warmup_cosine), _LION_SPACE, _LION_DEFAULT, _LION + _COSINE, scheduled=True
    ),
    "ademamix_cosine": Baseline(
        _ademamix(warmup_cosine), _ADEMAMIX_SPACE, _ADEMAMIX_DEFAULT, _ADEMAMIX + _COSINE, scheduled=True
    ),
    "soap_cosine": Baseline(
        _with_decay(_soap)(warmup_cosine), _ADAMW_SPACE, _SOAP_DEFAULT, _SOAP + _COSINE, scheduled=True
    ),
    "soap_muon_cosine": Baseline(
        _soap_muon(warmup_cosine), _MUONW_BIAS_SPACE, _MUONW_BIAS_DEFAULT, _SOAP_MUON + _COSINE, scheduled=True
    ),
    "prodigy": Baseline(_prodigy(warmup_cosine), _PRODIGY_SPACE, _PRODIGY_DEFAULT, _PRODIGY + _COSINE, scheduled=True),
    "schedule_free_adamw": Baseline(
        _schedule_free_adamw(warmup_constant),
        _SCHEDULE_FREE_SPACE,
        _SCHEDULE_FREE_DEFAULT,
        _SCHEDULE_FREE,
        scheduled=True,
    ),
    "adamw_average_cosine": Baseline(
        _averaged(_with_decay(optax.adamw)(warmup_cosine)),
        _ADAMW_AVERAGE_SPACE,
        _ADAMW_AVERAGE_DEFAULT,
        _ADAMW + _COSINE + _AVERAGED,
        scheduled=True,
    ),
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
