"""Which device everything runs on, and on a CPU how many there are."""

import contextlib

import jax

from bench.errors import UsageError


def select_device(name: str | None) -> None:
    """Makes `cpu`, `gpu` or `gpu:i` the default device.

    Raises:
      UsageError: no such device.
    """
    if not name:
        return
    platform, colon, index = name.partition(":")
    if platform not in ("cpu", "gpu") or (colon and not index.isdecimal()):
        raise UsageError(f"--device expects cpu, gpu or gpu:i, got {name!r}")
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        devices = jax.devices(platform)
    except RuntimeError:
        found = ", ".join(sorted({d.platform for d in jax.devices()}))
        raise UsageError(
            f"no device {name!r} here, found: {found}; `pip install 'lopt-bench[gpu]'` adds CUDA support"
        ) from None
    if int(index or 0) >= len(devices):
        raise UsageError(f"no device {name!r} here, found {len(devices)} of platform {platform}")
    jax.config.update("jax_default_device", devices[int(index or 0)])


def use_devices(name: str | None, number: int) -> None:
    """Selects a device as `select_device` does; on a CPU there are so many of it, if JAX does not run yet.

    Raises:
      UsageError: no such device.
    """
    with contextlib.suppress(RuntimeError):  # JAX runs already, as in a notebook: then there are as many as there are
        jax.config.update("jax_num_cpu_devices", number)
    select_device(name)
