"""The networks being trained: plain flax modules with an injected convolution.

The CNN is the target of Metz et al., "Understanding and correcting pathologies in the training of learned optimizers"
(arXiv 1810.10180): three 3x3 convolutions of 32 channels, strides 2, 2, 1, ReLU, Glorot initialization, global
average pooling and a dense layer.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from tasks.convolution import patches_conv

_glorot = nn.initializers.glorot_uniform()


class CNN(nn.Module):
    """A stack of 3x3 convolutions, global average pooling, one dense layer.

    Attributes:
      channels: output channels of each convolution.
      strides: stride of each convolution.
      num_classes: width of the output.
      conv: the convolution, with the signature that `flax.linen.Conv` expects of `conv_general_dilated`.
    """

    channels: Sequence[int]
    strides: Sequence[int]
    num_classes: int
    conv: Callable[..., Array] = patches_conv

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images (batch, height, width, channels) to logits (batch, num_classes)."""
        x = images
        for channels, stride in zip(self.channels, self.strides, strict=True):
            x = nn.Conv(channels, (3, 3), (stride, stride), kernel_init=_glorot, conv_general_dilated=self.conv)(x)
            x = nn.relu(x)
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.num_classes, kernel_init=_glorot)(x)


class MLP(nn.Module):
    """Fully connected layers with ReLU between them.

    Attributes:
      widths: units of each hidden layer.
      num_classes: width of the output.
    """

    widths: Sequence[int]
    num_classes: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images (batch, ...) to logits (batch, num_classes)."""
        x = images.reshape(images.shape[0], -1)
        for width in self.widths:
            x = nn.relu(nn.Dense(width, kernel_init=_glorot)(x))
        return nn.Dense(self.num_classes, kernel_init=_glorot)(x)


class ResNet(nn.Module):
    """A small residual net: a stem, two-convolution blocks with GroupNorm, global average pooling, a linear layer.

    He et al., "Identity mappings in deep residual networks", arXiv 1603.05027, section 4, with GroupNorm (Wu, He, arXiv
    1803.08494) for batch norm, so that no statistics are carried.

    Attributes:
      channels: channels of the stem and of each block.
      strides: stride of each block.
      num_classes: width of the output.
      num_groups: groups of every GroupNorm; a divisor of the channels.
      conv: as of `CNN`.
    """

    channels: int
    strides: Sequence[int]
    num_classes: int
    num_groups: int = 4
    conv: Callable[..., Array] = patches_conv

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images (batch, height, width, channels) to logits (batch, num_classes)."""

        def conv(stride: int, size: int = 3) -> nn.Module:
            return nn.Conv(
                self.channels, (size, size), (stride, stride), kernel_init=_glorot, conv_general_dilated=self.conv
            )

        x = conv(1)(images)
        for stride in self.strides:
            branch = nn.relu(nn.GroupNorm(self.num_groups)(x))
            shortcut = x if stride == 1 else conv(stride, 1)(branch)
            branch = conv(stride)(branch)
            branch = conv(1)(nn.relu(nn.GroupNorm(self.num_groups)(branch)))
            x = shortcut + branch
        x = jnp.mean(nn.relu(nn.GroupNorm(self.num_groups)(x)), axis=(1, 2))
        return nn.Dense(self.num_classes, kernel_init=_glorot)(x)
