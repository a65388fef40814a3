"""What every network here is made of: the interface of a classifier, activations, size checks."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pipeline.errors import InputError, choose
from pipeline.models.attention import ChannelAttention

# Never in place: an in-place activation overwrites the feature maps that a hook has caught.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01
    "elu": nn.ELU,
    "silu": nn.SiLU,  # also called swish
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Classifier(nn.Module):
    """What a family of networks provides besides `forward`.

    `forward` takes float images (B, C, H, W), already normalised, and returns logits (B, K).
    """

    def feature_layers(self) -> dict[str, nn.Module]:
        """Return the layers worth looking at by name, shallow to deep; each gives (B, C, H, W)."""
        raise NotImplementedError

    def attention_layers(self) -> dict[str, ChannelAttention]:
        """Return the attention modules by name, shallow to deep; empty if there are none."""
        raise NotImplementedError


def make_activation(name: str) -> nn.Module:
    """Return a new activation module.

    Raises:
        InputError: if there is no activation of this name.
    """
    return ACTIVATIONS[choose(name, ACTIVATIONS, "architectures: activation")]()


def check_image_size(image_size: int, smallest: int, what: str) -> None:
    """Check that no feature map shrinks to nothing.

    Args:
        image_size: height and width of the images, in pixels.
        smallest: the smallest size that leaves one pixel after the last stride.
        what: the network and the setting that shrinks its maps, such as
            ``cnn with channels [32, 64, 128]``.

    Raises:
        InputError: if the images are smaller than that.
    """
    if image_size < smallest:
        raise InputError(
            f"architectures: {what} needs images of at least {smallest}x{smallest} pixels, "
            f"not {image_size}x{image_size}; raise data.image_size to {smallest} or more"
        )
