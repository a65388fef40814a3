"""What every network here is made of: the interface of a classifier, parts.

Group normalisation (and layer normalisation, its case of one group): Wu and He, "Group
Normalization", https://arxiv.org/abs/1803.08494
Instance normalisation: Ulyanov, Vedaldi and Lempitsky, "Instance Normalization: The Missing
Ingredient for Fast Stylization", https://arxiv.org/abs/1607.08022
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from pipeline.models.attention import ATTENTIONS, Attention

# Never in place: an in-place activation overwrites the feature maps that a hook has recorded.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01
    "elu": nn.ELU,
    "gelu": nn.GELU,  # exact, by the error function
    "silu": nn.SiLU,  # also called swish
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

NORMALISATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "batch": lambda channels, norm_groups: nn.BatchNorm2d(channels),
    "layer": lambda channels, norm_groups: nn.GroupNorm(1, channels),  # channels and positions
    "instance": lambda channels, norm_groups: nn.InstanceNorm2d(channels, affine=True),
    "group": lambda channels, norm_groups: nn.GroupNorm(norm_groups, channels),
}


class Classifier(nn.Module):
    """What a family of networks provides besides `forward`.

    `forward` takes float images (B, C, H, W), already normalised, and returns logits (B, K).
    """

    # whether `models.fuse` may rewrite it for inference: torch.fx can trace it, each of its modules
    # is called once, and nothing but the activation reads what an activation gets
    foldable = False
    # whether a step of its training may be recorded on a GPU and replayed: it does the same to
    # every batch, never waits for what the GPU computes, and its convolutions and linear layers use
    # their weights as they are
    replayable = False

    def feature_layers(self) -> dict[str, nn.Module]:
        """Return the layers worth looking at by name, shallow to deep; each gives (B, C, H, W)."""
        raise NotImplementedError

    def activation_layers(self) -> dict[str, nn.Module]:
        """Return the layers whose maps what comes after them sees, by name, shallow to deep.

        Class activation maps are taken there. Each gives (B, C, H, W): where the network says so,
        maps that are activated, and weighted by attention.
        """
        return self.feature_layers()

    def attention_layers(self) -> dict[str, Attention]:
        """Return the attention modules that give their weights, by name, shallow to deep.

        Of a DenseNet block1.layer1, block1.layer2, ..., or transition1, ..., or attention1, ...;
        of CBAM block1.layer1.channel and so on.
        """
        return {
            name.replace(".attention", ""): module
            for name, module in self.named_modules()
            if isinstance(module, Attention)
        }


@dataclass(frozen=True)
class Parts:
    """The settings of what stands between a network's convolutions, the same in all its blocks."""

    activation: str
    normalisation: str
    norm_groups: int
    attention: str
    reduction: int
    heads: int

    def make_activation(self) -> nn.Module:
        """Return a new activation module."""
        return ACTIVATIONS[self.activation]()

    def make_norm(self, channels: int) -> nn.Module:
        """Return a new norm for maps (B, channels, H, W)."""
        return NORMALISATIONS[self.normalisation](channels, self.norm_groups)

    def make_attention(self, channels: int) -> nn.Module:
        """Return new attention for maps (B, channels, H, W)."""
        return ATTENTIONS[self.attention](channels, self.reduction, self.heads)
