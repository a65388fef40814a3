"""A network as it is best run when it learns no more."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from pipeline.models.layers import Classifier


def folded(network: Classifier) -> nn.Module:
    """Return a copy for inference: batch norms folded into convolutions, activations in place.

    Its logits are those of `network` within rounding. A network that isn't known to allow it is
    returned as it is, such as one of a library.

    Args:
        network: in evaluation mode; it is left as it was.
    """
    if not network.foldable:
        return network
    copy = fuse(network)
    for module in copy.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", True)  # noqa: B010 - an attribute that mypy doesn't know
    return copy.to(memory_format=torch.channels_last)
