"""What the training, evaluation and explain stages wrote, read back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.settings.recorded import check_recorded
from pipeline.settings.schema import Settings
from pipeline.storage import records
from pipeline.storage.checksums import checksum
from pipeline.storage.csv_files import read_table
from pipeline.storage.reading import load_array, reading, remedy
from pipeline.system.errors import InputError

FIGURES = (
    *("feature_maps.png", "heatmaps.png", "cams.png", "faithfulness.svg"),
    *("faithfulness_curves.svg", "randomisation.svg"),
)
ATTENTION_FILES = ("attention.svg", "attention.csv", "attention_variation.svg")


@dataclass(frozen=True)
class Timings:
    """What an architecture costs, measured in R rounds beside all others."""

    latencies: np.ndarray  # float64 (R,), time for one image, ms
    throughputs: np.ndarray  # float64 (R,), images per second
    training_throughputs: np.ndarray  # the same, of training
    inference_memory: int  # bytes at its peak, of a full batch
    training_memory: int  # the same, of training
    device_name: str  # what it was measured on
    other_processes: float  # their share of the processor time meanwhile, in [0, 1]


@dataclass(frozen=True)
class Run:
    """One architecture trained and evaluated with one seed."""

    model: str  # the architecture's name
    seed: int  # of the training
    history: pd.DataFrame  # one row for each epoch, the columns of ``history.csv``
    training: records.Training  # ``train.json``
    labels: np.ndarray  # int64 (N,), of the run's test images
    logits: np.ndarray  # float32 (N, K), of the same images
    metrics: records.Evaluation  # ``metrics.json`` of the evaluation
    timings: Timings  # of the architecture
    # what it answers, int64 (N,), by name, see the evaluate stage; empty without attention
    interventions: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """What the explain stage found out about an architecture, by the network of its first run."""

    model: str  # the architecture's name
    folder: Path  # holds the figures
    # a row for each fill, curve and comparison of two heatmaps, see `records.FAITHFULNESS`
    faithfulness: pd.DataFrame
    # the same for each fill, curve and kind of heatmap
    areas: pd.DataFrame
    # the same for the complete image and for what each fill leaves of it
    empty_images: pd.DataFrame
    # the same for each kind of heatmap and what was randomised, in the order of what was randomised
    randomisation: pd.DataFrame
    variation: pd.DataFrame | None  # the same for each attention module; None without attention
    grad_cam: np.ndarray  # float16 (N, h, w), of the N test images of the first run


def read_runs(
    trained: Path,
    evaluated: Path,
    measured: Path,
    settings: Settings,
    labels: Mapping[int, np.ndarray],
    splits: str,
) -> dict[str, list[Run]]:
    """Read the runs of each architecture, in the order of the seeds in `labels`.

    Args:
        trained: the folder that holds ``<model>/<seed>/`` with the training stage's files.
        evaluated: the same for the evaluation stage.
        measured: the folder that the measure stage wrote.
        settings: all of params.yaml; what was made under others is refused.
        labels: by seed, int64 (N,): of the test images of the runs with that seed.
        splits: the fingerprint of the splits.

    Raises:
        InputError: if a file is missing, incomplete or corrupt, is of other splits, settings or
            weights, or runs were made by different code.
    """
    path, again = measured / "timings.json", "measure again (python -m pipeline measure)"
    with remedy("measure the architectures first (python -m pipeline measure)", again):
        found = records.read(path, records.Timings)
    check_recorded(path, found.made_from.settings, settings, again)
    if found.splits != splits:
        raise InputError(f"{path}: is of other splits than those given; {again}")
    timings = {}
    for model in settings.architectures:
        if model not in found.architectures:
            raise InputError(f"{path}: without {model}; {again}")
        times = found.architectures[model]
        timings[model] = Timings(
            latencies=np.array(times.latency_ms),
            throughputs=np.array(times.throughput),
            training_throughputs=np.array(times.training_throughput),
            inference_memory=times.inference_memory,
            training_memory=times.training_memory,
            device_name=found.device_name,
            other_processes=found.other_processes,
        )
    rounds = {
        len(part)
        for one in timings.values()
        for part in (one.latencies, one.throughputs, one.training_throughputs)
    }
    if len(rounds) > 1:
        raise InputError(f"{path}: not of the same rounds for all; {again}")
    runs = {
        model: [
            _read_run(
                model, seed, trained, evaluated, settings, test_labels, timings[model], splits
            )
            for seed, test_labels in labels.items()
        ]
        for model in timings
    }
    everyone = [run for of_model in runs.values() for run in of_model]
    _check_same_code(everyone, "trained", lambda run: run.metrics.trained_from)
    _check_same_code(everyone, "evaluated", lambda run: run.metrics.made_from)
    return runs


def _read_run(
    model: str,
    seed: int,
    trained: Path,
    evaluated: Path,
    settings: Settings,
    labels: np.ndarray,
    timings: Timings,
    splits: str,
) -> Run:
    trained, evaluated = trained / model / str(seed), evaluated / model / str(seed)
    first, again = f"train and evaluate {model} first", f"evaluate {model} again"
    with remedy(first, f"train {model} again"):
        history = read_table(trained / "history.csv", records.HISTORY)
        training = records.read(trained / "train.json", records.Training)
    with remedy(first, again):
        answers, path = evaluated / "logits.npy", evaluated / "metrics.json"
        logits = np.array(load_array(answers))
        metrics = records.read(path, records.Evaluation)
    epochs = training.epochs
    if list(history["epoch"]) != [*range(1, epochs + 1)] or not 1 <= training.best_epoch <= epochs:
        raise InputError(
            f"{trained / 'history.csv'}: is not of the {epochs} epochs of train.json; train "
            f"{model} again"
        )
    best = history["validation_accuracy"].iloc[training.best_epoch - 1]
    if not np.isclose(best, training.validation_accuracy, rtol=0, atol=1e-9):
        raise InputError(
            f"{trained / 'history.csv'}: its best epoch is not that of train.json; train {model} "
            "again"
        )
    check_recorded(path, metrics.trained_from.settings, settings, f"train {model} again")
    check_recorded(path, metrics.made_from.settings, settings, again)
    _check_weights(path, metrics.weights, trained / "model.safetensors", again)
    if metrics.splits != splits:
        raise InputError(f"{path}: is of other splits than those given; {again}")
    if logits.ndim != 2 or len(logits) != len(labels) or not np.isfinite(logits).all():
        raise InputError(
            f"{answers}: expected finite numbers, a row for each of {len(labels)} test images, got "
            f"shape {logits.shape}; {again}"
        )
    classes = logits.shape[1]
    if {len(metrics.per_class), len(metrics.confusion), *map(len, metrics.confusion)} != {classes}:
        raise InputError(f"{path}: is not of the {classes} classes of logits.npy; {again}")
    if abs(float((logits.argmax(axis=1) == labels).mean()) - metrics.accuracy) > 1e-9:
        raise InputError(f"{path}: its accuracy is not that of logits.npy; {again}")
    interventions: dict[str, np.ndarray] = {}
    if metrics.interventions:
        answers = evaluated / "interventions.npz"
        with remedy(first, again), reading(answers), np.load(answers) as arrays:
            interventions = {name: arrays[name] for name in ("intact", *metrics.interventions)}
        for name, found in metrics.interventions.items():
            given = interventions[name]
            if given.shape != labels.shape or (given == labels).mean() != found.accuracy:
                raise InputError(f"{answers}: is not of metrics.json beside it ({name}); {again}")
    return Run(model, seed, history, training, labels, logits, metrics, timings, interventions)


def read_explanations(
    folder: Path, trained: Path, settings: Settings, test_images: int
) -> dict[str, Explanation]:
    """Read what was explained; an architecture of which there is nothing is left out.

    `folder` holds ``<model>/`` with the explain stage's files; the first run has `test_images`.

    Raises:
        InputError: if a file of an architecture is missing, incomplete or corrupt, or was made
            under other settings or from other weights.
    """
    return {
        model: _read_explanation(folder / model, trained / model, model, settings, test_images)
        for model in settings.architectures
        if os.path.lexists(folder / model)
    }


def _check_weights(path: Path, expected: str, weights: Path, again: str) -> None:
    with reading(weights):
        if checksum(weights) != expected:
            raise InputError(f"{path}: is of other weights than {weights}; {again}")


def _check_same_code(
    runs: Sequence[Run], done: str, made_from: Callable[[Run], records.MadeFrom]
) -> None:
    first = runs[0]
    for run in runs:
        if made_from(run).code != made_from(first).code:
            raise InputError(
                f"{run.model}, seed {run.seed}: was {done} by other code than {first.model}, seed "
                f"{first.seed}: their difference may be the code's; run both again"
            )


def _read_explanation(
    folder: Path, trained: Path, model: str, settings: Settings, test_images: int
) -> Explanation:
    command = f"(python -m pipeline explain --model {model})"
    again = f"explain {model} again {command}"
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; remove it and explain {model} {command}")
    with remedy(f"explain {model} first {command}", again):
        record = records.read(folder / "explain.json", records.Explanation)
        check_recorded(folder / "explain.json", record.made_from.settings, settings, again)
        weights = trained / str(settings.seeds[0]) / "model.safetensors"
        _check_weights(folder / "explain.json", record.weights, weights, again)
        path = folder / "faithfulness.csv"
        faithfulness = read_table(path, records.FAITHFULNESS)
        with reading(path):
            columns = ["fill", "curve", "heatmap", "against"]
            compared = product(records.FILLS, records.CURVES, records.COMPARISONS)
            rows = ((fill, curve, *pair) for fill, curve, pair in compared)
            _check_rows(faithfulness, columns, rows)
        path = folder / "faithfulness_areas.csv"
        areas = read_table(path, records.FAITHFULNESS_AREAS)
        with reading(path):
            kinds = product(records.FILLS, records.CURVES, records.HEATMAP_KINDS)
            _check_rows(areas, ["fill", "curve", "heatmap"], kinds)
        path = folder / "empty_images.csv"
        empty_images = read_table(path, records.EMPTY_IMAGES)
        with reading(path):
            _check_rows(empty_images, ["image"], product(("complete", *records.FILLS)))
        path = folder / "randomisation.csv"
        randomisation = read_table(path, records.RANDOMISATION)
        with reading(path):
            levels = product(records.CAMS, record.randomisation.randomised)
            _check_rows(randomisation, ["heatmap", "randomised"], levels)
        grad_cam = load_array(folder / "grad_cam.npy")
        variation = None
        if record.attention is not None:
            path = folder / "attention_variation.csv"
            variation = read_table(path, records.ATTENTION_VARIATION)
            with reading(path):
                _check_rows(variation, ["module"], product(record.attention.modules))
        for name in (*FIGURES, *(ATTENTION_FILES if record.attention is not None else ())):
            with reading(folder / name):
                (folder / name).stat()
    if grad_cam.ndim != 3 or len(grad_cam) != test_images:
        raise InputError(
            f"{folder / 'grad_cam.npy'}: expected a map for each of {test_images} test images, got "
            f"shape {grad_cam.shape}; {again}"
        )
    if grad_cam.dtype.kind != "f" or not np.isfinite(grad_cam).all():
        raise InputError(f"{folder / 'grad_cam.npy'}: holds what is no finite number; {again}")
    return Explanation(
        model, folder, faithfulness, areas, empty_images, randomisation, variation, grad_cam
    )


def _check_rows(
    table: pd.DataFrame, columns: Sequence[str], expected: Iterable[tuple[str, ...]]
) -> None:
    """Raise a ValueError unless there is a row with each of `expected` in these columns."""
    there = set(table[list(columns)].itertuples(index=False, name=None))
    missing = [row for row in expected if row not in there]
    if missing:
        raise ValueError(f"without the row {', '.join(missing[0])}")
