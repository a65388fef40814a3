"""Attention modules: each takes feature maps (B, C, H, W) and returns them reweighted.

Channel attention is the squeeze-and-excitation block of
Hu, Shen, Albanie, Sun and Wu, "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.errors import choose


class ChannelAttention(nn.Module):
    """Scales each channel by a weight that depends on the means of all channels.

    Args:
        channels: number of feature maps C.
        reduction: the hidden layer has C // reduction units, and never less than one.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.activation = nn.ReLU()
        self.excite = nn.Linear(hidden, channels, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """Return the weight in (0, 1) of each channel of `x` (B, C, H, W), as (B, C)."""
        means = x.mean((2, 3))  # (B, C)
        hidden = self.activation(self.squeeze(means))  # (B, C // reduction)
        return torch.sigmoid(self.excite(hidden))  # (B, C)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, C, H, W), each channel scaled by its weight."""
        return x * self.weights(x)[:, :, None, None]


# nn.Identity takes any arguments, keeps its input and has no parameters
ATTENTIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": nn.Identity,
    "channel": ChannelAttention,
}


def make_attention(name: str, channels: int, reduction: int) -> nn.Module:
    """Return a new attention module for feature maps (B, channels, H, W).

    Raises:
        InputError: if there is no attention of this name.
    """
    return ATTENTIONS[choose(name, ATTENTIONS, "architectures: attention")](channels, reduction)
