"""Any optimizer of `optax` and `optax.contrib` as a baseline, by name: `optax.lion`, `optax.contrib.prodigy`.

Its learning rate is searched within a factor of a hundred of its default; everything else keeps optax's defaults. What
asks for more at a step than all optimizers get here is refused.
"""

import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from baselines.base import Baseline, LogUniform

PREFIX = "optax."
RATES = ("learning_rate", "max_learning_rate")  # names that it has in optax
USUAL_RATE = 1e-3  # where a constructor has no default
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def is_of_optax(name: str) -> bool:
    """Whether a name is that of an optimizer of optax."""
    return name.startswith(PREFIX)


@functools.cache
def of_optax(name: str) -> Baseline:
    """The row of `optax.NAME` or `optax.contrib.NAME`.

    Raises:
      ValueError: there is no such constructor, it takes no learning rate, it has other arguments without a default, or
        it cannot take a step from what it is given here; one line.

    Example:
      >>> of_optax("optax.contrib.prodigy").default
      {'learning_rate': 1.0}
    """
    parts = name.removeprefix(PREFIX).split(".")
    module = optax.contrib if parts[:-1] == ["contrib"] else optax
    made = getattr(module, parts[-1], None) if parts[:-1] in ([], ["contrib"]) else None
    if not inspect.isfunction(made) or parts[-1].startswith(("_", "scale_by_")):
        raise ValueError(f"{name}: expected an optimizer of optax or optax.contrib, as in optax.contrib.prodigy")
    arguments = inspect.signature(made).parameters
    rate_name = next((key for key in RATES if key in arguments), None)
    if rate_name is None:
        raise ValueError(f"{name} takes no learning_rate: it is no optimizer that can be tuned like the others")
    needed = [key for key, one in arguments.items() if one.default is one.empty and one.kind not in _VARIADIC]
    if others := [key for key in needed if key != rate_name]:
        raise ValueError(f"{name} needs {', '.join(others)}: write it as a plug-in, which says what they are")
    _take_a_step(name, lambda rate: made(**{rate_name: rate}))
    default = arguments[rate_name].default
    rate = default if isinstance(default, int | float) and default > 0 else USUAL_RATE
    return Baseline(
        make=lambda h, horizon: made(**{rate_name: h[rate_name]}),
        space={rate_name: LogUniform(rate / 100, rate * 100)},
        default={rate_name: float(rate)},
        reference=f"{name} of optax {optax.__version__}",
    )


def _take_a_step(name: str, make: Callable[..., optax.GradientTransformation]) -> None:
    """Traces a step as the inner loop takes it, which computes nothing.

    Raises:
      ValueError: it raises; one line.
    """
    params = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}

    def step(rate):
        optimizer = optax.with_extra_args_support(make(rate))
        return optimizer.update(params, optimizer.init(params), params, value=jnp.zeros(()))

    try:
        jax.eval_shape(step, jnp.ones(()))
    except Exception as error:  # of any kind: what it asks for and lacks, it says in its own way
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name} cannot run here, where a step is made of gradients, parameters and the loss: {reason:.200}"
        ) from None
