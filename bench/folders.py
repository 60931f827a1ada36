"""The folders of results, reports, data and weights; `Folders()` has the defaults of the command line."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import UsageError


def _cache_dir() -> Path:
    from tasks.data import default_cache_dir  # imports jax: the command line answers before it does

    return default_cache_dir()


def _data_dir() -> Path:
    from tasks.data import default_data_dir

    return default_data_dir()


@dataclass(frozen=True)
class Folders:
    """Where results, reports, data and weights lie; a `~` at the beginning of a folder is the home, as in a shell.

    Attributes:
      results_dir: stored cells, tuned values, targets and runs of outer-training; ./results.
      reports_dir: pages, tables and figures; ./reports.
      cache_dir: decoded data; BENCH_CACHE_DIR, else ~/.cache/lopt-bench.
      data_dir: prepared TFDS data; TFDS_DATA_DIR, else ~/tensorflow_datasets.
      weights_dir: weights of learned optimizers from elsewhere; BENCH_WEIGHTS_DIR, else `weights` in cache_dir.

    Example:
      >>> Folders(results_dir=Path("elsewhere")).tuned_dir.as_posix()
      'elsewhere/tuned'
    """

    results_dir: Path = Path("results")
    reports_dir: Path = Path("reports")
    cache_dir: Path = field(default_factory=_cache_dir)
    data_dir: Path = field(default_factory=_data_dir)
    weights_dir: Path = None  # pyright: ignore[reportAssignmentType] (of another field: after the others)

    def __post_init__(self) -> None:
        for name in ("results_dir", "reports_dir", "cache_dir", "data_dir", "weights_dir"):
            if (folder := getattr(self, name)) is not None:
                try:
                    object.__setattr__(self, name, Path(folder).expanduser())
                except RuntimeError:  # there is no such user
                    raise UsageError(
                        f"{name.replace('_', ' ')} {str(folder)!r}: there is no such home folder"
                    ) from None
        if self.weights_dir is None:
            from learned.elsewhere import default_folder

            object.__setattr__(self, "weights_dir", default_folder(self.cache_dir))

    @property
    def tuned_dir(self) -> Path:
        """A user's own tuned values."""
        return self.results_dir / "tuned"

    @property
    def targets_dir(self) -> Path:
        """A user's own frozen targets."""
        return self.results_dir / "targets"
