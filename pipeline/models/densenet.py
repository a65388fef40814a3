"""DenseNet-BC, with or without attention: in its dense layers, its transitions or after its blocks.

Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks",
https://arxiv.org/abs/1608.06993
Pleiss, Chen, Huang, Li, van der Maaten and Weinberger, "Memory-Efficient Implementation of
DenseNets", https://arxiv.org/abs/1707.06990 (`efficient`)
Hu et al., "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507 (attention)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pipeline.models.channelwise import channel_means
from pipeline.models.layers import Classifier, Parts


@contextmanager
def _repeating(norm: nn.Module, training: bool) -> Iterator[None]:
    """Let a norm repeat a forward pass, in the mode it had then, without counting it twice.

    Batch norm's repeat updates copies of the running statistics. It can't do without any:
    checkpointing demands that it saves as many tensors for the backward pass as the first pass did.
    """
    mode = norm.training
    statistics = dict(norm.named_buffers())
    norm.training = training
    for name, tensor in statistics.items():
        setattr(norm, name, tensor.clone())
    try:
        yield
    finally:
        norm.training = mode
        for name, tensor in statistics.items():
            setattr(norm, name, tensor)


def _joined(features: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """Return all channels of features, each (B, C_i, H, W)."""
    return features[0] if len(features) == 1 else torch.cat(features, 1)


class DenseLayer(nn.Module):
    """Adds `growth_rate` feature maps computed from all the earlier ones of its block."""

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        bn_size: int,
        drop_rate: float,
        efficient: bool,
        parts: Parts,
    ) -> None:
        super().__init__()
        bottleneck = bn_size * growth_rate
        self.norm1 = parts.make_norm(in_channels)
        self.activation1 = parts.make_activation()
        self.conv1 = nn.Conv2d(in_channels, bottleneck, 1, bias=False)
        self.norm2 = parts.make_norm(bottleneck)
        self.activation2 = parts.make_activation()
        self.conv2 = nn.Conv2d(bottleneck, growth_rate, 3, padding=1, bias=False)
        self.attention = parts.make_attention(growth_rate)
        self.dropout = nn.Dropout(drop_rate)
        self.efficient = efficient

    def bottleneck(self, *features: Tensor) -> Tensor:
        """Join all earlier features and reduce them to bn_size * growth_rate channels."""
        x = _joined(features)  # (B, in_channels, H, W)
        return self.conv1(self.activation1(self.norm1(x)))  # (B, bn_size * growth_rate, H, W)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map features, each (B, C_i, H, W), to (B, growth_rate, H, W)."""
        if self.efficient and torch.is_grad_enabled():
            training = self.norm1.training
            x = checkpoint(  # stores nothing for the backward pass, which computes it again
                self.bottleneck,
                *features,
                use_reentrant=False,
                preserve_rng_state=False,  # nothing is drawn in there
                context_fn=lambda: (nullcontext(), _repeating(self.norm1, training)),
            )
        else:
            x = self.bottleneck(*features)  # (B, bn_size * growth_rate, H, W)
        x = self.conv2(self.activation2(self.norm2(x)))  # (B, growth_rate, H, W)
        return self.dropout(self.attention(x))  # (B, growth_rate, H, W)


