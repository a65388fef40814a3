"""What the DenseNet's `efficient` mode saves of the backward pass's memory, and what time it costs.

DenseNet-BC-100-12 without attention, 32x32 images, on one CPU thread. Both modes take turns, step
by step, and each is the first in every second turn, so that a machine that slows down slows both.
The ratio of each turn is what counts: its median is shown, and its lowest and highest value.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models import registry
from pipeline.models.layers import Classifier
from pipeline.system.machine import cpu_name

BC_100 = {"family": "densenet", "growth_rate": 12, "block_config": [16, 16, 16]}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.efficient", description=__doc__)
    parser.add_argument("--images", type=int, default=64, help="of one step")
    parser.add_argument("--turns", type=int, default=11)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(arguments.images, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (arguments.images,))
    title = f"DenseNet-BC-100-12, steps of {arguments.images} images on {cpu_name()}, 1 thread"
    table = Table("precision", title=title)
    for heading in ("kept, plain", "efficient", "saved", "a step, plain", "efficient", "ratio"):
        table.add_column(heading, justify="right")
    for name, precision in PRECISIONS.items():
        plain, efficient = _network(efficient=False), _network(efficient=True)
        kept = [bytes_kept(network, images, precision) for network in (plain, efficient)]
        for network in (plain, efficient):  # memory is claimed, kernels are chosen
            step_seconds(network, images, labels, precision)
        seconds: dict[Classifier, list[float]] = {plain: [], efficient: []}
        for turn in range(arguments.turns):
            for network in (plain, efficient) if turn % 2 else (efficient, plain):
                seconds[network].append(step_seconds(network, images, labels, precision))
        ratios = [other / one for one, other in zip(*seconds.values(), strict=True)]
        table.add_row(
            name,
            *(f"{count / 2**20:,.0f} MiB" for count in kept),
            f"{1 - kept[1] / kept[0]:.0%}",
            *(f"{median(times):.2f} s" for times in seconds.values()),
            f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    Console(soft_wrap=True).print(table)


def bytes_kept(network: nn.Module, images: Tensor, precision: torch.dtype) -> int:
    """Return how many bytes a forward pass keeps for the backward pass.

    That is what it made and what is still alive at its end. Tensors that autograd saves are not
    all: what is to be recomputed keeps its inputs.
    """
    with _Made() as made:
        logits = _forward(network, images, precision)
    return made.bytes_alive() - logits.untyped_storage().nbytes()


class _Made(TorchDispatchMode):
    """Knows every storage that was made while it was active, without keeping it alive."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `func` and note what it made."""
        output = func(*args, **(kwargs or {}))
        for made in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(made, Tensor):
                storage = made.untyped_storage()
                self._made[StorageWeakRef(storage)] = storage.nbytes()
        return output

    def bytes_alive(self) -> int:
        """Return the size of all that is still alive."""
        return sum(size for storage, size in self._made.items() if not storage.expired())


def step_seconds(
    network: nn.Module, images: Tensor, labels: Tensor, precision: torch.dtype
) -> float:
    """Return the wall-clock seconds of a forward and a backward pass."""
    start = time.perf_counter()
    nn.functional.cross_entropy(_forward(network, images, precision), labels).backward()
    seconds = time.perf_counter() - start
    network.zero_grad()
    return seconds


def _forward(network: nn.Module, images: Tensor, precision: torch.dtype) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        return network(images)


def _network(efficient: bool) -> Classifier:
    torch.manual_seed(0)
    network = registry.build({**BC_100, "efficient": efficient}, 10, 32)
    return network.to(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
