"""What a network answers when its attention no longer sees the image.

*Frozen*: the weights of every attention module are their mean over other images, the same for each
image. *Shuffled*: an image gets the weights of another one, which its own network computed. If the
answers stay as they are, what the attention modules do is not attention: a constant would do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.models.attention import Attention
from pipeline.models.inspection import CONSTANT_BELOW, forward_hooks, record_weights
from pipeline.storage.records import ModuleState
from pipeline.training.compute import Hardware
from pipeline.training.prediction import Batches

Weights = Mapping[str, Tensor]  # by module, as `Attention.weights` gives them


@dataclass(frozen=True)
class Spread:
    """The weights of an attention module over many images."""

    mean: Tensor  # float32, of the shape of one image's weights, of each weight
    sd: Tensor  # float64, the same shape: over the images

    @property
    def state(self) -> ModuleState:
        """Return whether the weights vary with the image, and if not, from one to another."""
        level = abs(float(self.mean.mean()))
        if float(self.sd.mean()) > CONSTANT_BELOW * level:
            return "varies"
        return "constant" if float(self.mean.std(correction=0)) > CONSTANT_BELOW * level else "dead"


@contextmanager
def replaced(modules: Mapping[str, Attention], weights: Weights) -> Iterator[None]:
    """Have attention modules use these weights in place of their own while the context is open.

    Weights of one image count for all. Self-attention attends to all positions alike instead.
    """

    def use(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return modules[name].reweighted(inputs[0], weights[name])

    with forward_hooks(modules, use):
        yield


@torch.inference_mode()
def weights_over(
    network: nn.Module, modules: Mapping[str, Attention], batches: Batches, hardware: Hardware
) -> dict[str, Spread]:
    """Return the weights of each module over all images."""
    network.eval()
    sums: dict[str, tuple[Tensor, Tensor]] = {}  # of the weights and of their squares
    count = 0
    with record_weights(modules) as weights:
        for inputs, _ in batches:
            with hardware.autocast():
                network(inputs)
            count += len(inputs)
            for name, given in weights.items():
                given = given.double()
                added = given.sum(0, keepdim=True), given.square().sum(0, keepdim=True)
                before = sums.get(name, (0, 0))
                sums[name] = before[0] + added[0], before[1] + added[1]
    found = {}
    for name, (total, squares) in sums.items():
        mean = total / count
        found[name] = Spread(mean.float(), (squares / count - mean**2).clamp(min=0).sqrt())
    return found


@torch.inference_mode()
def intervene(
    network: nn.Module,
    modules: Mapping[str, Attention],
    means: Weights,
    batches: Batches,
    hardware: Hardware,
    generator: torch.Generator,
) -> dict[str, np.ndarray]:
    """Return logits float32 (N, K) as the network gives them, frozen and shuffled.

    Args:
        network: with attention.
        modules: its attention modules by name.
        means: the weights that frozen modules have, see `weights_over`.
        batches: inputs (B, C, H, W) and labels; an image gets the weights of another one in its
            batch: their order should be random, and none be alone in one.
        hardware: that of the network.
        generator: on the CPU, of who gets whose weights.
    """
    network.eval()
    logits: dict[str, list[Tensor]] = {"intact": [], "frozen": [], "shuffled": []}
    for inputs, _ in batches:
        with hardware.autocast():
            with record_weights(modules) as weights:
                logits["intact"].append(network(inputs).float())
            with replaced(modules, means):
                logits["frozen"].append(network(inputs).float())
            # a cyclic shift of a random order: every image gets those of another
            order = torch.randperm(len(inputs), generator=generator)
            other = torch.empty_like(order)
            other[order] = order.roll(1)
            of_others = {name: given[other.to(given.device)] for name, given in weights.items()}
            with replaced(modules, of_others):
                logits["shuffled"].append(network(inputs).float())
    return {name: torch.cat(parts).cpu().numpy() for name, parts in logits.items()}
