"""What would make a reader doubt an answer, and when it does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from pipeline.comparison.compare import Comparison, Pair
from pipeline.comparison.runs import Run

# Weights that differ by a smaller share of their mean are all the same.
DEAD_BELOW = 0.01

# A schedule has ended at a smaller share of its highest learning rate.
ANNEALED = 0.08


def majority_class_accuracy(comparison: Comparison) -> float:
    """Return the accuracy in percent of predicting the most frequent class every time."""
    labels = comparison.design.test_labels(next(iter(comparison.runs.values())))
    return 100 * float(np.bincount(labels).max()) / len(labels)


def not_better_than_majority(comparison: Comparison, models: Iterable[str]) -> list[str]:
    """Return those of `models` that are not certainly better than `majority_class_accuracy`."""
    if comparison.criteria.judged_by != "accuracy":  # the most frequent class gets 1 / K
        return []
    reached = majority_class_accuracy(comparison)
    return [model for model in models if comparison.entries[model].summary.accuracy.low <= reached]


def unbalanced(support: Sequence[int]) -> bool:
    """Tell whether the largest class has more than twice the test images of the smallest."""
    tested = [images for images in support if images]
    return max(tested) > 2 * min(tested)


def dead(modules: pd.DataFrame) -> list[str]:
    """Return which modules of ``attention_variation.csv`` weight all alike in every image."""
    even = modules["sd_between"] <= DEAD_BELOW * modules["mean"]
    return list(modules["module"][modules["constant"] & even])


def still_improving(comparison: Comparison) -> list[str]:
    """Return the architectures whose last epoch was the best in most runs.

    Those whose schedule lowered the learning rate to nearly 0 are none: as a rule their last epoch
    is the best, of however many.
    """

    def improves(run: Run) -> bool:
        rates = run.history["learning_rate"]
        last_is_best = run.training.best_epoch == run.training.epochs
        return last_is_best and rates.iloc[-1] > ANNEALED * rates.max()

    return [
        model for model, runs in comparison.runs.items() if 2 * sum(map(improves, runs)) > len(runs)
    ]


def pairs(comparison: Comparison, first: str) -> list[Pair]:
    """Return all pairs of a comparison, that of the architecture `first` before the others."""
    return sorted(comparison.pairs, key=lambda pair: pair.model != first)
