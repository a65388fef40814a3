"""Test accuracies that others published for the networks compared here.

A figure is shown only beside a network with the same settings, tested on the same images. The
recipes differ, so the figures say what such a network can reach, not whether ours is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.data.arrays import Dataset

TUTORIAL_CNN: Mapping[str, Any] = {
    "family": "cnn",
    "channels": [32, 64, 128],
    "kernel_size": 3,
    "stride": 1,
    "dilation": 1,
    "groups": 1,
    "activation": "relu",
    "normalisation": "batch",
    "pooling": "max",
    "head": "flatten",
    "hidden": 512,
}
WITH_ATTENTION: Mapping[str, Any] = {
    "attention": "channel",
    "attention_at": "all",
    "reduction": 16,
}
DENSENET_BC_100_12: Mapping[str, Any] = {
    "family": "densenet",
    "growth_rate": 12,
    "block_config": [16, 16, 16],
    "compression": 0.5,
    "num_init_features": 24,
    "bn_size": 4,
    "drop_rate": 0.0,
    "small_inputs": True,
    "activation": "relu",
    "normalisation": "batch",
    "attention": "none",
}
# A padding of None keeps the size, as 1 does for a kernel of 3 and a stride of 1.
SAME_SIZE = (None, 1)


@dataclass(frozen=True)
class Published:
    """A published result on CIFAR-10's 10,000 test images."""

    network: str  # what its authors call it
    accuracy: float  # percent
    conditions: str  # of the training, and how many runs the figure is of
    source: str  # where it stands, as Markdown


TUTORIAL = (
    "50 epochs, dropout 0.5, learning rate lowered by the test loss, last epoch; one run",
    "the tutorial whose networks and recipe the preset `cifar10` follows as far as it gives them",
)
PLAIN = Published("plain CNN", 84.68, *TUTORIAL)
WITH_CHANNEL_ATTENTION = Published("CNN with channel attention", 85.38, *TUTORIAL)
DENSENET_PAPER = Published(
    "DenseNet-BC (L=100, k=12)",
    95.49,
    "300 epochs, SGD, shifts and mirroring; one run",
    "[Huang et al. 2017](https://arxiv.org/abs/1608.06993), table 2",
)
DENSENET_AGAIN = replace(
    DENSENET_PAPER,
    accuracy=95.23,
    source="[a reimplementation in PyTorch](https://github.com/bamos/densenet.pytorch)",
)


def published_for(architecture: Mapping[str, Any], dataset: Dataset) -> Sequence[Published]:
    """Return what was published for a network with these settings, on the same images."""
    same_images = (
        dataset.name == "cifar10"
        and dataset.folds is None
        and dataset.image_size == 32
        and len(dataset.rows("test")) == 10_000
    )
    if not same_images:
        return ()
    if DENSENET_BC_100_12.items() <= architecture.items():
        return (DENSENET_PAPER, DENSENET_AGAIN)
    if TUTORIAL_CNN.items() <= architecture.items() and architecture["padding"] in SAME_SIZE:
        if architecture["attention"] == "none":
            return (PLAIN,)
        if WITH_ATTENTION.items() <= architecture.items():
            return (WITH_CHANNEL_ATTENTION,)
    return ()
