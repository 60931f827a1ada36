"""The tasks and the optimizers that a suite names, plug-ins included.

Apart from `choose`, which the command line imports to print its help: an optimizer takes jax.
"""

from pathlib import Path

from bench.entries.entrants import Entrant, real_name, resolve
from bench.entries.plugins import Registry
from bench.errors import UsageError
from bench.suites.choose import expand_tasks
from bench.suites.suite import Suite


def suite_tasks(suite: Suite, registry: Registry) -> list[tuple[str, int]]:
    """The tasks of a suite with the horizon of each.

    Raises:
      UsageError: a name or pattern matches no task, the suite is a measurement, or a task cannot be built.
    """
    if suite.kind == "measure":
        raise UsageError(f"suite {suite.name} is a measurement and trains no task")
    names = expand_tasks(suite.tasks, registry.task_names())
    return [(name, suite.steps or registry.problem(name).horizon) for name in names]


def suite_entrants(
    suite: Suite, registry: Registry, family: str, horizon: int, tuned_dir: Path | None = None
) -> list[Entrant]:
    """The optimizers of a suite on a family at a horizon.

    Raises:
      UsageError: an optimizer or hyperparameter is unknown, or two optimizers have one name.
    """
    entrants = []
    for name in dict.fromkeys(map(real_name, suite.optimizers)):
        aliases = [alias for alias in suite.optimizers if real_name(alias) == name]
        overrides = {k: v for alias in aliases for k, v in suite.overrides.get(alias, {}).items()}
        entrants.append(resolve(name, family, horizon, overrides=overrides, tuned_dir=tuned_dir, registry=registry))
    names = [entrant.name for entrant in entrants]
    if len(set(names)) < len(names):
        raise UsageError(f"two optimizers have the same name: {', '.join(sorted(names))}")
    return entrants
