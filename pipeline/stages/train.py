"""Train one architecture with one seed."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import astuple, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.data import arrays
from pipeline.data.arrays import Dataset
from pipeline.engines.dvc_graph import code_of_stage
from pipeline.engines.unchanged import made_from
from pipeline.settings.schema import Settings, Train
from pipeline.storage import records, running
from pipeline.storage.atomic import atomic_folder
from pipeline.storage.csv_files import write_rows
from pipeline.system.errors import InputError
from pipeline.system.progress import Steps, say
from pipeline.training import compute
from pipeline.training.batches import to_device
from pipeline.training.checkpoints import Checkpoints, key_of
from pipeline.training.distributed.processes import ALONE
from pipeline.training.loop import Epoch, Trained, train
from pipeline.training.losses import source_of
from pipeline.training.networks import fresh
from pipeline.training.no_compiler import without_compiler
from pipeline.training.pretrained import start
from pipeline.training.randomness import derive
from pipeline.training.weights import save_weights

if TYPE_CHECKING:
    from pipeline.training.distributed.member import Member


def run(
    settings: Settings,
    model: str,
    seed: int,
    splits: Path,
    starts: Path,
    out: Path,
    checkpoints: Path,
    check: Callable[[], None],
) -> None:
    """Train and write ``model.safetensors``, ``history.csv`` and ``train.json``.

    After an interruption it resumes from the last epoch that was finished. It takes
    `train.processes` processes: this one alone, those that torchrun started, or new ones.

    Args:
        settings: all of params.yaml.
        model: a key of `settings.architectures`.
        seed: of the initial weights, the order, the augmentation and the dropout.
        splits: the folder that the split stage wrote.
        starts: the folder for the libraries' own weights, where an architecture starts from them.
        out: the folder to write.
        checkpoints: the folder for the checkpoints of all runs; this run's are marked at its end.
        check: called after each epoch; what it raises ends the training. It can be pickled.

    Raises:
        InputError: if the network doesn't fit the images, the splits or the weights to start from
            can't be read, or there are other processes or fewer GPUs than `train.processes`.
        StageError: if the loss becomes NaN, or one of several processes is killed.
    """
    _check_loss(settings.train)
    arguments = (settings, model, seed, splits, starts, out, checkpoints, check)
    if settings.train.processes == 1 and os.environ.get("WORLD_SIZE", "1") == "1":
        _train(None, *arguments)
    else:
        from pipeline.training.distributed import launch

        launch.across(settings.train.processes, _train, *arguments)


def _train(
    member: Member | None,
    settings: Settings,
    model: str,
    seed: int,
    splits: Path,
    starts: Path,
    out: Path,
    checkpoints: Path,
    check: Callable[[], None],
) -> None:
    """Do the part of one process, or all; the first shows how it goes and writes the outputs."""
    dataset = arrays.read(splits, settings).for_run(seed)
    gpu = member.gpu if member else compute.free_gpu
    with (
        without_compiler(),
        compute.prepare(settings.compute, gpu=gpu) as hardware,
        member.group(hardware.device) if member else nullcontext(ALONE) as processes,
    ):
        own = _key(settings, model, seed, dataset)
        if processes.from_first(lambda: own) != own:
            raise InputError(
                f"process {processes.rank} of {processes.count} has other settings, splits, code "
                "or versions than the first: give every machine the same"
            )
        torch.manual_seed(derive(seed, 0, "initial weights"))
        network = fresh(settings, model, dataset, hardware)
        started_from, body = None, frozenset[str]()
        if settings.architectures[model].weights is not None:
            started_from, body = start(network, settings, model, dataset, starts)
        training = to_device(dataset, "train", hardware.device)
        validation = to_device(dataset, "validation", hardware.device)
        key = _key(
            settings,
            model,
            seed,
            dataset,
            device=(hardware.device.type, hardware.name),
            instructions=torch.backends.cpu.get_cpu_capability(),
            precision=hardware.precision,
            threads=hardware.threads,
        )
        kept = Checkpoints(checkpoints / f"{model}-{seed}-{key[:16]}", key)
        training_run = partial(
            train,
            network,
            training,
            validation,
            settings.train,
            seed,
            hardware,
            kept,
            processes,
            body,
        )
        if processes.rank != 0:
            training_run()
            return
        together = f" in each of {processes.count} processes" if processes.count > 1 else ""
        say(
            f"{model}, seed {seed}: {len(training):,} training and {len(validation):,} validation "
            f"images, {hardware.precision} on {hardware.name}, "
            f"{hardware.threads} thread(s){together}"
        )
        if started_from is not None:
            say(
                f"starts from {started_from.file}: {len(body)} tensors of it, "
                f"{len(started_from.made_new)} are new"
            )
        trained = _show(training_run, settings.train.epochs, len(training), kept.folder, check)
        best = trained.best
        early = ", stopped early" if trained.stopped_early else ""
        say(
            f"best epoch {best.epoch} of {len(trained.history)}{early}: "
            f"validation accuracy {best.validation_accuracy:.2%}"
        )
        with atomic_folder(out, "train.json") as folder:
            _write_history(folder / running.HISTORY, trained.history)
            record = records.Training(
                model=model,
                seed=seed,
                images=len(training),
                epochs=len(trained.history),
                stopped_early=trained.stopped_early,
                best_epoch=best.epoch,
                validation_accuracy=best.validation_accuracy,
                validation_loss=best.validation_loss,
                precision=hardware.precision,
                device=hardware.device.type,
                device_name=hardware.name,
                threads=hardware.threads,
                processes=processes.count,
                versions=versions(),
                pretrained=started_from,
            )
            records.write(folder / "train.json", record)
            recipe = made_from("train", settings, model)
            provenance = records.Provenance(splits=dataset.fingerprint, seed=seed, made_from=recipe)
            save_weights(trained.weights, folder / "model.safetensors", provenance)
        kept.finish()


def _check_loss(train_settings: Train) -> None:
    """Refuse a loss of one's own that dvc.yaml doesn't know: its changes would go unnoticed."""
    known = code_of_stage("train")
    for path in source_of(train_settings):
        if not any(path.is_relative_to(dep) for dep in known):
            raise InputError(
                f"params.yaml: train.loss: '{train_settings.loss}': add {os.path.relpath(path)} to "
                "the deps of train in dvc.yaml, so that a change of it trains again"
            )


def _show(
    training_run: Callable[..., Trained],
    epochs: int,
    images: int,
    folder: Path,
    check: Callable[[], None],
) -> Trained:
    """Train and show how it goes: a bar within an epoch, a line and a row of the history after it.

    Args:
        training_run: trains.
        epochs: how many.
        images: in each.
        folder: for those who watch, see `storage.running`.
        check: called after each epoch.
    """
    running.begin(folder, epochs, images)
    with Steps.over(epochs * images, "images") as steps:

        def on_resume(done: int) -> None:
            steps.skip(done * images)
            steps.line(f"resumes after epoch {done}/{epochs}, from its checkpoint")

        def on_epoch(history: list[Epoch]) -> None:
            epoch = history[-1]
            steps.line(
                f"epoch {epoch.epoch}/{epochs}: "
                f"loss {epoch.train_loss:.4f} / {epoch.validation_loss:.4f} "
                f"(training / validation), "
                f"accuracy {epoch.train_accuracy:.2%} / {epoch.validation_accuracy:.2%}, "
                f"learning rate {epoch.learning_rate:.2g}, "
                f"{images / epoch.seconds:,.0f} images/s"
            )
            with running.growing(folder) as path:
                _write_history(path, history)
            check()

        def on_step(epoch: int, count: int) -> None:
            steps.advance(f"epoch {epoch}/{epochs}", count)

        return training_run(on_epoch=on_epoch, on_step=on_step, on_resume=on_resume)


def _write_history(path: Path, history: Iterable[Epoch]) -> None:
    rows = [replace(epoch, seconds=round(epoch.seconds, 3)) for epoch in history]
    write_rows(path, list(records.HISTORY.columns), map(astuple, rows))


def _key(settings: Settings, model: str, seed: int, dataset: Dataset, **machine: object) -> str:
    """Return a hash of all that decides the result, with what is given of the machine.

    How many processes there are decides nothing but rounding, so that fewer or more of them can
    resume a training.
    """
    decisive = {
        "architecture": settings.architectures[model].model_dump(exclude={"baseline"}),
        "train": settings.train.model_dump(exclude={"processes"}),
        "seed": seed,
        "splits": dataset.fingerprint,
        "versions": versions(),
        **machine,
    }
    return key_of(decisive, [*code_of_stage("train"), *source_of(settings.train)])


def versions() -> dict[str, str]:
    """Return the versions that a training's result may depend on."""
    libraries = ("torchvision", "timm") if "timm" in sys.modules else ("torchvision",)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in libraries},
    }
