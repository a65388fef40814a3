"""Accuracies with their intervals, from the same layout and the same t as a gain's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from pipeline.statistics.gain import POINTS, Gain, changed_gain, folds_gain


@dataclass(frozen=True)
class Estimate:
    """An accuracy in percent, or a difference in points; NaN where there is nothing to know."""

    mean: float  # over all images of all runs
    low: float  # end of the interval
    high: float
    confidence: float  # coverage of the interval, such as 0.95


def accuracy_estimate(
    correct: Sequence[np.ndarray], same_images: bool, confidence: float
) -> Estimate:
    """Return the accuracy in percent, with seeds and images as random factors.

    Of a single run the interval is Wilson's, Journal of the American Statistical Association 22
    (1927), and says nothing of other runs.

    Args:
        correct: bool (N_r,) for each run, whether it got its test image n right.
        same_images: whether all runs were tested on the same images; else they are folds.
        confidence: of the interval.
    """
    if len(correct) == 1:
        right, images = int(correct[0].sum()), len(correct[0])
        found = binomtest(right, images).proportion_ci(confidence, method="wilson")
        accuracy, low, high = (POINTS * float(of) for of in (right / images, found.low, found.high))
        return Estimate(accuracy, low, high, confidence)
    if same_images:
        found = changed_gain(np.stack(correct), confidence)
    else:
        found = folds_gain(correct, confidence)
    return Estimate(found.gain, max(found.low, 0), min(found.high, POINTS), confidence)


def as_estimate(gain: Gain) -> Estimate:
    """Return a gain and its interval alone."""
    return Estimate(gain.gain, gain.low, gain.high, gain.confidence)
