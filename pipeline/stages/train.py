"""Train one architecture with one seed."""

from __future__ import annotations

import csv
import dataclasses
import json
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline.data import arrays
from pipeline.files import whole
from pipeline.params import Settings
from pipeline.progress import Steps, say
from pipeline.stages.network import fresh
from pipeline.stages.splits import wanted
from pipeline.training import compute
from pipeline.training.batches import to_device
from pipeline.training.checkpoints import Checkpoints, key_of
from pipeline.training.compute import Hardware
from pipeline.training.loop import Epoch, Trained, train
from pipeline.training.losses import source_of
from pipeline.training.randomness import derive
from pipeline.training.weights import save_weights

# The source files that decide what a training gives: a checkpoint made by others is not used.
PACKAGE = Path(__file__).parents[1]
CODE = [
    PACKAGE / "data",
    PACKAGE / "evaluation" / "prediction.py",
    PACKAGE / "image_sizes.py",
    PACKAGE / "models",
    PACKAGE / "stages" / "network.py",
    PACKAGE / "stages" / "train.py",
    PACKAGE / "training",
]


def run(
    settings: Settings, model: str, seed: int, splits: Path, out: Path, checkpoints: Path
) -> None:
    """Train and write ``model.safetensors``, ``history.csv`` and ``train.json``.

    After an interruption it goes on from the last epoch that was finished.

    Args:
        settings: all of params.yaml; `architectures`, `train` and `compute` are used.
        model: a key of `settings.architectures`.
        seed: of the initial weights, the order, the augmentation and the dropout.
        splits: the folder that the split stage wrote.
        out: the folder to write.
        checkpoints: the folder for the checkpoints of all runs; this run's are removed at its end.

    Raises:
        InputError: if the network doesn't fit the images, or the splits can't be read.
        StageError: if the loss becomes NaN.
    """
    dataset = arrays.read(splits, wanted(settings)).for_run(seed)
    with compute.prepare(settings.compute) as hardware:
        torch.manual_seed(derive(seed, 0, "initial weights"))
        network = fresh(settings, model, dataset, hardware)
        training = to_device(dataset, "train", hardware.device)
        validation = to_device(dataset, "validation", hardware.device)
        say(
            f"{model}, seed {seed}: {len(training):,} training and "
            f"{len(validation):,} validation images, {hardware.precision} on {hardware.name}, "
            f"{hardware.threads} thread(s)"
        )
        kept = _checkpoints(checkpoints, settings, model, seed, dataset.fingerprint, hardware)
        with _shown(settings.train.epochs, len(training)) as shown:
            trained = train(
                network,
                training,
                validation,
                settings.train,
                seed,
                hardware,
                kept,
                on_epoch=shown.epoch,
                on_step=shown.step,
                on_resume=shown.resumed,
            )
    early = ", stopped early" if trained.stopped_early else ""
    say(
        f"best epoch {trained.best.epoch} of {len(trained.history)}{early}: "
        f"validation accuracy {trained.best.validation_accuracy:.2%}"
    )
    with whole(out, "train.json") as folder:
        _write_history(folder / "history.csv", trained)
        record = {
            "model": model,
            "seed": seed,
            "epochs": len(trained.history),
            "stopped_early": trained.stopped_early,
            "best_epoch": trained.best.epoch,
            "validation_accuracy": trained.best.validation_accuracy,
            "validation_loss": trained.best.validation_loss,
            "precision": hardware.precision,
            "device": hardware.device.type,
            "device_name": hardware.name,
            "threads": hardware.threads,
            "versions": versions(),
        }
        (folder / "train.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        save_weights(trained.weights, folder / "model.safetensors", dataset.fingerprint)
    kept.remove()


def _checkpoints(
    folder: Path, settings: Settings, model: str, seed: int, splits: str, hardware: Hardware
) -> Checkpoints:
    """Return the checkpoints of this run, known by all that decides its result."""
    decisive = {
        "architecture": settings.architectures[model].model_dump(exclude={"baseline"}),
        "train": settings.train.model_dump(),
        "seed": seed,
        "splits": splits,
        "device": (hardware.device.type, hardware.name),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": hardware.precision,
        "threads": hardware.threads,
        "versions": versions(),
    }
    key = key_of(decisive, [*CODE, *source_of(settings.train)])
    return Checkpoints(folder / f"{model}-{seed}-{key[:16]}", key)


def versions() -> dict[str, str]:
    """Return the versions that a training's result may depend on."""
    libraries = ("torchvision", "timm") if "timm" in sys.modules else ("torchvision",)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in libraries},
    }


def _write_history(path: Path, trained: Trained) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = [field.name for field in dataclasses.fields(Epoch)]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for epoch in trained.history:
            row: dict[str, Any] = dataclasses.asdict(epoch)
            row["seconds"] = round(epoch.seconds, 3)
            writer.writerow(row)


class _Shown:
    """Shows a training as it goes: a bar within an epoch, a line after it."""

    def __init__(self, steps: Steps, epochs: int, images: int) -> None:
        self._steps = steps
        self._epochs = epochs
        self._images = images

    def resumed(self, epochs: int) -> None:
        self._steps.skip(epochs * self._images)
        self._steps.line(f"goes on after epoch {epochs}/{self._epochs}, from its checkpoint")

    def step(self, epoch: int, images: int) -> None:
        self._steps.advance(f"epoch {epoch}/{self._epochs}", images)

    def epoch(self, epoch: Epoch) -> None:
        self._steps.line(
            f"epoch {epoch.epoch}/{self._epochs}: "
            f"loss {epoch.train_loss:.4f} / {epoch.validation_loss:.4f} (training / validation), "
            f"accuracy {epoch.train_accuracy:.2%} / {epoch.validation_accuracy:.2%}, "
            f"learning rate {epoch.learning_rate:.2g}, "
            f"{self._images / epoch.seconds:,.0f} images/s"
        )


@contextmanager
def _shown(epochs: int, images: int) -> Iterator[_Shown]:
    with Steps.over(epochs * images, "images") as steps:
        yield _Shown(steps, epochs, images)
