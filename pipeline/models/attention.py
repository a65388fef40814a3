"""Attention modules: each takes feature maps (B, C, H, W) and returns them reweighted.

Channel attention is the squeeze-and-excitation block of
Hu, Shen, Albanie, Sun and Wu, "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507
Spatial attention, and channel and spatial attention one after the other, are those of
Woo, Park, Lee and Kweon, "CBAM: Convolutional Block Attention Module",
https://arxiv.org/abs/1807.06521
Self-attention is that of
Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762
Efficient channel attention is that of
Wang, Wu, Zhu, Li, Zuo and Hu, "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural
Networks", https://arxiv.org/abs/1910.03151
Coordinate attention is that of
Hou, Zhou and Feng, "Coordinate Attention for Efficient Mobile Network Design",
https://arxiv.org/abs/2103.02907
SimAM is that of
Yang, Zhang, Li and Xie, "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural
Networks", https://proceedings.mlr.press/v139/yang21o.html
Static attention is our placebo: it scales channels as channel attention does, and sees no image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.models.channelwise import channel_means, scale_channels

SPATIAL_KERNEL = 7  # the best of the paper's ablation
ECA_GAMMA, ECA_B = 2, 1  # the paper's, of the kernel size
SIMAM_LAMBDA = 1e-4  # the paper's
MOST_TRAINED_SCORES = 2**28  # of a batch, stored on a GPU: 1 GB
MOST_SCORES = 2**20  # of self-attention, stored at once to compute its weights: 4 MB

Kind = Literal["channel", "spatial", "elementwise", "self"]
Descriptor = Callable[[Tensor], Tensor]  # maps (B, C, H, W) to one number a channel, (B, C)


class Attention(nn.Module):
    """Scales its maps by the weights that it gives them, unless it overrides what follows those."""

    kind: Kind

    def weights(self, x: Tensor) -> Tensor:
        """Return the weights for `x` (B, C, H, W).

        They are (B, C) of kind channel, (B, C, H, W) of kind elementwise, else (B, 1, H, W).
        """
        raise NotImplementedError

    def reweighted(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return what the module makes of `x` (B, C, H, W) with these weights in place of its own.

        They are of the shape that `weights` gives, or of one image for all.
        """
        return scale_channels(x, weights) if self.kind == "channel" else x * weights

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, C, H, W), reweighted."""
        return self.reweighted(x, self.weights(x))


class ChannelAttention(Attention):
    """Scales each channel by a weight that depends on what describes all channels.

    Args:
        channels: number of feature maps C.
        reduction: the hidden layer has C // reduction units, and never less than one.
        descriptors: what the two layers see of the maps, one after the other; their outputs are
            added. Means alone in squeeze-and-excitation, means and maxima in CBAM.
    """

    kind: Kind = "channel"

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        descriptors: Sequence[Descriptor] = (channel_means,),
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.activation = nn.ReLU()
        self.excite = nn.Linear(hidden, channels, bias=False)
        self.descriptors = tuple(descriptors)

    def weights(self, x: Tensor) -> Tensor:
        """Return the weight in (0, 1) of each channel of `x` (B, C, H, W), as (B, C)."""
        hidden = (self.squeeze(describe(x)) for describe in self.descriptors)  # (B, C // reduction)
        first, *others = (self.excite(self.activation(units)) for units in hidden)  # (B, C)
        return torch.sigmoid(sum(others, start=first))


class StaticAttention(Attention):
    """Scales each channel by a weight that is learnt, and the same for every image: a placebo.

    It begins at a half, as channel attention nearly does.
    """

    kind: Kind = "channel"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(channels))

    def weights(self, x: Tensor) -> Tensor:
        """Return the weight in (0, 1) of each channel, for `x` (B, C, H, W) as (B, C)."""
        # in the maps' own precision, as channel attention's are
        return torch.sigmoid(self.gate).to(x.dtype).expand(x.shape[0], -1)


class SpatialAttention(Attention):
    """Scales each position by a weight that depends on the means and maxima over the channels."""

    kind: Kind = "spatial"

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """Return the weight in (0, 1) of each position of `x` (B, C, H, W), as (B, 1, H, W)."""
        described = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)  # (B, 2, H, W)
        return torch.sigmoid(self.conv(described))  # (B, 1, H, W)


class Cbam(nn.Module):
    """Channel attention from means and maxima, then spatial attention on what it gives."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        descriptors = (channel_means, partial(torch.amax, dim=(2, 3)))
        self.channel = ChannelAttention(channels, reduction, descriptors)
        self.spatial = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, C, H, W), channels scaled first and positions then."""
        return self.spatial(self.channel(x))


class EfficientChannelAttention(Attention):
    """Scales each channel by a weight that depends on its mean and those of its neighbours."""

    kind: Kind = "channel"

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int((math.log2(channels) + ECA_B) / ECA_GAMMA)
        size += 1 - size % 2  # the odd number nearest to the quotient
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """Return the weight in (0, 1) of each channel of `x` (B, C, H, W), as (B, C)."""
        return torch.sigmoid(self.conv(channel_means(x)[:, None])[:, 0])


class CoordinateAttention(Attention):
    """Scales each element by weights of its row and its column, which depend on all their means.

    Args:
        channels: number of feature maps C.
        reduction: the hidden layer has C // reduction channels, and never less than one.
    """

    kind: Kind = "elementwise"

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.activation = nn.Hardswish()
        self.rows = nn.Conv2d(hidden, channels, 1, bias=False)
        self.columns = nn.Conv2d(hidden, channels, 1, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """Return the weight in (0, 1) of each element of `x` (B, C, H, W), in its shape."""
        means = torch.cat([x.mean(3), x.mean(2)], 2)[..., None]  # (B, C, H + W, 1)
        hidden = self.activation(self.norm(self.squeeze(means)))  # (B, C // reduction, H + W, 1)
        rows = self.rows(hidden[:, :, : x.shape[2]])  # (B, C, H, 1)
        columns = self.columns(hidden[:, :, x.shape[2] :]).mT  # (B, C, 1, W)
        return torch.sigmoid(rows) * torch.sigmoid(columns)


class SimAm(Attention):
    """Scales each element by how far it is from its channel's mean: nothing is learnt.

    The variance is that of the paper's equation 5, over all positions; the paper's code divides by
    one less, which leaves nothing of maps of a single position.
    """

    kind: Kind = "elementwise"

    def weights(self, x: Tensor) -> Tensor:
        """Return the weight in (0, 1) of each element of `x` (B, C, H, W), in its shape."""
        squares = (x - x.mean((2, 3), keepdim=True)).square()  # (B, C, H, W)
        variance = squares.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return torch.sigmoid(squares / (4 * (variance + SIMAM_LAMBDA)) + 0.5)


class SelfAttention(Attention):
    """Adds to each position what it finds at all others: multi-head attention over positions.

    The H * W positions are the tokens. They are normalised first, and there is no encoding of
    where they are: the zero padding of the convolutions around it says so
    (Islam, Jia and Bruce, https://arxiv.org/abs/2001.08248).

    Args:
        channels: number of feature maps C.
        heads: number of heads; divides C.
    """

    kind: Kind = "self"

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, C, H, W) plus what each position attends to.

        Fused kernels never store the N by N scores of N positions, and on a GPU add up their
        gradients in any order. So there the scores are stored for training, unless they are too
        many: the gradients have the same bits every time.
        """
        query, key, value = self._by_head(x)  # each (B, heads, H * W, C // heads)
        is_stored = (
            torch.is_grad_enabled()  # asked first: nothing else is known while it is traced
            and query.is_cuda
            and query[..., 0].numel() * query.shape[2] <= MOST_TRAINED_SCORES
        )
        with sdpa_kernel(SDPBackend.MATH) if is_stored else nullcontext():
            attended = F.scaled_dot_product_attention(query, key, value)
        return self._added(x, attended)

    def weights(self, x: Tensor) -> Tensor:
        """Return how much each position of `x` (B, C, H, W) is attended to, as (B, 1, H, W).

        It is what a position gets from all others and itself, in the mean over the heads: 1 where
        it gets as much as it gives, which is also the mean over the positions.
        """
        query, key, _ = self._by_head(x)  # each (B, heads, H * W, C // heads)
        received = torch.stack([_received(*image) for image in zip(query, key, strict=True)])
        return received.mean(1).unflatten(1, (1, *x.shape[2:]))

    def reweighted(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return `x` (B, C, H, W) plus the mean of all positions: uniform attention.

        What a position is attended to says not by whom, so other `weights` can't be given to it.
        """
        _, _, value = self._by_head(x)  # (B, heads, H * W, C // heads)
        return self._added(x, value.mean(2, keepdim=True).expand_as(value))

    def _added(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return `x` plus what its positions attend to, (B, heads, H * W, C // heads)."""
        attended = attended.transpose(1, 2).flatten(2)  # (B, H * W, C)
        return x + self.projection(attended).transpose(1, 2).unflatten(2, x.shape[2:])

    def _by_head(self, x: Tensor) -> Tensor:
        """Return queries, keys and values of `x`, as (3, B, heads, H * W, C // heads)."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, H * W, C)
        qkv = self.qkv(self.norm(tokens))  # (B, H * W, 3 * C)
        return qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)


def _received(query: Tensor, key: Tensor) -> Tensor:
    """Return what each of an image's N positions gets of the attention of all, as (heads, N).

    Queries and keys are (heads, N, C // heads).
    """
    at_once = max(1, MOST_SCORES // key[..., 0].numel())
    parts = (query / query.shape[2] ** 0.5).split(at_once, dim=1)  # each (heads, at_once, ...)
    return torch.stack([(part @ key.mT).softmax(2).sum(1) for part in parts]).sum(0)


# of the channels of maps (B, channels, H, W), the reduction of those that squeeze them, and the
# heads of self-attention, which divide the channels
ATTENTIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "none": lambda channels, reduction, heads: nn.Identity(),
    "channel": lambda channels, reduction, heads: ChannelAttention(channels, reduction),
    "static": lambda channels, reduction, heads: StaticAttention(channels),
    "spatial": lambda channels, reduction, heads: SpatialAttention(),
    "cbam": lambda channels, reduction, heads: Cbam(channels, reduction),
    "eca": lambda channels, reduction, heads: EfficientChannelAttention(channels),
    "coordinate": lambda channels, reduction, heads: CoordinateAttention(channels, reduction),
    "simam": lambda channels, reduction, heads: SimAm(),
    "self_attention": lambda channels, reduction, heads: SelfAttention(channels, heads),
}
