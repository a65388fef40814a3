"""A step of the optimiser, and on a GPU the same step recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.layers import Classifier
from pipeline.settings.schema import LOSSES, Train
from pipeline.training.compute import Hardware
from pipeline.training.distributed.processes import Processes
from pipeline.training.losses import Loss
from pipeline.training.recipe import l1_penalty

# learns from images (b, C, H, W) and targets (b,) or (b, K) of this process's share, and returns
# how many images the batch of all processes has
StepFunction = Callable[[Tensor, Tensor], int]


@dataclass
class Step:
    """Takes a step of the optimiser for each batch, and adds up the loss and the hits.

    Nothing in it makes the host wait for the device but `means`.
    """

    model: nn.Module
    network: nn.Module  # `model`, or what several processes train it through
    optimizer: torch.optim.Optimizer
    loss_function: Loss
    l1: float  # weight of the L1 penalty
    clip_norm: float | None  # largest norm of the gradient
    hardware: Hardware
    processes: Processes

    def __post_init__(self) -> None:
        device = self.hardware.device
        self._loss = torch.zeros((), device=device, dtype=torch.float64)
        self._correct = torch.zeros((), device=device, dtype=torch.int64)
        self._count = 0
        on_gpu = device.type == "cuda"
        # a GPU reads the rates when it takes the step, so that what is recorded follows them
        self._rates = [
            torch.zeros((), device=device) if on_gpu else None for _ in self.optimizer.param_groups
        ]
        is_rounded = on_gpu and self.hardware.precision == "bf16" and self.network is self.model
        self._rounded = (
            RoundedWeights(self.model) if is_rounded and is_capturable(self.model) else None
        )

    def take(self, images: Tensor, targets: Tensor) -> int:
        """Learn from a batch, see `StepFunction`."""
        return self.take_with(partial(self.on_device, images, targets))

    def take_with(self, on_device: Callable[[], int]) -> int:
        """Do the host's part of a step, and by `on_device`, which returns B, the device's."""
        for rate, group in zip(self._rates, self.optimizer.param_groups, strict=True):
            if rate is not None:
                rate.fill_(group["lr"])
        size = on_device()
        self._count += size
        return size

    def on_device(self, images: Tensor, targets: Tensor) -> int:
        """Do the device's part of a step, and return B."""
        penalty = self.l1 * l1_penalty(self.model) if self.l1 else None
        self.optimizer.zero_grad(set_to_none=True)
        with self._rounded.used() if self._rounded else nullcontext():
            with self.hardware.autocast():
                logits = self.network(images)  # (b, K), of this process's share
            logits, targets = self.processes.all_shares(logits.float(), targets)  # (B, K)
            loss = self.loss_function(logits, targets)
            (loss if penalty is None else loss + penalty).backward()
        if self.clip_norm is not None:  # the batch's, of all processes; without asking for its norm
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        groups = self.optimizer.param_groups
        host_rates = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = group["lr"] if rate is None else rate
        self.optimizer.step()
        for group, host_rate in zip(groups, host_rates, strict=True):
            group["lr"] = host_rate
        self._loss += loss.detach() * len(targets)
        # of mixed labels the class of largest weight
        classes = targets.argmax(1) if targets.dim() == 2 else targets  # (B,)
        self._correct += (logits.argmax(1) == classes).sum()
        return len(targets)

    def means(self) -> tuple[float, float]:
        """Return mean loss and accuracy of all images since the last call."""
        loss, accuracy = self._loss.item() / self._count, self._correct.item() / self._count
        self._loss.zero_()
        self._correct.zero_()
        self._count = 0
        return loss, accuracy


class RoundedWeights:
    """Copies in bf16 of the weights that autocast would round in each forward pass, one by one.

    They are those of convolutions and linear layers. On a GPU all are rounded in one kernel, and so
    are their gradients brought back: the same numbers, and one kernel less for each weight and step
    (benchmark `gpu`).
    """

    def __init__(self, model: nn.Module) -> None:
        self._places = [
            (module, name)
            for module in model.modules()
            if type(module) in (nn.Conv2d, nn.Linear)  # subclasses may compute with their weights
            for name, weight in module.named_parameters(recurse=False)
            if weight.requires_grad
        ]
        self._weights: list[Tensor] = [module.get_parameter(name) for module, name in self._places]
        self._copies: list[Tensor] = [
            nn.Parameter(weight.detach().bfloat16()) for weight in self._weights
        ]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the network use the copies for a forward and backward pass; add their gradients."""
        with torch.no_grad():
            torch._foreach_copy_(self._copies, self._weights)
        self._put(self._copies)
        try:
            yield
        finally:
            self._put(self._weights)
        pairs = zip(self._weights, self._copies, strict=True)
        used = [(weight, copy.grad) for weight, copy in pairs if copy.grad is not None]
        exact = [torch.empty_like(weight) for weight, _ in used]
        torch._foreach_copy_(exact, [gradient for _, gradient in used])
        for (weight, _), gradient in zip(used, exact, strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
        for copy in self._copies:
            copy.grad = None

    def _put(self, weights: Sequence[Tensor]) -> None:
        for (module, name), weight in zip(self._places, weights, strict=True):
            setattr(module, name, weight)


class Replay:
    """Records what a `Step` does to a full batch as a CUDA graph, and replays it for the others.

    A step of a small network is hundreds of kernels of a few microseconds: to start them one by one
    takes the host several times as long as they take the GPU. The kernels are the same (benchmark
    `gpu` gives the images per second with and without).

    Args:
        step: what is recorded, and what takes the batches that aren't full.
        batch_size: images in a full batch.
    """

    def __init__(self, step: Step, batch_size: int) -> None:
        self._step = step
        self._batch_size = batch_size
        self._is_warm = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._images: Tensor | None = None
        self._targets: Tensor | None = None

    def take(self, images: Tensor, targets: Tensor) -> int:
        """Learn from a batch, see `StepFunction`."""
        if len(targets) != self._batch_size or not self._is_warm:
            # the first one makes what must exist before: the optimiser's state, the libraries'
            self._is_warm = True
            return self._step.take(images, targets)
        if self._graph is None or self._images is None or self._targets is None:
            self._images, self._targets = images.clone(), targets.clone()
            self._graph = torch.cuda.CUDAGraph()
            groups: list[dict[str, Any]] = self._step.optimizer.param_groups
            for group in groups:
                group["capturable"] = True  # fused, its state is on the device
            with torch.cuda.graph(self._graph):
                self._step.on_device(self._images, self._targets)
            for group in groups:
                group["capturable"] = False
        self._images.copy_(images)
        self._targets.copy_(targets)
        return self._step.take_with(self._replay)

    def _replay(self) -> int:
        assert self._graph is not None
        self._graph.replay()
        return self._batch_size


def make_step_function(step: Step, settings: Train) -> StepFunction:
    """Return what takes the steps: `step`, or what replays it where that gives the same."""
    if (
        step.hardware.device.type == "cuda"
        and step.processes.count == 1
        and is_capturable(step.model)
        and settings.loss in LOSSES  # what a person's own does on the host would happen only once
    ):
        return Replay(step, settings.batch_size).take
    return step.take


def is_capturable(model: nn.Module) -> bool:
    """Return whether a network does the same to every batch: a family of ours says so itself."""
    return isinstance(model, Classifier) and model.replayable
