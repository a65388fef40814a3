"""The mean of each channel: global average pooling, and what channel attention sees."""

from __future__ import annotations

from torch import Tensor


def channel_means(x: Tensor) -> Tensor:
    """Return the mean of each channel of `x` (B, C, H, W), as (B, C).

    It is a sum and a division, since PyTorch's own `mean` writes a copy in fp32 of bf16 maps on a
    CPU, and in its backward pass a whole map of gradients that are all the same.
    """
    return x.sum((2, 3)) / (x.shape[2] * x.shape[3])
