"""What a network costs: parameters, multiply-accumulates, latency and throughput."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.inspection import frozen_eval

# runs before the clock starts: caches fill, kernels are chosen
WARM_UP_IMAGES = 5
WARM_UP_BATCHES = 1


def _milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long `work` takes until its results are there: on a GPU by the GPU's own clock."""
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)  # nothing from before is still to be done
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def parameters(model: nn.Module) -> int:
    """Return the number of parameters: what is learnt, so no running statistics."""
    return sum(parameter.numel() for parameter in model.parameters())


class _MacCounter(TorchDispatchMode):
    """Counts the multiply-accumulates of what runs while it is active, in `total`.

    It sees operations, not modules: libraries also apply the weights of a linear layer by function.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep PyTorch from importing its compiler, which would take a second, to leave us out."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, and add what it cost if it is a convolution or a matrix product."""
        output = func(*args, **(kwargs or {}))
        match func.overloadpacket:
            case torch.ops.aten.convolution:
                weight = args[1]  # (out_channels, in_channels // groups, kernel, kernel)
                self.total += output.numel() * (weight.numel() // len(weight))
            case torch.ops.aten.mm:
                self.total += output.numel() * len(args[1])
            case torch.ops.aten.addmm:
                self.total += output.numel() * len(args[2])
        return output


def macs(model: nn.Module, image_size: int, in_channels: int = 3) -> int:
    """Return the multiply-accumulates of all convolutions and linear layers for one image.

    Self-attention's products of queries, keys and values have no weights and are left out.
    PyTorch's `FlopCounterMode` counts twice this number (and those products); it would take a
    second to start. The image is `image_size` pixels squared; `model` is left as it was.
    """
    weight = next(model.parameters())
    image = weight.new_zeros((1, in_channels, image_size, image_size))  # (1, C, H, W)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # attention modules run as their operations
    try:
        with frozen_eval(model), torch.no_grad(), _MacCounter() as counter:
            model(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.total


def latency(model: nn.Module, image: Tensor, repeats: int) -> np.ndarray:
    """Measure how long one normalised image (1, C, H, W) takes, from the call to finished logits.

    Returns:
        The time of each run in milliseconds, float64 (repeats,).
    """
    with frozen_eval(model), torch.inference_mode():
        for _ in range(WARM_UP_IMAGES):
            model(image)
        runs = [_milliseconds(lambda: model(image), image.device) for _ in range(repeats)]
    return np.array(runs)


def throughput(model: nn.Module, images: Tensor, repeats: int) -> float:
    """Return how many images per second the network classifies, in batches like `images`.

    Args:
        model: the network, on the images' device; it is left in the mode that it had.
        images: a batch of normalised images, (B, C, H, W).
        repeats: how many such batches to time, one after the other.
    """
    with frozen_eval(model), torch.inference_mode():
        for _ in range(WARM_UP_BATCHES):
            model(images)
        taken = _milliseconds(lambda: [model(images) for _ in range(repeats)], images.device)
    return 1000 * len(images) * repeats / taken
