"""Configurations of outer-training: TOML files, `learned/configs/NAME.toml` or the user's own."""

import dataclasses
import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

import tasks
from learned import curriculum, weights
from learned.curriculum import Count, Stage
from learned.designs import make_design
from learned.estimators import ESTIMATORS, PERTURBED, TRUNCATED
from tasks.tables import read_table

CONFIG_DIR = Path(__file__).parent / "configs"
MOST = sys.float_info.max  # upper limit of numbers: infinity is not allowed

Text = Annotated[str, Meta(min_length=1, description="text")]
NotNegative = Annotated[float, Meta(ge=0, le=MOST, description="a number >= 0")]
Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]


@dataclasses.dataclass(frozen=True)
class OuterConfig:
    """Everything that defines an outer-training run.

    Attributes:
      name: name of the resulting theta.
      design: row of `learned.designs.DESIGNS`.
      design_options: keyword arguments of the design.
      family: task family, or mixture of families; tasks are drawn from the outer_train pool. An outer step takes one
        family of a mixture, and its unrolls are at most as long as that family's horizon.
      validation_family: family or mixture whose outer_validation pool judges theta; None for `family`.
      begin_from: weights, by name or path, that initialize theta; None uses the design's initialization.
      parts: parts of theta that are outer-trained, of those that the design has; all of it without any.
      drawn_as: name of the run whose draws of tasks and perturbations this one has; None for its own. A configuration
        that got another name keeps its numbers so.
      objective: "train" or "validation", the split whose loss is the outer-loss.
      outer_batch: whether the outer-loss uses its own batch under "train" too; see `FamilyObjective`.
      late: whether the loss of a step counts in proportion to its number: the end of a run before its beginning.
      relative: whether the outer-loss of each unroll counts by its logarithm: a tenth less is worth the same on a task
        whose loss is small as on one whose loss is large. Outer-validation takes geometric means.
      score_every: number of inner steps for each evaluation of the outer-loss on its own batch; see `FamilyObjective`.
      untold: share of unrolls whose optimizer is not told the horizon.
      estimator: one row of `learned.estimators.ESTIMATORS`, or two that are merged.
      shared_samples: whether two merged estimators use the same tasks and perturbations.
      window: inner steps of a truncation window. Unrolls of truncated estimators are as long as the curriculum says,
        rounded to windows.
      num_tasks: number of samples of each gradient estimate.
      sigma: scale of the perturbation.
      learning_rate: learning rate of Adam on theta.
      final_learning_rate: fraction of the learning rate at the end of its cosine decay; 1 keeps it constant.
      b1: Adam's first decay.
      clip_sample: norm that each sample's gradient is clipped to before averaging, so that one chaotic unroll does not
        dominate; 0 switches it off.
      leave_out: samples whose gradient is longer than this many times the median of their outer step are left out; 0
        keeps all. At the edge of stability it is many times as long as elsewhere, and says nothing.
      clip_norm: global norm that the gradient is clipped to; 0 switches it off.
      clip_value: absolute value that elements are clipped to, before `clip_norm`; 0 switches it off.
      ema: decay of the exponential average of theta, which is evaluated and kept; 0 uses theta itself.
      patience: number of consecutive updates with a non-finite gradient after which theta is reset to the best.
      stages: the curriculum.
      validation_num_steps: inner steps of an outer-validation unroll.
      validation_num_tasks: tasks of an outer-validation, the same each time.
      validation_every: outer steps between outer-validations.
      seed: seed of theta's initialization, tasks and perturbations.
    """

    name: Text
    design: Text
    family: Text
    stages: Annotated[
        tuple[Stage, ...], Meta(min_length=1, description="tables of num_steps and outer_steps, at least one")
    ]
    design_options: Annotated[tuple[tuple[str, int | float], ...], Meta(description="a table of numbers")] = ()
    begin_from: Text | None = None
    parts: Annotated[tuple[str, ...], Meta(description="a list of names")] = ()
    drawn_as: Text | None = None
    validation_family: Text | None = None
    objective: Annotated[Literal["train", "validation"], Meta(description="train or validation")] = "train"
    outer_batch: bool = False
    score_every: Count = 1
    late: bool = False
    relative: bool = False
    untold: Share = 0.0
    estimator: Annotated[tuple[str, ...], Meta(description="one estimator, or two to merge")] = ("es",)
    shared_samples: bool = True
    window: Count | None = None
    num_tasks: Count = 8
    sigma: Annotated[float, Meta(gt=0, le=MOST, description="a number > 0")] = 0.01
    learning_rate: NotNegative = 3e-3
    final_learning_rate: Share = 0.1
    b1: NotNegative = 0.9
    clip_sample: NotNegative = 0.0
    leave_out: NotNegative = 0.0
    clip_norm: NotNegative = 1.0
    clip_value: NotNegative = 0.0
    ema: Share = 0.0
    patience: Count = 10
    validation_num_steps: Count = 200
    validation_num_tasks: Count = 16
    validation_every: Count = 25
    seed: Annotated[int, Meta(ge=0, description="a whole number >= 0")] = 0

    @property
    def outer_steps(self) -> int:
        """Outer steps of all stages."""
        return curriculum.total_outer_steps(self.stages)

    @property
    def truncated(self) -> bool:
        """Whether unrolls are truncated to windows."""
        return self.estimator[0] in TRUNCATED

    @property
    def shares_unrolls(self) -> bool:
        """Whether ES is merged with backpropagation through the same unrolls, which give both."""
        return self.estimator == ("reparam", "es") and self.shared_samples

    def lengths_at(self, outer_step: int, longest: int | None = None) -> tuple[int, int]:
        """(inner steps of an unroll in this outer step, inner steps of a whole unroll), at most the longest."""
        length = curriculum.num_steps_at(self.stages, outer_step, self.seed)
        length = min(length, longest or length)
        if not self.truncated:
            return length, length
        assert self.window is not None
        return self.window, max(round(length / self.window), 1) * self.window

    def member_at(self, outer_step: int, num_members: int) -> int:
        """The family of a mixture that an outer step takes: each once in every `num_members`, in random order."""
        cycle, place = divmod(outer_step, num_members)
        return int(np.random.default_rng([self.seed, cycle]).permutation(num_members)[place])

    def as_dict(self) -> dict[str, Any]:
        """The configuration as a JSON-ready dict, for cards and checkpoints.

        Fields that were added later are left out at their defaults, so that cards of earlier runs stay as they are.
        """
        later = {
            "validation_family": None,
            "late": False,
            "relative": False,
            "untold": 0.0,
            "parts": (),
            "drawn_as": None,
            "leave_out": 0.0,
        }
        table = {name: value for name, value in dataclasses.asdict(self).items() if later.get(name, ...) != value}
        return json.loads(json.dumps(table))


