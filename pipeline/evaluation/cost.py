"""What a network costs: parameters, multiply-accumulates, latency, throughput and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.inspection import frozen_eval

# runs before the clock starts: caches fill, kernels are chosen
WARM_UP_IMAGES = 5

Found = TypeVar("Found")


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


def throughput(model: nn.Module, images: Tensor) -> float:
    """Return how many images per second the network classifies, in a batch that it has met before.

    Args:
        model: the network, on the images' device; it is left in the mode that it had.
        images: a batch of normalised images, (B, C, H, W).
    """
    with frozen_eval(model), torch.inference_mode():
        return 1000 * len(images) / _milliseconds(lambda: model(images), images.device)


def training_throughput(steps: Iterable[int], device: torch.device) -> float:
    """Return how many images per second a network learns from.

    Args:
        steps: takes a step of the optimiser for each of its values: the images in its batch.
        device: where the network is.
    """
    images: list[int] = []
    milliseconds = _milliseconds(lambda: images.extend(steps), device)
    return 1000 * sum(images) / milliseconds


def in_turns(
    measures: Mapping[str, Callable[[], Found]], rounds: Iterable[int]
) -> dict[str, list[Found]]:
    """Call every one of `measures` once a round, so that a machine that slows down does so for all.

    They go to and fro, so that none always comes after the same one: forwards in even `rounds`.

    Returns:
        what each returned, by round.
    """
    found: dict[str, list[Found]] = {name: [] for name in measures}
    for number in rounds:
        for name in list(measures)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(measures[name]())
    return found


def peak_memory(work: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that tensors take at once while `work` runs, beyond those before it.

    PyTorch's allocators are asked: on a GPU for their peak, on a CPU for every single allocation,
    by its profiler. What libraries allocate by themselves, and what the allocators hold in reserve,
    is not in it.
    """
    if device.type == "cuda":
        unit = torch.ones((1, 1), device=device)
        unit @ unit  # for the first of them cuBLAS allocates a workspace that it keeps
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it looks for a GPU, and complains
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max(initial=0))
