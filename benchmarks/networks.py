"""Trainings to measure: random images of CIFAR-10's shape, the recipe of the preset `cifar10`.

How fast they are doesn't depend on what is in the images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import usual_loop
from pipeline.models import registry
from pipeline.models.layers import Classifier
from pipeline.settings import presets
from pipeline.settings.schema import Settings
from pipeline.training import learner, loop
from pipeline.training.batches import Images, plain_batches, training_batches
from pipeline.training.compute import Hardware
from pipeline.training.prediction import predict

CLASSES = 10
VALIDATED = 64


def cifar10_settings() -> Settings:
    """Return the settings of the preset."""
    return presets.load("cifar10")


@dataclass(frozen=True)
class Training:
    """An architecture that is trained on random images.

    Attributes:
        settings: of the preset.
        architecture: a key of `settings.architectures`, or an entry of one's own.
        images: uint8 (N, 32, 32, 3).
        labels: int64 (N,).
        hardware: what `compute.prepare` chose.
    """

    settings: Settings
    architecture: dict[str, object]
    images: np.ndarray
    labels: np.ndarray
    hardware: Hardware

    @classmethod
    def of(
        cls, model: str, count: int, hardware: Hardware, changed: dict[str, object] | None = None
    ) -> Training:
        """Return a training of one of the preset's architectures on `count` images."""
        settings = cifar10_settings()
        random = np.random.default_rng(0)
        return cls(
            settings,
            settings.architectures[model].model_dump() | (changed or {}),
            random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
            random.integers(0, CLASSES, count),
            hardware,
        )

    def on(self, count: int) -> Training:
        """Return the same on the first `count` images."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def network(self) -> Classifier:
        """Return the network, freshly initialised, on the device."""
        torch.manual_seed(0)
        network = registry.build(self.architecture, CLASSES, 32, 3).to(self.hardware.device)
        return network.to(memory_format=torch.channels_last)

    def split(self) -> Images:
        """Return the images as the pipeline has them."""
        device = self.hardware.device
        return Images(
            images=torch.from_numpy(self.images).to(device),
            rows=torch.arange(len(self.images)).to(device),
            labels=torch.from_numpy(self.labels).to(device),
            mean=torch.tensor(usual_loop.MEAN).to(device),
            std=torch.tensor(usual_loop.STD).to(device),
            num_classes=CLASSES,
        )

    def epoch_seconds(self) -> float:
        """Train for two epochs, as the train stage does, and return the second one's time."""
        training = self.split()
        validation = replace(
            training, rows=training.rows[:VALIDATED], labels=training.labels[:VALIDATED]
        )
        recipe = self.settings.train.model_copy(update={"epochs": 2})
        trained = loop.train(self.network(), training, validation, recipe, 0, self.hardware)
        return trained.history[-1].seconds

    def epoch_seconds_on_one_batch(self) -> float:
        """Return the same where every step gets one batch that was prepared before."""
        prepared: list[tuple[Tensor, Tensor]] = []

        def repeated(data: Images, batch_size: int, *others: object) -> Iterator[object]:
            if not prepared:
                prepared.append(next(training_batches(data, batch_size, *others)))  # type: ignore[arg-type]
            yield from prepared * (len(data) // batch_size)

        with patch.object(learner, "training_batches", repeated):
            return self.epoch_seconds()

    def images_per_second(self) -> float:
        """Return how fast the pipeline trains."""
        return len(self.images) / self.epoch_seconds()

    def usual_images_per_second(self, workers: int) -> float:
        """Return how fast the usual loop trains the same network."""
        torch.manual_seed(0)
        network = registry.build(self.architecture, CLASSES, 32, 3).to(self.hardware.device)
        return usual_loop.images_per_second(
            network, self.images, self.labels, self.settings.train, workers, self.hardware.device
        )

    def step(self) -> None:
        """Train for one short epoch: what is profiled."""
        self.on(4 * self.settings.train.batch_size).epoch_seconds()

    def predict_all(self, network: nn.Module) -> None:
        """Classify the images as the evaluate stage does."""
        batches = plain_batches(self.split(), self.settings.evaluate.batch_size)
        for _ in predict(network, batches, self.hardware):
            pass
