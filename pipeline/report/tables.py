"""The comparison as tables: what stands in the CSV files and in metrics.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison import doubts
from pipeline.comparison.compare import Comparison, Ensemble, Entry, Pair
from pipeline.comparison.design import MEASURES, Design
from pipeline.comparison.runs import Run
from pipeline.comparison.summary import Summary
from pipeline.evaluation.calibration import BINS


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each architecture, then for each ensemble.

    Accuracies are in percent, differences and gains in percentage points, the expected calibration
    error (ece) is in [0, 1]; `runs` is how many accuracies the mean and its standard deviation are
    of. `kind` is architecture or ensemble; `gained` and `lost` are means over runs: the images that
    only the architecture, or only its baseline, got right.
    """
    architectures = [
        {"model": entry.model, "kind": "architecture", "members": None}
        | _summary_cells(entry.summary)
        | _pair_cells(entry, comparison)
        for entry in comparison.entries.values()
    ]
    ensembles = [
        {
            "model": _ensemble_name(ensemble),
            "kind": "ensemble",
            "members": " ".join(ensemble.members),
            "gain": ensemble.gain,
        }
        | _summary_cells(ensemble.summary)
        for ensemble in comparison.ensembles
    ]
    columns = dict.fromkeys([*architectures[0], "gain"])
    return pd.DataFrame([*architectures, *ensembles], columns=list(columns))


