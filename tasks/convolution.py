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

# From this batch size on the patches no longer fit any cache and XLA's own convolution is used. Training batches are
# smaller; evaluation, in batches of 1,000 outside loops, is more than twice as fast (21,000 images of 28x28: 0.45
# against 1.2 s on two cores).
LARGE_BATCH = 256


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
    if lhs.shape[0] >= LARGE_BATCH:
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            dimension_numbers=numbers,
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
    kernel_height, kernel_width, _, out_channels = rhs.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    patches = extract_patches(lhs, (kernel_height, kernel_width), window_strides, padding)
    flat = patches.reshape(-1, patches.shape[-1])
    kernel = rhs.reshape(-1, out_channels)
    blocks = _num_blocks(*flat.shape)
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    if blocks == 1:  # a batched product of one block would be slower
        product = jnp.matmul(flat, kernel, **options)
    else:
        kernels = jnp.broadcast_to(kernel, (blocks, *kernel.shape))
        product = jnp.einsum("brk,bko->bro", flat.reshape(blocks, -1, flat.shape[1]), kernels, **options)
    return product.reshape(*patches.shape[:3], out_channels)


def extract_patches(
    images: Array, kernel_size: Sequence[int], strides: Sequence[int], pads: Sequence[tuple[int, int]]
) -> Array:
    """The patch under each position of a kernel.

    A row of a patch is contiguous in memory: cut into stretches of `stride` pixels it comes in ceil(width / stride)
    slices, all aligned, rather than in one strided slice a pixel, and its gradient needs no interior padding.

    Args:
      images: (batch, height, width, channels).
      kernel_size: height and width of the kernel.
      strides: over height and width.
      pads: (low, high) for height and width.

    Returns:
      (batch, out_height, out_width, kernel_height * kernel_width * channels), ordered as an HWIO kernel's rows.
    """
    batch, height, width, channels = images.shape
    (kernel_height, kernel_width), (stride_height, stride_width) = kernel_size, strides
    (top, bottom), (left, right) = pads
    out_height = (height + top + bottom - kernel_height) // stride_height + 1
    out_width = (width + left + right - kernel_width) // stride_width + 1
    num_stretches = -(-kernel_width // stride_width)
    whole = stride_width * (out_width - 1 + num_stretches)
    padded = jnp.pad(images, ((0, 0), (top, bottom), (left, max(0, whole - width - left)), (0, 0)))[:, :, :whole]
    # Two barriers against fusion: without them XLA normalizes and pads anew for every slice, and joins all slices in
    # one loop with a branch for each (together 4.73 against 4.61 ms a step of `imagenet32_cnn3`).
    padded = lax.optimization_barrier(padded)
    patch_rows = []
    for i in range(kernel_height):
        rows = padded[:, i : i + stride_height * (out_height - 1) + 1 : stride_height]
        rows = rows.reshape(batch, out_height, whole // stride_width, stride_width * channels)
        stretches = [
            rows[:, :, q : q + out_width, : min(stride_width, kernel_width - q * stride_width) * channels]
            for q in range(num_stretches)
        ]
        patch_rows.append(lax.optimization_barrier(jnp.concatenate(stretches, axis=-1)))
    return jnp.concatenate(patch_rows, axis=-1)


def _num_blocks(rows: int, columns: int) -> int:
    """In how many blocks of rows the product is taken.

    The gradient of the kernel is patches^T @ gradient, which reads patches against the grain: past the cache's size it
    runs at a third of the forward product's speed. As a batched product of blocks, its autodiff transpose is a sum over
    blocks that fit (a step of `imagenet32_cnn3`: 4.84 -> 4.39 ms of CPU time; smaller nets gain nothing).
    """
    if rows * columns * 4 <= 2**20:
        return 1
    return next(blocks for blocks in (8, 4, 2, 1) if rows % blocks == 0)


def reference_conv(*args: Any, **kwargs: Any) -> Array:
    """`lax.conv_general_dilated`, flax's default, under a name that a model's configuration can hold."""
    return lax.conv_general_dilated(*args, **kwargs)


CONVOLUTIONS = {"patches": patches_conv, "lax": reference_conv}