def config_names() -> list[str]:
    """Names of the configurations that ship with the package."""
    return sorted(path.stem for path in CONFIG_DIR.glob("*.toml"))


def load_config(name_or_path: str) -> OuterConfig:
    """Reads a configuration by name (`learned/configs/NAME.toml`) or path.

    Raises:
      ValueError: there is no such configuration, the file is not TOML, a key is unknown or missing, or a value has the
        wrong type; one line.
    """
    path, table = _read_table(name_or_path)
    try:
        config = _parsed(table)
        known = dict(make_design(config.design, dict(config.design_options)).parts)
        for part in config.parts:
            if part not in known:
                raise tasks.UnknownNameError(f"part of {config.design}", part, sorted(known))
        members = tasks.members(config.family)
        now = members[0].data_set
        if config.validation_family:
            tasks.members(config.validation_family)
        if len(members) > 1 and config.truncated:
            raise ValueError(f"expected an estimator over full unrolls for a mixture, got {config.estimator[0]}")
        if config.begin_from:
            _, begun = weights.read_beginning(config.begin_from, config.design, dict(config.design_options))
            before = tasks.members(begun["outer_training"]["family"])[0].data_set
            if before != now:  # exposure is computed for images of one data set
                raise ValueError(f"expected begin_from weights that saw {now}, got {before}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return config


def _read_table(name_or_path: str, heirs: tuple[Path, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """Path and keys of a configuration; missing keys come from the one named by `inherits = "NAME"`, or a path."""
    path = Path(name_or_path) if name_or_path.endswith(".toml") else CONFIG_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        raise tasks.UnknownNameError("outer-training config", name_or_path, config_names())
    if path in heirs:
        raise ValueError(f"{path}: inherits from itself")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    inherited = table.pop("inherits", None)
    if inherited is None:
        return path, table
    if not isinstance(inherited, str):
        raise ValueError(f"{path}: expected a name or path for inherits, got {inherited!r}")
    if "name" not in table:
        raise ValueError(f"{path}: expected a non-empty 'name'")
    return path, _read_table(inherited, (*heirs, path))[1] | table


def _parsed(table: dict[str, Any]) -> OuterConfig:
    options = table.get("design_options", {})
    if isinstance(options, dict):
        table = {**table, "design_options": sorted(options.items())}
    if isinstance(table.get("estimator"), str):
        table = {**table, "estimator": [table["estimator"]]}
    config = read_table("", table, OuterConfig)
    _check_estimator(config.estimator)
    if config.truncated and config.window is None:
        raise ValueError(f"expected a window, in inner steps: {' and '.join(config.estimator)} cut their unrolls")
    if not config.truncated and config.window is not None:
        raise ValueError(f"expected no window: {' and '.join(config.estimator)} go over full unrolls")
    if config.score_every > 1 and not (config.outer_batch or config.objective == "validation"):
        raise ValueError("expected score_every = 1: the inner batch's own loss is there at every step")
    if (config.relative or config.late) and (config.truncated or len(config.estimator) == 2):
        raise ValueError(
            "expected one estimator over full unrolls for relative or late: they look at an unroll's whole"
        )
    if len(config.estimator) == 2 and config.num_tasks < 2:
        raise ValueError("expected num_tasks >= 2: merging takes the variance of the samples")
    return config


def _check_estimator(names: tuple[str, ...]) -> None:
    """Raises ValueError unless there is one estimator, or two that can be merged."""
    if len(names) not in (1, 2):
        raise ValueError(f"expected one estimator, or two to merge, got {list(names)}")
    for name in names:
        if name not in ESTIMATORS:
            raise tasks.UnknownNameError("estimator", name, sorted(ESTIMATORS))
    if len(names) == 2 and not set(names) <= set(PERTURBED):
        raise ValueError("expected two perturbed estimators to merge: tbptt's is the gradient of another loss")
    if len({name in TRUNCATED for name in names}) > 1:
        raise ValueError(f"expected two estimators over full unrolls or two over windows, got {' and '.join(names)}")
