"""Checkpoints of outer-training: everything that the next outer step depends on, written atomically.

Arrays are written by orbax, which uses a temporary folder and renames it; counts are JSON beside them. The last two
checkpoints are kept.

At the end of a stage of the curriculum no unroll is carried over, so the state fits in a few kilobytes: one safetensors
file, small enough to be committed, from which another machine can resume.
"""

import dataclasses
import hashlib
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

from tasks import files

KEPT = 2
STAGE_FORMAT = "lopt-bench-stage-1"


class DamagedError(Exception):
    """A checkpoint is damaged."""


class Checkpoints:
    """The checkpoints in a folder, of one process. A context manager: closed on leaving."""

    def __init__(self, folder: Path):
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports every step of a save
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
        if jax.process_count() > 1:  # the others do not take part, and are not waited for
            folder.mkdir(parents=True, exist_ok=True)
            alone = ocp.options.MultiprocessingOptions(
                primary_host=jax.process_index(),
                active_processes={jax.process_index()},
                barrier_sync_key_prefix=str(jax.process_index()),
            )
            options = dataclasses.replace(options, create=False, multiprocessing_options=alone)
        self._folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """Outer step of the last one, or None."""
        return self._manager.latest_step()

    def set_aside(self) -> Path:
        """Renames the last, damaged checkpoint and returns its new path; the one before becomes the last."""
        path = files.set_aside(self._folder / str(self.latest()))
        self._manager.reload()
        return path

    def save(self, outer_step: int, arrays: Any, facts: dict[str, Any]) -> None:
        """Writes a checkpoint, a pytree of arrays and JSON-ready facts; returns when it is on disk."""
        if outer_step != self.latest():
            facts = facts | {"sha256": _digest(arrays)}
            parts = ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), facts=ocp.args.JsonSave(facts))
            self._manager.save(outer_step, args=parts, force=True)

    def facts(self) -> dict[str, Any]:
        """The facts of the last one.

        Raises:
          DamagedError: it is damaged.
        """
        facts = self._restored(facts=ocp.args.JsonRestore())["facts"]
        if not isinstance(facts, dict) or not {"config", "record", "provenance", "sha256"} <= facts.keys():
            raise DamagedError
        return facts

    def arrays(self, like: Any, facts: dict[str, Any]) -> Any:
        """The arrays of the last one.

        Args:
          like: a pytree of arrays of the same structure, shapes and dtypes, and on the devices to use; numpy arrays
            are read as such.
          facts: facts of the checkpoint.

        Raises:
          DamagedError: it is damaged, or has another structure.
        """

        def abstract(leaf: Any) -> Any:
            if isinstance(leaf, np.ndarray):
                return leaf
            leaf = jnp.asarray(leaf)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

        arrays = self._restored(arrays=ocp.args.StandardRestore(jax.tree.map(abstract, like)))["arrays"]
        if _digest(arrays) != facts["sha256"]:
            raise DamagedError
        return arrays

    def _restored(self, **parts: Any) -> Any:
        try:
            return self._manager.restore(self._manager.latest_step(), args=ocp.args.Composite(**parts))
        except Exception as error:  # orbax raises many kinds of errors on damaged files
            raise DamagedError from error


def _digest(arrays: Any) -> str:
    """SHA-256 of all arrays of a pytree, named, in order."""
    digest = hashlib.sha256()
    for name, leaf in _named_leaves(arrays):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # keys that an estimator carries
            leaf = jax.random.key_data(leaf)
        array = np.asarray(jax.device_get(leaf), order="C")
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def stage_bytes(arrays: Any, facts: dict[str, Any]) -> bytes:
    """A pytree of arrays and JSON-ready facts as the bytes of a safetensors file."""
    named = {name: np.asarray(jax.device_get(leaf), order="C") for name, leaf in _named_leaves(arrays)}
    text = json.dumps(facts, sort_keys=True)
    return save(named, {"format": STAGE_FORMAT, "facts": text, "sha256": _stage_checksum(named, text)})


def _stage_checksum(named: dict[str, Any], facts: str) -> str:
    return hashlib.sha256(f"{_digest(dict(sorted(named.items())))}{facts}".encode()).hexdigest()


def read_stage(path: Path, like: Any = ()) -> tuple[Any, dict[str, Any]]:
    """Arrays and facts of a file of `stage_bytes`.

    Args:
      path: path of the file.
      like: a pytree of the same structure, shapes and dtypes; () reads the facts only.

    Returns:
      The numpy arrays in the structure of `like`, and the facts.

    Raises:
      ValueError: the file is no such file, or its arrays have another structure; one line.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != STAGE_FORMAT:
                raise ValueError(f"format {metadata.get('format')}")
            facts = json.loads(metadata["facts"])
            named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping: it has no __iter__)
        if metadata["sha256"] != _stage_checksum(named, metadata["facts"]):
            raise ValueError("altered since: the checksum does not fit")
        leaves = [named[name] for name, _ in _named_leaves(like)]
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected the end of a stage written by `bench outer-train`, got {error!r}: restore or delete it"
        ) from None
    for (name, want), got in zip(_named_leaves(like), leaves, strict=True):
        if (want.shape, want.dtype) != (got.shape, got.dtype):
            raise ValueError(f"{path}: {name}: expected {want.dtype}{want.shape}, got {got.dtype}{got.shape}")
    return jax.tree.unflatten(jax.tree.structure(like), leaves), facts


def _named_leaves(arrays: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)]
