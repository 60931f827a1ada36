"""Several processes that outer-train together (`jax.distributed`), each with devices of its own.

All of them run the same outer steps, on samples spread over all devices. The first one keeps the files, and its clock
holds for all. What a process alone knows, or an array that is spread over processes, passes between them here; each
function is called by all processes, in the same order. With one process they cost nothing.
"""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_first() -> bool:
    """Whether this process keeps the files."""
    return jax.process_index() == 0


def seconds_of_first(seconds: float) -> float:
    """The first process's value, so that all processes end, and write checkpoints, after the same outer step."""
    if jax.process_count() == 1:
        return seconds
    bits = np.array([seconds]).view(np.uint32)  # jax would make it a float32
    return float(np.asarray(_of_first(bits)).view(np.float64)[0])


def made_by_first(make: Callable[[], Any]) -> Any:
    """What `make` returns in the first process, where alone it is called; JSON-ready.

    Raises:
      ValueError: in all processes, where it raised one.
    """
    if jax.process_count() == 1:
        return make()
    told: dict[str, Any] = {}
    if is_first():
        try:
            told = {"made": make()}
        except ValueError as error:
            told = {"error": str(error)}
    text = np.frombuffer(json.dumps(told).encode(), np.uint8)
    size = int(_of_first(np.int32(text.size)))
    buffer = np.zeros(size, np.uint8)
    if is_first():
        buffer[:] = text
    told = json.loads(_of_first(buffer).tobytes())
    if "error" in told:
        raise ValueError(told["error"])
    return told["made"]


def arrays_of_first(arrays: Any) -> Any:
    """A pytree of numpy arrays as the first process has it; that of the others has the same structure and shapes."""
    return arrays if jax.process_count() == 1 else jax.tree.map(np.asarray, _of_first(arrays))


def gathered(arrays: Any) -> Any:
    """A pytree of arrays that are spread over processes, whole, as numpy arrays; random keys as their data."""
    if jax.process_count() == 1:
        return arrays
    data = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, arrays)
    return jax.tree.map(np.asarray, multihost_utils.process_allgather(data, tiled=True))


def spread(arrays: Any, like: Any) -> Any:
    """The reverse of `gathered`: arrays on the devices, and with the dtypes, of those of `like`."""

    def place(array: Any, leaf: Any) -> Any:
        if _is_key(leaf) and not _is_key(array):
            return jax.jit(jax.random.wrap_key_data, out_shardings=leaf.sharding)(array)
        return jax.device_put(array, leaf.sharding)

    return jax.tree.map(place, arrays, like)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _of_first(arrays: Any) -> Any:
    return multihost_utils.broadcast_one_to_all(arrays)
