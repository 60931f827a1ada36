"""`bench check PLUGIN`: whether the tasks and optimizers of a plug-in keep their contracts.

Each is checked in its own child process, so that a hang or crash is a failed check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.processes import converse, first_message, speaking

if TYPE_CHECKING:
    from baselines import Baseline
    from learned import External
from bench.checks.contract import BUILT, Broken, Verdict, examine, shortened
from bench.checks.optimizers import HORIZON, OPTIMIZER_CHECKS, OptimizerSubject
from bench.checks.tasks import TASK_CHECKS, TaskSubject

TIME_LIMIT_SEC = 120.0  # of one check, with imports; a check that compiles takes about a second


def check_plugin(
    file: str, time_limit_sec: float = TIME_LIMIT_SEC, on_verdict: Callable[[Verdict], None] = lambda _: None
) -> list[Verdict]:
    """Checks all tasks and optimizers of a plug-in file, each in its own child process.

    Args:
      file: path of the plug-in.
      time_limit_sec: time limit of one check.
      on_verdict: called with each verdict.

    Returns:
      All verdicts, in the order of the file and of the tables of checks.

    Raises:
      UsageError: the file is no plug-in, cannot be imported, or importing it takes too long.
    """
    names: list[tuple[str, str]] = []
    for message in converse("bench.checks.plugin", [file], time_limit_sec):
        if "ended" in message:
            raise UsageError(f"plug-in {file} cannot be imported: its process {message['ended']}")
        if "error" in message:
            raise UsageError(message["error"])
        names += [(kind, name) for kind, name in message["names"]]
    found = []
    for kind, name in names:
        check = BUILT
        for message in converse("bench.checks.plugin", [file, kind, name], time_limit_sec):
            if "begins" in message:
                check = message["begins"]
                continue
            if "ended" in message:
                asleep = ": does it sleep, or need a longer --time-limit?" if message["late"] else ""
                verdict = Verdict(kind, name, check, False, f"its process {message['ended']}{asleep}")
            else:
                verdict = Verdict(kind, name, message["check"], message["passed"], message["detail"])
            found.append(verdict)
            on_verdict(verdict)
    return found


def _as_row(external: External) -> Baseline:
    """A learned optimizer as a `Baseline` without hyperparameters."""
    from baselines import Baseline

    return Baseline(lambda h, horizon: external.make(external.theta, horizon), {}, {}, external.reference)


def _work() -> None:
    """What a child runs: lists what the file defines, or checks one task or optimizer of it."""
    import optax

    from bench.entries.plugins import build_registry

    file, *one = first_message()
    with speaking() as say:
        try:
            registry = build_registry([file])
        except UsageError as error:
            say(error=str(error))
            return
        if not one:
            tables = {"task": registry.task_builders, "optimizer": registry.baselines | registry.learned}
            others = build_registry().sources  # of installed plug-ins
            say(names=[(kind, name) for kind, table in tables.items() for name in table if name not in others])
            return
        kind, name = one
        checks: Any = {BUILT: lambda subject: "yes"} | (TASK_CHECKS if kind == "task" else OPTIMIZER_CHECKS)
        say(begins=BUILT)
        try:
            if kind == "task":
                subject = TaskSubject(registry.load(name))
            else:
                subject = OptimizerSubject(registry.baselines.get(name) or _as_row(registry.learned[name]))
            if isinstance(subject, OptimizerSubject):
                optimizer = subject.row.make(subject.constants, HORIZON)
                if not isinstance(optimizer, optax.GradientTransformation):
                    kind = type(optimizer).__name__
                    raise Broken(f"expected `make` to return an optax.GradientTransformation, got {kind}")
                subject.optimizer().init(subject.params)
        except Exception as error:
            detail = (
                str(error)
                if isinstance(error, UsageError | Broken)
                else f"raises {type(error).__name__}: {shortened(error)}"
            )
            say(check=BUILT, passed=False, detail=detail)
            return
        for check, passed, detail in examine(checks, subject, lambda check: say(begins=check)):
            say(check=check, passed=passed, detail=detail)


if __name__ == "__main__":
    _work()