class DenseBlock(nn.Module):
    """Dense layers, each fed with the block's input and what all layers before it added."""

    def __init__(self, layers: Sequence[DenseLayer]) -> None:
        super().__init__()
        self.in_channels = layers[0].conv1.in_channels
        self.growth_rate = layers[0].conv2.out_channels
        self.out_channels = self.in_channels + len(layers) * self.growth_rate
        for number, layer in enumerate(layers, start=1):
            self.add_module(f"layer{number}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C + layers * growth_rate, H, W)."""
        features = [x]
        for layer in self.children():
            features.append(layer(features))  # (B, growth_rate, H, W)
            if not layer.efficient:
                # at once: else the backward pass sums gradients a few channels at a time
                # (benchmark `se_densenet_bf16`)
                features = [_joined(features)]
        return _joined(features)  # (B, C + layers * growth_rate, H, W)

    def in_one_tensor(self, x: Tensor) -> Tensor:
        """Do the same within rounding, faster and without gradients: no feature is copied again."""
        features = F.pad(x, (0, 0, 0, 0, 0, self.out_channels - self.in_channels))
        for number, layer in enumerate(self.children()):
            known = self.in_channels + number * self.growth_rate
            added = layer([features[:, :known]])  # (B, growth_rate, H, W)
            features[:, known : known + self.growth_rate].copy_(added)
        return features  # (B, C + layers * growth_rate, H, W)


class Transition(nn.Module):
    """Reduces the channels, and halves height and width, between two blocks."""

    def __init__(self, in_channels: int, out_channels: int, parts: Parts) -> None:
        super().__init__()
        self.norm = parts.make_norm(in_channels)
        self.activation = parts.make_activation()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.attention = parts.make_attention(out_channels)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H // 2, W // 2)."""
        x = self.conv(self.activation(self.norm(x)))  # (B, out_channels, H, W)
        return self.pool(self.attention(x))


class DenseNet(Classifier):
    """DenseNet-BC: a stem, dense blocks with transitions between them, and a linear head.

    The defaults are DenseNet-BC with 40 layers and growth rate 12, for 32x32 images.

    The first three arguments are those of `models.registry.build`, the others the settings of an
    architecture, see `settings.schema.DenseNet`; in the paper `growth_rate` is k, `compression` is
    theta.
    """

    foldable = True

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        in_channels: int = 3,
        *,
        growth_rate: int = 12,
        block_config: Sequence[int] = (6, 6, 6),
        compression: float = 0.5,
        num_init_features: int = 24,
        bn_size: int = 4,
        drop_rate: float = 0.0,
        small_inputs: bool = True,
        efficient: bool = False,
        activation: str = "relu",
        normalisation: str = "batch",
        norm_groups: int = 3,
        attention: str = "none",
        attention_at: Literal["layers", "transitions", "blocks"] = "layers",
        reduction: int = 16,
        heads: int = 4,
    ) -> None:
        super().__init__()
        # a recorded step keeps the memory of its backward pass, which `efficient` is to save
        self.replayable = not efficient
        parts = Parts(activation, normalisation, norm_groups, attention, reduction, heads)
        plain = replace(parts, attention="none")
        of_layers, of_transitions, of_blocks = (
            parts if attention_at == place else plain
            for place in ("layers", "transitions", "blocks")
        )

        channels = num_init_features
        if small_inputs:
            conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
            stem = OrderedDict[str, nn.Module](conv=conv)
        else:
            stem = OrderedDict(
                conv=nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
                norm=parts.make_norm(channels),
                activation=parts.make_activation(),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        self.stem = nn.Sequential(stem)
        for number, layers in enumerate(block_config, start=1):
            if number > 1:
                kept = max(1, int(channels * compression))
                self.add_module(
                    f"transition{number - 1}", Transition(channels, kept, of_transitions)
                )
                channels = kept
            added: list[DenseLayer] = []
            for _ in range(layers):
                added.append(
                    DenseLayer(channels, growth_rate, bn_size, drop_rate, efficient, of_layers)
                )
                channels += growth_rate
            self.add_module(f"block{number}", DenseBlock(added))
            self.add_module(f"attention{number}", of_blocks.make_attention(channels))
        # the names of blocks, their attention and transitions, in order
        self.trunk = [name for name, _ in self.named_children() if name != "stem"]
        self.norm = parts.make_norm(channels)
        self.activation = parts.make_activation()
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        x = self.stem(images)  # (B, num_init_features, h, w)
        for name in self.trunk:
            x = getattr(self, name)(x)  # a block adds channels, a transition halves h and w
        x = self.activation(self.norm(x))  # (B, channels, h, w)
        return self.classifier(channel_means(x))  # (B, K)

    def feature_layers(self) -> dict[str, nn.Module]:
        """Return the stem and the blocks: stem, block1, block2, ..."""
        blocks = {name: block for name, block in self.named_children() if name.startswith("block")}
        return {"stem": self.stem, **blocks}

    def activation_layers(self) -> dict[str, nn.Module]:
        """Return what follows each block: transition1.activation, ..., activation.

        The blocks themselves give what their layers add, not yet normalised and activated.
        """
        names = [f"{name}.activation" for name in self.trunk if name.startswith("transition")]
        return {name: self.get_submodule(name) for name in [*names, "activation"]}
