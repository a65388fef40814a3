"""The mean of each channel, and each channel times a number: what channel attention is made of.

Maps that are channels last have the few channels of a pixel beside each other. On a CPU PyTorch's
kernels would take them a pixel at a time, in several times the time, so there a row of pixels is
the unit: (B, H, W * C) (benchmarks `ca_cnn_bf16` and `ca_cnn_fp32`).
"""

from __future__ import annotations

import torch
from torch import Tensor, fx


def channel_means(x: Tensor) -> Tensor:
    """Return the mean of each channel of `x` (B, C, H, W), as (B, C).

    It is a sum and a division, since PyTorch's own `mean` writes a copy in fp32 of bf16 maps on a
    CPU, and in its backward pass a map of gradients that are all the same.
    """
    return _sums(x) / (x.shape[2] * x.shape[3])


def scale_channels(x: Tensor, weights: Tensor) -> Tensor:
    """Return `x` (B, C, H, W), each channel times its weight (B, C)."""
    return _scaled(x, weights)


def _goes_by_rows(x: Tensor) -> bool:
    is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return is_last and x.device.type == "cpu"


def _sums(x: Tensor) -> Tensor:
    if not _goes_by_rows(x):
        return x.sum((2, 3))
    width = x.shape[3]
    column_sums = x.permute(0, 2, 3, 1).flatten(2).sum(1)  # (B, W * C)
    return column_sums.unflatten(1, (width, -1)).sum(1)  # (B, C)


def _scaled(x: Tensor, weights: Tensor) -> Tensor:
    if not _goes_by_rows(x):
        return x * weights[:, :, None, None]
    width = x.shape[3]
    rows = x.permute(0, 2, 3, 1).flatten(2)  # (B, H, W * C)
    scaled = rows * weights.repeat(1, width)[:, None, :]
    return scaled.unflatten(2, (width, -1)).permute(0, 3, 1, 2)


# which way is taken depends on a tensor's layout, which tracing doesn't know
fx.wrap("_sums")
fx.wrap("_scaled")
