"""The comparison as tables: what stands in the CSV files and in metrics.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.compare import Comparison, Pair
from pipeline.comparison.design import MEASURES
from pipeline.comparison.runs import Run
from pipeline.comparison.summary import Summary
from pipeline.evaluation.calibration import BINS
from pipeline.statistics.looking import Looking

PAIR_COLUMNS = (
    *("baseline", "difference", "difference_low", "difference_high", "p", "p_corrected"),
    *("degrees_of_freedom", "sd_between_seeds", "gained", "lost", "verdict", "reason"),
    *("differs_in", "confounded"),
)
SUMMARY_COLUMNS = (
    *("nll", "ece", "brier", "parameters", "macs", "latency_ms", "throughput"),
    *("training_throughput", "training_seconds", "inference_memory", "training_memory"),
)
VERDICT_NUMBERS = ("gain", "low", "high", "p", "p_corrected", "degrees_of_freedom")


def report_tables(comparison: Comparison) -> dict[str, pd.DataFrame]:
    """Return the tables in the folder ``tables/``, by name."""
    return {
        "runs": runs_table(comparison.runs),
        "per_class": per_class_table(comparison),
        "pairs": pairs_table(comparison),
        "class_differences": class_differences_table(comparison),
        "calibration": calibration_table(comparison),
        "timings": timings_table(comparison.runs),
    }


def plots(comparison: Comparison, candidate: str) -> dict[str, pd.DataFrame]:
    """Return what DVC draws plots of, by name; ``confusion.csv`` has a row for each answer."""
    runs, classes = comparison.runs[candidate], comparison.classes
    pair, names = comparison.entries[candidate].pair, np.array(classes, dtype=object)
    scores = comparison.design.class_scores(runs, classes)
    reliability = comparison.entries[candidate].summary.reliability
    used = reliability.counts > 0  # DVC would draw a missing value as 0
    return {
        # without a baseline the candidate is drawn beside itself: DVC's plot needs both columns
        "learning_curves": learning_curves_table(
            runs, comparison.runs[pair.baseline if pair else candidate]
        ),
        "confusion": pd.DataFrame(
            {
                "actual": names[np.concatenate([run.labels for run in runs])],
                "predicted": names[np.concatenate([run.logits.argmax(axis=1) for run in runs])],
            }
        ),
        "mistakes": pd.DataFrame(
            {"class": classes, "missed": [100 * (1 - scores[name]["recall"]) for name in classes]}
        ),
        "reliability": pd.DataFrame(
            {
                "confidence": reliability.confidence[used],
                "accuracy": reliability.accuracy[used],
                "perfect": reliability.confidence[used],
            }
        ),
    }


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each architecture, then for each further pair, then for each ensemble.

    Accuracies are in percent: that by which is judged (`judged_by` names it), with its standard
    deviation over `runs` runs and its interval, that of images (plain) and that of classes
    (balanced). Differences and gains are in percentage points, the expected calibration error (ece)
    is in [0, 1], memory in bytes. `kind` is architecture, pair (with a baseline but the first) or
    ensemble; `gained` and `lost` are means over runs: the images that only the architecture, or
    only its baseline, got right.
    """
    judged = {"judged_by": comparison.criteria.judged_by}
    architectures = [
        {"model": entry.model, "kind": "architecture", "members": None, **judged}
        | _summary_cells(entry.summary)
        | _looking_cells(entry.looking)
        | (_pair_cells(entry.pair) if entry.pair else {})
        for entry in comparison.entries.values()
    ]
    ensembles = [
        {"model": one.label, "kind": "ensemble", "members": " ".join(one.members), **judged}
        | {"gain": one.gain}
        | _summary_cells(one.summary)
        for one in comparison.ensembles
    ]
    further = [
        {"model": entry.model, "kind": "pair"} | _pair_cells(pair)
        for entry in comparison.entries.values()
        for pair in entry.pairs[1:]
    ]
    columns = [*architectures[0], *PAIR_COLUMNS, "gain"]
    return pd.DataFrame(
        [*architectures, *further, *ensembles], columns=list(dict.fromkeys(columns))
    )


