"""The comparison: each architecture's accuracy and costs, and each pair's difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation.statistics import (
    Difference,
    Estimate,
    Verdict,
    accuracy_estimate,
    paired_difference,
    verdict,
)
from pipeline.reporting.results import Run

# What a pair may differ in: the attention under test, and the name of the baseline.
UNDER_TEST = frozenset({"attention", "reduction", "baseline"})


@dataclass(frozen=True)
class Pair:
    """An architecture against its baseline.

    Attributes:
        model: the architecture.
        baseline: its baseline.
        difference: of test accuracy, in percentage points.
        verdict: whether it pays.
        confounders: settings besides the attention in which the two differ.
    """

    model: str
    baseline: str
    difference: Difference
    verdict: Verdict
    confounders: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One architecture: means over seeds unless said otherwise.

    Attributes:
        model: its name.
        accuracies: float (S,), test accuracy of each seed in percent.
        accuracy: their mean with its interval, in percent.
        accuracy_sd: their sample standard deviation; NaN for a single seed.
        nll: negative log-likelihood of the test split, nats.
        parameters: number of parameters.
        macs: multiply-accumulates for one image.
        latency_ms: median over seeds of the time for one image.
        throughput: median over seeds, images per second.
        training_seconds: time of all epochs.
        pair: the comparison with its baseline, if it has one.
    """

    model: str
    accuracies: np.ndarray
    accuracy: Estimate
    accuracy_sd: float
    nll: float
    parameters: int
    macs: int
    latency_ms: float
    throughput: float
    training_seconds: float
    pair: Pair | None


@dataclass(frozen=True)
class Judgement:
    """How pairs are judged: see `statistics.paired_difference` and `statistics.verdict`."""

    confidence: float
    resamples: int
    margin: float
    seed: int


def compare(
    runs: Mapping[str, Sequence[Run]],
    labels: np.ndarray,
    architectures: Mapping[str, Mapping[str, Any]],
    judgement: Judgement,
) -> dict[str, Entry]:
    """Compare all architectures.

    Args:
        runs: by architecture, in the same order of seeds for each.
        labels: int64 (N,), of the test images.
        architectures: the settings of each, as in params.yaml.
        judgement: how pairs are judged.

    Raises:
        InputError: if a run's logits are not of these test images.
    """
    correct = {model: _correct(of_model, labels) for model, of_model in runs.items()}
    return {
        model: _entry(of_model, correct, architectures, judgement)
        for model, of_model in runs.items()
    }


