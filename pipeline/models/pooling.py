"""What makes feature maps smaller between two blocks, or lets the network see further.

Strided convolutions instead of pools: Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for
Simplicity: The All Convolutional Net", https://arxiv.org/abs/1412.6806
Dilated convolutions instead of pools: Yu and Koltun, "Multi-Scale Context Aggregation by Dilated
Convolutions", https://arxiv.org/abs/1511.07122
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from pipeline.models.layers import ACTIVATIONS


def _convolution(channels: int, groups: int, activation: str, **geometry: Any) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 3, groups=groups, **geometry)
    return nn.Sequential(OrderedDict(conv=conv, activation=ACTIVATIONS[activation]()))


# of channels, groups and the name of an activation; `image_sizes.POOLED_SIZE` says what they leave
POOLINGS: dict[str, Callable[[int, int, str], nn.Module]] = {
    "max": lambda channels, groups, activation: nn.MaxPool2d(2),
    "average": lambda channels, groups, activation: nn.AvgPool2d(2),
    "strided_conv": partial(_convolution, stride=2, padding=1),
    "dilated_conv": partial(_convolution, dilation=2, padding=2),
    "none": lambda channels, groups, activation: nn.Identity(),
}
