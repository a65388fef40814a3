"""Training throughput of this pipeline against the usual loop, on the same CPU cores.

Both train the same network under the ``cifar10`` preset's recipe on random images of CIFAR-10's
shape: the speed doesn't depend on what is in them. They take turns, so that a machine that slows
down slows both; the ratio of each turn is what counts.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import usual_loop
from pipeline import models
from pipeline.machine import cores, cpu_name
from pipeline.models.layers import Classifier
from pipeline.params import Compute, Settings, load
from pipeline.training import compute
from pipeline.training.batches import Images
from pipeline.training.loop import train

PRESET = Path(__file__).parent.parent / "presets" / "cifar10.yaml"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--images", type=int, default=6400, help="of one epoch")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["ca_cnn"])
    arguments = parser.parse_args()

    settings = load(PRESET)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (arguments.images, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, arguments.images)
    threads = cores()
    table = Table("network", "precision", title=f"Training on {cpu_name()}, {threads} threads")
    for heading in ("this pipeline", "the usual loop", "ratio (lowest to highest)"):
        table.add_column(heading, justify="right")
    for model in arguments.models:
        for precision in ("auto", "fp32"):
            ours, usual = [], []
            for _ in range(arguments.turns):
                hardware_used, speed = _ours(settings, model, precision, threads, images, labels)
                ours.append(speed)
                network = _network(settings, model)
                usual.append(
                    usual_loop.images_per_second(network, images, labels, settings.train, threads)
                )
            ratios = [one / other for one, other in zip(ours, usual, strict=True)]
            table.add_row(
                model,
                hardware_used,
                f"{median(ours):,.0f} images/s",
                f"{median(usual):,.0f} images/s",
                f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            )
    Console(soft_wrap=True).print(table)


def _network(settings: Settings, model: str) -> Classifier:
    torch.manual_seed(0)
    return models.build(settings.architectures[model].model_dump(), 10, 32, 3)


def _ours(
    settings: Settings,
    model: str,
    precision: str,
    threads: int,
    images: np.ndarray,
    labels: np.ndarray,
) -> tuple[str, float]:
    """Train for two short epochs and return the precision and the second one's speed."""
    wanted = Compute.model_validate({"device": "cpu", "precision": precision, "threads": threads})
    recipe = settings.train.model_copy(update={"epochs": 2})
    training = Images(
        images=torch.from_numpy(images),
        rows=torch.arange(len(images)),
        labels=torch.from_numpy(labels),
        mean=torch.tensor(usual_loop.MEAN),
        std=torch.tensor(usual_loop.STD),
        num_classes=10,
    )
    validation = replace(training, rows=training.rows[:64], labels=training.labels[:64])
    with compute.prepare(wanted) as hardware:
        network = _network(settings, model).to(memory_format=torch.channels_last)
        history = train(network, training, validation, recipe, 0, hardware).history
        return hardware.precision, len(training) / history[-1].seconds


if __name__ == "__main__":
    main()
