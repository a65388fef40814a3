"""Accuracies with their intervals, from the same layout and the same t as a gain's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.statistics.gain import POINTS, Gain, changed_gain, folds_gain


@dataclass(frozen=True)
class Estimate:
    """An accuracy in percent, or a difference in points; NaN where there is nothing to know."""

    mean: float  # over all images of all runs
    low: float  # end of the interval
    high: float
    confidence: float  # coverage of the interval, such as 0.95


def balancing_weights(labels: np.ndarray) -> np.ndarray:
    """Return what each image has to count for all classes to count the same, float (N,).

    The mean is 1, and the weighted mean of what is right is the balanced accuracy: the mean recall
    of the classes that there are (Brodersen, Ong, Stephan and Buhmann, ICPR 2010).

    Args:
        labels: int (N,), the true classes.
    """
    _, member, images = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(images) * images))[member]


def accuracy_estimate(
    correct: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    same_images: bool,
    confidence: float,
) -> Estimate:
    """Return the accuracy in percent, with seeds and images as random factors.

    Of a single run the interval is Wilson's, Journal of the American Statistical Association 22
    (1927), and says nothing of other runs; where images count differently, it is that of as many
    as they are worth (Kish, Survey Sampling, 1965).

    Args:
        correct: bool (N_r,) for each run, whether it got its test image n right.
        weights: float (N_r,) for each run, what each image counts, 1 in the mean.
        same_images: whether all runs were tested on the same images; else they are folds.
        confidence: of the interval.
    """
    if len(correct) == 1:
        from scipy.stats import binomtest  # takes a second to import, and a single run is rare

        accuracy = float((weights[0] * correct[0]).mean())
        images = round(len(correct[0]) / float((weights[0] ** 2).mean()))
        found = binomtest(round(accuracy * images), images).proportion_ci(confidence, "wilson")
        return Estimate(POINTS * accuracy, POINTS * found.low, POINTS * found.high, confidence)
    if same_images:
        found = changed_gain(np.stack(correct), confidence, weights[0])
    else:
        found = folds_gain(correct, confidence, weights)
    return Estimate(found.gain, max(found.low, 0), min(found.high, POINTS), confidence)


def as_estimate(gain: Gain) -> Estimate:
    """Return a gain and its interval alone."""
    return Estimate(gain.gain, gain.low, gain.high, gain.confidence)
