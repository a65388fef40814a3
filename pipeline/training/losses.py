"""What training minimises. Every loss maps logits and targets to one number, the batch's mean.

Targets are classes, int64 (B,), or where labels are mixed probabilities, float32 (B, K).
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import InputError
from pipeline.params import LOSSES, Train

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(train: Train) -> Loss:
    """Return the loss that `train.loss` names: of logits float32 (B, K) and targets.

    Raises:
        InputError: if it is a dotted path that leads to no function.
    """
    match train.loss:
        case "cross_entropy":
            return torch.nn.CrossEntropyLoss(label_smoothing=train.label_smoothing)
        case "mse":
            return mean_squared_error
        case dotted_path:
            return _of_probabilities(_imported(dotted_path))


def source_of(train: Train) -> list[Path]:
    """Return the files of code that `train.loss` needs besides this project's: one's own loss's."""
    if train.loss in LOSSES:
        return []
    source = inspect.getsourcefile(_imported(train.loss))
    return [Path(source)] if source else []


def mean_squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of the softmax probabilities against one-hot targets.

    The mean is over images and classes: the Brier score divided by the number of classes.
    """
    return F.mse_loss(logits.softmax(1), as_probabilities(targets, logits.shape[1]))


def focal(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Return the focal loss, cross entropy that counts what is already right for less.

    An example of a loss by dotted path: ``loss: pipeline.training.losses.focal``. Lin, Goyal,
    Girshick, He and Dollár, "Focal Loss for Dense Object Detection",
    https://arxiv.org/abs/1708.02002, equation 4.

    Args:
        logits: float32 (B, K).
        targets: float32 (B, K), one-hot or mixed.
        gamma: how much less; 0 is cross entropy.
    """
    log_probabilities = logits.log_softmax(1)
    missing = 1 - log_probabilities.exp()
    return -(targets * missing**gamma * log_probabilities).sum(1).mean()


def as_probabilities(targets: Tensor, num_classes: int) -> Tensor:
    """Return targets float32 (B, K), whose rows sum to one, from classes (B,) or such rows."""
    if targets.dim() == 2:
        return targets
    return F.one_hot(targets, num_classes).float()


def _of_probabilities(loss: Loss) -> Loss:
    """Let a person's own loss always have targets (B, K), and refuse what is no loss."""

    def checked(logits: Tensor, targets: Tensor) -> Tensor:
        value = loss(logits, as_probabilities(targets, logits.shape[1]))
        if not isinstance(value, Tensor) or value.dim() != 0 or not value.requires_grad:
            raise InputError(
                f"params.yaml: train.loss: {loss.__name__} returned {_kind(value)}; it has to "
                "return a tensor without dimensions that depends on the logits, such as a mean"
            )
        return value

    return checked


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"a tensor of shape {tuple(value.shape)}" + (
        "" if value.requires_grad else " without a gradient"
    )


def _imported(dotted_path: str) -> Loss:
    module_name, _, name = dotted_path.rpartition(".")
    where = f"params.yaml: train.loss: '{dotted_path}'"
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"{where} can't be imported: {error}") from None
    except Exception as error:  # it is a person's own code: whatever it raises
        kind = type(error).__name__
        raise InputError(f"{where}: importing {module_name} failed: {kind}: {error}") from None
    loss = getattr(module, name, None)
    if not callable(loss):
        raise InputError(f"{where}: there is no function {name} in {module.__file__}")
    return loss
