"""The kinds of heatmap that are put to the test: those of the network, and two controls.

A heatmap that says something about this network and this image beats both controls: one that points
anywhere, and one that always points at the middle, where most photographs have their subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.explain.cam import Kind, class_activation_maps
from pipeline.explain.feature_maps import feature_maps
from pipeline.explain.strongest_channels import strongest_channel_maps
from pipeline.models.layers import Classifier

CENTRE_SPREAD = 0.25  # std of the centred Gaussian, as a share of the image's size


def network_heatmaps(
    network: Classifier, layers: Mapping[Kind, str], inputs: Tensor, targets: Tensor
) -> dict[str, np.ndarray]:
    """Return the heatmaps that a network gives, as fine as their layers are.

    Args:
        network: in evaluation mode.
        layers: which of `network.activation_layers()` each class activation map is taken at.
        inputs: float32 (B, C, H, W), normalised.
        targets: int64 (B,), the classes that the class activation maps are about.

    Returns:
        float32 (B, h, w) in [0, 1] for grad_cam, layer_cam and strongest_channel, the channel of
        the deepest of `network.feature_layers()` with the highest mean.
    """
    modules = network.activation_layers()
    heatmaps = {
        str(kind): class_activation_maps(network, kind, modules[layer], inputs, targets)
        for kind, layer in layers.items()
    }
    name, deepest = list(network.feature_layers().items())[-1]
    maps, _ = feature_maps(network, {name: deepest}, inputs)
    return heatmaps | {"strongest_channel": strongest_channel_maps(maps[name])}


def random_heatmaps(size: tuple[int, int], generators: Sequence[np.random.Generator]) -> np.ndarray:
    """Return a map of independent values for each generator, float32 (B, h, w) in [0, 1).

    Drawn at a class activation map's size, it is as smooth as one once it is resized. Removing
    single pixels at random would disturb the network far more than removing a spot of as many.
    """
    return np.stack([generator.random(size, dtype=np.float32) for generator in generators])


def centre_heatmap(size: tuple[int, int]) -> np.ndarray:
    """Return a Gaussian in the middle of the image, float32 (H, W), 1 at its highest."""
    squares = [((np.arange(n) - (n - 1) / 2) / (CENTRE_SPREAD * n)) ** 2 for n in size]
    heat = np.exp(-(squares[0][:, None] + squares[1]) / 2)
    return (heat / heat.max()).astype(np.float32)


def resized(heatmaps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate heatmaps (B, h, w) linearly to the `size` of the images, (B, H, W)."""
    maps = torch.from_numpy(heatmaps)[:, None]
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0].numpy()
