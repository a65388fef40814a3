"""What has to hold on a GPU; skipped without one. `bash benchmarks/on_gpu.sh` runs these."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.data.arrays import Dataset
from pipeline.data.augmentation import Augmentation
from pipeline.models import registry
from pipeline.settings.schema import Compute
from pipeline.training import batches, compute, step
from pipeline.training.batches import plain_batches, to_device, training_batches
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.compute import Hardware
from pipeline.training.distributed.processes import ALONE
from pipeline.training.loop import train
from pipeline.training.losses import make_loss
from pipeline.training.prediction import predict
from pipeline.training.recipe import OPTIMIZERS
from tests.unit.test_training import CPU, SETTINGS, dataset, equal, network, recipe

__all__ = ["dataset"]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here"),
]

CUDA = Compute(device="cuda", precision="auto", threads=1)
EVERYTHING = Augmentation(
    crop_padding=1,
    horizontal_flip=0.5,
    rotation=15,
    brightness=0.2,
    contrast=0.2,
    cutmix=0.5,
    random_erasing=0.3,
)


ARCHITECTURES: dict[str, dict[str, object]] = {
    "ca_cnn": {},
    "se_densenet": {"drop_rate": 0.2},
    "se_densenet, efficient": {"efficient": True},
    "ca_cnn, cbam": {"attention": "cbam", "pooling": "average"},
    "ca_cnn, spatial": {"attention": "spatial", "pooling": "strided_conv", "activation": "mish"},
    "ca_cnn, eca": {"attention": "eca", "attention_at": [2]},
    "ca_cnn, coordinate": {"attention": "coordinate"},
    "se_densenet, simam": {"attention": "simam", "attention_at": "transitions"},
    "se_densenet, blocks": {"attention_at": "blocks"},
    "ca_cnn, self-attention": {"attention": "self_attention"},
    "ca_cnn, group norm": {"normalisation": "group", "pooling": "dilated_conv"},
    "ca_cnn, instance norm": {"normalisation": "instance", "head": "global_average"},
}
RECIPES: dict[str, dict[str, object]] = {
    "adam": {},
    "adamw, one cycle": {"optimizer": "adamw", "weight_decay": 0.05, "schedule": "one_cycle"},
    "sgd, cosine": {"optimizer": "sgd", "schedule": "cosine", "learning_rate": 0.05},
    "mse, l1": {"loss": "mse", "l1": 1e-5},
    "plain labels": {"augmentation": vars(EVERYTHING) | {"cutmix": 0.0}, "label_smoothing": 0.1},
    "mixup, erasing": {
        "augmentation": vars(EVERYTHING) | {"cutmix": 0.0, "mixup": 0.4, "random_erasing": 0.5}
    },
    "averaged weights": {"ema": 0.9},
    "clipped": {"clip_norm": 0.1},
    "steps": {"schedule": "step", "step": {"every": 1, "factor": 0.1}},
    "plateau": {"schedule": "plateau", "plateau": {"factor": 0.1, "patience": 0}},
}


def built(name: str, hardware: Hardware) -> nn.Module:
    base = SETTINGS.architectures[name.split(",")[0]].model_dump()
    torch.manual_seed(0)
    model = registry.build(base | ARCHITECTURES[name], 3, 8, 1)
    return model.to(hardware.device).to(memory_format=torch.channels_last)


def trained_on(
    hardware: Hardware,
    dataset: Dataset,
    name: str,
    checkpoints: Checkpoints | None = None,
    **changes: object,
) -> dict[str, torch.Tensor]:
    """The weights after some epochs of everything that is drawn."""
    parts = [to_device(dataset, split, hardware.device) for split in ("train", "validation")]
    changes = {"epochs": 3, "batch_size": 16, "augmentation": vars(EVERYTHING)} | changes
    model, settings = built(name, hardware), recipe(**changes)
    weights = train(model, *parts, settings, 0, hardware, checkpoints).weights
    return {key: tensor.cpu() for key, tensor in weights.items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_two_trainings_on_a_gpu_give_the_same_bits(dataset: Dataset, name: str) -> None:
    with compute.prepare(CUDA) as hardware:
        first = trained_on(hardware, dataset, name)
        assert equal(first, trained_on(hardware, dataset, name))


@pytest.mark.parametrize(
    ("name", "recipe_name"),
    [*product(ARCHITECTURES, ["adam"]), *product(["ca_cnn"], list(RECIPES)[1:])],
)
def test_replayed_steps_are_those_that_are_taken_one_by_one(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, name: str, recipe_name: str
) -> None:
    replays: list[int] = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(1), replay(graph))[1]
    )
    with compute.prepare(CUDA) as hardware:
        replayed = trained_on(hardware, dataset, name, **RECIPES[recipe_name])
        # 60 images: of each epoch three full batches of four
        expected = 0 if ARCHITECTURES[name].get("efficient") else 3 * 3 - 1
        assert len(replays) == expected
        monkeypatch.setattr(step, "is_capturable", lambda _: False)
        assert equal(replayed, trained_on(hardware, dataset, name, **RECIPES[recipe_name]))
        assert len(replays) == expected


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("l1", [0.0, 1e-5])
def test_rounding_all_weights_at_once_changes_no_bit(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, name: str, l1: float
) -> None:
    with compute.prepare(CUDA, precision="bf16") as hardware:
        at_once = trained_on(hardware, dataset, name, l1=l1)
        monkeypatch.setattr(step.RoundedWeights, "used", lambda _: nullcontext())
        assert equal(at_once, trained_on(hardware, dataset, name, l1=l1))


def test_a_training_that_is_resumed_on_a_gpu_ends_with_the_same_bits(
    dataset: Dataset, tmp_path: Path
) -> None:
    class Interrupted(Checkpoints):
        def save(self, epoch: int, state: dict[str, Any]) -> None:
            super().save(epoch, state)
            if epoch == 2:
                raise KeyboardInterrupt

    with compute.prepare(CUDA) as hardware:
        expected = trained_on(hardware, dataset, "ca_cnn")
        with pytest.raises(KeyboardInterrupt):
            trained_on(hardware, dataset, "ca_cnn", Interrupted(tmp_path / "kept", "key"))
        resumed = trained_on(hardware, dataset, "ca_cnn", Checkpoints(tmp_path / "kept", "key"))
        assert equal(expected, resumed)


def test_batches_that_are_prepared_together_are_those_prepared_one_by_one(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = to_device(dataset, "train", torch.device("cuda"))
    together = list(training_batches(images, 16, EVERYTHING, 0, 1))
    monkeypatch.setattr(batches, "PIXELS_AT_ONCE", 1)
    alone = list(training_batches(images, 16, EVERYTHING, 0, 1))
    for (ours, targets), (theirs, expected) in zip(together, alone, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(targets, expected)


def test_gpu_and_cpu_give_the_same_logits_in_fp32(dataset: Dataset) -> None:
    with compute.prepare(CUDA, precision="fp32") as hardware:
        logits = []
        for used in (CPU, hardware):
            images = to_device(dataset, "test", used.device)
            model = network().to(used.device)
            found = [part.cpu() for part, _ in predict(model, plain_batches(images, 8), used)]
            logits.append(torch.cat(found))
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-3, atol=1e-4)


def test_batches_are_the_same_on_gpu_and_cpu(dataset: Dataset) -> None:
    batches_by_device = []
    for device in ("cpu", "cuda"):
        images = to_device(dataset, "train", torch.device(device))
        batches_by_device.append(list(training_batches(images, 16, EVERYTHING, 0, 1)))
    for (ours, targets), (theirs, expected) in zip(*batches_by_device, strict=True):
        torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(expected.cpu(), targets)


def test_host_never_waits_for_the_gpu_within_an_epoch(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PIXELS_AT_ONCE", 1)  # so that batches are made meanwhile
    with compute.prepare(CUDA) as hardware:
        images = to_device(dataset, "train", hardware.device)
        model, settings = built("ca_cnn", hardware), recipe(batch_size=16)
        optimizer = OPTIMIZERS["adam"](model.parameters(), settings)
        one = step.Step(model, model, optimizer, make_loss(settings), 0.0, 1.0, hardware, ALONE)
        take = step.make_step_function(one, settings)
        made = training_batches(images, 16, EVERYTHING, 0, 1)
        for _ in range(2):
            take(*next(made))  # what is drawn goes to the device, and the step is recorded
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in made:
                take(*batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