def runs_table(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Return one row for each run: its results, its best epoch and where it ran."""
    return pd.DataFrame(
        {
            "model": run.model,
            "seed": run.seed,
            "test_images": len(run.labels),
            "test_accuracy": 100 * run.metrics.accuracy,
            "nll": run.metrics.nll,
            "macro_f1": run.metrics.macro_f1,
            "validation_accuracy": 100 * run.training.validation_accuracy,
            "best_epoch": run.training.best_epoch,
            "epochs": run.training.epochs,
            "stopped_early": run.stopped_early,
            "training_seconds": run.history["seconds"].sum(),
            "precision": run.training.precision,
            "device": run.training.device_name,
        }
        for of_model in runs.values()
        for run in of_model
    )


def timings_table(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Return one row for each architecture and round of measuring."""
    return pd.DataFrame(
        {
            "model": model,
            "round": number,
            "latency_ms": latency,
            "throughput": throughput,
            "device": timings.device_name,
        }
        for model, timings in ((model, of_model[0].timings) for model, of_model in runs.items())
        for number, (latency, throughput) in enumerate(
            zip(timings.latencies, timings.throughputs, strict=True), start=1
        )
    )


def per_class_table(
    runs: Mapping[str, Sequence[Run]], classes: Sequence[str], design: Design
) -> pd.DataFrame:
    """Return one row for each architecture and class, scores in [0, 1]."""
    return pd.DataFrame(
        {
            "model": model,
            "class": name,
            "support": scores["support"],
            **{measure: scores[measure] for measure in MEASURES},
        }
        for model, of_model in runs.items()
        for name, scores in design.class_scores(of_model, classes).items()
    )


def pairs_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each pair and run: images gained and lost, McNemar's exact p."""
    rows = [
        {
            "model": pair.model,
            "baseline": pair.baseline,
            "seed": run.seed,
            "gained": found.gained,
            "lost": found.lost,
            "p_mcnemar": found.p,
        }
        for pair in _pairs(comparison)
        for run, found in zip(comparison.runs[pair.model], pair.mcnemar, strict=True)
    ]
    columns = ["model", "baseline", "seed", "gained", "lost", "p_mcnemar"]
    return pd.DataFrame(rows, columns=columns)


def class_differences_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each pair and class: its images and the recall's difference in points."""
    rows = [
        {
            "model": pair.model,
            "baseline": pair.baseline,
            "class": found.name,
            "images": found.images,
            "difference": found.difference.mean,
            "difference_low": found.difference.low,
            "difference_high": found.difference.high,
        }
        for pair in _pairs(comparison)
        for found in pair.by_class
    ]
    columns = ["model", "baseline", "class", "images"]
    columns += ["difference", "difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=columns)


def calibration_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each architecture or ensemble and bin of confidence.

    `bin_low` and `bin_high` are the edges, `count` the answers in the bin over all runs,
    `confidence` and `accuracy` their means in [0, 1], none in an empty bin.
    """
    edges = np.arange(BINS + 1) / BINS
    summaries = {entry.model: entry.summary for entry in comparison.entries.values()}
    summaries |= {_ensemble_name(ensemble): ensemble.summary for ensemble in comparison.ensembles}
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "model": name,
                    "bin_low": edges[:-1],
                    "bin_high": edges[1:],
                    "count": summary.reliability.counts,
                    "confidence": summary.reliability.confidence,
                    "accuracy": summary.reliability.accuracy,
                }
            )
            for name, summary in summaries.items()
        ],
        ignore_index=True,
    )


def headline_metrics(entry: Entry) -> dict[str, float | int]:
    """Return the candidate's numbers for DVC: accuracies in percent, differences in points.

    What does not exist is left out: the standard deviation and p of a single run, the difference of
    an architecture without a baseline.
    """
    summary = entry.summary
    metrics: dict[str, float | int] = {"accuracy": round(summary.accuracy.mean, 4)}
    if not math.isnan(summary.accuracy_sd):
        metrics["accuracy_sd"] = round(summary.accuracy_sd, 4)
    if entry.pair:
        difference = entry.pair.difference
        metrics["difference"] = round(difference.mean, 4)
        metrics["difference_low"] = round(difference.low, 4)
        metrics["difference_high"] = round(difference.high, 4)
        if not math.isnan(entry.pair.p_holm):
            metrics["p_holm"] = float(f"{entry.pair.p_holm:.4g}")
    metrics["nll"] = round(summary.nll, 6)
    metrics["ece"] = round(summary.ece, 6)
    metrics["brier"] = round(summary.brier, 6)
    metrics["parameters"] = summary.parameters
    metrics["macs"] = summary.macs
    return metrics


def mean_validation_accuracy(runs: Sequence[Run]) -> pd.Series:
    """Return the validation accuracy of each epoch that every run reached, in [0, 1], the mean."""
    curves = [run.history.set_index("epoch")["validation_accuracy"] for run in runs]
    return pd.concat(curves, axis=1, join="inner").mean(axis=1)


def learning_curves_table(candidate: Sequence[Run], baseline: Sequence[Run]) -> pd.DataFrame:
    """Return epoch, candidate and baseline: mean validation accuracies in [0, 1], for DVC.

    It ends with the first run that ended: DVC would draw a missing value as 0.
    """
    curves = {
        "candidate": mean_validation_accuracy(candidate),
        "baseline": mean_validation_accuracy(baseline),
    }
    return pd.concat(curves, axis=1, join="inner").rename_axis("epoch").reset_index()


def predictions_table(runs: Sequence[Run], classes: Sequence[str]) -> pd.DataFrame:
    """Return actual and predicted class of every test image of every run, for DVC."""
    names = np.array(classes, dtype=object)
    actual = np.concatenate([run.labels for run in runs])
    predicted = np.concatenate([run.logits.argmax(axis=1) for run in runs])
    return pd.DataFrame({"actual": names[actual], "predicted": names[predicted]})


def _summary_cells(summary: Summary) -> dict[str, Any]:
    return {
        "runs": len(summary.accuracies),
        "accuracy": summary.accuracy.mean,
        "accuracy_sd": summary.accuracy_sd,
        "accuracy_low": summary.accuracy.low,
        "accuracy_high": summary.accuracy.high,
        "confidence": summary.accuracy.confidence,
        "nll": summary.nll,
        "ece": summary.ece,
        "brier": summary.brier,
        "parameters": summary.parameters,
        "macs": summary.macs,
        "latency_ms": summary.latency_ms,
        "throughput": summary.throughput,
        "training_seconds": summary.training_seconds,
    }


def _pair_cells(entry: Entry, comparison: Comparison) -> dict[str, Any]:
    pair = entry.pair
    return {
        "baseline": pair.baseline if pair else None,
        "difference": pair.difference.mean if pair else None,
        "difference_low": pair.difference.low if pair else None,
        "difference_high": pair.difference.high if pair else None,
        "interval_method": pair.difference.method if pair else None,
        "p": pair.p if pair else None,
        "p_holm": pair.p_holm if pair else None,
        "p_margin_holm": pair.p_margin_holm if pair else None,
        "gained": np.mean([run.gained for run in pair.mcnemar]) if pair else None,
        "lost": np.mean([run.lost for run in pair.mcnemar]) if pair else None,
        "smallest_detectable": pair.smallest_detectable if pair else None,
        "verdict": doubts.judged(pair, comparison) if pair else None,
        "confounders": " ".join(pair.confounders) if pair else None,
    }


def _pairs(comparison: Comparison) -> list[Pair]:
    return [entry.pair for entry in comparison.entries.values() if entry.pair]


def _ensemble_name(ensemble: Ensemble) -> str:
    return ensemble.label
