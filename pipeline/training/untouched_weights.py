"""Weights of strided convolutions that meet no pixel, and their gradients in bf16 on a CPU.

Where maps have become as small as a pixel or two, the outer weights of a kernel lie on padding
alone. Their gradient is zero, but PyTorch's bf16 kernels for the CPU leave it uninitialised if the
stride is larger than one (seen with 2.14; not in fp32). The weights change nothing, yet they would
differ from run to run, and a NaN among them would stay.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from pipeline.models.inspection import forward_hooks, frozen_eval


def zero_untouched_gradients(model: nn.Module, image: Tensor) -> None:
    """Make the gradients of these weights zero, whatever the backward pass leaves there.

    The network is run once, in evaluation mode, on a normalised image, float32 (1, C, H, W).
    """
    met: dict[nn.Conv2d, Tensor] = {}  # bool (1, 1, kernel, kernel)

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        weights = _weights_that_meet_pixels(module, inputs[0].shape[-2:])
        met[module] = met.get(module, torch.zeros_like(weights)) | weights

    # a subclass may pad by itself, so what its weights meet is not known
    strided = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Conv2d and max(module.stride) > 1
    }
    with frozen_eval(model), torch.no_grad(), forward_hooks(strided, note):
        model(image)
    for module, weights in met.items():
        if not weights.all():
            module.weight.register_hook(partial(torch.where, weights, other=0.0))


def _weights_that_meet_pixels(conv: nn.Conv2d, size: torch.Size) -> Tensor:
    """Return bool (1, 1, kernel, kernel) for a map of `size`."""
    paddings = conv.padding if isinstance(conv.padding, tuple) else (0, 0)  # "valid"
    axes = zip(size, conv.kernel_size, conv.stride, paddings, conv.dilation, strict=True)
    met: list[Tensor] = []  # along each axis, bool (kernel,)
    for pixels, kernel_size, stride, padding, dilation in axes:
        reach = dilation * torch.arange(kernel_size) - padding  # where they are in the first place
        places = (pixels + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1
        positions = reach[:, None] + stride * torch.arange(max(places, 0))[None, :]
        met.append(((positions >= 0) & (positions < pixels)).any(1))
    return (met[0][:, None] & met[1][None, :])[None, None]
