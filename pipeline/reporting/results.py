"""What the training and evaluation stages wrote, read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import InputError


@dataclass(frozen=True)
class Run:
    """One architecture trained and evaluated with one seed.

    Attributes:
        model: the architecture's name.
        seed: of the training.
        history: one row for each epoch, the columns of ``history.csv``.
        training: ``train.json``.
        logits: float32 (N, K), of the test images.
        metrics: ``metrics.json`` of the evaluation.
        timings: ``timings.json``.
    """

    model: str
    seed: int
    history: pd.DataFrame
    training: dict[str, Any]
    logits: np.ndarray
    metrics: dict[str, Any]
    timings: dict[str, Any]


def read_runs(
    trained: Path, evaluated: Path, models: Iterable[str], seeds: Sequence[int]
) -> dict[str, list[Run]]:
    """Read the runs of each of `models`, in the order of `seeds`.

    Args:
        trained: the folder that holds ``<model>/<seed>/`` with the training stage's files.
        evaluated: the same for the evaluation stage.
        models: names of architectures.
        seeds: of the trainings.

    Raises:
        InputError: if a file is missing or torn.
    """
    return {
        model: [
            _read_run(trained / model / str(seed), evaluated / model / str(seed), model, seed)
            for seed in seeds
        ]
        for model in models
    }


def _read_run(trained: Path, evaluated: Path, model: str, seed: int) -> Run:
    path = trained
    try:
        history = pd.read_csv(path := trained / "history.csv")
        training = json.loads((path := trained / "train.json").read_text(encoding="utf-8"))
        logits = np.load(path := evaluated / "logits.npy", allow_pickle=False)
        metrics = json.loads((path := evaluated / "metrics.json").read_text(encoding="utf-8"))
        timings = json.loads((path := evaluated / "timings.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; train and evaluate {model} first") from None
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: can't be read ({error}); make it again") from None
    return Run(model, seed, history, training, logits, metrics, timings)
