"""What makes feature maps smaller between two blocks, or lets the network see further.

Strided convolutions instead of pools: Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for
Simplicity: The All Convolutional Net", https://arxiv.org/abs/1412.6806
Dilated convolutions instead of pools: Yu and Koltun, "Multi-Scale Context Aggregation by Dilated
Convolutions", https://arxiv.org/abs/1511.07122
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from pipeline.models.layers import make_activation
from pipeline.settings.image_sizes import POOLED_SIZE


@dataclass(frozen=True)
class Pooling:
    """A way of pooling, and what it does to the height and width of a map.

    Attributes:
        make: takes channels, groups and the name of an activation; returns a new module.
        size: takes the size of a map, in pixels; returns the size after pooling.
    """

    make: Callable[[int, int, str], nn.Module]
    size: Callable[[int], int]


def _strided_convolution(channels: int, groups: int, activation: str) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=groups)
    return nn.Sequential(OrderedDict(conv=conv, activation=make_activation(activation)))


def _dilated_convolution(channels: int, groups: int, activation: str) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 3, dilation=2, padding=2, groups=groups)
    return nn.Sequential(OrderedDict(conv=conv, activation=make_activation(activation)))


_MAKE: dict[str, Callable[[int, int, str], nn.Module]] = {
    "max": lambda channels, groups, activation: nn.MaxPool2d(2),
    "average": lambda channels, groups, activation: nn.AvgPool2d(2),
    "strided_conv": _strided_convolution,
    "dilated_conv": _dilated_convolution,
    "none": lambda channels, groups, activation: nn.Identity(),
}

POOLINGS: dict[str, Pooling] = {
    name: Pooling(make, POOLED_SIZE[name]) for name, make in _MAKE.items()
}
