"""The folder of a run while it is running: checkpoints, metrics, ends of stages, and resuming.

A run can be interrupted or killed at any outer step and resumed to the same theta, bit for bit on the same number of
devices of the same kind. A checkpoint holds theta, the state of the outer optimizer, the estimator's inner states and
all counts; all randomness is derived from (seed, outer step). Truncated estimators start new unrolls with each stage of
the curriculum, so the end of a stage fits in a small file, from which a run can be resumed on another machine.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from learned.curriculum import stage_ends
from learned.outer.checkpoints import Checkpoints, DamagedError, read_stage, stage_bytes
from learned.outer.files import CHECKPOINTS_FOLDER, STAGE_FILE, metrics_until, refuse_another, write_metrics
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
        self._checkpoints = Checkpoints(folder.path / CHECKPOINTS_FOLDER)

    def __enter__(self) -> "Storage":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._checkpoints.__exit__(*exception)

    def begin(self, fresh: Position, on_damage: Callable[[Path], None]) -> tuple[Position, Metrics]:
        """The position to start from: the last undamaged checkpoint, else the last finished stage, else `fresh`.

        Args:
          fresh: the position of a new run; its arrays define structure, shapes and devices of the arrays to read.
          on_damage: called with the new path of a damaged checkpoint.

        Returns:
          The position, and the metrics of the outer steps up to there.

        Raises:
          ValueError: the run has another configuration, other data or other initial weights, or its metrics or stage
            file are damaged; one line.
        """
        if not self.folder.resume:
            return fresh, []
        at = self._from_checkpoint(fresh, on_damage) or self._from_stage(fresh) or fresh
        return at, metrics_until(self._path, at.record.outer_step)

    def save(self, at: Position, metrics: Metrics) -> None:
        """Writes the metrics and a checkpoint, and after the last outer step of a stage the stage file too.

        Metrics are written first. If the process is killed in between, the last checkpoint still has its metrics, and
        later metrics are dropped when the run is resumed.
        """
        write_metrics(self._path, metrics)
        record = dataclasses.asdict(at.record)
        facts = {"config": self._config.as_dict(), "record": record, "provenance": self._provenance}
        if at.record.outer_step in self._ends:
            write_atomically(self._path / STAGE_FILE, stage_bytes(at.without_carried(), facts))
        self._checkpoints.save(at.record.outer_step, (at.state, at.best_theta), facts)

    def _from_checkpoint(self, fresh: Position, on_damage: Callable[[Path], None]) -> Position | None:
        """The position of the last undamaged checkpoint; damaged ones are set aside."""
        while self._checkpoints.latest() is not None:
            try:
                facts = self._checkpoints.facts()
                self._refuse_another(facts)
                state, best_theta = self._checkpoints.arrays((fresh.state, fresh.best_theta), facts)
            except DamagedError:
                on_damage(self._checkpoints.set_aside())
                continue
            return Position(state, Record(**facts["record"]), jax.device_get(best_theta))
        return None

    def _from_stage(self, fresh: Position) -> Position | None:
        """The position at the end of the last finished stage, with new unrolls for the estimator."""
        path = self._path / STAGE_FILE
        if not path.is_file():
            return None
        self._refuse_another(read_stage(path)[1])  # first, since the arrays of another design would not match
        (light, best_theta), facts = read_stage(path, fresh.without_carried())
        where = jax.tree.map(lambda leaf: leaf.sharding, fresh.state._replace(carried=()))
        state = jax.device_put(light, where)._replace(carried=fresh.state.carried)
        return Position(state, Record(**facts["record"]), jax.device_get(best_theta))

    def _refuse_another(self, facts: dict[str, Any]) -> None:
        """Raises ValueError if the facts of a run do not match the run to resume."""
        refuse_another(facts["config"], self._config.as_dict())
        refuse_another(_origin(facts["provenance"]), _origin(self._provenance))


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the provenance that must be equal for a run to be resumed."""
    begun = provenance.get("begun_from") or {}
    return {"data": provenance.get("data"), "the weights it begins from": begun.get("theta_sha256")}