def confounders(candidate: Mapping[str, Any], baseline: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings besides the attention in which two architectures differ."""
    keys = [*candidate, *(key for key in baseline if key not in candidate)]
    absent = object()
    return tuple(
        key
        for key in keys
        if key not in UNDER_TEST and candidate.get(key, absent) != baseline.get(key, absent)
    )


def _correct(runs: Sequence[Run], labels: np.ndarray) -> np.ndarray:
    """Return bool (S, N): which test images each seed got right."""
    return np.stack([run.logits.argmax(axis=1) == labels for run in runs])


def _entry(
    runs: Sequence[Run],
    correct: Mapping[str, np.ndarray],
    architectures: Mapping[str, Mapping[str, Any]],
    judgement: Judgement,
) -> Entry:
    model = runs[0].model
    accuracies = 100 * correct[model].mean(axis=1)
    return Entry(
        model=model,
        accuracies=accuracies,
        accuracy=accuracy_estimate(
            correct[model], judgement.confidence, judgement.resamples, judgement.seed
        ),
        accuracy_sd=float(accuracies.std(ddof=1)) if len(runs) > 1 else math.nan,
        nll=float(np.mean([run.metrics["nll"] for run in runs])),
        parameters=int(runs[0].metrics["parameters"]),
        macs=int(runs[0].metrics["macs"]),
        latency_ms=float(np.median([run.timings["latency_ms"] for run in runs])),
        throughput=float(np.median([run.timings["throughput"] for run in runs])),
        training_seconds=float(np.mean([run.history["seconds"].sum() for run in runs])),
        pair=_pair(model, correct, architectures, judgement),
    )


def _pair(
    model: str,
    correct: Mapping[str, np.ndarray],
    architectures: Mapping[str, Mapping[str, Any]],
    judgement: Judgement,
) -> Pair | None:
    baseline = architectures[model].get("baseline")
    if baseline is None:
        return None
    difference = paired_difference(
        correct[model],
        correct[baseline],
        judgement.confidence,
        judgement.resamples,
        judgement.seed,
    )
    return Pair(
        model=model,
        baseline=baseline,
        difference=difference,
        verdict=verdict(difference, judgement.margin),
        confounders=confounders(architectures[model], architectures[baseline]),
    )


def comparison_table(entries: Mapping[str, Entry]) -> pd.DataFrame:
    """Return one row for each architecture; accuracies in percent, differences in points."""
    rows = []
    for entry in entries.values():
        pair = entry.pair
        rows.append(
            {
                "model": entry.model,
                "seeds": len(entry.accuracies),
                "accuracy": entry.accuracy.mean,
                "accuracy_sd": entry.accuracy_sd,
                "accuracy_low": entry.accuracy.low,
                "accuracy_high": entry.accuracy.high,
                "baseline": pair.baseline if pair else None,
                "difference": pair.difference.mean if pair else None,
                "difference_low": pair.difference.low if pair else None,
                "difference_high": pair.difference.high if pair else None,
                "confidence": pair.difference.confidence if pair else None,
                "verdict": pair.verdict if pair else None,
                "confounders": " ".join(pair.confounders) if pair else None,
                "nll": entry.nll,
                "parameters": entry.parameters,
                "macs": entry.macs,
                "latency_ms": entry.latency_ms,
                "throughput": entry.throughput,
                "training_seconds": entry.training_seconds,
            }
        )
    return pd.DataFrame(rows)


def runs_table(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Return one row for each run: its results, its best epoch and where it ran."""
    return pd.DataFrame(
        {
            "model": run.model,
            "seed": run.seed,
            "test_accuracy": 100 * run.metrics["accuracy"],
            "nll": run.metrics["nll"],
            "macro_f1": run.metrics["macro_f1"],
            "validation_accuracy": 100 * run.training["validation_accuracy"],
            "best_epoch": run.training["best_epoch"],
            "epochs": run.training["epochs"],
            "training_seconds": run.history["seconds"].sum(),
            "latency_ms": run.timings["latency_ms"],
            "throughput": run.timings["throughput"],
            "precision": run.training["precision"],
            "device": run.training["device_name"],
        }
        for of_model in runs.values()
        for run in of_model
    )


def per_class_table(runs: Mapping[str, Sequence[Run]], classes: Sequence[str]) -> pd.DataFrame:
    """Return one row for each architecture and class: means over seeds, in [0, 1]."""
    measures = ("precision", "recall", "f1")
    return pd.DataFrame(
        {
            "model": model,
            "class": name,
            "support": of_model[0].metrics["per_class"][name]["support"],
            **{
                measure: np.mean([run.metrics["per_class"][name][measure] for run in of_model])
                for measure in measures
            },
        }
        for model, of_model in runs.items()
        for name in classes
    )


def headline_metrics(entry: Entry) -> dict[str, float | int]:
    """Return the candidate's numbers for DVC: accuracies in percent, differences in points.

    What does not exist is left out: the standard deviation of a single seed, the difference of an
    architecture without a baseline.
    """
    metrics: dict[str, float | int] = {"accuracy": round(entry.accuracy.mean, 4)}
    if not math.isnan(entry.accuracy_sd):
        metrics["accuracy_sd"] = round(entry.accuracy_sd, 4)
    if entry.pair:
        difference = entry.pair.difference
        metrics["difference"] = round(difference.mean, 4)
        metrics["difference_low"] = round(difference.low, 4)
        metrics["difference_high"] = round(difference.high, 4)
    metrics["nll"] = round(entry.nll, 6)
    metrics["parameters"] = entry.parameters
    metrics["macs"] = entry.macs
    return metrics


def confusion_counts(runs: Sequence[Run]) -> np.ndarray:
    """Return the confusion matrix int64 (K, K), rows true, pooled over seeds."""
    return np.sum([run.metrics["confusion"] for run in runs], axis=0)


def mean_validation_accuracy(runs: Sequence[Run]) -> pd.Series:
    """Return the validation accuracy of each epoch, in [0, 1], mean over seeds."""
    history = pd.concat([run.history for run in runs])
    return history.groupby("epoch")["validation_accuracy"].mean()


def learning_curves_table(candidate: Sequence[Run], baseline: Sequence[Run]) -> pd.DataFrame:
    """Return epoch, candidate and baseline: mean validation accuracies in [0, 1], for DVC."""
    curves = {
        "candidate": mean_validation_accuracy(candidate),
        "baseline": mean_validation_accuracy(baseline),
    }
    return pd.DataFrame(curves).rename_axis("epoch").reset_index()


def predictions_table(
    runs: Sequence[Run], labels: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """Return actual and predicted class of every test image and seed, for DVC."""
    names = np.array(classes, dtype=object)
    predicted = np.concatenate([run.logits.argmax(axis=1) for run in runs])
    return pd.DataFrame(
        {"actual": names[np.tile(labels, len(runs))], "predicted": names[predicted]}
    )
