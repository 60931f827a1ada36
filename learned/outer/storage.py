"""The folder of a run while it goes on: checkpoints, metrics, ends of stages, and resuming.

A run can be stopped at any outer step, also killed, and resumed to the same theta, to the last bit on as many devices
of the same kind: a checkpoint holds theta, the outer optimizer, the estimator's inner states and all counts, and
everything random follows from (seed, outer step). With a stage of the curriculum the unrolls that truncated estimators
carry begin anew: the end of a stage fits in a small file, from which a run goes on elsewhere.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from learned.curriculum import stage_ends
from learned.outer.checkpoints import Checkpoints, DamagedError, read_stage, stage_bytes
from learned.outer.engine import Engine
from learned.outer.files import CHECKPOINTS_FOLDER, STAGE_FILE, metrics_until, refuse_another, write_metrics
from learned.outer.record import Metrics, Position, Record
from tasks.files import write_atomically


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where a run is kept, and how.

    Attributes:
      path: folder of the checkpoints, the metrics and the end of the last whole stage.
      resume: whether to go on from the folder's last checkpoint, or else from its end of a stage, if it has one.
      checkpoint_sec: wall-clock between checkpoints; there is one at the end of every stage too, when the budget
        is spent, and when interrupted.
      provenance: "data", "commit" and "processor" of this sitting, kept beside its checkpoints with the digest and card
        of the weights that the run begins from; a run of other data, or from other weights, is not resumed.
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
        """Where this sitting begins: at the last whole checkpoint, else the end of the last whole stage, else `fresh`.

        Args:
          fresh: where a run begins; its arrays say the structure, shapes and devices of those that are read.
          on_damage: called with the new path of a damaged checkpoint that was set aside.

        Returns:
          The position, and the metrics of the outer steps up to there.

        Raises:
          ValueError: the run is of another configuration, of other data or from other weights, or its metrics or its
            end of a stage are not as they were written; one line.
        """
        if not self.folder.resume:
            return fresh, []
        at = self._from_checkpoint(fresh, on_damage) or self._from_stage(fresh) or fresh
        return at, metrics_until(self._path, at.record.outer_step)

    def save(self, at: Position, metrics: Metrics) -> None:
        """Writes a checkpoint and the metrics up to it; after the last outer step of a stage the end of the stage too.

        Metrics are first, for a process may be killed between the two: a checkpoint has its metrics, and what is past
        it is cut off when the run is resumed.
        """
        write_metrics(self._path, metrics)
        record = dataclasses.asdict(at.record)
        facts = {"config": self._config.as_dict(), "record": record, "provenance": self._provenance}
        if at.record.outer_step in self._ends:
            write_atomically(self._path / STAGE_FILE, stage_bytes(at.without_carried(), facts))
        self._checkpoints.save(at.record.outer_step, (at.state, at.best_theta), facts)

    def _from_checkpoint(self, fresh: Position, on_damage: Callable[[Path], None]) -> Position | None:
        """The last checkpoint that is whole; later ones, which are damaged, are set aside."""
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
        """The end of the last whole stage; what the estimator carries begins anew with the next one."""
        path = self._path / STAGE_FILE
        if not path.is_file():
            return None
        self._refuse_another(read_stage(path)[1])  # before another design's arrays are found not to fit
        (light, best_theta), facts = read_stage(path, fresh.without_carried())
        where = jax.tree.map(lambda leaf: leaf.sharding, fresh.state._replace(carried=()))
        state = jax.device_put(light, where)._replace(carried=fresh.state.carried)
        return Position(state, Record(**facts["record"]), jax.device_get(best_theta))

    def _refuse_another(self, facts: dict[str, Any]) -> None:
        """Raises ValueError where a run of these facts is not the one that is to go on."""
        refuse_another(facts["config"], self._config.as_dict())
        refuse_another(_origin(facts["provenance"]), _origin(self._provenance))


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same from sitting to sitting."""
    begun = provenance.get("begun_from") or {}
    return {"data": provenance.get("data"), "the weights it begins from": begun.get("theta_sha256")}
