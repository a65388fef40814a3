"""Optimiser, learning-rate schedule and loss, as params.yaml names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau

from pipeline.params import Train

Parameters = Iterable[nn.Parameter]
Scheduler = LambdaLR | CosineAnnealingLR | ReduceLROnPlateau

OPTIMIZERS: dict[str, Callable[[Parameters, Train], optim.Optimizer]] = {
    "adam": lambda parameters, train: optim.Adam(
        parameters, lr=train.learning_rate, weight_decay=train.weight_decay
    ),
    "adamw": lambda parameters, train: optim.AdamW(
        parameters, lr=train.learning_rate, weight_decay=train.weight_decay
    ),
    "sgd": lambda parameters, train: optim.SGD(
        parameters,
        lr=train.learning_rate,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
        nesterov=train.momentum > 0,
    ),
}

SCHEDULES: dict[str, Callable[[optim.Optimizer, Train], Scheduler]] = {
    "fixed": lambda optimizer, _: LambdaLR(optimizer, lambda _: 1.0),
    "plateau": lambda optimizer, train: ReduceLROnPlateau(
        optimizer, factor=train.plateau.factor, patience=train.plateau.patience
    ),
    "cosine": lambda optimizer, train: CosineAnnealingLR(optimizer, T_max=train.epochs),
}


def make_loss(train: Train) -> nn.Module:
    """Return the loss that is minimised: cross entropy, (B, K) logits and (B,) classes."""
    return nn.CrossEntropyLoss(label_smoothing=train.label_smoothing)


def advance(scheduler: Scheduler, validation_loss: float) -> None:
    """Move the schedule on by one epoch."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(validation_loss)
    else:
        scheduler.step()
