"""Options that several commands share, and the project file behind them: flag > environment > bench.toml > default."""

import contextlib
import functools
import math
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click

from bench.cli.terminal import json_alone
from bench.engines.cluster import Cluster, read_cluster_file
from bench.errors import UsageError, nearest
from bench.folders import Folders
from bench.suites.suite import MOST

PROJECT_FILE = "bench.toml"
FOLDER_OPTIONS = {
    "results_dir": ("BENCH_RESULTS_DIR", "Where results are kept.  [default: ./results]"),
    "reports_dir": ("BENCH_REPORTS_DIR", "Where reports are written.  [default: ./reports]"),
    "cache_dir": ("BENCH_CACHE_DIR", "Where decoded data is kept.  [default: ~/.cache/lopt-bench]"),
    "data_dir": ("TFDS_DATA_DIR", "Where TFDS data lies.  [default: ~/tensorflow_datasets]"),
    "weights_dir": ("BENCH_WEIGHTS_DIR", "Where weights of others lie.  [default: `weights` in the cache folder]"),
}
SETTINGS = (*FOLDER_OPTIONS, "device")  # keys of the project file


def project_settings(folder: Path = Path()) -> dict[str, str]:
    """Settings of `bench.toml` in the working directory; what is empty there is not set.

    Raises:
      UsageError: not TOML, an unknown key, or a value that is not text.
    """
    path = folder / PROJECT_FILE
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    for key, value in table.items():
        if key not in SETTINGS:
            raise nearest(f"key of {path}", key, SETTINGS)
        if not isinstance(value, str):
            raise UsageError(f"{path}: expected {key} to be text, got {value!r}")
    return {key: value for key, value in table.items() if value}


def read_project_file(context: click.Context, commands: list[str]) -> None:
    """Makes the settings of `bench.toml` the defaults of all commands, below flags and environment.

    What is wrong with the file is told by commands that take such a setting (`folder_options`): the others, and
    `--help`, go on without it.
    """
    try:
        context.default_map = dict.fromkeys(commands, project_settings())
    except UsageError as error:
        context.obj = error


def folder_options(command: Callable) -> Callable:
    """Adds --results-dir, --reports-dir, --cache-dir, --data-dir and --weights-dir; the command gets `folders`."""

    @functools.wraps(command)
    def wrapped(**kwargs: Any) -> Any:
        if isinstance(problem := click.get_current_context().obj, UsageError):
            raise problem
        chosen = {name: kwargs.pop(name) for name in FOLDER_OPTIONS}
        for name, value in chosen.items():
            if value and "://" in value:
                raise UsageError(f"--{name.replace('_', '-')} expects a folder of this machine, got {value!r}")
        return command(folders=Folders(**{name: Path(value) for name, value in chosen.items() if value}), **kwargs)

    for name, (variable, text) in reversed(FOLDER_OPTIONS.items()):
        wrapped = click.option(f"--{name.replace('_', '-')}", envvar=variable, metavar="DIR", help=text)(wrapped)
    return wrapped


def duration_sec(text: str, option: str) -> float:
    """Seconds of a duration like 2h, 30m or 90s.

    Args:
      text: the duration.
      option: name of the option that it is a value of.

    Raises:
      UsageError: it is no such text.

    Example:
      >>> duration_sec("1.5m", "--budget")
      90.0
    """
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        value = float(text[:-1]) * (unit or math.nan)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{option} expects a time like 2h, 30m or 90s, got {text!r}")
    return value


class FiniteRange(click.FloatRange):
    """A float of a range, which "nan" is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, refused where it is not finite."""
        converted = super().convert(value, param, ctx)
        if not math.isfinite(converted):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return converted


class Formats(click.ParamType):
    """Some of the known formats, with commas between."""

    name = "formats"

    def __init__(self, known: Collection[str]) -> None:
        self.known = tuple(known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The formats, each refused that is not known."""
        found = tuple(filter(None, value.split(","))) if isinstance(value, str) else tuple(value)
        for name in found:
            if name not in self.known:
                self.fail(f"unknown format {name!r}; known: {', '.join(self.known)}.", param, ctx)
        return found


STEPS = click.IntRange(min=1, max=MOST)
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE", help="Python file that adds tasks or optimizers."
)
device_option = click.option("--device", envvar="BENCH_DEVICE", metavar="cpu|gpu[:i]", help="Where to run.")
devices_option = click.option(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Devices that samples are spread over; on a CPU, host devices.",
)


def json_option(command: Callable) -> Callable:
    """Adds --json; with it nothing but what `print_json` prints comes to standard output."""

    @functools.wraps(command)
    def wrapped(**kwargs: Any) -> Any:
        with json_alone() if kwargs["as_json"] else contextlib.nullcontext():
            return command(**kwargs)

    return click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")(wrapped)


def engine_options(command: Callable) -> Callable:
    """Adds --engine and what goes with it, --shard and --time-limit.

    The command gets `cluster` (None without an engine), `shard` and `time_limit_sec`.
    """

    @functools.wraps(command)
    def wrapped(
        engine: str, scheduler: str | None, cluster: str | None, workers: int | None, unlike: str, **kwargs: Any
    ) -> Any:
        limit = kwargs.pop("time_limit")
        kwargs["time_limit_sec"] = math.inf if limit is None else duration_sec(limit, "--time-limit")
        found = Cluster(scheduler, cluster, workers, unlike == "mark")
        if engine != "dask" and found != Cluster():
            raise UsageError("--scheduler, --cluster, --workers and --unlike go with --engine dask")
        if cluster:
            read_cluster_file(cluster)
        return command(cluster=found if engine == "dask" else None, **kwargs)

    options = (
        click.option("--engine", type=click.Choice(["local", "dask"]), default="local", help="Where cells run."),
        click.option("--scheduler", metavar="ADDRESS", help="With --engine dask: of the scheduler, tcp://HOST:8786."),
        click.option("--cluster", metavar="FILE", help="With --engine dask: TOML for Slurm, PBS, LSF or SGE."),
        click.option("--workers", type=click.IntRange(min=1, max=1024), metavar="N", help="With --engine dask: here."),
        click.option(
            "--unlike",
            type=click.Choice(["refuse", "mark"]),
            default="refuse",
            help="With --engine dask: workers of another version or processor.",
        ),
        click.option("--shard", metavar="K/N", help="Only the k-th of n parts, as of a job array."),
        click.option("--time-limit", metavar="2h|55m|90s", help="End cleanly after this time; exit code 0."),
    )
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def subset_options(command: Callable) -> Callable:
    """Adds -t, -o, --seeds, --steps and --set, which choose a part of a suite or change it."""
    options = (
        click.option("-t", "--task", "tasks_", multiple=True, metavar="TASK", help="Only these tasks."),
        click.option("-o", "--optimizer", "optimizers", multiple=True, metavar="OPTIMIZER", help="Only these."),
        click.option("--seeds", metavar="0-9", help="Only these seeds."),
        click.option("--steps", type=STEPS, metavar="N", help="Another horizon."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="adam.learning_rate=1e-3, ..."),
    )
    for option in reversed(options):
        command = option(command)
    return command
