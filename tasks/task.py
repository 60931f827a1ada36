"""The interfaces of a task and a family of tasks, and keys derived from names.

A `Task` is a pytree: its arrays are leaves, its functions are static. So a task can be an argument of a jitted
function, and jax can vmap over its `cfg` and scan and differentiate through it. Two tasks of one family share one
compiled program.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Params = Any  # a pytree of arrays, as in optax
Batch = Any  # a pytree of arrays with a leading batch axis
Cfg = Any  # a pytree of arrays that selects one task of a family
Key = Array  # a typed jax.random key
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclasses.dataclass(frozen=True)
class Problem:
    """What the tasks of a family share: everything that is not an array. Hashable, static under jit.

    Attributes:
      family: name under which hyperparameters are tuned.
      init: key -> params.
      loss: (params, batch) -> scalar mean loss over the batch. It has neither a key nor state that training changes,
        and it is the loss of evaluation too: no dropout, no running statistics.
      take: (arrays, cfg, split, indices (n,)) -> batch of n examples. Every data set is index-addressable, so that a
        batch is an index draw inside jit and evaluation covers a split exactly.
      sizes: number of examples of each split, in the order of `SPLITS`.
      horizon: default number of inner steps.
      batch_size: examples in a training batch.
      chance_loss: loss of a predictor that knows nothing, log(num_classes) for classification.
    """

    family: str
    init: Callable[[Key], Params]
    loss: Callable[[Params, Batch], Array]
    take: Callable[[Any, Cfg, Split, Array], Batch]
    sizes: tuple[int, int, int]
    horizon: int
    batch_size: int
    chance_loss: float

    def size(self, split: Split) -> int:
        """Number of examples of a split."""
        return self.sizes[SPLITS.index(split)]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["arrays", "cfg"], meta_fields=["problem"])
@dataclasses.dataclass(frozen=True)
class Task:
    """One inner problem: a `Problem`, its data on the device, and the cfg that selects it.

    Example:
      >>> import jax, tasks
      >>> task = tasks.load("digits8_mlp")
      >>> params = task.init(jax.random.key(0))
      >>> task.loss(params, task.batch(jax.random.key(1), "train")).shape
      ()
    """

    problem: Problem
    arrays: Any
    cfg: Cfg = ()

    def init(self, key: Key) -> Params:
        """Initial parameters."""
        return self.problem.init(key)

    def loss(self, params: Params, batch: Batch) -> Array:
        """Mean loss of a batch, ()."""
        return self.problem.loss(params, batch)

    def batch(self, key: Key, split: Split) -> Batch:
        """A batch of `batch_size` examples drawn uniformly, with replacement, from a split."""
        indices = jax.random.randint(key, (self.problem.batch_size,), 0, self.problem.size(split))
        return self.take(split, indices)

    def take(self, split: Split, indices: Array) -> Batch:
        """The examples of a split with these indices, (n,) int32."""
        return self.problem.take(self.arrays, self.cfg, split, indices)


@dataclasses.dataclass(frozen=True)
class TaskFamily:
    """A distribution of tasks that share one `Problem`.

    Attributes:
      problem: what the tasks share.
      arrays: the data of all tasks of the family, on the device.
      sample: (key, pool) -> cfg. Pure, so that `jax.vmap(sample)` draws many tasks.
      pools: names of the disjoint pools that tasks can be drawn from.
    """

    problem: Problem
    arrays: Any
    sample: Callable[[Key, str], Cfg]
    pools: tuple[str, ...]

    def task(self, cfg: Cfg) -> Task:
        """The task that `cfg` selects."""
        return Task(self.problem, self.arrays, cfg)


def named_key(*names: str | int) -> Key:
    """A key derived from a stable digest of names, so that a new task or optimizer changes no old number.

    `hash()` would not do, since it is salted per process (protocol rule 5).
    """
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return jax.random.key(int.from_bytes(digest[:4], "little"))


def num_params(problem: Problem) -> int:
    """Number of trained parameters, without building them."""
    shapes = jax.eval_shape(problem.init, jax.random.key(0))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean cross-entropy, (); logits (batch, classes), integer labels (batch,)."""
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_probs, labels[:, None], axis=-1))


def array_task(
    family: str,
    module: Any,
    arrays: Mapping[str, Array | np.ndarray],
    *,
    num_classes: int,
    horizon: int = 1000,
    batch_size: int = 32,
    mean: tuple[float, ...] | float = 0.5,
    std: tuple[float, ...] | float = 0.5,
    max_value: float | None = 255.0,
) -> Task:
    """A classification task from arrays and a flax module, the simplest way to add a task.

    The loss is a function of parameters and a batch alone, the same in training and in evaluation. A module with state,
    such as running statistics, or with dropout is refused.

    Args:
      family: name under which hyperparameters are tuned.
      module: a flax module that maps images (batch, ...) to logits (batch, num_classes).
      arrays: "train_images" (n, ...) and "train_labels" (n,), and the same for validation and test.
      num_classes: number of labels.
      horizon: default number of inner steps.
      batch_size: examples in a training batch.
      mean: subtracted from images / max_value.
      std: divides the difference.
      max_value: full scale of the stored images, 255 for uint8; None for inputs that the module gets as they are
        stored, such as tokens.

    Returns:
      The task, its arrays on the default device as they are stored (uint8 stays uint8).

    Raises:
      ValueError: an array is missing, images and labels differ in number, images are not finite, labels are no
        integers from 0 to num_classes - 1, or the module cannot be applied to parameters and a batch alone; one line.
    """
    for split in SPLITS:
        missing = [key for key in (f"{split}_images", f"{split}_labels") if key not in arrays]
        if missing:
            raise ValueError(f"task {family}: expected arrays {', '.join(missing)}, got {', '.join(sorted(arrays))}")
        if len(arrays[f"{split}_images"]) != len(arrays[f"{split}_labels"]):
            raise ValueError(f"task {family}: {split} images and labels differ in number")
        _check_examples(f"task {family}: {split}", arrays[f"{split}_images"], arrays[f"{split}_labels"], num_classes)
    scales = max_value is not None
    normalize = Normalize(_as_tuple(mean), _as_tuple(std), max_value) if scales else _as_stored
    dtype = "float32" if scales else str(jax.dtypes.canonicalize_dtype(arrays["train_images"].dtype))
    init = ModuleInit(module, tuple(arrays["train_images"].shape[1:]), dtype)
    _check_module(family, init)
    problem = Problem(
        family=family,
        init=init,
        loss=ModuleLoss(module),
        take=_take_images_with(normalize),
        sizes=tuple(len(arrays[f"{split}_labels"]) for split in SPLITS),  # pyright: ignore[reportArgumentType]
        horizon=horizon,
        batch_size=batch_size,
        chance_loss=float(np.log(num_classes)),
    )
    kept = {f"{split}_{part}" for split in SPLITS for part in ("images", "labels")}
    return Task(problem, {name: jnp.asarray(array) for name, array in arrays.items() if name in kept})