def runs_table(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Return one row for each run: its results, its best epoch, and where it ran.

    `wall_seconds` is how long its epochs took, with whatever ran beside them.
    """
    return pd.DataFrame(
        {
            "model": run.model,
            "seed": run.seed,
            "test_images": len(run.labels),
            "test_accuracy": 100 * run.metrics.accuracy,
            "balanced_accuracy": 100 * run.metrics.balanced_accuracy,
            "nll": run.metrics.nll,
            "macro_f1": run.metrics.macro_f1,
            "validation_accuracy": 100 * run.training.validation_accuracy,
            "best_epoch": run.training.best_epoch,
            "epochs": run.training.epochs,
            "stopped_early": run.training.stopped_early,
            "wall_seconds": run.history["seconds"].sum(),
            "precision": run.training.precision,
            "device": run.training.device_name,
        }
        for runs_of_one in runs.values()
        for run in runs_of_one
    )


def timings_table(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Return one row for each architecture and round of measuring."""
    tables = (
        pd.DataFrame(
            {
                "model": model,
                "round": np.arange(len(first.timings.latencies)) + 1,
                "latency_ms": first.timings.latencies,
                "throughput": first.timings.throughputs,
                "training_throughput": first.timings.training_throughputs,
                "device": first.timings.device_name,
            }
        )
        for model, (first, *_) in runs.items()
    )
    return pd.concat(tables, ignore_index=True)


def per_class_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each architecture and class, scores in [0, 1]."""
    class_scores, classes = comparison.design.class_scores, comparison.classes
    return pd.DataFrame(
        {"model": model, "class": name, **{of: scores[of] for of in ("support", *MEASURES)}}
        for model, runs in comparison.runs.items()
        for name, scores in class_scores(runs, classes).items()
    )


def pairs_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each pair and run: its gain in points, images gained and lost."""
    return pd.DataFrame(
        [
            (pair.model, pair.baseline, run.seed, *found)
            for pair in comparison.pairs
            for run, *found in zip(
                comparison.runs[pair.model],
                pair.gain.gain_by_seed,
                pair.gained,
                pair.lost,
                strict=True,
            )
        ],
        columns=["model", "baseline", "seed", "gain", "gained", "lost"],
    )


def class_differences_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each pair and class: its images and the recall's difference in points."""
    ends = ["difference", "difference_low", "difference_high"]
    return pd.DataFrame(
        [
            (pair.model, pair.baseline, one.name, one.images, gain.mean, gain.low, gain.high)
            for pair in comparison.pairs
            for one in pair.by_class
            for gain in [one.difference]
        ],
        columns=["model", "baseline", "class", "images", *ends],
    )


def calibration_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each architecture or ensemble and bin of confidence.

    `bin_low` and `bin_high` are the edges, `count` the answers in the bin over all runs,
    `confidence` and `accuracy` their means in [0, 1], none in an empty bin.
    """
    edges = np.arange(BINS + 1) / BINS
    named = [(entry.model, entry.summary) for entry in comparison.entries.values()]
    named += [(ensemble.label, ensemble.summary) for ensemble in comparison.ensembles]
    tables = (
        pd.DataFrame(
            {"model": name, "bin_low": edges[:-1], "bin_high": edges[1:]}
            | vars(summary.reliability)
        )
        for name, summary in named
    )
    return pd.concat(tables, ignore_index=True).rename(columns={"counts": "count"})


def headline_metrics(comparison: Comparison, candidate: str) -> dict[str, float | str]:
    """Return the candidate's numbers for DVC: accuracies in percent, differences in points.

    To choose between experiments there are those on the validation images: who chooses by test
    accuracy can't report it any more. What does not exist is left out: the standard deviation and p
    of a single run, the difference of an architecture without a baseline.
    """
    entry = comparison.entries[candidate]
    summary, pair = entry.summary, entry.pair
    validated = _validation_accuracy(comparison.runs[candidate])
    metrics: dict[str, float | str] = {
        "judged_by": comparison.criteria.judged_by,
        "accuracy": round(summary.plain_accuracy, 4),
        "accuracy_sd": round(summary.plain_accuracy_sd, 4),
        "balanced_accuracy": round(summary.balanced_accuracy, 4),
        "validation_accuracy": round(validated, 4),
    }
    if pair:
        baseline = _validation_accuracy(comparison.runs[pair.baseline])
        metrics["validation_difference"] = round(validated - baseline, 4)
        metrics |= {
            "difference": round(pair.gain.gain, 4),
            "difference_low": round(pair.gain.low, 4),
            "difference_high": round(pair.gain.high, 4),
            "p_corrected": float(f"{pair.gain.p_corrected:.4g}"),
            "verdict": pair.judgement.outcome,
        }
        if pair.judgement.reason:
            metrics["reason"] = pair.judgement.reason
    if entry.looking:
        metrics["looks_at_image"] = entry.looking.looks
    metrics |= {name: round(getattr(summary, name), 6) for name in ("nll", "ece", "brier")}
    # no times: all engines write the same bytes
    exact = ("parameters", "macs", "inference_memory", "training_memory")
    metrics |= {name: getattr(summary, name) for name in exact}
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, str) or not math.isnan(value)
    }


def _validation_accuracy(runs: Sequence[Run]) -> float:
    """Return the mean over runs, in percent, of each one's best epoch."""
    return 100 * float(np.mean([run.training.validation_accuracy for run in runs]))


def verdicts(comparison: Comparison) -> dict[str, Any]:
    """Return ``verdict.json``: what came of each pair and of each network with attention.

    What does not exist is null.
    """
    return {
        "pairs": [
            {
                "model": pair.model,
                "baseline": pair.baseline,
                "differs_in": list(pair.differs_in),
                **{name: _number(getattr(pair.gain, name)) for name in VERDICT_NUMBERS},
                "seeds": pair.gain.seeds,
                "images": pair.gain.images,
                "confidence": pair.gain.confidence,
                "margin": comparison.criteria.margin,
                "verdict": pair.judgement.outcome,
                "reason": pair.judgement.reason,
                "gain_by_seed": list(pair.gain.gain_by_seed),
            }
            for pair in comparison.pairs
        ],
        "networks": {
            entry.model: {
                "looks_at_image": entry.looking.looks,
                "frozen_loss": vars(entry.looking.frozen),
                "shuffled_loss": vars(entry.looking.shuffled),
                "modules": sum(entry.modules.values()),
                "constant_modules": entry.modules["constant"] + entry.modules["dead"],
                "dead_modules": entry.modules["dead"],
            }
            for entry in comparison.entries.values()
            if entry.looking
        },
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def learning_curves_table(candidate: Sequence[Run], baseline: Sequence[Run]) -> pd.DataFrame:
    """Return epoch, candidate and baseline: mean validation accuracies in [0, 1], for DVC.

    It ends with the first run that ended: DVC would draw a missing value as 0.
    """
    curves = {
        name: pd.concat(
            [run.history.set_index("epoch")["validation_accuracy"] for run in runs],
            axis=1,
            join="inner",
        ).mean(axis=1)
        for name, runs in (("candidate", candidate), ("baseline", baseline))
    }
    return pd.concat(curves, axis=1, join="inner").rename_axis("epoch").reset_index()


def _summary_cells(summary: Summary) -> dict[str, Any]:
    return {
        "runs": len(summary.accuracies),
        "accuracy": summary.accuracy.mean,
        "accuracy_sd": summary.accuracy_sd,
        "accuracy_low": summary.accuracy.low,
        "accuracy_high": summary.accuracy.high,
        "confidence": summary.accuracy.confidence,
        "plain_accuracy": summary.plain_accuracy,
        "balanced_accuracy": summary.balanced_accuracy,
        **{name: getattr(summary, name) for name in SUMMARY_COLUMNS},
    }


def _looking_cells(looking: Looking | None) -> dict[str, Any]:
    return {
        "looks_at_image": looking.looks if looking else None,
        "frozen_loss": looking.frozen.loss if looking else math.nan,
        "shuffled_loss": looking.shuffled.loss if looking else math.nan,
    }


def _pair_cells(pair: Pair) -> dict[str, Any]:
    return {
        "baseline": pair.baseline,
        "difference": pair.gain.gain,
        "difference_low": pair.gain.low,
        "difference_high": pair.gain.high,
        "p": pair.gain.p,
        "p_corrected": pair.gain.p_corrected,
        "degrees_of_freedom": pair.gain.degrees_of_freedom,
        "sd_between_seeds": pair.gain.sd_between_seeds,
        "gained": np.mean(pair.gained),
        "lost": np.mean(pair.lost),
        "verdict": pair.judgement.outcome,
        "reason": pair.judgement.reason,
        "differs_in": " ".join(pair.differs_in),
        "confounded": pair.confounded,
    }
