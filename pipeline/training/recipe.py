"""Optimiser, learning-rate schedule and penalty, as params.yaml names them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from pipeline.settings.schema import OneCycle, Train
from pipeline.system.errors import InputError

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]  # or groups of them
# fused: one pass over each tensor, on a CPU as on a GPU, where the plain loop makes ten (benchmarks
# `ca_cnn_bf16` and `ca_cnn_fp32`)
OPTIMIZERS: dict[str, Callable[[Parameters, Train], optim.Optimizer]] = {
    "adam": lambda parameters, train: optim.Adam(
        parameters, lr=train.learning_rate, weight_decay=train.weight_decay, fused=True
    ),
    "adamw": lambda parameters, train: optim.AdamW(
        parameters, lr=train.learning_rate, weight_decay=train.weight_decay, fused=True
    ),
    "sgd": lambda parameters, train: optim.SGD(
        parameters,
        lr=train.learning_rate,
        momentum=train.momentum,
        weight_decay=train.weight_decay,
        nesterov=train.nesterov and train.momentum > 0,
        fused=True,
    ),
}


class Schedule:
    """The learning rate: a linear warm-up, then what `train.schedule` names.

    Raises:
        InputError: if one cycle has too few steps to rise in.
    """

    def __init__(self, optimizer: optim.Optimizer, train: Train, steps_per_epoch: int) -> None:
        self._warmup_epochs = train.warmup_epochs
        warmup_steps = train.warmup_epochs * steps_per_epoch
        steps = (train.epochs - train.warmup_epochs) * steps_per_epoch
        self._by_step: LRScheduler
        match train.schedule:
            case "cosine":
                self._by_step = CosineAnnealingLR(optimizer, T_max=steps)
            case "step":
                every = train.step.every * steps_per_epoch
                self._by_step = StepLR(optimizer, every, train.step.factor)
            case "one_cycle":
                self._by_step = _one_cycle(optimizer, train.one_cycle, steps)
            case "fixed" | "plateau":  # the plateau looks at epochs, below
                self._by_step = ConstantLR(optimizer, factor=1.0)
        if warmup_steps:  # from a hundredth of the rate that the schedule begins with
            rise = LinearLR(optimizer, 0.01, total_iters=warmup_steps)
            self._by_step = SequentialLR(optimizer, [rise, self._by_step], [warmup_steps])
        self._plateau: ReduceLROnPlateau | None = None
        if train.schedule == "plateau":
            self._plateau = ReduceLROnPlateau(optimizer, **train.plateau.model_dump())

    def after_step(self) -> None:
        """Move on by one step of the optimiser."""
        self._by_step.step()

    def after_epoch(self, epoch: int, validation_loss: float) -> None:
        """Move on by one epoch, counted from 1."""
        if self._plateau is not None and epoch > self._warmup_epochs:
            self._plateau.step(validation_loss)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold; the learning rate itself is the optimiser's."""
        plateau = self._plateau.state_dict() if self._plateau else None
        return {"by_step": self._by_step.state_dict(), "plateau": plateau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._by_step.load_state_dict(state["by_step"])
        if self._plateau is not None:
            self._plateau.load_state_dict(state["plateau"])


def parameter_groups(model: nn.Module, train: Train, body: Collection[str]) -> Parameters:
    """Return the parameters for an optimiser: those of the `body`, by name, at a rate of their own.

    The first group is at `train.learning_rate`.
    """
    if not body:
        return model.parameters()
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        groups[name in body].append(parameter)
    rates = {False: train.learning_rate, True: train.learning_rate * train.body_rate}
    return [{"params": groups[in_body], "lr": rates[in_body]} for in_body in groups]


def _one_cycle(optimizer: optim.Optimizer, cycle: OneCycle, steps: int) -> OneCycleLR:
    if cycle.pct_start * steps <= 1:
        raise InputError(
            f"params.yaml: train.one_cycle.pct_start: {cycle.pct_start:g} of {steps} steps leaves "
            "none in which the learning rate rises; raise it, or train.epochs"
        )
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, steps, cycle_momentum=False, **cycle.model_dump())


def l1_penalty(model: nn.Module) -> Tensor:
    """Return the sum of the absolute weights of convolutions and linear layers, a scalar.

    Biases and the scales of normalisation layers are left out: to pull these towards zero switches
    channels off instead of keeping weights few.
    """
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    return sum((weight.abs().sum() for weight in weights[1:]), weights[0].abs().sum())
