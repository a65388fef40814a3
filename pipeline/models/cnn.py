"""A plain convolutional network, with or without channel attention in each of its blocks.

Attention: Hu et al., "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.models.attention import ChannelAttention, make_attention
from pipeline.models.layers import Classifier, check_image_size, make_activation


class CnnBlock(nn.Module):
    """Convolution, batch norm, activation, attention, and a pool that halves height and width."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        activation: str,
        attention: str,
        reduction: int,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = make_activation(activation)
        self.attention = make_attention(attention, out_channels, reduction)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H // 2, W // 2)."""
        x = self.activation(self.norm(self.conv(x)))  # (B, C, H, W)
        x = self.attention(x)  # (B, C, H, W)
        return self.pool(x)  # (B, C, H // 2, W // 2)


class Cnn(Classifier):
    """Convolutional blocks, then two fully connected layers.

    Args:
        num_classes: number of classes K.
        image_size: height and width of the images in pixels; at least 2 ** len(channels).
        in_channels: channels of the images.
        channels: feature maps of each block; its length is the number of blocks.
        kernel_size: height and width of the convolutions, 3 or 5; padding keeps the size.
        activation: a name in `layers.ACTIVATIONS`.
        hidden: units of the first fully connected layer.
        dropout: probability of dropping one of these units in training.
        attention: a name in `attention.ATTENTIONS`, for every block.
        reduction: channels per hidden unit of channel attention.

    Raises:
        InputError: if the images are too small for the pools, or a setting is not one of its
            choices.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        in_channels: int = 3,
        *,
        channels: Sequence[int] = (32, 64, 128),
        kernel_size: int = 3,
        activation: str = "relu",
        hidden: int = 512,
        dropout: float = 0.5,
        attention: str = "none",
        reduction: int = 16,
    ) -> None:
        super().__init__()
        if not channels:
            raise InputError("architectures: channels: [] is empty; name one width or more")
        if kernel_size not in (3, 5):
            raise InputError(f"architectures: kernel_size: {kernel_size} is not one of 3, 5")
        pools = len(channels)
        check_image_size(image_size, 2**pools, f"cnn with channels {list(channels)}")

        self.blocks = [f"block{number}" for number in range(1, pools + 1)]
        widths = [in_channels, *channels]
        for name, before, after in zip(self.blocks, widths[:-1], widths[1:], strict=True):
            block = CnnBlock(
                before,
                after,
                kernel_size=kernel_size,
                activation=activation,
                attention=attention,
                reduction=reduction,
            )
            self.add_module(name, block)
        pooled_size = image_size // 2**pools
        self.hidden = nn.Linear(channels[-1] * pooled_size**2, hidden)
        self.activation = make_activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        x = images
        for name in self.blocks:
            x = getattr(self, name)(x)  # (B, channels[i], H / 2**(i + 1), W / 2**(i + 1))
        x = x.flatten(1)  # (B, channels[-1] * h * w)
        x = self.dropout(self.activation(self.hidden(x)))  # (B, hidden)
        return self.classifier(x)  # (B, K)

    def feature_layers(self) -> dict[str, nn.Module]:
        """Return the convolutions: conv1, conv2, ..."""
        return {
            f"conv{number}": self.get_submodule(f"{name}.conv")
            for number, name in enumerate(self.blocks, start=1)
        }

    def attention_layers(self) -> dict[str, ChannelAttention]:
        """Return attention1, attention2, ...; empty without attention."""
        modules = [self.get_submodule(f"{name}.attention") for name in self.blocks]
        return {
            f"attention{number}": module
            for number, module in enumerate(modules, start=1)
            if isinstance(module, ChannelAttention)
        }
