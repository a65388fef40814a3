"""A plain convolutional network, with or without attention in all or some of its blocks.

Attention: Hu et al., "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507, and the
other kinds in `attention`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from pipeline.models.attention import Attention
from pipeline.models.channelwise import channel_means
from pipeline.models.layers import Classifier, Parts
from pipeline.models.pooling import POOLINGS
from pipeline.settings.image_sizes import POOLED_SIZE, Geometry
from pipeline.system.errors import InputError

MOST_WEIGHTS = 100_000_000  # of one layer: 0.4 GB, and three times that with Adam's moments

# what the fully connected layers get of the last maps (B, C, h, w)
HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "flatten": lambda x: x.flatten(1),  # (B, C * h * w)
    "global_average": channel_means,  # (B, C)
}


class Cnn(Classifier):
    """Convolutional blocks, then two fully connected layers.

    The first three arguments are those of `models.registry.build`, the others the settings of an
    architecture, see `settings.schema.Cnn`.

    Raises:
        InputError: if a flattened head would have too many weights.
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
        attention_at: Literal["all"] | Sequence[int] = "all",
        reduction: int = 16,
        heads: int = 4,
    ) -> None:
        super().__init__()
        geometry = Geometry.of(kernel_size, stride, padding, dilation)
        parts = Parts(activation, normalisation, norm_groups, attention, reduction, heads)
        self.flat = HEADS[head]
        numbers = range(1, len(channels) + 1)
        self.blocks = [f"block{number}" for number in numbers]
        attended = numbers if attention_at == "all" else attention_at
        before, size = in_channels, image_size
        for number, name, after in zip(numbers, self.blocks, channels, strict=True):
            divided = 1 if number == 1 else groups
            block = OrderedDict(
                # (B, in_channels, H, W) to (B, C, conv's size)
                conv=nn.Conv2d(
                    before, after, kernel_size, stride, geometry.padding, dilation, divided
                ),
                norm=parts.make_norm(after),
                activation=parts.make_activation(),
                attention=(parts.make_attention(after) if number in attended else nn.Identity()),
                pool=POOLINGS[pooling](after, groups, activation),  # (B, C, h, w)
            )
            self.add_module(name, nn.Sequential(block))
            before, size = after, POOLED_SIZE[pooling](geometry.size(size))
        inputs = channels[-1] * (size**2 if head == "flatten" else 1)
        if head == "flatten" and inputs * hidden > MOST_WEIGHTS:
            raise InputError(
                f"architectures: head: 'flatten' after pooling '{pooling}' leaves maps of "
                f"{size}x{size} pixels, and a layer of {inputs} x {hidden} = {inputs * hidden:,} "
                "weights; use head: global_average, another pooling, or fewer channels"
            )
        self.hidden = nn.Linear(inputs, hidden)
        self.activation = parts.make_activation()
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
            name.replace("block", "conv"): self.get_submodule(f"{name}.conv")
            for name in self.blocks
        }

    def activation_layers(self) -> dict[str, nn.Module]:
        """Return the last layer of each block that is no plain pool: block1.activation, ...

        Before a plain pool there are four positions for each one after it. One that convolves is a
        layer of its own.
        """
        layers: dict[str, nn.Module] = {}
        for name in self.blocks:
            last = "activation"
            if not isinstance(self.get_submodule(f"{name}.attention"), nn.Identity):
                last = "attention"
            if next(self.get_submodule(f"{name}.pool").parameters(), None) is not None:
                last = "pool"
            layers[f"{name}.{last}"] = self.get_submodule(f"{name}.{last}")
        return layers

    def attention_layers(self) -> dict[str, Attention]:
        """Return attention1, attention2, ...; of CBAM attention1.channel and so on."""
        found = super().attention_layers()
        return {name.replace("block", "attention"): module for name, module in found.items()}
