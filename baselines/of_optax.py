"""Any optimizer of `optax` and `optax.contrib` as a baseline, by name: `optax.lion`, `optax.contrib.prodigy`.

Its learning rate is searched within a factor of a hundred of its default; everything else keeps optax's defaults.
"""

import functools
import inspect

import optax
import optax.contrib

from baselines.base import Baseline, LogUniform

PREFIX = "optax."
RATE = "learning_rate"
USUAL_RATE = 1e-3  # where a constructor has no default
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def is_of_optax(name: str) -> bool:
    """Whether a name is that of an optimizer of optax."""
    return name.startswith(PREFIX)


@functools.cache
def of_optax(name: str) -> Baseline:
    """The row of `optax.NAME` or `optax.contrib.NAME`.

    Raises:
      ValueError: there is no such constructor, it takes no learning rate, or it has other arguments without a default;
        one line.

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
    if RATE not in arguments:
        raise ValueError(f"{name} takes no {RATE}: it is no optimizer that can be tuned like the others")
    needed = [key for key, one in arguments.items() if one.default is one.empty and one.kind not in _VARIADIC]
    if others := [key for key in needed if key != RATE]:
        raise ValueError(f"{name} needs {', '.join(others)}: write it as a plug-in, which says what they are")
    default = arguments[RATE].default
    rate = default if isinstance(default, int | float) and default > 0 else USUAL_RATE
    return Baseline(
        make=lambda h, horizon: made(learning_rate=h[RATE]),
        space={RATE: LogUniform(rate / 100, rate * 100)},
        default={RATE: float(rate)},
        reference=f"{name} of optax {optax.__version__}",
    )
