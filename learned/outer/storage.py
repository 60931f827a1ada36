"""The folder of a run while it is running: checkpoints, metrics, ends of stages, and resuming.

A run can be interrupted or killed at any outer step and resumed to the same theta, bit for bit on the same number of
devices of the same kind, in as many processes. A checkpoint holds theta, the state of the outer optimizer, the
estimator's inner states and all counts; all randomness is derived from (seed, outer step). Truncated estimators start
new unrolls with each stage of the curriculum, so the end of a stage fits in a small file, from which a run can be
resumed on another machine, or by another number of processes. Of several processes the first alone reads and writes
files.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from learned.curriculum import stage_ends
from learned.outer.checkpoints import Checkpoints, DamagedError, read_stage, stage_bytes
from learned.outer.files import CHECKPOINTS_FOLDER, STAGE_FILE, metrics_until, refuse_another, write_metrics
from learned.outer.processes import arrays_of_first, gathered, is_first, made_by_first, spread
from learned.outer.record import Metrics, Position, Record
from learned.outer.step import Engine
from tasks.files import write_atomically


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of a run, and options for it.

    Attributes:
      path: folder of the checkpoints, the metrics and the last finished stage.
      resume: whether to continue from the folder's last checkpoint, or else from its last finished stage.
      checkpoint_sec: wall-clock between checkpoints. There is also one at the end of every stage, when the budget is
        spent, and at an interruption.
      provenance: "data", "commit" and "processor", stored in checkpoints with the digest and card of the initial
        weights. A run with other data or other initial weights is not resumed.
    """

    path: Path
    resume: bool = False
    checkpoint_sec: float = 60.0
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Storage:
    """An open folder of a run. A context manager: closed on leaving."""

    def __init__(self, folder: RunFolder, engine: Engine):
        self.folder = folder
        self._path = folder.path
        self._config = engine.config
        self._ends = stage_ends(engine.config.stages)
        self._provenance = dict(folder.provenance) | engine.beginning
        self._open = contextlib.ExitStack()
        if is_first():
            self._checkpoints = self._open.enter_context(Checkpoints(folder.path / CHECKPOINTS_FOLDER))

    def __enter__(self) -> "Storage":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._open.__exit__(*exception)

    def begin(
        self,
        fresh: Position,
        on_damage: Callable[[Path], None],
        on_resume: Callable[[str], None] = lambda line: None,
    ) -> tuple[Position, Metrics]:
        """The position to start from: the last undamaged checkpoint, else the last finished stage, else `fresh`.

        Args:
          fresh: the position of a new run; its arrays define structure, shapes and devices of the arrays to read.
          on_damage: called with the new path of a damaged checkpoint.
          on_resume: called with a line where another number of processes made what the run is resumed from.

        Returns:
          The position, and the metrics of the outer steps up to there.

        Raises:
          ValueError: the run has another configuration, other data or other initial weights, another number of
            processes made the checkpoint and it is not at the end of a stage, or the metrics or the stage file are
            damaged; one line.
        """
        if not self.folder.resume:
            return fresh, []
        whole = at = fresh._replace(state=gathered(fresh.state))

        def find() -> tuple[dict[str, Any], Metrics]:
            nonlocal at
            at = self._from_checkpoint(whole, on_damage, on_resume) or self._from_stage(whole) or whole
            return dataclasses.asdict(at.record), metrics_until(self._path, at.record.outer_step)

        record, metrics = made_by_first(find)
        state, best_theta = arrays_of_first((at.state, at.best_theta))
        return Position(spread(state, fresh.state), Record(**record), best_theta), metrics

    def save(self, at: Position, metrics: Metrics) -> None:
        """Writes the metrics and a checkpoint, and after the last outer step of a stage the stage file too.

        Metrics are written first. If the process is killed in between, the last checkpoint still has its metrics, and
        later metrics are dropped when the run is resumed.
        """
        at = at._replace(state=gathered(at.state))
        if not is_first():
            return
        write_metrics(self._path, metrics)
        record = dataclasses.asdict(at.record)
        facts = {"config": self._config.as_dict(), "record": record, "provenance": self._provenance}
        facts |= {"processes": jax.process_count()}
        if at.record.outer_step in self._ends:
            write_atomically(self._path / STAGE_FILE, stage_bytes(at.without_carried(), facts))
        self._checkpoints.save(at.record.outer_step, (at.state, at.best_theta), facts)

    def _from_checkpoint(
        self, fresh: Position, on_damage: Callable[[Path], None], on_resume: Callable[[str], None]
    ) -> Position | None:
        """The position of the last undamaged checkpoint; damaged ones are set aside.

        None where it is that of another number of processes at the end of a stage: the stage file holds as much.
        """
        while self._checkpoints.latest() is not None:
            try:
                facts = self._checkpoints.facts()
                self._refuse_another(facts)
                if facts.get("processes", 1) != jax.process_count():
                    on_resume(self._of_other_processes(facts))
                    return None
                state, best_theta = self._checkpoints.arrays((fresh.state, fresh.best_theta), facts)
            except DamagedError:
                on_damage(self._checkpoints.set_aside())
                continue
            return Position(state, Record(**facts["record"]), jax.device_get(best_theta))
        return None

    def _of_other_processes(self, facts: dict[str, Any]) -> str:
        """The line about a run that another number of processes goes on with.

        Raises:
          ValueError: its last checkpoint is not at the end of a stage; one line.
        """
        outer_step, number, here = facts["record"]["outer_step"], facts.get("processes", 1), jax.process_count()
        if outer_step not in self._ends:
            end = min(end for end in self._ends if end > outer_step)
            raise ValueError(
                f"the checkpoint at outer step {outer_step} is of {number} processes, here are {here}: go on with "
                f"{number} until the stage ends at outer step {end}, where another number may take over"
            )
        return f"from outer step {outer_step} on {here} in place of {number} processes: rounding changes"

    def _from_stage(self, fresh: Position) -> Position | None:
        """The position at the end of the last finished stage, with new unrolls for the estimator."""
        path = self._path / STAGE_FILE
        if not path.is_file():
            return None
        self._refuse_another(read_stage(path)[1])  # first, since the arrays of another design would not match
        (light, best_theta), facts = read_stage(path, fresh.without_carried())
        return Position(
            light._replace(carried=fresh.state.carried), Record(**facts["record"]), jax.device_get(best_theta)
        )

    def _refuse_another(self, facts: dict[str, Any]) -> None:
        """Raises ValueError if the facts of a run do not match the run to resume."""
        refuse_another(facts["config"], self._config.as_dict())
        refuse_another(_origin(facts["provenance"]), _origin(self._provenance))


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the provenance that must be equal for a run to be resumed."""
    begun = provenance.get("begun_from") or {}
    return {"data": provenance.get("data"), "the weights it begins from": begun.get("theta_sha256")}