def _check_examples(where: str, images: Any, labels: Any, num_classes: int) -> None:
    """Raises ValueError on what would end as a loss that is not finite, as if the optimizer had diverged."""
    for name, array in (("images", images), ("labels", labels)):
        if not isinstance(array, np.ndarray | Array):
            raise ValueError(f"{where} {name}: expected an array, got {type(array).__name__}")
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{where} labels: expected integers (n,), got {labels.dtype} {tuple(labels.shape)}")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"{where} labels: from {labels.min()} to {labels.max()}, and there are {num_classes} classes")
    # The least and the largest are NaN where any is, and take no memory.
    real = jnp.issubdtype(images.dtype, jnp.floating) and images.size
    if real and not all(math.isfinite(float(each)) for each in (images.min(), images.max())):
        raise ValueError(f"{where} images: not all are finite")


@dataclasses.dataclass(frozen=True)
class Normalize:
    """Converts stored images to network inputs: (images / max_value - mean) / std, float32."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_value: float = 255.0

    def __call__(self, images: Array) -> Array:
        """Images (..., channels), any real dtype, to float32 of the same shape."""
        scale = 1.0 / (self.max_value * np.asarray(self.std, np.float32))
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        broadcast = (1,) * (images.ndim - 1) + (-1,)
        return images.astype(jnp.float32) * scale.reshape(broadcast) - shift.reshape(broadcast)


@dataclasses.dataclass(frozen=True)
class ModuleInit:
    """`init` of a flax module for images of one shape; comparable, so that equal problems share a program."""

    module: Any
    image_shape: tuple[int, ...]
    dtype: str = "float32"

    def __call__(self, key: Key) -> Params:
        """Parameters of the module."""
        return self.module.init(key, jnp.zeros((1, *self.image_shape), self.dtype))["params"]


def _check_module(family: str, init: ModuleInit) -> None:
    """Applies a module without computing anything, as the loss will.

    Raises:
      ValueError: it cannot be applied to parameters and a batch alone; one line.
    """
    module, inputs = init.module, jax.ShapeDtypeStruct((1, *init.image_shape), init.dtype)
    what = f"task {family}: {type(module).__name__}"
    try:
        variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
        if state := sorted(set(variables) - {"params"}):
            raise ValueError(
                f"{what} has state ({', '.join(state)}), and a loss is a function of parameters and a batch alone: "
                f"leave it out, or write a tasks.Problem whose loss applies the module with mutable={state} and drops "
                "what changes"
            )
        jax.eval_shape(module.apply, variables, inputs)
    except flax.errors.InvalidRngError:
        raise ValueError(
            f"{what} needs random numbers, as dropout does, and a loss has no key: make it deterministic"
        ) from None
    except (flax.errors.FlaxError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        if text.startswith(what):
            raise
        remedy = (
            "; inputs are scaled to float32 unless max_value is None, for tokens" if init.dtype == "float32" else ""
        )
        shape = f"{init.dtype}{[1, *init.image_shape]}"
        raise ValueError(f"{what} cannot be applied to {shape}: {text[:200]}{remedy}") from None


def _as_stored(inputs: Array) -> Array:
    """Inputs as they are stored, in place of `Normalize`."""
    return inputs


@dataclasses.dataclass(frozen=True)
class ModuleLoss:
    """Mean cross-entropy of a flax module on a batch (images, labels)."""

    module: Any

    def __call__(self, params: Params, batch: Batch) -> Array:
        """Scalar loss."""
        images, labels = batch
        return cross_entropy(self.module.apply({"params": params}, images), labels)


def take_images(normalize: Callable[[Array], Array], arrays: Any, cfg: Cfg, split: Split, indices: Array) -> Batch:
    """Examples of a task whose arrays are one data set: `{split}_images` and `{split}_labels`."""
    del cfg
    return normalize(arrays[f"{split}_images"][indices]), arrays[f"{split}_labels"][indices]


@functools.cache  # partials compare by identity, and equal problems must share a program
def _take_images_with(normalize: Callable[[Array], Array]) -> Callable[[Any, Cfg, Split, Array], Batch]:
    return functools.partial(take_images, normalize)


def _as_tuple(value: tuple[float, ...] | float) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (float(value),)
