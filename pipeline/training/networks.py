"""The network that an entry of params.yaml describes, for the images at hand."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.data.arrays import Dataset
from pipeline.models import registry
from pipeline.models.layers import Classifier
from pipeline.settings.schema import Settings
from pipeline.training.compute import Hardware
from pipeline.training.weights import load_weights


def fresh(settings: Settings, model: str, dataset: Dataset, hardware: Hardware) -> Classifier:
    """Return the network `model` with random weights, on the device.

    Raises:
        InputError: if the images are too small for it.
    """
    network = registry.build(
        settings.architectures[model].model_dump(),
        len(dataset.classes),
        dataset.image_size,
        dataset.channels,
    )
    return network.to(hardware.device).to(memory_format=torch.channels_last)


def trained(
    settings: Settings, model: str, weights: Path, dataset: Dataset, hardware: Hardware
) -> Classifier:
    """Return the network `model` with the weights of a training run, in evaluation mode.

    Raises:
        InputError: if the weights are missing, corrupt, or another network's.
    """
    network = fresh(settings, model, dataset, hardware)
    load_weights(network, weights, dataset.fingerprint, settings)
    return network.eval()
