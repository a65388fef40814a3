"""What a training asks of the processes that share it, and what one process answers by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from pipeline.training.batches import Images

Found = TypeVar("Found")


class Processes:
    """The processes that train one network together, seen from one of them; here it is alone.

    `group.Group` is several.
    """

    count = 1
    rank = 0  # of this one; the first shows the progress and writes

    @property
    def is_idle(self) -> bool:
        """Whether the batch at hand is too small for this process to have a share of it."""
        return False

    def share(self, size: int) -> slice:
        """Return which images of a batch of `size` this process takes; a batch begins with it."""
        return slice(0, size)

    def all_shares(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) and targets of the batch, from those of each one's share."""
        return logits, targets

    def portion(self, images: Images) -> Images:
        """Return the images of a split that this process measures."""
        return images

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of all processes' `values`: the same bits in each of them."""
        return values

    def gathered(self, values: Tensor) -> Tensor:
        """Return all processes' `values` (...), as (N, ...)."""
        return values[None]

    def forward_pass(self, model: nn.Module) -> nn.Module:
        """Return what to train `model` through: the backward pass gives the batch's gradients."""
        return model

    def from_first(self, find: Callable[[], Found]) -> Found:
        """Return what `find` finds in the first process: plain values and tensors, or None."""
        return find()


ALONE = Processes()
