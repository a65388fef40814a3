"""What would make a reader doubt an answer, and when it does."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from pipeline.comparison.compare import Comparison, Pair
from pipeline.comparison.summary import confusion_counts

# Weights that differ by a smaller share of their mean are all the same.
IDLE_BELOW = 0.01


def majority_class_accuracy(comparison: Comparison) -> float:
    """Return the accuracy in percent of predicting the most frequent class every time."""
    labels = comparison.design.test_labels(next(iter(comparison.runs.values())))
    return 100 * float(np.bincount(labels).max()) / len(labels)


def not_better_than_majority(comparison: Comparison, models: Iterable[str]) -> list[str]:
    """Return those of `models` that are not certainly better than `majority_class_accuracy`."""
    reached = majority_class_accuracy(comparison)
    return [model for model in models if comparison.entries[model].summary.accuracy.low <= reached]


def mean_recall(comparison: Comparison, model: str) -> float:
    """Return the mean recall in percent of the classes that were tested, each counting the same."""
    counts = confusion_counts(comparison.runs[model])  # (K, K)
    images = counts.sum(axis=1)
    tested = images > 0
    return 100 * float((np.diag(counts)[tested] / images[tested]).mean())


def idle(modules: pd.DataFrame) -> list[str]:
    """Return which modules of ``attention_variation.csv`` weight all alike in every image."""
    even = modules["sd_between"] <= IDLE_BELOW * modules["mean"]
    return list(modules["module"][modules["constant"] & even])


def still_improving(comparison: Comparison) -> list[str]:
    """Return the architectures whose last epoch was the best in every run."""
    return [
        model
        for model, runs in comparison.runs.items()
        if all(run.training.best_epoch == run.training.epochs for run in runs)
    ]


def pairs(comparison: Comparison, first: str) -> list[Pair]:
    """Return all pairs of a comparison, that of the architecture `first` before the others."""
    return sorted(comparison.pairs, key=lambda pair: pair.model != first)
