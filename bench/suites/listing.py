"""Lists of suites and stored runs, and a description of anything with a name."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import learned
import tasks
from baselines import SHIPPED_DIR, is_of_optax, of_optax, read_tuned
from bench.entries.entrants import real_name
from bench.entries.listing import baseline_row, list_optimizers, list_tasks
from bench.errors import nearest, usage_errors
from bench.folders import Folders
from bench.store.published import stored_runs
from bench.suites.suite import load_suite, suite_names
from learned import weights
from learned.elsewhere import ELSEWHERE, origin


def list_suites() -> list[dict[str, Any]]:
    """Facts of every suite that ships: name, kind, numbers of tasks, optimizers and seeds, horizon, description.

    Example:
      >>> [row["seeds"] for row in list_suites() if row["name"] == "paper"]
      [10]
    """
    suites = [load_suite(name) for name in suite_names()]
    return [
        {"name": s.name, "kind": s.kind, "tasks": len(s.tasks), "optimizers": len(s.optimizers)}
        | {"seeds": len(s.seeds), "steps": s.steps, "description": s.description}
        for s in suites
    ]


def list_runs(folders: Folders | None = None) -> list[dict[str, Any]]:
    """Suite, label and number of cells of all stored results, the user's own and published ones.

    Args:
      folders: where results lie; by default those of the command line.
    """
    return stored_runs((folders or Folders()).results_dir)


def describe(name: str, plugins: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON-ready description of a task, family, optimizer or suite.

    Args:
      name: name of any of them.
      plugins: Python files that add tasks or optimizers.

    Raises:
      UsageError: the name is unknown; the message has the nearest names.

    Example:
      >>> describe("lopt_ortho")["design"]
      'orthogonal'
    """
    for row in list_tasks(plugins):
        if row["name"] == name:
            return row
    if name in tasks.FAMILIES:
        return tasks.describe(name) | {"tasks": tasks.family_row(name).task_names()}
    if name in suite_names():
        return dataclasses.asdict(load_suite(name))
    if real_name(name) in weights.shipped_names():
        theta, card = weights.read(real_name(name))
        return dataclasses.asdict(card) | {"num_weights": sum(array.size for array in theta.values())}
    if name in ELSEWHERE:
        row = ELSEWHERE[name]
        facts = {"name": name, "role": "learned", "reference": row.reference, "outer_trained_by_others": True}
        sizes = sum(math.prod(shape) for shape in row.shapes.values())
        return facts | {"outer_training": row.outer_training, "num_weights": sizes, "weights": origin(name)[1:]}
    optimizers = list_optimizers(plugins)
    for row in optimizers:
        if row["name"] == name:
            paths = sorted(SHIPPED_DIR.glob(f"*/*/{name}.json"))
            tuned = {
                f"{p.parent.parent.name} at {p.parent.name} steps": read_tuned(p)["hyperparameters"] for p in paths
            }
            return row | {"tuned": tuned}
    if is_of_optax(name):
        with usage_errors():
            return baseline_row(name, of_optax(name))
    names = [*tasks.FAMILIES, *tasks.task_names(), *(r["name"] for r in optimizers), *learned.ALIASES, *suite_names()]
    raise nearest("name", name, names)
