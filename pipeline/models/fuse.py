"""A network as it is best run when it learns no more (benchmark `evaluation`)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from pipeline.models.densenet import DenseBlock
from pipeline.models.layers import Classifier

LARGEST_SHIFT = 100.0  # of a norm, in its output's units: what follows is of the order of 1


def fused(network: Classifier) -> nn.Module:
    """Return a copy for inference: batch norms folded into convolutions, activations in place.

    Its logits are those of `network`, in evaluation mode, within rounding. A network that isn't
    known to allow it is returned as it is, such as one of a library.
    """
    if not network.foldable:
        return network
    traced = copy.deepcopy(network)
    for module in traced.modules():
        if isinstance(module, DenseBlock):
            module.forward = module.in_one_tensor  # type: ignore[method-assign]
    with torch.no_grad():  # nothing is traced that only gradients want, such as recomputation
        fast = fuse(traced)
        assert isinstance(fast, fx.GraphModule)
        _fold_into_next(fast)
    for module in fast.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", True)  # noqa: B010 - an attribute that mypy doesn't know
    return fast.to(memory_format=torch.channels_last)


class Clamp(nn.Module):
    """Limits each channel of (B, C, H, W) to an interval of its own."""

    lowest: Tensor  # (1, C, 1, 1), -inf for none
    highest: Tensor  # (1, C, 1, 1), inf for none

    def __init__(self, lowest: Tensor, highest: Tensor) -> None:
        super().__init__()
        self.register_buffer("lowest", lowest.view(1, -1, 1, 1))
        self.register_buffer("highest", highest.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x.clamp(self.lowest, self.highest)


def _fold_into_next(network: fx.GraphModule) -> None:
    """Fold batch norms that ReLU and then a 1x1 convolution follow into the latter.

    With y = scale * x + shift, relu(y) is scale * clamp(x) + shift, where x is cut off at
    -shift / scale: from below where scale is positive, from above where it is negative. What is
    left of the norm is linear, and so part of the convolution.
    """
    modules = dict(network.named_modules())
    for node in network.graph.nodes:
        names = _chain(node)
        found = [modules[name] for name in names]
        # of just these types, as `fuse` has it: subclasses may do something else
        if [type(module) for module in found] == [nn.BatchNorm2d, nn.ReLU, nn.Conv2d]:
            for name, module in zip(names, _without_norm(*found[::2]) or found, strict=True):
                network.set_submodule(name, module)


def _chain(node: fx.Node) -> list[str]:
    """Return the names of up to three modules from `node` on, each used by the next alone."""
    names: list[str] = []
    while node.op == "call_module" and len(names) < 3:
        names.append(str(node.target))
        if len(node.users) != 1:
            break
        node = next(iter(node.users))
    return names


def _without_norm(norm: nn.Module, conv: nn.Module) -> tuple[nn.Module, ...] | None:
    """Return what takes the places of the norm, the ReLU and the convolution; None if nothing can.

    Nothing can where a channel is ignored, or so nearly that its limit is no number, or shifted so
    far that taking the shift off again would cost digits.
    """
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(conv, nn.Conv2d)
    is_pointwise = conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.groups == 1
    if not is_pointwise or norm.running_mean is None or norm.running_var is None or not norm.affine:
        return None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # (C,)
    shift = norm.bias - scale * norm.running_mean  # (C,)
    limit = -shift / scale  # (C,)
    if not limit.isfinite().all() or shift.abs().max() > LARGEST_SHIFT:
        return None
    clamp = Clamp(limit.where(scale > 0, -torch.inf), limit.where(scale < 0, torch.inf))
    weight = conv.weight[:, :, 0, 0]  # (K, C)
    bias = weight @ shift + (0 if conv.bias is None else conv.bias)  # (K,)
    folded_conv = copy.deepcopy(conv)
    folded_conv.weight = nn.Parameter((weight * scale)[:, :, None, None])
    folded_conv.bias = nn.Parameter(bias)
    return clamp, nn.Identity(), folded_conv
