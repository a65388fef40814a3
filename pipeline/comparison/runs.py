"""What the training, evaluation and explain stages wrote, read back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.arrays import load_array, whole_text
from pipeline.storage.records import CONTROLS, HEATMAP_KINDS, read_record
from pipeline.system.errors import InputError


@dataclass(frozen=True)
class Timings:
    """How fast an architecture is, measured in R rounds beside all others.

    Attributes:
        latencies: float64 (R,), time for one image, ms.
        throughputs: float64 (R,), images per second.
        device_name: what it was measured on.
    """

    latencies: np.ndarray
    throughputs: np.ndarray
    device_name: str


@dataclass(frozen=True)
class Run:
    """One architecture trained and evaluated with one seed.

    Attributes:
        model: the architecture's name.
        seed: of the training.
        history: one row for each epoch, the columns of ``history.csv``.
        training: ``train.json``.
        labels: int64 (N,), of the run's test images.
        logits: float32 (N, K), of the same images.
        metrics: ``metrics.json`` of the evaluation.
        timings: of the architecture.
    """

    model: str
    seed: int
    history: pd.DataFrame
    training: dict[str, Any]
    labels: np.ndarray
    logits: np.ndarray
    metrics: dict[str, Any]
    timings: Timings

    @property
    def stopped_early(self) -> bool:
        """Whether the training ended before its last epoch, since validation got no better."""
        return bool(self.training.get("stopped_early", False))


@dataclass(frozen=True)
class Explanation:
    """What the explain stage found out about an architecture, by the network of its first run.

    Attributes:
        model: the architecture's name.
        folder: holds the figures.
        record: ``explain.json``.
        faithfulness: a row for each kind of heatmap and curve, with the columns of ``COLUMNS``.
        randomisation: the same for each kind of heatmap and what was randomised, in the order of
            what was randomised.
        variation: the same for each attention module; None without attention.
        grad_cam: float16 (N, h, w), of the N test images of the first run.
    """

    model: str
    folder: Path
    record: dict[str, Any]
    faithfulness: pd.DataFrame
    randomisation: pd.DataFrame
    variation: pd.DataFrame | None
    grad_cam: np.ndarray


ENDS = ("low", "high")
HISTORY = [
    *("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
    "seconds",
]
CAMS = ("grad_cam", "layer_cam")
CURVES = ("deletion", "insertion")
DIFFERENCES = [f"{control}_difference" for control in CONTROLS]
INTERVALS = [f"{name}{end}" for name in ("", *(f"{of}_" for of in CONTROLS)) for end in ENDS]

# The columns that are read, and what is in them.
COLUMNS = {
    "faithfulness.csv": {
        "heatmap": "str", "curve": "str", "area": "float64", "images": "int64",
        **dict.fromkeys([*DIFFERENCES, *INTERVALS], "float64"),
    },
    "randomisation.csv": {
        "heatmap": "str", "randomised": "str", "rank_correlation": "float64", "images": "int64",
        **dict.fromkeys(ENDS, "float64"),
    },
    "attention_variation.csv": {
        "module": "str", "kind": "str", "mean": "float64", "sd_between": "float64",
        "share_by_class": "float64", "share_by_chance": "float64", "constant": "bool",
    },
}  # fmt: skip
# Of a single image there is no interval, of a map without a pattern no correlation, of weights that
# never vary no share, of a control no difference from itself.
MAY_BE_EMPTY = {*INTERVALS, *DIFFERENCES, "rank_correlation", "share_by_class"}
FIGURES = ("feature_maps.png", "heatmaps.png", "cams.png", "faithfulness.png", "randomisation.png")
ATTENTION_FILES = ("attention.png", "attention.csv", "attention_variation.png")


def read_runs(
    trained: Path,
    evaluated: Path,
    measured: Path,
    models: Iterable[str],
    labels: Mapping[int, np.ndarray],
    splits: str,
) -> dict[str, list[Run]]:
    """Read the runs of each of `models`, in the order of the seeds in `labels`.

    Args:
        trained: the folder that holds ``<model>/<seed>/`` with the training stage's files.
        evaluated: the same for the evaluation stage.
        measured: the folder that the measure stage wrote.
        models: names of architectures.
        labels: by seed, int64 (N,): of the test images of the runs with that seed.
        splits: the fingerprint of the splits.

    Raises:
        InputError: if a file is missing or torn, or is of other splits.
    """
    return {
        model: [
            _checked(
                _read_run(
                    trained / model / str(seed),
                    evaluated / model / str(seed),
                    model,
                    seed,
                    of_seed,
                    timings,
                ),
                evaluated / model / str(seed),
                splits,
            )
            for seed, of_seed in labels.items()
        ]
        for model, timings in _read_timings(measured / "timings.json", models).items()
    }


def _read_timings(path: Path, models: Iterable[str]) -> dict[str, Timings]:
    again = "(python -m pipeline measure)"
    try:
        record = read_record(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; measure the architectures first {again}") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: can't be read ({reason}); measure again {again}") from None
    measured = record["architectures"]
    missing = [model for model in models if model not in measured]
    if missing:
        raise InputError(f"{path}: without {missing[0]}; measure again {again}")
    rounds = [measured[model][of] for model in models for of in ("latency_ms", "throughput")]
    if len(set(map(len, rounds))) > 1:
        raise InputError(f"{path}: not of the same rounds for all; measure again {again}")
    return {
        model: Timings(
            np.array(measured[model]["latency_ms"], np.float64),
            np.array(measured[model]["throughput"], np.float64),
            record["device_name"],
        )
        for model in models
    }


def _read_run(
    trained: Path, evaluated: Path, model: str, seed: int, labels: np.ndarray, timings: Timings
) -> Run:
    path = trained
    try:
        history = pd.read_csv(StringIO(whole_text(path := trained / "history.csv")))
        training = read_record(path := trained / "train.json")
        logits = np.array(load_array(path := evaluated / "logits.npy"))
        metrics = read_record(path := evaluated / "metrics.json")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; train and evaluate {model} first") from None
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: can't be read ({error}); make it again") from None
    epochs = training["epochs"]
    if len(history) != epochs or not 1 <= training["best_epoch"] <= epochs or not _whole(history):
        raise InputError(f"{trained / 'history.csv'}: is torn; train {model} again")
    return Run(model, seed, history, training, labels, logits, metrics, timings)


def _whole(history: pd.DataFrame) -> bool:
    """Tell whether a history has a number in each of its columns, for all epochs from 1 on."""
    if not set(HISTORY) <= set(history):
        return False
    try:
        numbers = history[HISTORY].astype("float64")
    except (ValueError, TypeError):
        return False
    in_order = list(history["epoch"]) == list(range(1, len(history) + 1))
    return in_order and bool(np.isfinite(numbers).all(axis=None))


def _checked(run: Run, evaluated: Path, splits: str) -> Run:
    """Refuse an evaluation that is of other splits, or whose files contradict each other."""
    again = f"evaluate {run.model} again"
    if run.metrics["splits"] != splits:
        raise InputError(
            f"{evaluated / 'metrics.json'}: is of other splits than those given; {again}"
        )
    logits, labels = run.logits, run.labels
    if logits.ndim != 2 or len(logits) != len(labels) or not np.isfinite(logits).all():
        raise InputError(
            f"{evaluated / 'logits.npy'}: expected finite numbers, a row for each of {len(labels)} "
            f"test images, got shape {logits.shape}; {again}"
        )
    metrics = run.metrics
    confusion = metrics["confusion"]
    if {len(metrics["per_class"]), len(confusion), *map(len, confusion)} != {logits.shape[1]}:
        raise InputError(
            f"{evaluated / 'metrics.json'}: is not of the {logits.shape[1]} classes of logits.npy; "
            f"{again}"
        )
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    if abs(accuracy - run.metrics["accuracy"]) > 1e-9:
        raise InputError(
            f"{evaluated / 'metrics.json'}: its accuracy is not that of logits.npy; {again}"
        )
    return run


def read_explanations(
    folder: Path, models: Iterable[str], test_images: int
) -> dict[str, Explanation]:
    """Read what was explained of `models`; an architecture of which there is nothing is left out.

    Args:
        folder: holds ``<model>/`` with the explain stage's files.
        models: names of architectures.
        test_images: how many the first run has.

    Raises:
        InputError: if a file of an architecture is missing or torn.
    """
    return {
        model: _read_explanation(folder / model, model, test_images)
        for model in models
        if os.path.lexists(folder / model)
    }


def _read_explanation(folder: Path, model: str, test_images: int) -> Explanation:
    path, again = folder, f"(python -m pipeline explain --model {model})"
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; remove it and explain {model} {again}")
    try:
        record = read_record(path := folder / "explain.json")
        faithfulness = _read_faithfulness(path := folder / "faithfulness.csv")
        randomisation = _read_randomisation(path := folder / "randomisation.csv", record)
        grad_cam = load_array(path := folder / "grad_cam.npy")
        has_attention = bool(record.get("attention"))
        variation = (
            _read_variation(path := folder / "attention_variation.csv", record)
            if has_attention
            else None
        )
        for name in (*FIGURES, *(ATTENTION_FILES if has_attention else ())):
            (path := folder / name).stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; explain {model} first {again}") from None
    except (ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: can't be read ({reason}); explain {model} again {again}"
        ) from None
    if grad_cam.ndim != 3 or len(grad_cam) != test_images:
        raise InputError(
            f"{folder / 'grad_cam.npy'}: expected a map for each of {test_images} test images, got "
            f"shape {grad_cam.shape}; explain {model} again {again}"
        )
    if grad_cam.dtype.kind != "f" or not np.isfinite(grad_cam).all():
        raise InputError(
            f"{folder / 'grad_cam.npy'}: holds what is no finite number; explain {model} again "
            f"{again}"
        )
    return Explanation(model, folder, record, faithfulness, randomisation, variation, grad_cam)


def _read_faithfulness(path: Path) -> pd.DataFrame:
    table = _read_table(path)
    _check_rows(table, ["heatmap", "curve"], product(HEATMAP_KINDS, CURVES))
    if table.loc[~table["heatmap"].isin(CONTROLS), DIFFERENCES].isna().any(axis=None):
        raise ValueError(f"without a number in {' or '.join(DIFFERENCES)}")
    return table


def _read_randomisation(path: Path, record: Mapping[str, Any]) -> pd.DataFrame:
    table = _read_table(path)
    randomised = record.get("randomisation", {}).get("randomised", table["randomised"].unique())
    _check_rows(table, ["heatmap", "randomised"], product(CAMS, randomised))
    return table


def _read_variation(path: Path, record: Mapping[str, Any]) -> pd.DataFrame:
    table = _read_table(path)
    modules = record["attention"].get("modules", ())
    _check_rows(table, ["module"], ((module,) for module in modules))
    return table


def _read_table(path: Path) -> pd.DataFrame:
    """Return a table with the columns that are read of it.

    Raises:
        ValueError: if it is torn, so that no finding stumbles over what is not there.
    """
    columns = COLUMNS[path.name]
    table = pd.read_csv(StringIO(whole_text(path)), dtype=columns)
    missing = sorted(columns.keys() - set(table))
    if missing:
        raise ValueError(f"without {', '.join(missing)}")
    if table.empty:
        raise ValueError("without a row")
    for column in columns.keys() - MAY_BE_EMPTY:
        if table[column].isna().any():
            raise ValueError(f"without a value in {column}")
    return table


def _check_rows(
    table: pd.DataFrame, columns: Sequence[str], expected: Iterable[tuple[str, ...]]
) -> None:
    """Raise a ValueError unless there is a row with each of `expected` in these columns."""
    there = set(table[list(columns)].itertuples(index=False, name=None))
    missing = [row for row in expected if row not in there]
    if missing:
        raise ValueError(f"without the row {', '.join(missing[0])}")
