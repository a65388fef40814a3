"""What a network says of images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.training.compute import Hardware

Batches = Iterable[tuple[Tensor, Tensor]]


def predict(model: nn.Module, batches: Batches, hardware: Hardware) -> Batches:
    """Yield logits float32 (B, K) and labels (B,) for each batch, in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        for images, labels in batches:
            with hardware.autocast():
                logits = model(images)
            yield logits.float(), labels
