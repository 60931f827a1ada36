"""What defines an outer-training run: a TOML file, `learned/configs/NAME.toml` or one's own."""

import dataclasses
import json
import math
import tomllib
import types
from pathlib import Path
from typing import Any, TypeGuard, get_args

import tasks
from learned import curriculum, weights
from learned.curriculum import Stage
from learned.designs import make_design
from learned.estimators import ESTIMATORS, PERTURBED, TRUNCATED

CONFIG_DIR = Path(__file__).parent / "configs"


@dataclasses.dataclass(frozen=True)
class OuterConfig:
    """Everything that defines an outer-training run.

    Attributes:
      name: of the theta it makes.
      design: row of `learned.designs.DESIGNS`.
      design_options: keyword arguments of the design.
      family: task family; tasks are drawn from its outer_train pool.
      begin_from: weights, by name or path, whose theta the run begins from; None begins as the design says.
      objective: "train" or "validation", the split that scores a step.
      outer_batch: whether a step is scored by a batch of its own under "train" too; see `FamilyObjective`.
      score_every: with a batch of its own, inner steps that one score stands for; see `FamilyObjective`.
      estimator: rows of `learned.estimators.ESTIMATORS`: one, or two that are merged.
      shared_samples: whether two that are merged get the same tasks and perturbations.
      window: inner steps by which truncated estimators carry their unrolls on; their unrolls are as long as the
        curriculum says, rounded to windows.
      num_tasks: samples of each gradient estimate.
      sigma: scale of the perturbation.
      learning_rate: of Adam on theta.
      final_learning_rate: share of it that a cosine over the whole run decays to; 1 keeps it.
      b1: Adam's first decay.
      clip_sample: norm that each sample's gradient is clipped to before their mean is taken, so that one chaotic unroll
        does not outweigh the others; 0 does not.
      clip_norm: global norm that the gradient is clipped to; 0 does not.
      clip_value: absolute value that its elements are clipped to, before that; 0 does not.
      ema: decay of the average of theta that is evaluated and kept; 0 takes theta itself.
      patience: updates in a row with a gradient that is not finite, after which theta goes back to the best.
      stages: the curriculum.
      validation_num_steps: inner steps of an outer-validation unroll.
      validation_num_tasks: tasks of an outer-validation, the same each time.
      validation_every: outer steps between outer-validations.
      seed: of theta's initialization, tasks and perturbations.
    """

    name: str
    design: str
    family: str
    stages: tuple[Stage, ...]
    design_options: tuple[tuple[str, float], ...] = ()
    begin_from: str | None = None
    objective: str = "train"
    outer_batch: bool = False
    score_every: int = 1
    estimator: tuple[str, ...] = ("es",)
    shared_samples: bool = True
    window: int | None = None
    num_tasks: int = 8
    sigma: float = 0.01
    learning_rate: float = 3e-3
    final_learning_rate: float = 0.1
    b1: float = 0.9
    clip_sample: float = 0.0
    clip_norm: float = 1.0
    clip_value: float = 0.0
    ema: float = 0.0
    patience: int = 10
    validation_num_steps: int = 200
    validation_num_tasks: int = 16
    validation_every: int = 25
    seed: int = 0

    @property
    def outer_steps(self) -> int:
        """Outer steps of all stages."""
        return curriculum.total_outer_steps(self.stages)

    @property
    def truncated(self) -> bool:
        """Whether unrolls are carried on by windows."""
        return self.estimator[0] in TRUNCATED

    def lengths_at(self, outer_step: int) -> tuple[int, int]:
        """(inner steps that an unroll takes in this outer step, inner steps of a whole unroll)."""
        length = curriculum.num_steps_at(self.stages, outer_step, self.seed)
        if not self.truncated:
            return length, length
        assert self.window is not None
        return self.window, max(round(length / self.window), 1) * self.window

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, as a card and a checkpoint keep it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def config_names() -> list[str]:
    """Names of the configurations that ship with the package."""
    return sorted(path.stem for path in CONFIG_DIR.glob("*.toml"))


