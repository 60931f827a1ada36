"""A convolution that is fast inside `lax.scan` and under `vmap` over kernels.

XLA's CPU backend runs `lax.conv_general_dilated` inside a loop some thirty times slower than outside one, and under
`vmap` over weights every backend turns it into a grouped convolution. Written as image patches (pad, k*k strided
slices, concatenate) and one matrix product it keeps its speed in both, since a batched matrix product is what BLAS
is for. Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing", 2006,
section 3.1.

`python -m bench.measure.convolution` prints the comparison on the machine at hand. Models use patches on every
backend until an accelerator's committed row says otherwise: under `vmap` over weights, as in outer-training, they
avoid grouped convolutions there too.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax


def patches_conv(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Two-dimensional convolution as patches and one matrix product.

    A drop-in for `lax.conv_general_dilated` where `flax.linen.Conv` calls it: NHWC images, HWIO kernels, no
    dilation, one group.

    Args:
      lhs: images, (batch, height, width, in_channels).
      rhs: kernel, (kernel_height, kernel_width, in_channels, out_channels).
      window_strides: strides over height and width.
      padding: "SAME", "VALID", or explicit (low, high) pairs for height and width.
      lhs_dilation: must be all ones or None; so must rhs_dilation.
      rhs_dilation: see lhs_dilation.
      dimension_numbers: ignored, always NHWC, HWIO -> NHWC, which is what flax passes.
      feature_group_count: must be 1.
      precision: passed on to the matrix product.
      preferred_element_type: passed on to the matrix product.

    Returns:
      (batch, out_height, out_width, out_channels).

    Raises:
      ValueError: for dilation, groups, or images that are not NHWC.
    """
    del dimension_numbers
    if feature_group_count != 1 or any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ()))):
        raise ValueError("patches_conv takes no dilation and one group; use lax.conv_general_dilated for those")
    if lhs.ndim != 4 or rhs.ndim != 4:
        raise ValueError(f"patches_conv expects NHWC images and HWIO kernels, got {lhs.ndim=} {rhs.ndim=}")
    kernel_height, kernel_width, in_channels, out_channels = rhs.shape
    stride_height, stride_width = window_strides
    pads = (
        lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
        if isinstance(padding, str)
        else padding
    )
    padded = jnp.pad(lhs, ((0, 0), *map(tuple, pads), (0, 0)))
    out_height = (padded.shape[1] - kernel_height) // stride_height + 1
    out_width = (padded.shape[2] - kernel_width) // stride_width + 1
    patches = jnp.concatenate(
        [
            padded[
                :,
                i : i + stride_height * (out_height - 1) + 1 : stride_height,
                j : j + stride_width * (out_width - 1) + 1 : stride_width,
            ]
            for i in range(kernel_height)
            for j in range(kernel_width)
        ],
        axis=-1,
    )
    flat = patches.reshape(-1, kernel_height * kernel_width * in_channels)
    kernel = rhs.reshape(-1, out_channels)
    product = jnp.matmul(flat, kernel, precision=precision, preferred_element_type=preferred_element_type)
    return product.reshape(lhs.shape[0], out_height, out_width, out_channels)


def reference_conv(*args: Any, **kwargs: Any) -> Array:
    """`lax.conv_general_dilated`, flax's default, under a name that a model's configuration can hold."""
    return lax.conv_general_dilated(*args, **kwargs)


CONVOLUTIONS = {"patches": patches_conv, "lax": reference_conv}
