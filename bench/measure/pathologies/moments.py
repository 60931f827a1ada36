"""Unbiased estimates of squared norms of mean vectors and of variances, from independent replications.

The squared norm of a mean of R noisy vectors is biased upwards; products of different replications are unbiased. One
number is stored for each replication; the estimate and its jackknife interval are computed from these.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.statistics import CONFIDENCE, Interval
from learned.base import Theta


def products(a: ArrayLike, b: ArrayLike | None = None) -> NDArray[np.float64]:
    """The product of each replication of a, (R, P), with the mean of the other replications of b, (R,).

    The mean of these products is an unbiased estimate of E[a] . E[b], if replication i of a is independent of the other
    replications of b. Without b it estimates |E[a]|^2.
    """
    a = np.asarray(a, np.float64)
    b = a if b is None else np.asarray(b, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.sum(a * (b.sum(axis=0) - b), axis=1) / (len(a) - 1)


def deviations(values: ArrayLike) -> NDArray[np.float64]:
    """Squared distances of replications, (R, P), from their mean, scaled so that their mean is the variance, (R,)."""
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.sum((values - values.mean(axis=0)) ** 2, axis=1) * len(values) / (len(values) - 1)


def jackknife(
    function: Callable[..., NDArray[np.float64]], *stored: tuple[ArrayLike, int], log: bool = False
) -> Interval:
    """A function of means over replications, with its jackknife interval.

    Args:
      function: of arrays, elementwise.
      stored: for each argument (values, degree): the values (R,) whose mean is the argument; degree 1 for a mean or
        `deviations`, 2 for `products`, in which two replications are factors of each value.
      log: whether the interval is computed on a logarithmic scale, as for variances and their ratios.

    Returns:
      The estimate with the 95 % t interval of R - 1 degrees of freedom; without bounds where it is not finite.
    """
    from scipy.special import stdtrit  # here, since every command that reports imports this module

    columns = [(np.asarray(values, np.float64), degree) for values, degree in stored]
    n = len(columns[0][0])
    scale, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
    with np.errstate(all="ignore"):
        estimate = scale(function(*(values.mean() for values, _ in columns)))
        left_out = scale(
            function(*((n * values.mean() - degree * values) / (n - degree) for values, degree in columns))
        )
        error = np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2))
        half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * error
        middle, low, high = (float(back(x)) for x in (estimate, estimate - half, estimate + half))
    return Interval(middle, low, high, n) if np.isfinite([middle, low, high]).all() else Interval(middle, None, None, n)


def vectors(replications: Sequence[Theta]) -> NDArray[np.float64]:
    """One gradient of each replication as (R, P)."""
    return flattened({name: np.stack([found[name] for found in replications]) for name in replications[0]})


def flattened(gradients: Theta) -> NDArray[np.float64]:
    """Leaves (R, ...) in the order of their names as vectors (R, P)."""
    leaves = [np.asarray(gradients[name], np.float64) for name in sorted(gradients)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
