"""The images of a split, and the batches that are made of them on the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.data.arrays import Dataset
from pipeline.data.augmentation import (
    Augmentation,
    augment,
    cutmix,
    draw,
    erase,
    mixup,
    normalise,
    standardise,
)
from pipeline.training.randomness import generator

LARGEST_SHARE_OF_GPU = 0.5  # of its free memory, for images
ROWS_AT_ONCE = 1024
# on a GPU (benchmark `gpu`); their floats take 48 MB, what is made of them a few times that
PIXELS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Images:
    """One split of a data set."""

    # uint8 (M, H, W, C). On a GPU the split's own images, if they fit there; otherwise the file,
    # mapped into memory, so that sets larger than the memory work and jobs share what is read
    images: Tensor
    rows: Tensor  # int64 (N,), where the split's images stand in `images`; on the same device
    labels: Tensor  # int64 (N,), on the training device
    mean: Tensor  # float32 (C,), of the training split, in [0, 1]
    std: Tensor  # float32 (C,)
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, positions: Tensor | slice) -> Tensor:
        """Return uint8 (B, H, W, C) on the training device, for positions in the split."""
        if isinstance(positions, Tensor):
            positions = positions.to(self.rows.device)
        # to index by a tensor copies byte by byte, in many times the time (benchmark
        # `augmentation`; https://github.com/pytorch/pytorch/issues/29973)
        chosen = self.images.index_select(0, self.rows[positions])
        return chosen.to(self.labels.device)

    def subset(self, positions: Tensor) -> Images:
        """Return the images at some positions as a split of their own."""
        return replace(
            self,
            rows=self.rows[positions.to(self.rows.device)],
            labels=self.labels[positions.to(self.labels.device)],
        )


def to_device(dataset: Dataset, split: str, device: torch.device) -> Images:
    """Make one split of `dataset` ready for `device`."""
    rows = dataset.rows(split)
    with warnings.catch_warnings():  # nothing ever writes to the tensor over the mapped file
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        images = torch.from_numpy(dataset.images)
    positions = torch.from_numpy(rows)
    size = len(rows) * dataset.images[:1].nbytes
    if device.type == "cuda" and size <= LARGEST_SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]:
        copied = images.new_empty((len(rows), *images.shape[1:]), device=device)
        parts = zip(copied.split(ROWS_AT_ONCE), positions.split(ROWS_AT_ONCE), strict=True)
        for copy, part in parts:  # not all through the host's memory at once
            copy.copy_(images[part])
        images, positions = copied, torch.arange(len(rows)).to(device)
    return Images(
        images=images,
        rows=positions,
        labels=torch.from_numpy(np.ascontiguousarray(dataset.labels[rows])).to(device),
        mean=torch.tensor(dataset.mean, dtype=torch.float32, device=device),
        std=torch.tensor(dataset.std, dtype=torch.float32, device=device),
        num_classes=len(dataset.classes),
    )


def training_batches(
    data: Images,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    share: Callable[[int], slice] = lambda size: slice(0, size),
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield an epoch of shuffled, augmented, normalised batches.

    Every image comes once. A last batch of a single image is left out: batch norm has no variance
    for it.

    Args:
        data: the split.
        batch_size: images in a batch, of all processes together.
        augmentation: what is drawn for each image.
        seed: of the order and the draws, with `epoch`.
        epoch: counted from 1.
        share: called with the size of each batch: which of its images this process takes, from an
            even position on; alone all.

    Yields:
        images float32 (B, C, H, W), channels last, and targets: classes int64 (B,), or with CutMix
        or MixUp probabilities float32 (B, K).
    """
    count = len(data)
    is_single = count > 1 and count % batch_size == 1
    used = count - 1 if is_single else count
    device = data.labels.device
    order = torch.randperm(count, generator=generator(seed, epoch, "order"))
    # moved once an epoch: a copy in each step would make the host wait for the device
    image_order, label_order = order.to(data.rows.device), order.to(device)
    size = data.images.shape[1]
    draws = draw(augmentation, count, size, generator(seed, epoch, "augmentation")).to(device)
    at_once = _images_at_once(data, batch_size, augmentation, share)
    for start in range(0, used, at_once):
        own = share(min(at_once, used - start))
        part = slice(start + own.start, start + own.stop)
        drawn = draws[part]
        targets = data.labels[label_order[part]]
        images = augment(data.pixels(image_order[part]), drawn)
        images = erase(images, data.mean, drawn)
        if augmentation.cutmix:
            images, targets = cutmix(images, targets, data.num_classes, drawn)
        elif augmentation.mixup:
            images, targets = mixup(images, targets, data.num_classes, drawn)
        images = normalise(images, data.mean, data.std)
        yield from zip(images.split(batch_size), targets.split(batch_size), strict=True)


def _images_at_once(
    data: Images, batch_size: int, augmentation: Augmentation, share: Callable[[int], slice]
) -> int:
    """Return how many images are prepared together: on a GPU, which few leave idle, many batches.

    CutMix and MixUp pair neighbours within a batch: those of even batches stay the same.
    """
    pairs = augmentation.cutmix or augmentation.mixup
    if not data.labels.is_cuda or (pairs and batch_size % 2):
        return batch_size
    _, height, width, _ = data.images.shape
    at_once = batch_size * max(1, PIXELS_AT_ONCE // (batch_size * height * width))
    return at_once if share(at_once) == slice(0, at_once) else batch_size


def steps_per_epoch(data: Images, batch_size: int) -> int:
    """Return how many batches `training_batches` yields."""
    steps, rest = divmod(len(data), batch_size)
    return steps + (rest > 1 or len(data) == 1)


def mixed_batches(data: Images, batch_size: int, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images in another `order`, int64 (N,), as `plain_batches` does.

    The batches are of nearly equal size, at most `batch_size` and at least a half of it: none is a
    single image, unless there is just one.
    """
    least = max(2, -(-batch_size // 2))
    for positions in order.tensor_split(max(1, len(order) // least)):
        yield from plain_batches(data.subset(positions), len(positions))


def plain_batches(data: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images in their order, normalised and not augmented.

    Yields:
        images float32 (B, C, H, W), channels last, and labels int64 (B,).
    """
    for start in range(0, len(data), batch_size):
        part = slice(start, start + batch_size)
        yield standardise(data.pixels(part), data.mean, data.std), data.labels[part]
