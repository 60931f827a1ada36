"""From a curve of losses to the step at which it first reaches a level."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMOOTHING = 5  # points of the evaluation grid


def smooth(losses: ArrayLike) -> NDArray[np.float64]:
    """Running median over `SMOOTHING` points of the grid, the window symmetric and narrower towards both ends.

    A median, since it removes a spike and leaves every monotone curve as it is: smoothing moves no crossing of those.

    Args:
      losses: (num_points,) or (num_points, num_seeds); NaN, where a run has ended, counts as infinite.
    """
    x = np.asarray(losses, np.float64)
    x = np.where(np.isfinite(x), x, np.inf)
    out, half = x.copy(), SMOOTHING // 2
    for reach in range(1, half + 1):  # wider windows overwrite narrower ones, further from the ends
        if len(x) > 2 * reach:
            windows = np.lib.stride_tricks.sliding_window_view(x, 2 * reach + 1, axis=0)
            out[reach:-reach] = np.sort(windows, axis=-1)[..., reach]  # np.median would make inf - inf a NaN
    return out


def steps_to(level: float, steps: ArrayLike, losses: ArrayLike) -> float:
    """The inner step at which a smoothed curve first reaches a level, inf if it never does.

    Between two points of the grid the loss is taken as linear.

    Args:
      level: loss.
      steps: (num_points,) ascending.
      losses: (num_points,) unsmoothed.

    Example:
      >>> steps_to(1.5, [0, 10, 20], [3.0, 2.0, 1.0])
      15.0
    """
    return first_crossing(level, np.asarray(steps, np.float64), smooth(losses))


def first_crossing(level: float, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """`steps_to` on a curve that is smoothed already."""
    reached = np.flatnonzero(y <= level)
    if not len(reached) or not math.isfinite(level):  # the level of a run that diverged is no target
        return math.inf
    i = int(reached[0])
    if i == 0 or not math.isfinite(y[i - 1]):
        return float(x[i])
    return float(x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i]))
