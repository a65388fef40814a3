"""Learning rates step by step against PyTorch's schedulers, and against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from pipeline.settings import presets
from pipeline.settings.schema import Train
from pipeline.system.errors import InputError
from pipeline.training.recipe import OPTIMIZERS, Schedule

SETTINGS = presets.load("smoke")
EPOCHS, STEPS = 5, 4
PEAK = 0.1
SCHEDULES = ("fixed", "plateau", "step", "cosine", "one_cycle")


def recipe(**changes: object) -> Train:
    """The smoke preset's recipe with some settings changed."""
    given = {"epochs": EPOCHS, "learning_rate": PEAK, "optimizer": "sgd"}
    return Train.model_validate(SETTINGS.train.model_dump() | given | changes)


def optimizer_of(train: Train) -> torch.optim.Optimizer:
    return OPTIMIZERS[train.optimizer](nn.Linear(1, 1).parameters(), train)


def learning_rates(train: Train, losses: list[float] | None = None) -> list[float]:
    """The learning rate of every step of a run whose epochs validate with `losses`."""
    optimizer = optimizer_of(train)
    schedule = Schedule(optimizer, train, STEPS)
    used = []
    for epoch in range(1, train.epochs + 1):
        for _ in range(STEPS):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(epoch, losses[epoch - 1] if losses else 1.0)
    return used


def pytorchs(scheduler: type, steps: int, **arguments: object) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=PEAK)
    reference = scheduler(optimizer, **arguments)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    return used


def test_fixed_stays() -> None:
    assert learning_rates(recipe(schedule="fixed")) == [PEAK] * EPOCHS * STEPS


def test_cosine_is_pytorchs_over_all_steps() -> None:
    expected = pytorchs(CosineAnnealingLR, EPOCHS * STEPS, T_max=EPOCHS * STEPS)
    assert learning_rates(recipe(schedule="cosine")) == expected
    middle = expected[EPOCHS * STEPS // 2]
    assert middle == pytest.approx(PEAK / 2)


def test_steps_are_pytorchs_over_epochs() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=PEAK)
    reference = StepLR(optimizer, step_size=2, gamma=0.3)
    expected = []
    for _ in range(EPOCHS):
        expected += [optimizer.param_groups[0]["lr"]] * STEPS
        optimizer.step()
        reference.step()
    assert learning_rates(recipe(schedule="step", step={"every": 2, "factor": 0.3})) == expected
    assert expected[-1] == pytest.approx(PEAK * 0.3**2)


def test_one_cycle_is_pytorchs_over_all_steps() -> None:
    shape = {"pct_start": 0.4, "div_factor": 10.0, "final_div_factor": 100.0}
    expected = pytorchs(
        OneCycleLR,
        EPOCHS * STEPS,
        max_lr=PEAK,
        total_steps=EPOCHS * STEPS,
        cycle_momentum=False,
        **shape,
    )
    used = learning_rates(recipe(schedule="one_cycle", one_cycle=shape))
    assert used == expected
    assert used[0] == pytest.approx(PEAK / 10)
    assert used[-1] == pytest.approx(PEAK / 10 / 100)
    assert max(used) == pytest.approx(PEAK, rel=0.01)


def test_plateau_is_pytorchs_over_epochs() -> None:
    losses = [1.0, 0.9, 0.95, 0.8, 0.85]
    train = recipe(schedule="plateau", plateau={"factor": 0.5, "patience": 0})
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=PEAK)
    reference = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    expected = []
    for loss in losses:
        expected += [optimizer.param_groups[0]["lr"]] * STEPS
        reference.step(loss)
    assert learning_rates(train, losses) == expected
    assert len(set(expected)) == 2


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warmup_rises_linearly_to_where_any_schedule_begins(schedule: str) -> None:
    train = recipe(schedule=schedule, warmup_epochs=2, step={"every": 2, "factor": 0.1})
    used = learning_rates(train)
    rising, rest = used[: 2 * STEPS], used[2 * STEPS :]
    begins = PEAK / train.one_cycle.div_factor if schedule == "one_cycle" else PEAK
    rise = pytorchs(LinearLR, 2 * STEPS, start_factor=0.01, total_iters=2 * STEPS)
    assert rising == pytest.approx([rate * begins / PEAK for rate in rise], rel=1e-12)
    assert rising[0] == pytest.approx(0.01 * begins)
    growth = [after - before for before, after in zip(rising, [*rising[1:], rest[0]], strict=True)]
    assert growth == pytest.approx([0.99 * begins / (2 * STEPS)] * len(growth))
    alone = recipe(schedule=schedule, epochs=EPOCHS - 2, step={"every": 2, "factor": 0.1})
    after = learning_rates(alone)
    assert rest == pytest.approx(after, rel=1e-9)


def test_plateau_does_not_count_the_epochs_of_the_warmup() -> None:
    train = recipe(schedule="plateau", warmup_epochs=3, plateau={"factor": 0.5, "patience": 0})
    used = learning_rates(train, losses=[1.0, 2.0, 3.0, 2.5, 2.4])
    assert used[3 * STEPS :] == pytest.approx([PEAK] * 2 * STEPS)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_schedule_resumes_from_its_state(schedule: str, warmup_epochs: int) -> None:
    train = recipe(
        schedule=schedule,
        warmup_epochs=warmup_epochs,
        plateau={"factor": 0.5, "patience": 0},
        step={"every": 2, "factor": 0.1},
    )
    losses = [1.0, 1.1, 1.2, 1.3, 1.4]
    undisturbed = learning_rates(train, losses)
    for interrupted_after in range(1, EPOCHS):
        optimizer, used = optimizer_of(train), []
        schedule_state = optimizer_state = None
        for epoch in range(1, EPOCHS + 1):
            if epoch == 1 or epoch == interrupted_after + 1:
                optimizer = optimizer_of(train)
                current = Schedule(optimizer, train, STEPS)
                if schedule_state is not None and optimizer_state is not None:
                    optimizer.load_state_dict(optimizer_state)
                    current.load_state_dict(schedule_state)
            for _ in range(STEPS):
                used.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                current.after_step()
            current.after_epoch(epoch, losses[epoch - 1])
            schedule_state, optimizer_state = current.state_dict(), optimizer.state_dict()
        assert used == undisturbed


def test_cycle_of_too_few_steps_is_refused_by_name() -> None:
    train = recipe(schedule="one_cycle", epochs=1)
    with pytest.raises(InputError, match=r"train\.one_cycle\.pct_start: 0\.3 of 2 steps"):
        Schedule(optimizer_of(train), train, 2)


def test_cosine_ends_near_zero() -> None:
    used = learning_rates(recipe(schedule="cosine"))
    last = EPOCHS * STEPS - 1
    assert used[-1] == pytest.approx(PEAK * (1 + math.cos(math.pi * last / (last + 1))) / 2)
