"""Batch norm over the images of all processes.

PyTorch's own `SyncBatchNorm` needs a GPU, and takes the place of the modules, which a library's
kinds of batch norm that also activate don't survive. Here the modules stay, with their names and
running statistics: within them `batch_norm` is computed from the moments of all processes. The
same code runs on CPU and GPU, so that what is tested on one holds on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from pipeline.training.distributed.processes import Processes


def synchronise(model: nn.Module, processes: Processes) -> None:
    """Let every batch norm in `model` normalise by the moments of the full batch in training.

    The modules are changed in place; their parameters and buffers are not.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            forward = _within(_Synchronised(processes), module.forward)
            module.forward = forward  # type: ignore[method-assign]  # before its class's method


def _within(mode: TorchFunctionMode, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(forward)
    def synchronised(*inputs: Tensor) -> Tensor:
        with mode:
            return forward(*inputs)

    return synchronised


class _Synchronised(TorchFunctionMode):
    """Where this is on, `torch.nn.functional.batch_norm` is that of all processes."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is F.batch_norm:
            return _batch_norm(self._processes, *args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _batch_norm(
    processes: Processes,
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `torch.nn.functional.batch_norm` of the images (B, C, ...) of all processes."""
    if not training:
        return F.batch_norm(images, running_mean, running_var, weight, bias, eps=eps)
    normalised, mean, var, count = _Normalised.apply(images, weight, bias, eps, processes)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            unbiased = var * (count / (count - 1).clamp(min=1))
            running_var.lerp_(unbiased.to(running_var), momentum)
    return normalised


class _Normalised(torch.autograd.Function):
    """Ioffe and Szegedy, "Batch Normalization", https://arxiv.org/abs/1502.03167, algorithm 1."""

    @staticmethod
    def forward(
        context: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        processes: Processes,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, var, count = _moments(_exact(images), processes)  # (C,), (C,), scalar
        context.processes = processes
        context.save_for_backward(images, weight, mean, (var + eps).rsqrt(), count)
        context.mark_non_differentiable(mean, var, count)
        return F.batch_norm(images, mean, var, weight, bias, eps=eps), mean, var, count

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, inverse_std, count = context.saved_tensors
        along = [0, *range(2, images.ndim)]
        gradient = _exact(gradients[0])
        standard = (_exact(images) - _wide(mean, images)) * _wide(inverse_std, images)
        bias_gradient = gradient.sum(along)  # (C,)
        weight_gradient = (gradient * standard).sum(along)  # (C,)
        scale = inverse_std if weight is None else inverse_std * weight
        sums = context.processes.total(torch.stack([bias_gradient, weight_gradient])) / count
        image_gradient = gradient
        if not context.processes.is_idle:  # a stand-in has no part in the moments
            image_gradient = gradient - _wide(sums[0], images) - standard * _wide(sums[1], images)
        _, needs_weight, needs_bias, *_ = context.needs_input_grad
        return (
            (image_gradient * _wide(scale, images)).to(images.dtype),
            weight_gradient if needs_weight else None,
            bias_gradient if needs_bias else None,
            None,
            None,
        )


def _moments(images: Tensor, processes: Processes) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and biased variance of each channel (C,) over all processes, and of how many.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979: it subtracts no large numbers from each other.
    """
    var, mean = torch.var_mean(images, [0, *range(2, images.ndim)], correction=0)
    count = 0 if processes.is_idle else images.numel() // images.shape[1]
    each = processes.gathered(torch.cat([mean, var, mean.new_tensor([count])]))  # (N, 2 * C + 1)
    means, variances, counts = each.split([len(mean), len(var), 1], dim=1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    var = (counts * (variances + (means - mean).square())).sum(0) / total
    return mean, var, total


def _exact(images: Tensor) -> Tensor:
    """Return them in a precision in which sums over a batch are exact enough."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def _wide(values: Tensor, images: Tensor) -> Tensor:
    """Return values (C,) such that they are applied to the channels of images (B, C, ...)."""
    return values.view(1, -1, *[1] * (images.ndim - 2))