def load_config(name_or_path: str) -> OuterConfig:
    """Reads a configuration by name (`learned/configs/NAME.toml`) or path.

    Raises:
      ValueError: no such configuration, not TOML, an unknown or missing key, or a value of the wrong kind; one line.
    """
    path, table = _read_table(name_or_path)
    try:
        config = _parsed(table)
        make_design(config.design, dict(config.design_options))
        row = tasks.family_row(config.family)
        if config.begin_from:
            _, begun = weights.read_beginning(config.begin_from, config.design, dict(config.design_options))
            before = tasks.family_row(begun["outer_training"]["family"])
            if before.data_set != row.data_set:  # what theta has seen is told as a set of images of one data set
                raise ValueError(f"expected begin_from weights that saw {row.data_set}, got {before.data_set}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return config


def _read_table(name_or_path: str, heirs: tuple[Path, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """Path and keys of a configuration; `inherits = "NAME"`, or a path, gives it those that it does not have itself."""
    path = Path(name_or_path) if name_or_path.endswith(".toml") else CONFIG_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        raise tasks.UnknownNameError("outer-training config", name_or_path, config_names())
    if path in heirs:
        raise ValueError(f"{path}: inherits from itself")
    try:
        table = tomllib.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    inherited = table.pop("inherits", None)
    if inherited is None:
        return path, table
    if not isinstance(inherited, str):
        raise ValueError(f"{path}: expected a name or path for inherits, got {inherited!r}")
    if "name" not in table:
        raise ValueError(f"{path}: expected keys name")
    return path, _read_table(inherited, (*heirs, path))[1] | table


def _parsed(table: dict[str, Any]) -> OuterConfig:
    known = {field.name: field for field in dataclasses.fields(OuterConfig)}
    for key in table:
        if key not in known:
            raise tasks.UnknownNameError("key", key, sorted(known))
    missing = [k for k, f in known.items() if f.default is dataclasses.MISSING and k not in table]
    if missing:
        raise ValueError(f"expected keys {', '.join(missing)}")
    try:
        table["stages"] = tuple(Stage(**stage) for stage in table["stages"])
        if not table["stages"]:
            raise TypeError("at least one")
    except TypeError as error:
        raise ValueError(f"stages are tables of num_steps and outer_steps: {error}") from None
    options = table.get("design_options", {})
    if not isinstance(options, dict):
        raise ValueError(f"expected a table for design_options, got {options!r}")
    for key, value in options.items():
        if not _is_number(value):
            raise ValueError(f"expected a number for design option {key}, got {value!r}")
    table["design_options"] = tuple(sorted(options.items()))
    if "estimator" in table:
        table["estimator"] = _estimator(table["estimator"])
    for key, value in table.items():
        _check(key, known[key].type, value)
    config = OuterConfig(**table)
    if config.objective not in ("train", "validation"):
        raise ValueError(f"expected objective train or validation, got {config.objective!r}")
    if config.truncated and config.window is None:
        raise ValueError(f"expected a window, in inner steps: {' and '.join(config.estimator)} cut their unrolls")
    if not config.truncated and config.window is not None:
        raise ValueError(f"expected no window: {' and '.join(config.estimator)} go over full unrolls")
    for key in ("ema", "final_learning_rate"):
        if not 0 <= getattr(config, key) <= 1:
            raise ValueError(f"expected a number from 0 to 1 for {key}, got {getattr(config, key)!r}")
    if config.score_every > 1 and not (config.outer_batch or config.objective == "validation"):
        raise ValueError("expected score_every = 1: the inner batch's own loss is there at every step")
    if len(config.estimator) == 2 and config.num_tasks < 2:
        raise ValueError("expected num_tasks >= 2: merging takes the variance of the samples")
    return config


def _estimator(value: Any) -> tuple[str, ...]:
    """One name, or two of a kind."""
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if len(names) not in (1, 2):
        raise ValueError(f"expected one estimator or two to merge, got {value!r}")
    for name in names:
        if name not in ESTIMATORS:
            raise tasks.UnknownNameError("estimator", str(name), sorted(ESTIMATORS))
    if len(names) == 2 and not set(names) <= set(PERTURBED):
        raise ValueError("expected two perturbed estimators to merge: tbptt's is the gradient of another loss")
    if len({name in TRUNCATED for name in names}) > 1:
        raise ValueError(f"expected two estimators over full unrolls or two over windows, got {' and '.join(names)}")
    return names


def _check(key: str, kind: Any, value: Any) -> None:
    """That a value is of its field's kind; `design_options`, `stages` and `estimator` are checked already."""
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]
    if kind is str and not isinstance(value, str):
        raise ValueError(f"expected text for {key}, got {value!r}")
    if kind is bool and not isinstance(value, bool):
        raise ValueError(f"expected true or false for {key}, got {value!r}")
    if kind is int and not (_is_count(value) or (key == "seed" and value == 0 and value is not False)):
        raise ValueError(f"expected a whole number {'>=' if key == 'seed' else '>'} 0 for {key}, got {value!r}")
    if kind is float and not (_is_number(value) and (value > 0 or (key != "sigma" and value == 0))):
        raise ValueError(f"expected a number {'>' if key == 'sigma' else '>='} 0 for {key}, got {value!r}")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
