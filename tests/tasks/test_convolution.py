import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks
from tasks.convolution import CONVOLUTIONS, patches_conv, reference_conv
from tasks.models import CNN

NHWC = ("NHWC", "HWIO", "NHWC")


def model_convolutions():
    """(image, kernel, strides, padding) of every convolution of every registered model, by asking the models."""
    found = {}
    for row in tasks.FAMILIES.values():
        module, shape = row.problem.init.module, row.problem.init.image_shape
        if not isinstance(module, CNN):
            continue

        def recording(lhs, rhs, window_strides, padding, **kwargs):
            pads = padding if isinstance(padding, str) else tuple(map(tuple, padding))
            found[lhs.shape[1:], rhs.shape, tuple(window_strides), pads] = None
            return patches_conv(lhs, rhs, window_strides, padding, **kwargs)

        jax.eval_shape(module.clone(conv=recording).init, jax.random.key(0), jnp.zeros((1, *shape)))
    return list(found)


def outputs_and_gradients(conv, lhs, rhs, cotangent, strides, padding):
    product, pullback = jax.vjp(lambda x, k: conv(x, k, strides, padding, dimension_numbers=NHWC), lhs, rhs)
    return product, *pullback(cotangent)


def assert_equals_lax(image_shape, kernel_shape, strides, padding, batch=2):
    """Sums of up to 512 products, scaled to be of order one: float32 leaves 1e-5 between two orders of summation."""
    rng = np.random.default_rng(0)
    lhs = rng.normal(size=(batch, *image_shape)).astype(np.float32)
    rhs = (rng.normal(size=kernel_shape) / np.sqrt(np.prod(kernel_shape[:3]))).astype(np.float32)
    out = jax.eval_shape(lambda x, k: reference_conv(x, k, strides, padding, dimension_numbers=NHWC), lhs, rhs)
    cotangent = (rng.normal(size=out.shape) / np.sqrt(max(1, out.size / out.shape[-1]))).astype(np.float32)

    @jax.jit
    def both(lhs, rhs, cotangent):
        return [outputs_and_gradients(conv, lhs, rhs, cotangent, strides, padding) for conv in CONVOLUTIONS.values()]

    ours, theirs = both(lhs, rhs, cotangent)
    for what, a, b in zip(("outputs", "image gradient", "kernel gradient"), ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=what)


def test_the_models_use_3x3_kernels_at_strides_one_and_two():
    convolutions = model_convolutions()
    assert ((32, 32, 3), (3, 3, 3, 32), (2, 2), "SAME") in convolutions
    assert {strides for _, _, strides, _ in convolutions} == {(1, 1), (2, 2)}


@pytest.mark.parametrize(
    ("image", "kernel", "strides", "padding"),
    [pytest.param(*conv, marks=pytest.mark.slow if conv[0][0] > 8 else ()) for conv in model_convolutions()],
)
def test_every_convolution_of_the_models_equals_lax(image, kernel, strides, padding):
    assert_equals_lax(image, kernel, strides, padding)


odd_shapes = st.fixed_dictionaries(
    {
        "image_shape": st.tuples(st.integers(3, 9), st.integers(3, 9), st.integers(1, 3)),
        "kernel_size": st.tuples(st.integers(1, 5), st.integers(1, 5)),
        "out_channels": st.integers(1, 3),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.one_of(
            st.sampled_from(["SAME", "VALID", "SAME_LOWER"]),
            st.tuples(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3))),
        ),
    }
)


def check_odd_shapes(image_shape, kernel_size, out_channels, strides, padding):
    height, width, channels = image_shape
    kernel = (min(kernel_size[0], height), min(kernel_size[1], width), channels, out_channels)
    assert_equals_lax(image_shape, kernel, strides, padding)


@settings(max_examples=6)
@given(odd_shapes)
def test_odd_shapes_and_paddings_equal_lax(case):
    check_odd_shapes(**case)


@pytest.mark.slow
@settings(max_examples=100)
@given(odd_shapes)
def test_many_odd_shapes_and_paddings_equal_lax(case):
    check_odd_shapes(**case)


def test_vmap_over_kernels_and_scan_equal_a_loop():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 5, 5, 2)).astype(np.float32)
    kernels = (rng.normal(size=(4, 3, 3, 2, 3)) / np.sqrt(18)).astype(np.float32)

    def conv(kernel):
        return patches_conv(images, kernel, (2, 2), "SAME")

    single = jax.jit(conv)
    loop = np.stack([single(kernel) for kernel in kernels])
    np.testing.assert_allclose(jax.jit(jax.vmap(conv))(kernels), loop, rtol=1e-5, atol=1e-6)
    scanned = jax.jit(lambda ks: jax.lax.scan(lambda carry, k: (carry, conv(k)), 0, ks)[1])(kernels)
    np.testing.assert_allclose(scanned, loop, rtol=1e-5, atol=1e-6)


def test_a_convolution_by_hand():
    # 1x2 image [1, 2], kernel [10, 100] with one zero on the right: 1*10 + 2*100, 2*10 + 0*100.
    out = patches_conv(
        jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1), jnp.array([10.0, 100.0]).reshape(1, 2, 1, 1), (1, 1), "SAME"
    )
    np.testing.assert_array_equal(out.ravel(), [210.0, 20.0])


@pytest.mark.parametrize(
    "kwargs", [{"lhs_dilation": (2, 1)}, {"rhs_dilation": (1, 2)}, {"feature_group_count": 2}], ids=str
)
def test_dilation_and_groups_are_refused(kwargs):
    with pytest.raises(ValueError, match=r"use lax\.conv_general_dilated"):
        patches_conv(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 2)), (1, 1), "SAME", **kwargs)


def test_dilations_of_one_are_accepted():
    out = patches_conv(
        jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1)), (1, 1), "SAME", lhs_dilation=(1, 1), rhs_dilation=(1, 1)
    )
    assert out.shape == (1, 4, 4, 1)


@pytest.mark.parametrize(("image", "kernel"), [((4, 4, 1), (3, 3, 1, 1)), ((1, 4, 4, 1), (3, 1, 1))])
def test_images_and_kernels_of_another_rank_are_refused(image, kernel):
    with pytest.raises(ValueError, match="expects NHWC images and HWIO kernels"):
        patches_conv(jnp.zeros(image), jnp.zeros(kernel), (1, 1), "SAME")
