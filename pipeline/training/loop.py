"""The training loop: one network, one seed, the epoch that validates best."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pipeline.data.augmentation import Augmentation
from pipeline.errors import StageError
from pipeline.evaluation.prediction import Batches, predict
from pipeline.params import Train
from pipeline.training.batches import Images, plain_batches, training_batches
from pipeline.training.compute import Hardware
from pipeline.training.randomness import derive
from pipeline.training.recipe import OPTIMIZERS, SCHEDULES, advance, make_loss


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv. Losses in nats, accuracies in [0, 1], time in seconds."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float

    def better_than(self, other: Epoch | None) -> bool:
        """Tell whether it validates better: by accuracy, and by loss where that is equal."""
        if other is None:
            return True
        return (self.validation_accuracy, -self.validation_loss) > (
            other.validation_accuracy,
            -other.validation_loss,
        )


@dataclass(frozen=True)
class Trained:
    """What a run leaves: its epochs, the best of them, and the weights of that one."""

    history: tuple[Epoch, ...]
    best: Epoch
    weights: dict[str, Tensor]


def train(
    model: nn.Module,
    training: Images,
    validation: Images,
    settings: Train,
    seed: int,
    hardware: Hardware,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_step: Callable[[int, int], None] = lambda _epoch, _images: None,
) -> Trained:
    """Train `model` in place and return its history and best weights.

    Args:
        model: freshly initialised, on `hardware.device`.
        training: the split that is learnt from.
        validation: the split that drives the schedule and chooses the epoch.
        settings: the recipe.
        seed: of the order, the augmentation and the dropout.
        hardware: what `compute.prepare` chose.
        on_epoch: called after each epoch.
        on_step: called after each step with the epoch and the number of images in it.

    Raises:
        StageError: if a loss is no longer a finite number.
    """
    optimizer = OPTIMIZERS[settings.optimizer](model.parameters(), settings)
    scheduler = SCHEDULES[settings.schedule](optimizer, settings)
    loss_function = make_loss(settings)
    augmentation = Augmentation(**settings.augmentation.model_dump())
    history: list[Epoch] = []
    best: Epoch | None = None
    weights: dict[str, Tensor] = {}

    for number in range(1, settings.epochs + 1):
        began = time.perf_counter()
        torch.manual_seed(derive(seed, number, "dropout"))
        batches = training_batches(training, settings.batch_size, augmentation, seed, number)
        learning_rate = optimizer.param_groups[0]["lr"]
        train_loss, train_accuracy = _learn(
            model, batches, loss_function, optimizer, hardware, partial(on_step, number)
        )
        validation_loss, validation_accuracy = measure(
            model, plain_batches(validation, max(settings.batch_size, 256)), hardware
        )
        epoch = Epoch(
            epoch=number,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            learning_rate=learning_rate,
            seconds=time.perf_counter() - began,
        )
        _refuse_nonsense(epoch)
        history.append(epoch)
        if epoch.better_than(best):
            best = epoch
            weights = copy.deepcopy(model.state_dict())
        on_epoch(epoch)
        advance(scheduler, validation_loss)

    assert best is not None
    return Trained(tuple(history), best, weights)


def _learn(
    model: nn.Module,
    batches: Batches,
    loss_function: nn.Module,
    optimizer: torch.optim.Optimizer,
    hardware: Hardware,
    on_step: Callable[[int], None],
) -> tuple[float, float]:
    """Take one step for each batch; return the epoch's mean loss and accuracy."""
    model.train()
    total_loss = torch.zeros((), device=hardware.device, dtype=torch.float64)
    correct = torch.zeros((), device=hardware.device, dtype=torch.int64)
    count = 0
    for images, labels in batches:
        with hardware.autocast():
            logits = model(images)  # (B, K)
        logits = logits.float()
        loss = loss_function(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total_loss += loss.detach() * len(labels)
        correct += (logits.argmax(1) == labels).sum()
        count += len(labels)
        on_step(len(labels))
    return total_loss.item() / count, correct.item() / count


def measure(model: nn.Module, batches: Batches, hardware: Hardware) -> tuple[float, float]:
    """Return mean cross entropy in nats, without smoothing, and accuracy in [0, 1]."""
    loss = torch.zeros((), device=hardware.device, dtype=torch.float64)
    correct = torch.zeros((), device=hardware.device, dtype=torch.int64)
    count = 0
    for logits, labels in predict(model, batches, hardware):
        loss += nn.functional.cross_entropy(logits, labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
        count += len(labels)
    return loss.item() / count, correct.item() / count


def _refuse_nonsense(epoch: Epoch) -> None:
    if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.validation_loss)):
        raise StageError(
            f"epoch {epoch.epoch}: the loss is no longer a number (training {epoch.train_loss}, "
            f"validation {epoch.validation_loss}); lower train.learning_rate in params.yaml"
        )
