"""What has to hold on a GPU; skipped without one. `bash benchmarks/on_gpu.sh` runs these."""

from __future__ import annotations

import pytest
import torch

from pipeline.data.arrays import Dataset
from pipeline.data.augmentation import Augmentation
from pipeline.evaluation.prediction import predict
from pipeline.params import Compute
from pipeline.training import compute
from pipeline.training.batches import plain_batches, to_device, training_batches
from pipeline.training.compute import Hardware
from pipeline.training.loop import train
from tests.unit.test_training import CPU, dataset, equal, network, recipe

__all__ = ["dataset"]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here"),
]

CUDA = Compute(device="cuda", precision="auto", threads=1)
EVERYTHING = Augmentation(
    crop_padding=1, horizontal_flip=0.5, rotation=15, brightness=0.2, contrast=0.2, cutmix=0.5
)


def trained_on(hardware: Hardware, dataset: Dataset, name: str) -> dict[str, torch.Tensor]:
    """The weights after two epochs of everything that is drawn."""
    parts = [to_device(dataset, split, hardware.device) for split in ("train", "validation")]
    model = network(name).to(hardware.device).to(memory_format=torch.channels_last)
    settings = recipe(epochs=2, augmentation=vars(EVERYTHING))
    weights = train(model, parts[0], parts[1], settings, 0, hardware).weights
    return {key: tensor.cpu() for key, tensor in weights.items()}


@pytest.mark.parametrize("name", ["ca_cnn", "se_densenet"])
def test_two_trainings_on_a_gpu_give_the_same_bits(dataset: Dataset, name: str) -> None:
    with compute.prepare(CUDA) as hardware:
        first = trained_on(hardware, dataset, name)
        assert equal(first, trained_on(hardware, dataset, name))


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
    of_each = []
    for device in ("cpu", "cuda"):
        images = to_device(dataset, "train", torch.device(device))
        of_each.append(list(training_batches(images, 16, EVERYTHING, 0, 1)))
    for (ours, targets), (theirs, expected) in zip(*of_each, strict=True):
        torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(expected.cpu(), targets)


def test_host_never_waits_for_the_gpu_within_an_epoch(dataset: Dataset) -> None:
    with compute.prepare(CUDA) as hardware:
        images = to_device(dataset, "train", hardware.device)
        model = network().to(hardware.device)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        batches = training_batches(images, 16, Augmentation(horizontal_flip=0.5), 0, 1)
        first, targets = next(batches)  # what is drawn for the epoch goes to the device here
        torch.cuda.set_sync_debug_mode("error")
        try:
            for first, targets in batches:
                with hardware.autocast():
                    loss = torch.nn.functional.cross_entropy(model(first), targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
