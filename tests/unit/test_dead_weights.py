"""Weights that meet no pixel get no gradient, in bf16 on a CPU as well."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.training.untouched_weights import zero_untouched_gradients

SHAPES = [
    # kernel size, stride, padding, dilation, size of the map
    (3, 2, 1, 1, 1),
    (3, 2, 1, 1, 2),
    (3, 3, 1, 1, 2),
    (5, 2, 2, 1, 1),
    (5, 2, 2, 1, 3),
    (7, 4, 3, 1, 3),
    (7, 2, 3, 1, 2),
    (3, 2, 2, 2, 2),
    (3, 2, 0, 1, 8),
]


def garbage() -> None:
    """Leave memory behind in which uninitialised tensors find no numbers."""
    for count in (64, 512, 4096, 65536):
        torch.full((count,), float("nan"))


def gradient(conv: nn.Conv2d, images: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    conv.weight.grad = None
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        outputs = conv(images)
    garbage()
    outputs.float().square().sum().backward()
    assert conv.weight.grad is not None
    return conv.weight.grad


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_gradient_is_zero_exactly_where_that_of_fp32_is(shape: tuple[int, ...]) -> None:
    kernel_size, stride, padding, dilation, size = shape
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, kernel_size, stride, padding, dilation)
    images = torch.randn(4, 8, size, size).contiguous(memory_format=torch.channels_last)
    expected = gradient(conv, images, torch.float32)
    zero_untouched_gradients(conv, images[:1])
    for _ in range(20):
        found = gradient(conv, images, torch.bfloat16)
        assert torch.equal(found != 0, expected != 0)
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05 * expected.abs().max())


def test_layer_that_pads_by_itself_is_left_alone() -> None:
    class Padded(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))

    torch.manual_seed(0)
    conv = Padded(2, 2, 3, stride=2)
    images = torch.randn(1, 2, 2, 2)
    expected = gradient(conv, images, torch.float32).clone()
    zero_untouched_gradients(conv, images)
    assert torch.equal(gradient(conv, images, torch.float32), expected)
