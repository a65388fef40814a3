"""A step of the optimiser, and on a GPU the same step recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.layers import Classifier
from pipeline.params import LOSSES, Train
from pipeline.training.compute import Hardware
from pipeline.training.losses import Loss
from pipeline.training.processes import Processes
from pipeline.training.recipe import l1_penalty

# learns from images (b, C, H, W) and targets (b,) or (b, K) of this process's share, and returns
# how many images the whole batch has
Takes = Callable[[Tensor, Tensor], int]


class Step:
    """Takes a step of the optimiser for each batch, and adds up the loss and the hits.

    Nothing in it makes the host wait for the device but `means`.

    Args:
        model: what is trained.
        network: `model`, or what several processes train it through.
        optimizer: of its parameters.
        loss_function: of logits and targets.
        l1: weight of the L1 penalty.
        hardware: what `compute.prepare` chose.
        processes: those that train `model` together.
    """

    def __init__(
        self,
        model: nn.Module,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Loss,
        l1: float,
        hardware: Hardware,
        processes: Processes,
    ) -> None:
        self._model = model
        self._network = network
        self._optimizer = optimizer
        self._loss_function = loss_function
        self._l1 = l1
        self._hardware = hardware
        self._processes = processes
        self._loss = torch.zeros((), device=hardware.device, dtype=torch.float64)
        self._correct = torch.zeros((), device=hardware.device, dtype=torch.int64)
        self._count = 0
        # a GPU reads the rates when it takes the step, so that what is recorded follows them
        self._rates = [
            torch.zeros((), device=hardware.device) if hardware.device.type == "cuda" else None
            for _ in optimizer.param_groups
        ]

    def take(self, images: Tensor, targets: Tensor) -> int:
        """Learn from a batch: images (b, C, H, W) and targets (b,) or (b, K) of our share.

        Returns:
            B, the number of images in the whole batch.
        """
        return self.take_by(lambda: self.on_device(images, targets))

    def take_by(self, on_device: Callable[[], int]) -> int:
        """Do the host's part of a step, and by `on_device`, which returns B, the device's."""
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            if rate is not None:
                rate.fill_(group["lr"])
        size = on_device()
        self._count += size
        return size

    def on_device(self, images: Tensor, targets: Tensor) -> int:
        """Do the device's part of a step, and return B."""
        with self._hardware.autocast():
            logits = self._network(images)  # (b, K), of this process's share
        logits, targets = self._processes.whole_batch(logits.float(), targets)  # (B, K)
        loss = self._loss_function(logits, targets)
        minimised = loss + self._l1 * l1_penalty(self._model) if self._l1 else loss
        self._optimizer.zero_grad(set_to_none=True)
        minimised.backward()
        with self._rates_from_device():
            self._optimizer.step()
        self._loss += loss.detach() * len(targets)
        self._correct += (logits.argmax(1) == classes_of(targets)).sum()
        return len(targets)

    def means(self) -> tuple[float, float]:
        """Return mean loss and accuracy of all images since the last call."""
        loss, accuracy = self._loss.item() / self._count, self._correct.item() / self._count
        self._loss.zero_()
        self._correct.zero_()
        self._count = 0
        return loss, accuracy

    @contextmanager
    def _rates_from_device(self) -> Iterator[None]:
        """Let the optimiser read the rates where the device finds them, and not from the host."""
        groups = self._optimizer.param_groups
        of_host = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = group["lr"] if rate is None else rate
        try:
            yield
        finally:
            for group, rate in zip(groups, of_host, strict=True):
                group["lr"] = rate


class Replay:
    """Records what a `Step` does to a whole batch as a CUDA graph, and replays it for the others.

    A step of a small network is hundreds of kernels of a few microseconds: to start them one by one
    takes the host several times as long as they take the GPU. The kernels are the same.

    Args:
        step: what is recorded, and what takes the batches that aren't whole.
        optimizer: that of `step`.
        batch_size: images in a whole batch.
    """

    def __init__(self, step: Step, optimizer: torch.optim.Optimizer, batch_size: int) -> None:
        self._step = step
        self._optimizer = optimizer
        self._batch_size = batch_size
        self._is_warm = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._images: Tensor | None = None
        self._targets: Tensor | None = None

    def take(self, images: Tensor, targets: Tensor) -> int:
        """Learn from a batch: images (B, C, H, W) and targets (B,) or (B, K); return B."""
        if len(targets) != self._batch_size or not self._is_warm:
            # the first one makes what must exist before: the optimiser's state, the libraries'
            self._is_warm = True
            return self._step.take(images, targets)
        if self._graph is None or self._images is None or self._targets is None:
            self._images, self._targets = images.clone(), targets.clone()
            self._graph = self._recorded(self._images, self._targets)
        self._images.copy_(images)
        self._targets.copy_(targets)
        return self._step.take_by(self._replayed)

    def _replayed(self) -> int:
        assert self._graph is not None
        self._graph.replay()
        return self._batch_size

    def _recorded(self, images: Tensor, targets: Tensor) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        groups: list[dict[str, Any]] = self._optimizer.param_groups
        for group in groups:
            group["capturable"] = True  # a promise that the state is on the device: fused, it is
        with torch.cuda.graph(graph):
            self._step.on_device(images, targets)
        for group in groups:
            group["capturable"] = False
        return graph


def fastest(
    step: Step,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Train,
    hardware: Hardware,
    processes: Processes,
) -> Takes:
    """Return what takes the steps: `step`, or what replays it where that gives the same."""
    if (
        hardware.device.type == "cuda"
        and processes.count == 1
        and isinstance(model, Classifier)
        and model.replayable
        and settings.loss in LOSSES  # what a person's own does on the host would happen only once
    ):
        return Replay(step, optimizer, settings.batch_size).take
    return step.take


def classes_of(targets: Tensor) -> Tensor:
    """Return the class of each target, int64 (B,): of mixed labels the one of largest weight."""
    return targets.argmax(1) if targets.dim() == 2 else targets
