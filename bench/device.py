"""Selects the default device, and the number of CPU devices."""

import contextlib

import jax

from bench.errors import UsageError


def select_device(name: str | None) -> None:
    """Makes `cpu`, `gpu` or `gpu:i` the default device.

    Raises:
      UsageError: there is no such device.
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
    """Sets the number of CPU devices, unless JAX is initialized, and selects the default device.

    Raises:
      UsageError: there is no such device.
    """
    with contextlib.suppress(RuntimeError):  # JAX is initialized, as in a notebook: the number stays
        jax.config.update("jax_num_cpu_devices", number)
    select_device(name)
