"""The training loop of most tutorials: per-image transforms on PIL images, DataLoader.

In fp32 on a CPU. On a GPU with automatic mixed precision: fp16 and a gradient scaler.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline.settings.schema import Train

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Images uint8 (N, H, W, 3) and labels int64 (N,), each transformed when it is asked for."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, train: Train) -> None:
        drawn = train.augmentation
        self.images = images
        self.labels = labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=drawn.crop_padding),
                transforms.RandomHorizontalFlip(drawn.horizontal_flip),
                transforms.ColorJitter(
                    drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue
                ),
                transforms.RandomRotation(drawn.rotation),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def images_per_second(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    train: Train,
    workers: int,
    device: torch.device,
) -> float:
    """Train `model` for one epoch and return its speed, the start of the workers left out.

    Args:
        model: on `device`.
        images: uint8 (N, H, W, 3).
        labels: int64 (N,).
        train: the recipe; batch size, learning rate and augmentation are used.
        workers: of the DataLoader.
        device: a CPU or a GPU.
    """
    on_gpu = device.type == "cuda"
    loader = DataLoader(
        Pictures(images, labels, train),
        train.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=on_gpu,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=train.learning_rate)
    loss_function = nn.CrossEntropyLoss()
    scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)
    model.train()
    began, count, running_loss, correct = 0.0, 0, 0.0, 0
    for step, (batch, targets) in enumerate(loader):
        batch, targets = batch.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16, enabled=on_gpu):
            logits = model(batch)
            loss = loss_function(logits, targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        running_loss += loss.item() * len(targets)
        correct += int((logits.argmax(1) == targets).sum())
        if step == 0:
            began = time.perf_counter()
        else:
            count += len(targets)
    return count / (time.perf_counter() - began)
