"""The training loop: one network, one seed, the epoch that validates best."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.settings.schema import Train
from pipeline.system.errors import StageError
from pipeline.training.batches import Images, plain_batches
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.compute import Hardware
from pipeline.training.distributed.processes import ALONE, Processes
from pipeline.training.learner import Learner
from pipeline.training.prediction import Batches, predict
from pipeline.training.randomness import derive
from pipeline.training.recipe import Schedule
from pipeline.training.weight_average import WeightAverage

# small images are validated in larger batches than a step's (benchmark `evaluation`)
VALIDATED_IMAGES = 256
VALIDATED_PIXELS = VALIDATED_IMAGES * 32 * 32


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv. Accuracies in [0, 1], time in seconds.

    The training loss is the one that is minimised, without penalties; the validation loss is always
    the cross entropy in nats. The learning rate is that of the first step.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float

    @property
    def score(self) -> tuple[float, float]:
        """What is larger where it validates better: accuracy, then the loss."""
        return self.validation_accuracy, -self.validation_loss


@dataclass(frozen=True)
class Trained:
    """What a run leaves."""

    history: tuple[Epoch, ...]
    # the network's state dict after the best epoch, of averaged weights if `ema` is set
    weights: dict[str, Tensor]
    stopped_early: bool  # before its last epoch, by early stopping

    @property
    def best(self) -> Epoch:
        """The epoch that validates best, the first of equals."""
        return max(self.history, key=lambda epoch: epoch.score)


@dataclass
class _Run:
    """A training under way: all that the next epoch depends on besides settings and seed."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    average: WeightAverage | None
    history: list[Epoch] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)  # of the best epoch so far

    @property
    def validated(self) -> nn.Module:
        """The network that is validated and kept: that of averaged weights, if there is one."""
        return self.model if self.average is None else self.average.network

    def add(self, epoch: Epoch) -> None:
        """Note an epoch, and keep its weights if it is the best so far."""
        if all(epoch.score > earlier.score for earlier in self.history):
            self.weights = copy.deepcopy(self.validated.state_dict())
        self.history.append(epoch)

    def stops_early(self, patience: int | None) -> bool:
        """Tell whether more than `patience` epochs have passed since the least validation loss."""
        losses = [epoch.validation_loss for epoch in self.history]
        if patience is None or not losses:
            return False
        return len(losses) - 1 - losses.index(min(losses)) > patience

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average and self.average.network.state_dict(),
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
            "weights": self.weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.weights = state["weights"]


def train(
    model: nn.Module,
    training: Images,
    validation: Images,
    settings: Train,
    seed: int,
    hardware: Hardware,
    checkpoints: Checkpoints | None = None,
    processes: Processes = ALONE,
    body: Collection[str] = (),
    on_epoch: Callable[[list[Epoch]], None] = lambda _: None,
    on_step: Callable[[int, int], None] = lambda _epoch, _images: None,
    on_resume: Callable[[int], None] = lambda _: None,
) -> Trained:
    """Train `model` in place and return its history and best weights.

    An interrupted run that resumes from a checkpoint ends with the weights of one that was never
    interrupted: every random draw is made from the seed and the epoch.

    Args:
        model: freshly initialised, or with pretrained weights, on `hardware.device`.
        training: the split that is learnt from.
        validation: the split that drives the schedule and chooses the epoch.
        settings: the recipe.
        seed: of the order, the augmentation and the dropout.
        hardware: where, and in which precision.
        checkpoints: where to resume from, and where to keep each epoch; None keeps nothing. Of
            several processes the first reads and writes them.
        processes: those that train `model` together; each is given the same arguments.
        body: the names of parameters and buffers that hold pretrained weights, see
            `Train.freeze` and `Train.body_rate`.
        on_epoch: called after each epoch, when it is kept, with all so far.
        on_step: called after each step with the epoch and the number of images in it.
        on_resume: called with the number of epochs that a checkpoint already has.

    Raises:
        StageError: if a loss is no longer a finite number.
        InputError: if the recipe can't be followed: a loss of one's own that isn't found, or a
            schedule of too few steps.
    """
    learner = Learner(model, training, settings, hardware, processes, body)
    run = _Run(model, learner.optimizer, learner.schedule, learner.average)
    if checkpoints and (
        latest := processes.from_first(partial(checkpoints.latest, hardware.device))
    ):
        done, state = latest
        run.load_state_dict(state)
        on_resume(done)
    validated = processes.portion(validation)
    _, height, width, _ = validation.images.shape
    most = min(VALIDATED_IMAGES, VALIDATED_PIXELS // (height * width))
    validated_at_once = max(settings.batch_size, most)
    # the shares of a batch must not drop the same units
    dropout = "dropout" if processes.rank == 0 else f"dropout of process {processes.rank}"

    for number in range(len(run.history) + 1, settings.epochs + 1):
        if run.stops_early(settings.early_stopping):
            break
        began = time.perf_counter()
        torch.manual_seed(derive(seed, number, dropout))
        learning_rate = learner.optimizer.param_groups[0]["lr"]
        for images in learner.epoch(seed, number):
            on_step(number, images)
        train_loss, train_accuracy = learner.means()
        validation_loss, validation_accuracy = measure(
            run.validated, plain_batches(validated, validated_at_once), hardware, processes
        )
        learner.schedule.after_epoch(number, validation_loss)
        epoch = Epoch(
            epoch=number,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            learning_rate=learning_rate,
            seconds=time.perf_counter() - began,
        )
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            raise StageError(
                f"epoch {number}: the loss is no longer a number (training {train_loss}, "
                f"validation {validation_loss}); lower train.learning_rate in params.yaml"
            )
        run.add(epoch)
        if checkpoints and processes.rank == 0:
            checkpoints.save(number, run.state_dict())
        on_epoch(run.history)

    return Trained(tuple(run.history), run.weights, len(run.history) < settings.epochs)


def measure(
    model: nn.Module, batches: Batches, hardware: Hardware, processes: Processes = ALONE
) -> tuple[float, float]:
    """Return mean cross entropy in nats, without smoothing, and accuracy in [0, 1].

    Of several processes each has batches of its own; the means are over all of them.
    """
    loss = torch.zeros((), device=hardware.device, dtype=torch.float64)
    correct = torch.zeros((), device=hardware.device, dtype=torch.int64)
    count = 0
    for logits, labels in predict(model, batches, hardware):
        loss += nn.functional.cross_entropy(logits, labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
        count += len(labels)
    sums = processes.total(torch.stack([loss, correct.double(), torch.full_like(loss, count)]))
    summed_loss, all_correct, images = sums.tolist()
    return summed_loss / images, all_correct / images
