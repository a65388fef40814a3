"""Several processes that train one network, each a share of every batch.

They take the steps that one process would take, up to the rounding of floating-point sums. The
images of a batch are divided among them, the moments of batch norm are those of the full batch,
and so is the loss: every process computes it from the logits of all, so that a loss of any kind,
and shares of any size, come out right. What is drawn for an image doesn't depend on who trains it;
only dropout draws in each process for itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.training.batches import Images
from pipeline.training.checkpoints import packed, unpacked
from pipeline.training.distributed.batch_norm import synchronise
from pipeline.training.distributed.processes import Processes

Found = TypeVar("Found")


class Group(Processes):
    """The processes of `torch.distributed`'s default group; this one trains on `device`."""

    def __init__(self, device: torch.device) -> None:
        self.count = dist.get_world_size()
        self.rank = dist.get_rank()
        self._device = device
        self._size = 0  # of the batch at hand
        self._own = slice(0, 0)  # this process's share of it

    @property
    def is_idle(self) -> bool:
        """Whether its share of the batch at hand is empty."""
        return self._own.start == self._own.stop

    def share(self, size: int) -> slice:
        """Return which images of a batch of `size` this process takes.

        A network can't do without any image: where there are too few, the batch's first one stands
        in, and nothing that comes of it counts.
        """
        self._size, self._own = size, share_of(size, self.rank, self.count)
        return slice(0, 1) if self.is_idle else self._own

    def all_shares(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) and targets of the batch; gradients flow to the own share."""
        return _Gathered.apply(logits, self), self.placed(targets)

    def placed(self, values: Tensor) -> Tensor:
        """Return the batch's values (B, ...) from those of each one's share (b, ...)."""
        placed = values.new_zeros((self._size, *values.shape[1:]))
        if not self.is_idle:
            placed[self._own] = values
        return self.total(placed)  # each stands among zeros, so that the sum is exact

    def own(self, values: Tensor) -> Tensor:
        """Return this process's share (b, ...) of a batch's values; zero where it has none."""
        return torch.zeros_like(values[:1]) if self.is_idle else values[self._own]

    def portion(self, images: Images) -> Images:
        """Return the images of a split that this process measures: consecutive ones."""
        first, last = (len(images) * rank // self.count for rank in (self.rank, self.rank + 1))
        return images.subset(torch.arange(first, last))

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of all processes' `values`."""
        summed = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    def gathered(self, values: Tensor) -> Tensor:
        """Return all processes' `values` (...), as (N, ...), in the order of their ranks."""
        each = values.new_zeros((self.count, *values.shape))
        each[self.rank] = values
        return self.total(each)

    def forward_pass(self, model: nn.Module) -> nn.Module:
        """Return what to train `model` through, with batch norm over all processes."""
        synchronise(model, self)
        # the gradient of a weight with a single channel lies as it likes: a copy of it is no harm
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        network = DistributedDataParallel(
            model,
            device_ids=[self._device] if self._device.type == "cuda" else None,
            static_graph=True,  # some networks have weights that no image reaches
        )
        # From here on batch norm's are the same everywhere. (The argument of this name is
        # deprecated, and the one that takes its place unknown to older versions.)
        network.broadcast_buffers = False
        return network

    def from_first(self, find: Callable[[], Found]) -> Found:
        """Return what `find` finds in the first process.

        So they agree, and machines that share no folder get it as well. Nothing is unpickled.
        """
        if self.rank == 0:
            found = find()
            content = torch.frombuffer(bytearray(packed(found)), dtype=torch.uint8).to(self._device)
            dist.broadcast(torch.tensor(len(content), device=self._device), src=0)
            dist.broadcast(content, src=0)
            return found
        size = torch.zeros((), dtype=torch.int64, device=self._device)
        dist.broadcast(size, src=0)
        content = torch.empty(int(size), dtype=torch.uint8, device=self._device)
        dist.broadcast(content, src=0)
        return unpacked(bytes(content.cpu().numpy()), self._device)


def share_of(size: int, rank: int, count: int) -> slice:
    """Return which of `size` images process `rank` of `count` takes; they may be none.

    Shares begin at even positions: CutMix and MixUp mix the first and the second image of a batch,
    the third and the fourth, and so on.
    """
    pairs = (size + 1) // 2
    first, last = (2 * (pairs * number // count) for number in (rank, rank + 1))
    return slice(first, min(last, size))


class _Gathered(torch.autograd.Function):
    """The logits of a batch from those of each process's share.

    The gradient is multiplied by the number of processes, since `DistributedDataParallel` divides
    the sum of their weights' gradients by it.
    """

    @staticmethod
    def forward(context: Any, logits: Tensor, group: Group) -> Tensor:
        context.group = group
        return group.placed(logits)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return context.group.own(gradients[0]) * context.group.count, None
