"""Examples of the image tasks: channel statistics, and what the images of a task of ten classes look like."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tasks.task import Cfg, Normalize

NUM_CLASSES = 10

# Channel statistics of the training sets: the commonly used values for ImageNet, CIFAR-10 and MNIST, and measured ones
# for the digits.
IMAGENET_NORMALIZE = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR_NORMALIZE = Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
MNIST_NORMALIZE = Normalize((0.1307,), (0.3081,))
DIGITS_NORMALIZE = Normalize((0.305,), (0.376,), max_value=16.0)


def take_class_images(normalize: Normalize, arrays: dict[str, Array], cfg: Cfg, split: str, indices: Array):
    """Examples of a task of ten classes: `cfg` (10,) holds their rows in arrays (classes, per_class, ...)."""
    images = arrays[f"{split}_images"]
    label, position = jnp.divmod(indices, images.shape[1])
    return normalize(images[cfg[label], position]), label


def take_marked_images(
    share: float, normalize: Normalize, arrays: dict[str, Array], cfg: Cfg, split: str, indices: Array
):
    """The same, with a mark of the class laid over each image: its first training image, moved by up to an eighth.

    Classes are then easy to tell apart, as digits are: a net that learns well is nearly certain, and right.

    Args:
      share: of the mark in what is seen, from 0 to 1.
      normalize: as in `take_class_images`, and so are the others.
    """
    label, position = jnp.divmod(indices, arrays[f"{split}_images"].shape[1])
    mixed = _with_marks(share, arrays, split, cfg, cfg[label], position, label, position)
    return normalize(mixed), label


def take_labelled_images(
    share: float, normalize: Normalize, arrays: dict[str, Array], cfg: Cfg, split: str, indices: Array
):
    """The same, with the mark laid over images of all ten classes: the class is that of the mark, not of the image.

    Each image is seen with each mark, so that there are ten times as many examples, and a net that has learned them by
    heart knows nothing: train and validation loss fall together, as on data that a run sees once.

    Args and order of examples: as `take_marked_images`.
    """
    num_images = arrays[f"{split}_images"].shape[1]
    label, rest = jnp.divmod(indices, NUM_CLASSES * num_images)
    seen, position = jnp.divmod(rest, num_images)
    mixed = _with_marks(share, arrays, split, cfg, cfg[seen], position, label, rest)
    return normalize(mixed), label


def _with_marks(share, arrays, split, cfg, rows: Array, position: Array, label: Array, place: Array) -> Array:
    """Images (n, ...) float32 with the marks of labels over them; `place` says how far a mark is moved."""
    images = arrays[f"{split}_images"]
    marks = arrays["train_images"][cfg, 0][label]
    most = images.shape[2] // 8
    down, across = place % (2 * most + 1) - most, place // (2 * most + 1) % (2 * most + 1) - most
    moved = jax.vmap(lambda mark, shift: jnp.roll(mark, shift, axis=(0, 1)))(marks, (down, across))
    return (1 - share) * images[rows, position].astype(jnp.float32) + share * moved.astype(jnp.float32)


def shrink_images(images: np.ndarray, factor: int) -> np.ndarray:
    """Averages factor x factor blocks of uint8 images (..., height, width, channels), rounding to nearest."""
    if factor == 1:
        return images
    *lead, height, width, channels = images.shape
    blocks = images.reshape(*lead, height // factor, factor, width // factor, factor, channels)
    total = blocks.sum(axis=(-4, -2), dtype=np.uint16)
    return ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)
