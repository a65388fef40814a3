"""An exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """The average of the weights that a network had after each step, in a network of its own.

    After the first step it is that network's weights; each further step makes it decay * average +
    (1 - decay) * weights: Polyak and Juditsky's averaging, forgetting what is older than about
    1 / (1 - decay) steps. The running statistics of batch norm are averaged as well, as in
    torchvision's and timm's own trainings: those of the network belong to other weights. Integers,
    which count batches, are copied.

    Args:
        model: what is trained, before anything is hooked into it; on its device.
        decay: between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(model)
        self._decay = decay
        self._is_empty = True
        sources, own = ([*net.parameters(), *net.buffers()] for net in (model, self.network))
        pairs = [(one.detach(), other.detach()) for one, other in zip(sources, own, strict=True)]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._weights = [weight for weight, _ in floats]
        self._averages = [average for _, average in floats]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self) -> None:
        """Take in the network's weights after a step.

        All of them in a kernel or two on a GPU, and without asking it anything: PyTorch's
        `AveragedModel`, which computes the same, waits for the device in every step.
        """
        if self._is_empty:
            torch._foreach_copy_(self._averages, self._weights)
        else:
            torch._foreach_lerp_(self._averages, self._weights, 1 - self._decay)
        for count, copied in self._counts:
            copied.copy_(count)
        self._is_empty = False

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state dict of `network` after some steps."""
        self.network.load_state_dict(state)
        self._is_empty = False
