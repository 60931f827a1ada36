"""Selects the default device and the number of CPU devices, and refuses settings of JAX that change results."""

import contextlib

import jax

from bench.errors import UsageError

# Settings, of the environment or of a plug-in, that change results or end a run that diverges: as they have to be.
SETTINGS = {
    "jax_enable_x64": False,
    "jax_disable_jit": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_numpy_dtype_promotion": "standard",
}


def unusual_settings() -> dict[str, str]:
    """Settings of JAX that results are not made with: name of the variable -> what it is and what it has to be."""
    return {
        name.upper(): f"{getattr(jax.config, name)}, and results are made with {usual}"
        for name, usual in SETTINGS.items()
        if getattr(jax.config, name) != usual
    }


def require_usual_settings() -> None:
    """Checks that JAX is set as it has to be.

    Raises:
      UsageError: it is not.
    """
    for name, found in unusual_settings().items():
        raise UsageError(f"{name} is {found}: unset it, in the environment or wherever it is set")


def select_device(name: str | None) -> None:
    """Makes `cpu`, `gpu` or `gpu:i` the default device.

    Raises:
      UsageError: there is no such device, or JAX is set so that results would be others.
    """
    require_usual_settings()
    if not name:
        _require_backend()
        return
    platform, colon, index = name.partition(":")
    if platform not in ("cpu", "gpu") or (colon and not index.isdecimal()):
        raise UsageError(f"--device expects cpu, gpu or gpu:i, got {name!r}")
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    _require_backend()
    try:
        devices = jax.local_devices(backend=platform)
    except RuntimeError:
        found = ", ".join(sorted({d.platform for d in jax.devices()}))
        raise UsageError(
            f"no device {name!r} here, found: {found}; `pip install 'lopt-bench[gpu]'` adds CUDA support"
        ) from None
    if int(index or 0) >= len(devices):
        raise UsageError(f"no device {name!r} here, found {len(devices)} of platform {platform}")
    jax.config.update("jax_default_device", devices[int(index or 0)])


def _require_backend() -> None:
    try:
        jax.devices()
    except Exception as error:  # of any type: JAX asserts where a platform that is asked for is not there
        wanted = getattr(jax.config, "jax_platforms", None)
        raise UsageError(
            f"JAX finds no device: JAX_PLATFORMS is {wanted}, which is not here: unset it, or set it to cpu"
            if wanted
            else f"JAX finds no device: {type(error).__name__}: {error}"
        ) from None


def use_devices(name: str | None, number: int) -> None:
    """Sets the number of CPU devices, unless JAX is initialized, and selects the default device.

    Raises:
      UsageError: there is no such device.
    """
    with contextlib.suppress(RuntimeError):  # JAX is initialized, as in a notebook: the number stays
        jax.config.update("jax_num_cpu_devices", number)
    select_device(name)
