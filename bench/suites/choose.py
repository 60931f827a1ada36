"""A part of a suite: tasks by pattern, optimizers, seeds, and values set by hand."""

import dataclasses
from collections.abc import Sequence
from fnmatch import fnmatchcase

from bench.errors import UsageError, nearest
from bench.suites.seeds import parse_seeds
from bench.suites.suite import FEWEST, MOST, Suite, load_suite

LARGEST = 3.4028234e38  # of float32


def expand_tasks(patterns: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Task names, with `FAMILY/*` standing for a family's tasks (a star does not cross a slash).

    Raises:
      UsageError: a name or pattern matches no task.
    """
    names: list[str] = []
    for pattern in patterns:
        if "*" in pattern:
            fit = [name for name in known if fnmatchcase(name, pattern) and name.count("/") == pattern.count("/")]
        else:
            fit = [pattern] if pattern in known else []
        if not fit:
            families = [name for name in known if name.startswith(f"{pattern}/")]
            if families:
                raise UsageError(
                    f"{pattern} is a family of tasks; name one, for instance {families[0]}, or {pattern}/*"
                )
            raise nearest("task", pattern, known)
        names += fit
    return tuple(dict.fromkeys(names))


def apply_settings(suite: Suite, settings: Sequence[str]) -> Suite:
    """Applies `--set key=value`: `OPTIMIZER.HYPERPARAMETER=NUMBER`, or a key of the suite that is a number.

    Raises:
      UsageError: a setting is not key=value, its key is unknown, or its value is no number.
    """
    overrides: dict[str, dict[str, float]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UsageError(f"--set expects key=value, got {setting!r}")
        optimizer, dot, name = key.rpartition(".")
        if not dot:
            fewest = FEWEST[suite.kind]
            if key not in fewest:
                raise nearest("key for --set", key, [*fewest, *(f"{o}.learning_rate" for o in suite.optimizers)])
            if not text.isdecimal() or len(text) > len(str(MOST)) or not fewest[key] <= int(text) <= MOST:
                raise UsageError(
                    f"--set {key}: expected a whole number from {fewest[key]} to {MOST:,}, got {text[:20]!r}"
                )
            suite = dataclasses.replace(suite, **{key: int(text)})
            continue
        if optimizer not in suite.optimizers:
            raise nearest("optimizer in --set", optimizer, list(suite.optimizers))
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) <= LARGEST:  # larger ones are infinite where optimizers compute
            raise UsageError(f"--set {key}: expected a finite number, got {text[:20]!r}")
        overrides.setdefault(optimizer, {})[name] = value
    return dataclasses.replace(suite, overrides=overrides)


def choose_suite(
    name: str,
    tasks: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    seeds: str | Sequence[int] | None = None,
    steps: int | None = None,
    settings: Sequence[str] = (),
) -> Suite:
    """A suite, a part of one, or one with other values. Arguments that are not given keep the suite's values.

    Args:
      name: name of a suite, or path of a TOML file.
      tasks: names, or patterns like "imagenet32_cnn3/*".
      optimizers: names, in the order of tables.
      seeds: like "0-4", or numbers.
      steps: horizon, in inner steps.
      settings: "OPTIMIZER.HYPERPARAMETER=NUMBER", or "KEY=NUMBER" of the suite.

    Returns:
      The suite. The names of tasks and optimizers are checked when it is planned.

    Raises:
      UsageError: there is no such suite, or seeds or settings are invalid.

    Example:
      >>> choose_suite("quick", optimizers=["adam", "learned"], seeds="0-1").seeds
      (0, 1)
    """
    suite = load_suite(name)
    if tasks:
        suite = dataclasses.replace(suite, tasks=tuple(dict.fromkeys(tasks)))
    if optimizers:
        suite = dataclasses.replace(suite, optimizers=tuple(dict.fromkeys(optimizers)))
    if seeds:
        suite = dataclasses.replace(suite, seeds=parse_seeds(seeds))
    if steps:
        suite = dataclasses.replace(suite, steps=steps)
    return apply_settings(suite, settings)
