"""Checkpoints of outer-training: everything that the next outer step depends on, written whole or not at all.

Arrays go through orbax, which writes into a temporary folder and renames it; what the host counts is JSON beside them.
The last two are kept.

At the end of a stage of the curriculum no unroll is carried on, so that a few kilobytes say all: one safetensors file,
small enough to be committed, from which another machine goes on.
"""

import json
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

KEPT = 2
STAGE_FORMAT = "lopt-bench-stage-1"


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


def stage_bytes(arrays: Any, facts: dict[str, Any]) -> bytes:
    """A pytree of arrays and facts that are JSON-ready, as the bytes of one safetensors file."""
    named = {name: np.asarray(jax.device_get(leaf), order="C") for name, leaf in _named_leaves(arrays)}
    return save(named, {"format": STAGE_FORMAT, "facts": json.dumps(facts, sort_keys=True)})


def read_stage(path: Path, like: Any = ()) -> tuple[Any, dict[str, Any]]:
    """Arrays and facts of a file of `stage_bytes`.

    Args:
      path: of the file.
      like: a pytree of the same structure, shapes and dtypes; () reads facts alone.

    Returns:
      The arrays, of numpy, in the structure of `like`; the facts.

    Raises:
      ValueError: not such a file, or arrays of another structure; one line.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != STAGE_FORMAT:
                raise ValueError(f"format {metadata.get('format')}")
            facts = json.loads(metadata["facts"])
            leaves = [file.get_tensor(name) for name, _ in _named_leaves(like)]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected the end of a stage written by `bench outer-train`, got {error!r}") from None
    for (name, want), got in zip(_named_leaves(like), leaves, strict=True):
        if (want.shape, want.dtype) != (got.shape, got.dtype):
            raise ValueError(f"{path}: {name}: expected {want.dtype}{want.shape}, got {got.dtype}{got.shape}")
    return jax.tree.unflatten(jax.tree.structure(like), leaves), facts


def _named_leaves(arrays: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)]
