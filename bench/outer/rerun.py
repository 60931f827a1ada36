"""`bench verify --outer`: repeats the first outer steps of a published run."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

import tasks
from bench.device import use_devices
from bench.errors import usage_errors
from bench.folders import Folders
from bench.outer.folders import as_config, run_folder
from bench.outer.run import progress_line
from bench.statistics import Interval, t_interval
from bench.store.provenance import processor
from learned import outer
from learned.config import OuterConfig

RERUN_TOLERANCE = 1e-3  # relative difference of metrics that is allowed on another kind of device


@dataclasses.dataclass(frozen=True)
class Rerun:
    """The comparison of repeated outer steps with the published ones.

    Attributes:
      outer_steps: number of outer steps that were compared.
      bit_equal: whether all metrics of all outer steps are equal to the last bit.
      difference: largest relative difference of a metric; inf where one of the two is not finite.
      loss_change: outer-loss of the rerun minus the published one, mean over outer steps where it is finite, with an
        interval that treats outer steps as independent; None where there are none. On another device single losses may
        differ as much as with another seed, since unrolls at the edge of stability amplify rounding; the mean should
        not.
      same_device: whether the published run is known to have used this kind of device and, for a CPU, this processor
        with the same number of cores. The order of summation in matrix products depends on both.
    """

    outer_steps: int
    bit_equal: bool
    difference: float
    loss_change: Interval | None
    same_device: bool

    @property
    def holds(self) -> bool:
        """Whether the rerun agrees: to the last bit on the same device, to 1e-3 on another."""
        return self.bit_equal or (not self.same_device and self.difference <= RERUN_TOLERANCE)


def rerun_outer(
    config: OuterConfig | str,
    label: str,
    *,
    outer_steps: int = 100,
    num_devices: int = 1,
    device: str | None = None,
    folders: Folders | None = None,
    advance: Callable[..., None] = lambda share, line: None,
) -> Rerun:
    """Repeats the first outer steps of a published run of outer-training and compares every metric.

    Args:
      config: configuration of the run, or its name or path.
      label: label of the published run.
      outer_steps: number of outer steps; at most as many as the run has.
      num_devices: devices that samples are spread over; another number than the run's changes rounding.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.
      folders: where results and data lie; by default those of the command line.
      advance: called after every outer step with the fraction done since the last call, and a line of progress.

    Raises:
      UsageError: there is no such configuration, nothing readable is published, or there are too few devices.
      tasks.data.MissingDataError: the family's data is neither cached nor found.
    """
    use_devices(device, num_devices)
    config, folders = as_config(config), folders or Folders()
    return rerun(
        config,
        outer.load_families(config, data_dir=folders.data_dir, cache_dir=folders.cache_dir),
        run_folder(folders.results_dir, config, label),
        outer_steps=outer_steps,
        num_devices=num_devices,
        advance=lambda steps, line: advance(steps / outer_steps, line),
    )


def rerun(
    config: OuterConfig,
    families: tasks.TaskFamily | outer.Families,
    folder: Path,
    *,
    outer_steps: int,
    num_devices: int,
    advance: Callable[..., None] = lambda share, line: None,
) -> Rerun:
    """Repeats the first outer steps of a published run and compares every metric.

    Args:
      config: configuration of the run.
      families: task families with their data.
      folder: folder of the published run, see `publish`.
      outer_steps: number of outer steps; at most as many as the run has.
      num_devices: devices that samples are spread over; another number than the run's changes rounding.
      advance: called after every outer step with 1 and a line of progress.

    Raises:
      UsageError: nothing readable is published, it has another configuration, or there are too few devices.
    """
    with usage_errors():
        _, published, summary = outer.stage_end(folder, config)
    published = published[:outer_steps]
    taken: list[dict[str, float]] = []

    class Enough(Exception):
        """Raised after the last outer step that is compared."""

    def on_step(progress: outer.Progress) -> None:
        taken.append(dict(progress.metrics))
        advance(1, progress_line(config, progress))
        if len(taken) == len(published):
            raise Enough

    with usage_errors(), contextlib.suppress(Enough):
        outer.outer_train(outer.Engine(config, families, num_devices), callbacks=outer.Callbacks(on_step=on_step))
    names = sorted({name for row in (*published, *taken) for name in row})
    a, b = (np.array([[row.get(name, np.nan) for name in names] for row in rows]) for rows in (published, taken))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(same, 0.0, np.abs(a - b) / np.maximum(np.abs(a), np.abs(b)))
        changes = (b - a)[:, names.index("outer_loss")]
    return Rerun(
        outer_steps=len(published),
        bit_equal=bool(same.all()),
        difference=float(np.nan_to_num(relative, nan=np.inf, posinf=np.inf).max()),
        loss_change=t_interval(changes[np.isfinite(changes)]) if np.isfinite(changes).any() else None,
        same_device=summary["device"] == jax.devices()[0].device_kind
        and (jax.default_backend() != "cpu" or summary.get("processor") == processor()),
    )
