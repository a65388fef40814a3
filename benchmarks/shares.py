"""Where the time of some work in PyTorch goes, by kind of operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

# parts of the names of operations, and of the kernels that a GPU runs for them
KINDS = {
    "convolutions": ("convol", "cudnn", "implicit_gemm", "addpadding"),
    "norms": ("batch_norm",),
    "the optimiser": ("optimizer", "fused_adam"),
    "activations": ("threshold", "clamp_min", "clamp_scalar", "relu", "sigmoid"),
    "joining maps": ("aten::cat", "aten::narrow", "catarray"),
    "products": ("aten::mul", "aten::mm", "addmm", "gemm"),
    "sums of gradients and maps": ("aten::add", "aten::sum", "functor_add", "reduce_kernel"),
    "pools": ("pool2d", "max_pool", "avg_pool"),
    "copies": ("aten::copy_", "aten::fill_", "aten::to", "copy_kernel"),
}
REST = "the rest"
SMALLEST = 0.03


def shares_of(work: Callable[[], object]) -> str:
    """Run `work` once and say where the time went: ``52 % convolutions, 20 % norms, ...``.

    On a CPU this is the time of the processor, on a GPU that of its kernels.
    """
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        work()
    events = profiled.key_averages()
    on_gpu = any(event.self_device_time_total for event in events)
    return described(
        {
            event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
            for event in events
        }
    )


def described(times: Mapping[str, float]) -> str:
    """Say which kinds of operations took how much, given the time of each operation."""
    by_kind = dict.fromkeys([*KINDS, REST], 0.0)
    for operation, spent in times.items():
        by_kind[kind_of(operation)] += spent
    total = sum(by_kind.values())
    largest = sorted(by_kind.items(), key=lambda item: (item[0] == REST, -item[1]))
    return ", ".join(
        f"{spent / total:.0%} {kind}".replace("%", " %")
        for kind, spent in largest
        if spent >= SMALLEST * total
    )


def kind_of(operation: str) -> str:
    """Return the kind of an operation of PyTorch, such as ``aten::convolution_backward``."""
    name = operation.lower()
    return next((kind for kind, parts in KINDS.items() if any(p in name for p in parts)), REST)
