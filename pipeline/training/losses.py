"""What training minimises. Every loss maps logits and targets to one number, the batch's mean.

Targets are classes, int64 (B,), or where labels are mixed probabilities, float32 (B, K).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.settings.schema import LOSSES, Train
from pipeline.system.errors import InputError, suggestion

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
PACKAGE = Path(__file__).parents[1]  # this one, whose code dvc.yaml names

Loss = Callable[[Tensor, Tensor], Tensor]


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Return what each class has to count for all to count the same, float32 (K,).

    It is N / (K n) of a class with n of the N training images, as in scikit-learn.

    Args:
        labels: int64 (N,), of the training images; each class has some.
        num_classes: K.
    """
    return len(labels) / (num_classes * labels.bincount(minlength=num_classes))


def make_loss(train: Train, class_weights: Tensor | None = None) -> Loss:
    """Return the loss that `train.loss` names: of logits float32 (B, K) and targets.

    `class_weights`, float32 (K,), are those of cross entropy.

    Raises:
        InputError: if it is a dotted path that leads to no function.
    """
    match train.loss:
        case "cross_entropy":
            return torch.nn.CrossEntropyLoss(class_weights, label_smoothing=train.label_smoothing)
        case "mse":
            return mean_squared_error
        case dotted_path:
            return _checked(_imported(dotted_path)[0], dotted_path)


def source_of(train: Train) -> list[Path]:
    """Return the files of code that a loss of one's own is made of.

    They are that of its module, those that importing it loads, and those of all loaded modules in
    the same folder or under it. Python's own, installed packages and, but for what importing
    it loads, this one are left out.
    """
    return [] if train.loss in LOSSES else source_of_loss(train.loss)


@functools.cache  # what is loaded once is not loaded again
def source_of_loss(dotted_path: str) -> list[Path]:
    """Return the same for a loss by dotted path."""
    before = _loaded()
    _, module = _imported(dotted_path)
    now = _loaded()
    own = Path(module.__file__ or "")
    if own not in now:  # an installed package's
        return []
    beside = {path for path in now if path.is_relative_to(own.parent)}
    elsewhere = {path for path in beside if not path.is_relative_to(PACKAGE)}
    return sorted({own, *(now - before), *elsewhere})


def _loaded() -> set[Path]:
    """Return the files of all loaded modules that are neither Python's own nor installed."""
    files = [getattr(module, "__dict__", {}).get("__file__") for module in [*sys.modules.values()]]
    paths = {Path(file) for file in files if file}
    return {
        path
        for path in paths
        if "site-packages" not in path.parts and not path.is_relative_to(STANDARD_LIBRARY)
    }


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


def _checked(loss: Callable[..., Any], name: str) -> Loss:
    """Let a person's own loss always have targets (B, K), and refuse what is no loss."""
    where = f"params.yaml: train.loss: '{name}'"
    is_checked = False  # once is enough: it takes a backward pass

    def checked(logits: Tensor, targets: Tensor) -> Tensor:
        nonlocal is_checked
        try:
            value = loss(logits, as_probabilities(targets, logits.shape[1]))
        except Exception as error:  # it is a person's own code: whatever it raises
            raise InputError(f"{where}: calling it failed: {_in_one_line(error)}") from None
        if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
            kind = f"a {type(value).__name__}"
            if isinstance(value, Tensor):
                kind = f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
            raise InputError(f"{where} returned {kind}; it has to return a single number")
        if not is_checked:
            if value.grad_fn is None or (
                torch.autograd.grad(value, logits, retain_graph=True, allow_unused=True)[0] is None
            ):
                raise InputError(f"{where} returned a number that doesn't depend on the logits")
            is_checked = True
        return value

    return checked


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _imported(dotted_path: str) -> tuple[Callable[..., Any], ModuleType]:
    """Return the function that a dotted path names, and the module that it names it in."""
    module_name, _, name = dotted_path.rpartition(".")
    where = f"params.yaml: train.loss: '{dotted_path}'"
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # it is a person's own code: whatever it raises
        raise InputError(f"{where} can't be imported: {_in_one_line(error)}") from None
    loss = getattr(module, name, None)
    if loss is None:
        known = [known for known in vars(module) if not known.startswith("_")]
        raise InputError(f"{where}: no {name} in {module_name}{suggestion(name, known)}")
    if inspect.isclass(loss) or not callable(loss):
        raise InputError(
            f"{where} is a {type(loss).__name__}; name a function of logits and targets"
        )
    return loss, module
