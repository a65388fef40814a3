"""A plain convolutional network, with or without attention in each of its blocks.

Attention: Hu et al., "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507, and the
other kinds in `attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from pipeline.models.attention import Attention
from pipeline.models.channelwise import channel_means
from pipeline.models.layers import Classifier, Parts, make_activation
from pipeline.models.pooling import POOLINGS
from pipeline.settings.image_sizes import Geometry, cnn_obstacle
from pipeline.system.errors import InputError, choose

MOST_WEIGHTS = 100_000_000  # of one layer: 0.4 GB, and three times that with Adam's moments


def _convolution(geometry: Geometry, in_channels: int, out_channels: int, groups: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels,
        out_channels,
        geometry.kernel_size,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=groups,
    )


class CnnBlock(nn.Module):
    """Convolution, norm, activation, attention, and a pool."""

    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module,
        activation: nn.Module,
        attention: nn.Module,
        pool: nn.Module,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.activation = activation
        self.attention = attention
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, h, w)."""
        x = self.activation(self.norm(self.conv(x)))  # (B, C, conv's size)
        x = self.attention(x)  # (B, C, conv's size)
        return self.pool(x)  # (B, C, h, w)

    def last_layer(self) -> str:
        """Return the name of the last layer that is no plain pool: one that convolves counts."""
        if next(self.pool.parameters(), None) is not None:
            return "pool"
        return "activation" if isinstance(self.attention, nn.Identity) else "attention"


def _flattened(x: Tensor) -> Tensor:
    return x.flatten(1)  # (B, C * h * w)


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "flatten": _flattened,
    "global_average": channel_means,
}


class Cnn(Classifier):
    """Convolutional blocks, then two fully connected layers.

    Args:
        num_classes: number of classes K.
        image_size: height and width of the images in pixels.
        in_channels: channels of the images.
        channels: feature maps of each block; its length is the number of blocks.
        kernel_size: height and width of the blocks' convolutions, 3 or 5.
        stride: of these convolutions.
        padding: of these convolutions, in pixels on each side; None keeps the size at stride 1.
        dilation: of these convolutions: distance in pixels between the values of the kernel.
        groups: of all convolutions but the first, whose input is the image; divides `channels`.
        activation: a name in `layers.ACTIVATIONS`.
        normalisation: a name in `layers.NORMALISATIONS`.
        norm_groups: of group normalisation; divides `channels`.
        pooling: a name in `pooling.POOLINGS`, for every block.
        head: a name in `HEADS`: what the fully connected layers get of the last maps.
        hidden: units of the first fully connected layer.
        dropout: probability of dropping one of these units in training.
        attention: a name in `attention.ATTENTIONS`, for every block.
        reduction: channels per hidden unit of channel attention.
        heads: of self-attention; divides `channels`.

    Raises:
        InputError: if the images are too small for the strides and norms or too large for a
            flattened head, or a setting is not one of its choices.
    """

    foldable = True
    replayable = True

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        in_channels: int = 3,
        *,
        channels: Sequence[int] = (32, 64, 128),
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        activation: str = "relu",
        normalisation: str = "batch",
        norm_groups: int = 8,
        pooling: str = "max",
        head: str = "flatten",
        hidden: int = 512,
        dropout: float = 0.5,
        attention: str = "none",
        reduction: int = 16,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if not channels:
            raise InputError("architectures: channels: [] is empty; name one width or more")
        if kernel_size not in (3, 5):
            raise InputError(f"architectures: kernel_size: {kernel_size} is not one of 3, 5")
        geometry = Geometry.of(kernel_size, stride, padding, dilation)
        parts = Parts(activation, normalisation, norm_groups, attention, reduction, heads)
        pool = POOLINGS[choose(pooling, POOLINGS, "architectures: pooling")]
        self.flat = HEADS[choose(head, HEADS, "architectures: head")]
        obstacle = cnn_obstacle(image_size, channels, geometry, parts.norm, pooling)
        if obstacle:
            raise InputError(f"architectures: {obstacle}")

        self.blocks = [f"block{number}" for number in range(1, len(channels) + 1)]
        block_groups = [1] + [groups] * (len(channels) - 1)
        before, size = in_channels, image_size
        for name, after, conv_groups in zip(self.blocks, channels, block_groups, strict=True):
            self.add_module(
                name,
                CnnBlock(
                    _convolution(geometry, before, after, conv_groups),
                    parts.make_norm(after),
                    parts.make_activation(),
                    parts.make_attention(after),
                    pool.make(after, groups, activation),
                ),
            )
            before, size = after, pool.size(geometry.size(size))
        inputs = channels[-1] * (size**2 if head == "flatten" else 1)
        if head == "flatten":
            _check_weights(inputs, hidden, pooling, size)
        self.hidden = nn.Linear(inputs, hidden)
        self.activation = make_activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        x = images
        for name in self.blocks:
            x = getattr(self, name)(x)  # (B, channels[i], h, w)
        x = self.flat(x)  # (B, channels[-1] * h * w), or (B, channels[-1])
        x = self.dropout(self.activation(self.hidden(x)))  # (B, hidden)
        return self.classifier(x)  # (B, K)

    def feature_layers(self) -> dict[str, nn.Module]:
        """Return the convolutions: conv1, conv2, ..."""
        return {
            f"conv{number}": self.get_submodule(f"{name}.conv")
            for number, name in enumerate(self.blocks, start=1)
        }

    def activation_layers(self) -> dict[str, nn.Module]:
        """Return the last layer of each block that is no plain pool: block1.activation, ...

        Before a plain pool there are four positions for each one after it.
        """
        names = [f"{name}.{getattr(self, name).last_layer()}" for name in self.blocks]
        return {name: self.get_submodule(name) for name in names}

    def attention_layers(self) -> dict[str, Attention]:
        """Return attention1, attention2, ...; of CBAM attention1.channel and so on."""
        return {
            name.replace(".attention", "").replace("block", "attention"): module
            for name, module in self.named_modules()
            if isinstance(module, Attention)
        }


def _check_weights(inputs: int, hidden: int, pooling: str, size: int) -> None:
    """Check that the first fully connected layer has a size that can be trained."""
    if inputs * hidden > MOST_WEIGHTS:
        raise InputError(
            f"architectures: head: 'flatten' after pooling '{pooling}' leaves maps of {size}x{size}"
            f" pixels, and a layer of {inputs} x {hidden} = {inputs * hidden:,} weights; use head: "
            "global_average, another pooling, or fewer channels"
        )
