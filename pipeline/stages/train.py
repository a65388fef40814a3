"""Train one architecture with one seed."""

from __future__ import annotations

import csv
import dataclasses
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.data import arrays
from pipeline.data.arrays import Dataset
from pipeline.settings.schema import Settings
from pipeline.storage import records
from pipeline.storage.atomic import atomic_folder
from pipeline.system.errors import InputError
from pipeline.system.progress import Steps, say
from pipeline.training import compute
from pipeline.training.batches import to_device
from pipeline.training.checkpoints import Checkpoints, key_of
from pipeline.training.compute import Hardware
from pipeline.training.distributed.processes import ALONE, Processes
from pipeline.training.loop import Epoch, Trained, train
from pipeline.training.losses import source_of
from pipeline.training.networks import fresh
from pipeline.training.randomness import derive
from pipeline.training.weights import save_weights

if TYPE_CHECKING:
    from pipeline.training.distributed.member import Member

# The source files that decide what a training gives: a checkpoint made by others is not used.
PACKAGE = Path(__file__).parents[1]
CODE = [
    PACKAGE / "data",
    PACKAGE / "models",
    PACKAGE / "settings" / "image_sizes.py",
    PACKAGE / "stages" / "train.py",
    PACKAGE / "training",
]


def run(
    settings: Settings, model: str, seed: int, splits: Path, out: Path, checkpoints: Path
) -> None:
    """Train and write ``model.safetensors``, ``history.csv`` and ``train.json``.

    After an interruption it goes on from the last epoch that was finished. It takes
    `train.processes` processes: this one alone, those that torchrun started, or new ones.

    Args:
        settings: all of params.yaml; `architectures`, `train` and `compute` are used.
        model: a key of `settings.architectures`.
        seed: of the initial weights, the order, the augmentation and the dropout.
        splits: the folder that the split stage wrote.
        out: the folder to write.
        checkpoints: the folder for the checkpoints of all runs; this run's are marked at its end.

    Raises:
        InputError: if the network doesn't fit the images, the splits can't be read, or there are
            other processes or fewer GPUs than `train.processes`.
        StageError: if the loss becomes NaN, or one of several processes is killed.
    """
    job = _Job(settings, model, seed, splits, out, checkpoints)
    if settings.train.processes == 1 and os.environ.get("WORLD_SIZE", "1") == "1":
        dataset = job.dataset()
        with compute.prepare(settings.compute) as hardware:
            job.do(dataset, hardware, ALONE)
        return
    from pipeline.training.distributed import launch

    launch.across(settings.train.processes, _do_together, job)


def _do_together(member: Member, job: _Job) -> None:
    """Do one process's part."""
    dataset = job.dataset()
    with (
        compute.prepare(job.settings.compute, gpu=member.gpu) as hardware,
        member.group(hardware.device) as processes,
    ):
        if not processes.agrees(job.key(dataset)):
            raise InputError(
                f"process {member.rank} of {member.count} has other settings, splits, code or "
                "versions than the first: give every machine the same"
            )
        job.do(dataset, hardware, processes)


@dataclass(frozen=True)
class _Job:
    """The arguments of `run`."""

    settings: Settings
    model: str
    seed: int
    splits: Path
    out: Path
    checkpoints: Path

    def dataset(self) -> Dataset:
        """Read the splits of this run's seed."""
        return arrays.read(self.splits, self.settings).for_run(self.seed)

    def do(self, dataset: Dataset, hardware: Hardware, processes: Processes) -> None:
        """Train; in the first process show how it goes, and write what comes of it."""
        torch.manual_seed(derive(self.seed, 0, "initial weights"))
        network = fresh(self.settings, self.model, dataset, hardware)
        training = to_device(dataset, "train", hardware.device)
        validation = to_device(dataset, "validation", hardware.device)
        kept = self._checkpoints(dataset, hardware)
        parts = (network, training, validation, self.settings.train, self.seed, hardware)
        if processes.rank != 0:
            train(*parts, kept, processes)
            return
        together = f" in each of {processes.count} processes" if processes.count > 1 else ""
        say(
            f"{self.model}, seed {self.seed}: {len(training):,} training and "
            f"{len(validation):,} validation images, {hardware.precision} on {hardware.name}, "
            f"{hardware.threads} thread(s){together}"
        )
        with _shown(self.settings.train.epochs, len(training)) as shown:
            trained = train(
                *parts,
                kept,
                processes,
                on_epoch=shown.epoch,
                on_step=shown.step,
                on_resume=shown.resumed,
            )
        early = ", stopped early" if trained.stopped_early else ""
        say(
            f"best epoch {trained.best.epoch} of {len(trained.history)}{early}: "
            f"validation accuracy {trained.best.validation_accuracy:.2%}"
        )
        self._write(trained, dataset, hardware, processes)
        kept.finish()

    def _write(
        self, trained: Trained, dataset: Dataset, hardware: Hardware, processes: Processes
    ) -> None:
        with atomic_folder(self.out, "train.json") as folder:
            _write_history(folder / "history.csv", trained)
            record = records.Training(
                model=self.model,
                seed=self.seed,
                epochs=len(trained.history),
                stopped_early=trained.stopped_early,
                best_epoch=trained.best.epoch,
                validation_accuracy=trained.best.validation_accuracy,
                validation_loss=trained.best.validation_loss,
                precision=hardware.precision,
                device=hardware.device.type,
                device_name=hardware.name,
                threads=hardware.threads,
                processes=processes.count,
                versions=versions(),
            )
            records.write(folder / "train.json", record)
            save_weights(trained.weights, folder / "model.safetensors", dataset.fingerprint)

    def _checkpoints(self, dataset: Dataset, hardware: Hardware) -> Checkpoints:
        """Return the checkpoints of this run, known by all that decides its result."""
        key = self.key(
            dataset,
            device=(hardware.device.type, hardware.name),
            instructions=torch.backends.cpu.get_cpu_capability(),
            precision=hardware.precision,
            threads=hardware.threads,
        )
        return Checkpoints(self.checkpoints / f"{self.model}-{self.seed}-{key[:16]}", key)

    def key(self, dataset: Dataset, **machine: object) -> str:
        """Return a hash of all that decides the result, and of what is told of the machine.

        How many processes there are decides nothing but rounding, so that fewer or more of them can
        go on with a training.
        """
        architecture = self.settings.architectures[self.model]
        decisive = {
            "architecture": architecture.model_dump(exclude={"baseline"}),
            "train": self.settings.train.model_dump(exclude={"processes"}),
            "seed": self.seed,
            "splits": dataset.fingerprint,
            "versions": versions(),
            **machine,
        }
        return key_of(decisive, [*CODE, *source_of(self.settings.train)])


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
        writer = csv.DictWriter(file, records.HISTORY.columns, lineterminator="\n")
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
