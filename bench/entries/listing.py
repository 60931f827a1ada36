"""Lists of tasks and optimizers, built-in and from plug-ins, one JSON-ready dict each."""

from collections.abc import Sequence
from typing import Any

import learned
import tasks
from baselines import BASELINES, Baseline
from bench.entries.plugins import build_registry
from learned import weights
from learned.elsewhere import ELSEWHERE
from tasks.registry import describe_problem


def list_tasks(plugins: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Facts of every task: name, family, number of parameters, horizon, batch size, loss of chance, data, digest.

    Args:
      plugins: Python files that add tasks.

    Raises:
      UsageError: a plug-in cannot be imported, or one of its tasks cannot be built.

    Example:
      >>> next(row["batch_size"] for row in list_tasks() if row["name"] == "imagenet32_cnn3/0")
      32
    """
    registry = build_registry(plugins)
    rows = [tasks.describe(name) for name in tasks.task_names()]
    rows += [
        describe_problem(name, registry.problem(name), "plug-in", "plug-in", registry.digest(name))
        for name in registry.task_builders
    ]
    return rows


def list_optimizers(plugins: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Facts of every optimizer: name, role, search space (hyperparameter -> ends of its range), defaults, reference.

    Args:
      plugins: Python files that add optimizers.

    Raises:
      UsageError: a plug-in cannot be imported.

    Example:
      >>> next(row["searched"] for row in list_optimizers() if row["name"] == "sgd_momentum")
      'learning_rate, one_minus_momentum'
    """
    registry = build_registry(plugins)
    rows = [baseline_row(name, row) for name, row in {**BASELINES, **registry.baselines}.items()]
    rows += [_learned_row(name, "learned", row.reference) for name, row in registry.learned.items()]
    for name in weights.shipped_names():
        _, card = weights.read(name)
        alias = "".join(f" ({alias})" for alias, real in learned.ALIASES.items() if real == name)
        reference = f"{card.design}, outer-trained on {card.outer_training['family']}"
        rows.append(_learned_row(name, f"learned{alias}", reference))
    for name, row in ELSEWHERE.items():
        rows.append(
            _learned_row(name, "learned", f"outer-trained by others on {row.outer_trained_on}; {row.reference}")
        )
    return rows


def baseline_row(name: str, row: Baseline) -> dict[str, Any]:
    """Facts of a hand-designed optimizer."""
    return {
        "name": name,
        "role": "hand-designed",
        "scheduled": row.scheduled,
        "searched": ", ".join(row.space),
        "space": {key: [rng.low, rng.high] for key, rng in row.space.items()},
        "default": dict(row.default),
        "reference": row.reference,
    }


def _learned_row(name: str, role: str, reference: str) -> dict[str, Any]:
    nothing = {"scheduled": False, "searched": "", "space": {}, "default": {}}
    return {"name": name, "role": role, **nothing, "reference": reference}
