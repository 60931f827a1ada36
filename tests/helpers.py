"""Small problems and measures that several test files share."""

import dataclasses
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from tasks import data

REPOSITORY = Path(__file__).resolve().parents[1]


def source_dir(name):
    """The folder of the prepared data, found without the code under test, or a skip that says what is missing."""
    root = os.environ.get("TFDS_DATA_DIR")
    if not root:
        pytest.skip("TFDS_DATA_DIR is unset: no prepared data to read")
    folder = Path(root) / data.DATA_SETS[name].builder
    if not folder.is_dir():
        pytest.skip(f"no {folder}: this data set is not prepared here")
    return Path(root)


# Least squares in three dimensions, whose every step can be written down in numpy -------------------------------------

LINEAR_SIZES = {"train": 11, "validation": 7, "test": 5}


def linear_init(key):
    return {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())}


def linear_loss(params, batch):
    """mean (x @ w + b - y)^2 / 2"""
    inputs, targets = batch
    return 0.5 * jnp.mean((inputs @ params["w"] + params["b"] - targets) ** 2)


def linear_take(arrays, cfg, split, indices):
    """cfg scales the targets."""
    return arrays[f"{split}_inputs"][indices], cfg * arrays[f"{split}_targets"][indices]


LINEAR = tasks.Problem(
    family="linear",
    init=linear_init,
    loss=linear_loss,
    take=linear_take,
    sizes=tuple(LINEAR_SIZES.values()),
    horizon=5,
    batch_size=4,
    chance_loss=1.0,
)


def linear_arrays(dtype=np.float32):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, size in LINEAR_SIZES.items():
        arrays[f"{split}_inputs"] = rng.normal(size=(size, 3)).astype(dtype)
        arrays[f"{split}_targets"] = rng.normal(size=size).astype(dtype)
    return arrays


def linear_task(cfg=1.0, dtype=np.float32):
    """Numbers come from numpy, so that the float64 task is the same task."""
    return tasks.Task(LINEAR, jax.tree.map(jnp.asarray, linear_arrays(dtype)), jnp.asarray(cfg, dtype))


def linear_family():
    """Two pools of tasks: targets scaled by numbers around 1 or around -1."""

    def sample(key, pool):
        centre = {"outer_train": 1.0, "outer_validation": -1.0}[pool]
        return centre + 0.1 * jax.random.normal(key)

    arrays = jax.tree.map(jnp.asarray, linear_arrays())
    return tasks.TaskFamily(LINEAR, arrays, sample, ("outer_train", "outer_validation"))


# A quadratic bowl: gradient descent at rate 1 is at its bottom after one step -----------------------------------------


def bowl_init(key):
    return jax.random.normal(key, (2,))


def bowl_loss(params, batch):
    del batch
    return 0.5 * jnp.sum(params**2)


def bowl_take(arrays, cfg, split, indices):
    del arrays, cfg, split
    return indices


BOWL = tasks.Problem(
    family="bowl",
    init=bowl_init,
    loss=bowl_loss,
    take=bowl_take,
    sizes=(2, 2, 2),
    horizon=6,
    batch_size=1,
    chance_loss=1.0,
)


# Fake data for the families of the registry ---------------------------------------------------------------------------


def fake_family(name, num_classes=120):
    """The family with noise for images, of the mean and spread that it normalizes by, and few of them."""
    row = tasks.family_row(name)
    rng = np.random.default_rng(0)
    shape, normalize = row.problem.init.image_shape, row.problem.take.args[0]

    def images(*lead):
        noise = rng.normal(normalize.mean, normalize.std, (*lead, *shape)) * normalize.max_value
        return jnp.asarray(noise.clip(0, normalize.max_value).astype(np.uint8))

    if row.pools:
        sizes = {"train": 4, "validation": 3, "test": 2}
        arrays = {f"{split}_images": images(num_classes, n) for split, n in sizes.items()}
    else:
        sizes = {"train": 40, "validation": 30, "test": 20}
        arrays = {f"{split}_images": images(n) for split, n in sizes.items()}
        arrays |= {f"{split}_labels": jnp.asarray(rng.integers(0, 10, n), jnp.int32) for split, n in sizes.items()}
    problem = dataclasses.replace(row.problem, sizes=tuple(n * (10 if row.pools else 1) for n in sizes.values()))
    sample = tasks.registry.sample_classes if row.pools else (lambda key, pool: ())
    return tasks.TaskFamily(problem, arrays, sample, row.pools)


# Measures -------------------------------------------------------------------------------------------------------------


class CountingTraces:
    """Wraps a function so that `count` says how often it was traced (or run, outside jit)."""

    def __init__(self, function):
        self.function, self.count = function, 0

    def __call__(self, *args, **kwargs):
        self.count += 1
        return self.function(*args, **kwargs)


def assert_trees_close(actual, expected, *, rtol=0.0, atol=0.0):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(np.asarray(a), np.asarray(e), rtol=rtol, atol=atol)


def assert_trees_equal(actual, expected):
    assert_trees_close(actual, expected)


def kinds(tree):
    """Structure, shapes and dtypes: what must not change from step to step."""
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def central_differences(function, point, eps=1e-6):
    """Gradient of a scalar function of a float64 vector; error O(eps^2) + O(1e-16 / eps)."""
    point = np.asarray(point, np.float64)
    basis = np.eye(len(point))
    return np.array([(function(point + eps * e) - function(point - eps * e)) / (2 * eps) for e in basis])


def assert_one_line(message):
    assert str(message).strip()
    assert "\n" not in str(message)


def bench_process(arguments):
    """A command for `bench ARGUMENTS` as a process that a Ctrl-C reaches.

    A background job of a shell is started with SIGINT ignored, and hands that down; a user's terminal does not.
    """
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from bench.cli.main import main; main({arguments!r})"
    )
    return [sys.executable, "-c", program]
