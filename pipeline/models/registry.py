"""The networks: a registry of families, and `build`, which makes one from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.models.cnn import Cnn
from pipeline.models.densenet import DenseNet
from pipeline.models.layers import Classifier
from pipeline.models.library import timm_classifier, torchvision_classifier

NOT_OF_THE_NETWORK = ("family", "weights", "sha256", "baseline")

FAMILIES: dict[str, Callable[..., Classifier]] = {
    "cnn": Cnn,
    "densenet": DenseNet,
    "torchvision": torchvision_classifier,
    "timm": timm_classifier,
}


def build(
    settings: Mapping[str, Any], num_classes: int, image_size: int, in_channels: int = 3
) -> Classifier:
    """Return a new network with random weights (drawn from PyTorch's global generator).

    Args:
        settings: an entry of `architectures:` that `settings.load` has checked; `family` picks the
            constructor, which gets all keys but `NOT_OF_THE_NETWORK`.
        num_classes: number of classes K.
        image_size: height and width of the images, in pixels.
        in_channels: channels of the images, 3 for RGB.

    Raises:
        InputError: if a library has no network of that name or it doesn't take images of this size,
            or a flattened head would have too many weights.
    """
    arguments = {key: value for key, value in settings.items() if key not in NOT_OF_THE_NETWORK}
    return FAMILIES[settings["family"]](num_classes, image_size, in_channels, **arguments)
