"""How the runs of an architecture belong together, and what follows from it for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.comparison.runs import Run
from pipeline.evaluation.metrics import classification_metrics
from pipeline.statistics.gain import Gain, folds_gain, trained_gain

MEASURES = ("precision", "recall", "f1")

ClassScores = dict[str, dict[str, float]]
# Gets bool (N_r,) for each run of the candidate and of its baseline, what each image counts, float
# (N_r,), and the confidence.
OfRuns = Sequence[np.ndarray]
GainOfRuns = Callable[[OfRuns, OfRuns, OfRuns, float], Gain]


@dataclass(frozen=True)
class Design:
    """How an experiment with several runs of each architecture was laid out."""

    unit: str  # what a run stands for: ``seed`` or ``fold``
    same_images: bool  # whether all runs are tested on the same images
    gain: GainOfRuns  # how the gain of a candidate is estimated
    described: Callable[[int], str]  # names a number of runs, such as ``3 seeds``
    # of the runs of one architecture: the labels int64 (N,) of all its different test images
    test_labels: Callable[[Sequence[Run]], np.ndarray]
    # of the same and the classes: for each class precision, recall and f1 in [0, 1] and support,
    # the number of its test images
    class_scores: Callable[[Sequence[Run], Sequence[str]], ClassScores]


def _mean_scores(runs: Sequence[Run], classes: Sequence[str]) -> ClassScores:
    """Return the means over runs."""
    scores: ClassScores = {}
    for name in classes:
        found = [run.metrics.per_class[name] for run in runs]
        scores[name] = {m: float(np.mean([getattr(run, m) for run in found])) for m in MEASURES}
        scores[name]["support"] = found[0].support
    return scores


def _all_labels(runs: Sequence[Run]) -> np.ndarray:
    return np.concatenate([run.labels for run in runs])


def _pooled_scores(runs: Sequence[Run], classes: Sequence[str]) -> ClassScores:
    """Return the scores of all predictions together: a class may be rare in a single fold."""
    logits = np.concatenate([run.logits for run in runs])
    found = classification_metrics(logits, _all_labels(runs), tuple(classes))
    return {name: dict(scores) for name, scores in found.per_class.items()}


def _gain_of_seeds(candidate: OfRuns, baseline: OfRuns, weights: OfRuns, confidence: float) -> Gain:
    return trained_gain(np.stack(candidate), np.stack(baseline), confidence, weights[0])


def _gain_of_folds(candidate: OfRuns, baseline: OfRuns, weights: OfRuns, confidence: float) -> Gain:
    both = zip(candidate, baseline, strict=True)
    return folds_gain([ours.astype(np.int8) - theirs for ours, theirs in both], confidence, weights)


REPEATED = Design(
    unit="seed",
    same_images=True,
    gain=_gain_of_seeds,
    described=lambda count: "1 seed" if count == 1 else f"{count} seeds",
    test_labels=lambda runs: runs[0].labels,
    class_scores=_mean_scores,
)

CROSS_VALIDATED = Design(
    unit="fold",
    same_images=False,
    gain=_gain_of_folds,
    described=lambda count: f"{count}-fold cross-validation",
    test_labels=_all_labels,
    class_scores=_pooled_scores,
)
