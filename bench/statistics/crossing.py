"""The step at which a curve of losses first reaches a level."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMOOTHING = 5  # points of the evaluation grid


def smooth(losses: ArrayLike) -> NDArray[np.float64]:
    """Running median over `SMOOTHING` points of the grid; the window is symmetric and narrower towards both ends.

    A median removes spikes and leaves monotone curves unchanged, so it does not shift their crossings.

    Args:
      losses: (num_points,) or (num_points, num_seeds). NaN, after the end of a run, counts as infinite.
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

    The loss is interpolated linearly between points of the grid.

    Args:
      level: loss.
      steps: (num_points,) ascending.
      losses: (num_points,) unsmoothed.

    Example:
      >>> steps_to(1.5, [0, 10, 20], [3.0, 2.0, 1.0])
      15.0
    """
    return float(first_crossings(level, np.asarray(steps, np.float64), smooth(losses)[:, None])[0])


def first_crossings(level: float, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """`steps_to` for smoothed curves y, (num_points, num_seeds), at steps x, (num_points,); (num_seeds,)."""
    if not len(x) or not math.isfinite(level):  # the level of a diverged run is no target
        return np.full(y.shape[1], math.inf)
    reached, seeds = y <= level, np.arange(y.shape[1])
    i = reached.argmax(axis=0)
    before, after = y[i - 1, seeds], y[i, seeds]
    with np.errstate(invalid="ignore", divide="ignore"):  # these cases are handled below
        between = x[i - 1] + (x[i] - x[i - 1]) * (before - level) / (before - after)
    at = np.where((i == 0) | ~np.isfinite(before), x[i], between)
    return np.where(reached.any(axis=0), at, math.inf)
