"""What the processes of `test_processes.py` do; it imports little, as each of them has to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.data.arrays import Dataset
from pipeline.data.augmentation import Augmentation
from pipeline.models import registry
from pipeline.settings import presets
from pipeline.settings.schema import Train
from pipeline.training.batches import Images, to_device, training_batches
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.compute import Hardware
from pipeline.training.distributed.batch_norm import synchronise
from pipeline.training.distributed.group import Group
from pipeline.training.distributed.member import Member
from pipeline.training.distributed.processes import Processes
from pipeline.training.loop import Trained, train

ROOT = Path(__file__).parents[2]
SETTINGS = presets.load("smoke")
DEVICE = torch.device("cpu")
CPU = Hardware(DEVICE, "fp32", 1, "a CPU")
EPOCHS = 5
EVERYTHING = Augmentation(
    crop_padding=1,
    horizontal_flip=0.5,
    rotation=15,
    brightness=0.2,
    contrast=0.2,
    cutmix=0.7,
    random_erasing=0.3,
)
NETWORKS = {
    "ca_cnn": {"dropout": 0.0},
    # a batch norm of attention's own
    "densenet": {"attention": "coordinate", "attention_at": "transitions"},
    # batch norm in a forward pass that is repeated; a squeeze of one unit, since with two the
    # rounding of fp32 grows to twice the bound within five epochs (in float64 both are equal)
    "se_densenet": {"efficient": True, "reduction": 4},
}


class KilledError(Exception):
    """Stands in for a signal: it ends a run between two steps."""


def digits() -> Dataset:
    """300 of scikit-learn's digits to train on (9 batches of 32 and one of 12), 101 to validate."""
    from sklearn.datasets import load_digits  # takes a second, and other processes are given them

    data = load_digits()
    split_names = np.repeat(["train", "validation"], [300, 101])
    return Dataset(
        name="digits",
        images=(data.images[:401, :, :, None] * 15).astype(np.uint8),
        labels=data.target[:401].astype(np.int64),
        ids=np.arange(401),
        split=split_names,
        classes=tuple("0123456789"),
        mean=np.array([0.3], np.float32),
        std=np.array([0.35], np.float32),
        counts={},
        rejected=0,
    )


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    settings = SETTINGS.architectures[name].model_dump() | NETWORKS[name]
    return registry.build(settings, 10, 8, 1).to(memory_format=torch.channels_last)


class InDouble(nn.Module):
    """A network that computes in float64: what differs then is more than rounding."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = network(name).double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.double())


def trained(
    model: nn.Module,
    data: Dataset,
    processes: Processes,
    checkpoints: Checkpoints | None = None,
    killed_after: int | None = None,
    body: Collection[str] = (),
    **changes: object,
) -> Trained:
    """Train with everything that is drawn; with `killed_after`, only so many steps."""
    given: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch_size": 32,
        "optimizer": "sgd",
        "learning_rate": 0.02,
        "clip_norm": 0.5,  # clips the longer half of the gradients
        "ema": 0.8,
        "schedule": "plateau",
        "plateau": {"factor": 0.5, "patience": 0},
        "augmentation": vars(EVERYTHING),
    }
    recipe = Train.model_validate(SETTINGS.train.model_dump() | given | changes)
    steps = 0

    def count(_epoch: int, _images: int) -> None:
        nonlocal steps
        steps += 1
        if steps == killed_after:
            raise KilledError

    parts = [to_device(data, name, DEVICE) for name in ("train", "validation")]
    arguments = (recipe, 3, CPU, checkpoints, processes, body)
    return train(model, parts[0], parts[1], *arguments, on_step=count)


def frozen_at_first(processes: Processes, data: Dataset) -> Trained:
    """Train a network of which all but the last layer is frozen for an epoch, then slow."""
    model = network("se_densenet")
    body = {name for name in model.state_dict() if not name.startswith("classifier.")}
    return trained(model, data, processes, body=body, freeze=1, body_rate=0.3)


def numbered(count: int) -> Images:
    """Images that carry their own number as their label."""
    numbers = torch.arange(count)
    pixels = torch.zeros((count, 4, 4, 1), dtype=torch.uint8)
    return Images(pixels, numbers, numbers, torch.zeros(1), torch.ones(1), num_classes=count)


class WithUnused(nn.Module):
    """A network with weights that no image reaches."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        self.unused = nn.Linear(5, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.used(images)


def normalised(size: int, group: Group | None) -> dict[str, torch.Tensor]:
    """A batch norm's output, gradients and running statistics, of `size` images in all."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(3).double()
    nn.init.normal_(norm.weight)
    batch = torch.randn(size, 3, 5, 5, dtype=torch.float64) * 3 + 100
    weights = torch.randn(size, 3, 5, 5, dtype=torch.float64)  # of the sum that is derived
    own = slice(0, size)
    if group is not None:
        synchronise(norm, group)
        own = group.share(size)
    images = batch[own].clone().requires_grad_()
    output = norm(images)
    counted = 0 if group is not None and group.is_idle else 1
    (output * weights[own] * counted).sum().backward()
    assert images.grad is not None
    return {
        "output": output.detach(),
        "gradient": images.grad,
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
        **dict(norm.named_buffers()),
    }


def save(run: Trained, path: Path) -> None:
    """Write a run's history for the test that reads it."""
    path.write_text(json.dumps([dataclasses.asdict(epoch) for epoch in run.history]))


def laboratory(member: Member, folder: Path, data: Dataset) -> None:
    """What each of two processes does and writes for the tests."""
    torch.set_num_threads(1)
    with member.group(DEVICE) as group:
        found: dict[str, Any] = {}
        for count in (50, 64, 77):
            batches = training_batches(numbered(count), 16, Augmentation(), 0, 1, group.share)
            found[f"shares of {count}"] = [
                [] if group.is_idle else labels.tolist() for _, labels in batches
            ]
        texts = ["the same", f"rank {member.rank}"]
        found["agrees"] = [group.from_first(partial(str, text)) == text for text in texts]
        found["streams"] = []
        for size in (6, 7, 2):
            torch.save(normalised(size, group), folder / f"norm-{size}-{member.rank}.pt")
        for name in NETWORKS:
            run = trained(network(name), data, group)
            save(run, folder / f"{name}-{member.rank}.json")
            torch.save(run.weights, folder / f"{name}-{member.rank}.pt")
            exact = trained(InDouble(name), data, group)
            torch.save(exact.weights, folder / f"{name}-double.pt")
        save(frozen_at_first(group, data), folder / f"frozen-{member.rank}.json")
        unused = WithUnused()
        save(trained(unused, data, group, l1=1e-3), folder / f"unused-{member.rank}.json")
        torch.save(unused.state_dict(), folder / f"unused-{member.rank}.pt")

        begun_here = Checkpoints(folder / "begun by two", "key")
        try:
            trained(network("se_densenet"), data, group, begun_here, killed_after=24)
        except KilledError:
            found["streams"] = torch.initial_seed()
        begun_alone = Checkpoints(folder / "begun by one", "key")
        run = trained(network("se_densenet"), data, group, begun_alone)
        save(run, folder / f"resumed-{member.rank}.json")
        (folder / f"found-{member.rank}.json").write_text(json.dumps(found))


def failing(member: Member, error: Exception) -> None:
    """Let one of two processes fail, in the middle of what both do together."""
    with member.group(DEVICE) as group:
        group.total(torch.ones(1))
        if member.rank == 1:
            raise error
        group.total(torch.ones(1))
        group.total(torch.ones(1))
