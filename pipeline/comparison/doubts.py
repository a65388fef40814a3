"""What would make a reader doubt an answer, and when it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from pipeline.comparison.compare import READ_BY, Comparison, Pair
from pipeline.comparison.summary import confusion_counts

# Weights that differ by a smaller share of their mean are all the same.
IDLE_BELOW = 0.01


def majority_class_accuracy(comparison: Comparison) -> float:
    """Return the accuracy in percent of predicting the most frequent class every time."""
    labels = comparison.design.test_labels(next(iter(comparison.runs.values())))
    return 100 * float(np.bincount(labels).max()) / len(labels)


def no_better_than_guessing(comparison: Comparison, models: Iterable[str]) -> list[str]:
    """Return those of `models` that can't be distinguished from guessing.

    They are not certainly better than `majority_class_accuracy`, nor is their mean recall certainly
    better than 1 / K: where one class is much more frequent than the others, good networks too may
    do no better than predicting it every time.
    """
    quantile = norm.ppf(1 - (1 - comparison.judgement.confidence) / 2)
    guessing = []
    for model in not_better_than_majority(comparison, models):
        recalls, images = _recalls(comparison, model)
        if comparison.design.same_images:
            images = images / len(comparison.runs[model])
        error = np.sqrt((recalls * (1 - recalls) / images).sum()) / len(recalls)
        if recalls.mean() - quantile * error <= 1 / len(recalls):
            guessing.append(model)
    return guessing


def not_better_than_majority(comparison: Comparison, models: Iterable[str]) -> list[str]:
    """Return those of `models` that are not certainly better than `majority_class_accuracy`."""
    reached = majority_class_accuracy(comparison)
    return [model for model in models if comparison.entries[model].summary.accuracy.low <= reached]


def mean_recall(comparison: Comparison, model: str) -> float:
    """Return the mean recall of the classes in percent, each counting the same."""
    return 100 * float(_recalls(comparison, model)[0].mean())


def _recalls(comparison: Comparison, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Return recall in [0, 1] and number of images of each class that has some, over all runs."""
    counts = confusion_counts(comparison.runs[model])  # (K, K)
    images = counts.sum(axis=1)
    tested = images > 0
    return np.diag(counts)[tested] / images[tested], images[tested]


def same_settings(pair: Pair, architectures: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the two of a pair are one architecture under two names."""
    model, baseline = (architectures[name] for name in (pair.model, pair.baseline))
    attention = model.get("attention", "none")
    read = ("attention", *READ_BY[attention])
    return not pair.confounders and all(model.get(key) == baseline.get(key) for key in read)


def judged(pair: Pair, comparison: Comparison) -> str:
    """Return a pair's verdict, or in two words why there can be none.

    Every table and figure asks here, so that no two contradict each other.
    """
    if no_better_than_guessing(comparison, (pair.model, pair.baseline)):
        return "nothing learnt"
    if same_settings(pair, comparison.architectures):
        return "same settings"
    return pair.verdict


def distinguishable(candidate: np.ndarray, baseline: np.ndarray) -> bool:
    """Return whether two costs, float (R,), differ by more than runs do: they don't overlap."""
    if min(len(candidate), len(baseline)) < 2:
        return False
    return bool(candidate.min() > baseline.max() or candidate.max() < baseline.min())


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
