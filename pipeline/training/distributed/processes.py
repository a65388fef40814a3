"""What a training asks of the processes that share it, and what one process answers by itself.

`group.Group` answers it for several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor, nn

from pipeline.training.batches import Images

Found = TypeVar("Found")


class Processes(Protocol):
    """The processes that train one network together, seen from one of them."""

    @property
    def count(self) -> int:
        """How many they are."""

    @property
    def rank(self) -> int:
        """Which of them this is, from 0; the first shows the progress and writes."""

    def share(self, size: int) -> slice:
        """Return which images of a batch of `size` this process takes; a batch begins with it."""

    def whole_batch(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) and targets of the batch, from those of each one's share."""

    def portion(self, images: Images) -> Images:
        """Return the images of a split that this process measures."""

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of all processes' `values`."""

    def forward_pass(self, model: nn.Module) -> nn.Module:
        """Return what to train `model` through: the backward pass gives the batch's gradients."""

    def from_first(self, find: Callable[[], Found]) -> Found:
        """Return what `find` finds in the first process."""


@dataclass(frozen=True)
class Alone:
    """A process that trains a network by itself."""

    count: int = 1
    rank: int = 0

    def share(self, size: int) -> slice:
        """Return all."""
        return slice(0, size)

    def whole_batch(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return them as they are."""
        return logits, targets

    def portion(self, images: Images) -> Images:
        """Return all."""
        return images

    def total(self, values: Tensor) -> Tensor:
        """Return them as they are."""
        return values

    def forward_pass(self, model: nn.Module) -> nn.Module:
        """Return the network itself."""
        return model

    def from_first(self, find: Callable[[], Found]) -> Found:
        """Return what is found."""
        return find()


ALONE = Alone()
