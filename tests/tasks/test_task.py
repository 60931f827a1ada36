"""Keys by name, the loss, images as numbers, and tasks made of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tasks.models import CNN, MLP
from tasks.task import Normalize, array_task, cross_entropy, named_key
from tests.helpers import CountingTraces, assert_one_line


def test_named_keys_depend_on_every_name_and_on_where_one_ends():
    names = [("a",), ("b",), ("a", "b"), ("ab",), ("a", 1), ("a", 2), ("b", "a")]
    assert len({np.asarray(jax.random.key_data(named_key(*parts))).tobytes() for parts in names}) == len(names)
    assert np.array_equal(jax.random.key_data(named_key("a", 1)), jax.random.key_data(named_key("a", "1")))


def test_normalization_by_hand():
    images = np.array([[[[0, 255, 51]]]], np.uint8)
    expected = (np.array([0.0, 1.0, 0.2]) - [0.5, 0.25, 0.0]) / [0.5, 0.25, 2.0]
    actual = Normalize((0.5, 0.25, 0.0), (0.5, 0.25, 2.0))(jnp.asarray(images))
    np.testing.assert_allclose(actual.ravel(), expected, rtol=1e-6)


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])) + 3.0
    expected = -(np.log(0.2) + np.log(0.8)) / 2
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1, 2])), expected, rtol=1e-6)


def example_arrays():
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 6), ("validation", 5), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 2, 2, 1), dtype=np.uint8)
        arrays[f"{split}_labels"] = rng.integers(0, 3, n).astype(np.int32)
    return arrays


def test_an_array_task_keeps_its_arrays_as_stored():
    arrays = example_arrays() | {"train_index": np.arange(6)}
    task = array_task("mine", MLP((4,), 3), arrays, num_classes=3, batch_size=2)
    assert task.problem.sizes == (6, 5, 4)
    assert task.problem.chance_loss == pytest.approx(np.log(3))
    assert set(task.arrays) == set(example_arrays())
    assert task.arrays["train_images"].dtype == np.uint8
    images, labels = task.take("validation", jnp.arange(5))
    np.testing.assert_allclose(images, arrays["validation_images"] / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(labels, arrays["validation_labels"])


def test_two_array_tasks_made_alike_share_one_compiled_program():
    counted = CountingTraces(lambda task, key: task.batch(key, "train")[1])
    program = jax.jit(counted)
    for _ in range(2):
        program(array_task("mine", CNN((4,), (1,), 3), example_arrays(), num_classes=3), jax.random.key(0))
    assert counted.count == 1


def test_an_array_task_without_an_array_says_which():
    arrays = example_arrays()
    del arrays["test_labels"]
    with pytest.raises(ValueError, match="task mine: expected arrays test_labels, got test_images, train_images"):
        array_task("mine", MLP((4,), 3), arrays, num_classes=3)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("train_labels", np.array([1, 2, 3, 1, 1, 1]), "train labels: from 1 to 3, and there are 3 classes"),
        ("test_labels", np.array([-1, 0, 1, 2]), "test labels: from -1 to 2, and there are 3 classes"),
        ("train_labels", np.zeros(6), r"train labels: expected integers \(n,\), got float64 \(6,\)"),
        ("validation_labels", np.eye(5, 3, dtype=int), r"expected integers \(n,\), got int64 \(5, 3\)"),
        ("test_labels", [0, 1, 2, 0], "test labels: expected an array, got list"),
        ("train_images", np.full((6, 2, 2, 1), np.nan, np.float32), "train images: not all are finite"),
        ("validation_images", jnp.full((5, 2, 2, 1), -jnp.inf), "validation images: not all are finite"),
    ],
)
def test_examples_that_no_optimizer_can_train_on_are_refused_in_one_line(name, array, words):
    with pytest.raises(ValueError, match=f"task mine: .*{words}") as caught:
        array_task("mine", MLP((4,), 3), example_arrays() | {name: array}, num_classes=3)
    assert_one_line(caught.value)


def test_an_array_task_with_a_label_too_few_says_so():
    arrays = example_arrays()
    arrays["validation_labels"] = arrays["validation_labels"][1:]
    with pytest.raises(ValueError, match="task mine: validation images and labels differ in number"):
        array_task("mine", MLP((4,), 3), arrays, num_classes=3)


class Net(nn.Module):
    middle: nn.Module

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(self.middle(nn.Dense(8)(x.reshape(len(x), -1))))


class Words(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        return nn.Dense(3)(nn.Embed(256, 8)(tokens).mean(axis=1))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Net(nn.BatchNorm(use_running_average=False)), r"Net has state \(batch_stats\).* mutable=\['batch_stats'\]"),
        (Net(nn.Dropout(0.5, deterministic=False)), "Net needs random numbers, as dropout does, and a loss has no key"),
        (Words(), "Input type must be an integer .*; inputs are scaled to float32 unless max_value is None"),
    ],
)
def test_a_module_that_parameters_and_a_batch_are_not_enough_for_is_refused_in_one_line(module, words):
    with pytest.raises(ValueError, match=words) as caught:
        array_task("mine", module, example_arrays(), num_classes=3)
    assert_one_line(caught.value)


def test_tokens_reach_the_module_as_they_are_stored():
    arrays = example_arrays()
    for split in ("train", "validation", "test"):
        arrays[f"{split}_images"] = (
            arrays[f"{split}_images"].reshape(len(arrays[f"{split}_images"]), -1).astype(np.int64)
        )
    task = array_task("mine", Words(), arrays, num_classes=3, max_value=None, batch_size=2)
    tokens, labels = task.batch(jax.random.key(0), "train")
    assert (tokens.dtype, labels.shape) == (jnp.int32, (2,))
    params = task.init(jax.random.key(1))
    logits = Words().apply({"params": params}, tokens)
    np.testing.assert_allclose(task.loss(params, (tokens, labels)), cross_entropy(logits, labels), rtol=1e-6)
