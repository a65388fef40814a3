"""Images on the device, and the batches that are made of them there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.data.arrays import Dataset
from pipeline.data.augmentation import Augmentation, augment, draw, normalise
from pipeline.training.randomness import generator


@dataclass(frozen=True)
class Images:
    """One split, resident on the device.

    Attributes:
        images: uint8 (N, H, W, C).
        labels: int64 (N,).
        mean: float32 (C,), of the training split, in [0, 1].
        std: float32 (C,).
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def to_device(dataset: Dataset, split: str, device: torch.device) -> Images:
    """Copy one split of `dataset` to `device`."""
    rows = dataset.rows(split)
    return Images(
        images=torch.from_numpy(np.ascontiguousarray(dataset.images[rows])).to(device),
        labels=torch.from_numpy(np.ascontiguousarray(dataset.labels[rows])).to(device),
        mean=torch.tensor(dataset.mean, dtype=torch.float32, device=device),
        std=torch.tensor(dataset.std, dtype=torch.float32, device=device),
    )


def training_batches(
    data: Images, batch_size: int, augmentation: Augmentation, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield an epoch of shuffled, augmented, normalised batches.

    Every image comes once. A last batch of a single image is left out: batch norm has no variance
    for it.

    Yields:
        images float32 (B, C, H, W), channels last, and labels int64 (B,).
    """
    count = len(data)
    order = torch.randperm(count, generator=generator(seed, epoch, "order"))
    order = order.to(data.labels.device)
    draws = draw(augmentation, count, generator(seed, epoch, "augmentation"))
    draws = draws.to(data.labels.device)
    for start in range(0, count, batch_size):
        rows = order[start : start + batch_size]
        if len(rows) == 1 and count > 1:
            return
        images = augment(data.images[rows], draws[start : start + batch_size])
        yield normalise(images, data.mean, data.std), data.labels[rows]


def plain_batches(data: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images in their order, normalised and not augmented.

    Yields:
        images float32 (B, C, H, W), channels last, and labels int64 (B,).
    """
    for start in range(0, len(data), batch_size):
        rows = slice(start, start + batch_size)
        images = data.images[rows].permute(0, 3, 1, 2).float().div(255)
        yield normalise(images, data.mean, data.std), data.labels[rows]
