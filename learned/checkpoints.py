"""Checkpoints of outer-training: everything that the next outer step depends on, written whole or not at all.

Arrays go through orbax, which writes into a temporary folder and renames it; what the host counts is JSON beside them.
The last two are kept.
"""

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

KEPT = 2


class Checkpoints:
    """The checkpoints in a folder. A context manager: closed on leaving."""

    def __init__(self, folder: Path):
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports every step of a save
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """Outer step of the last one, or None."""
        return self._manager.latest_step()

    def save(self, outer_step: int, arrays: Any, facts: dict[str, Any]) -> None:
        """Writes one: a pytree of arrays, and facts that are JSON-ready. Returns when it is on disk."""
        if outer_step != self.latest():
            parts = ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), facts=ocp.args.JsonSave(facts))
            self._manager.save(outer_step, args=parts, force=True)

    def facts(self) -> dict[str, Any]:
        """The facts of the last one."""
        return self._restored(facts=ocp.args.JsonRestore())["facts"]

    def arrays(self, like: Any) -> Any:
        """The arrays of the last one.

        Args:
          like: a pytree of arrays of the same structure, shapes and dtypes, which also say on which devices they go.

        Raises:
          ValueError: the checkpoint has another structure.
        """

        def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
            leaf = jnp.asarray(leaf)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

        return self._restored(arrays=ocp.args.StandardRestore(jax.tree.map(abstract, like)))["arrays"]

    def _restored(self, **parts: Any) -> Any:
        return self._manager.restore(self._manager.latest_step(), args=ocp.args.Composite(**parts))
