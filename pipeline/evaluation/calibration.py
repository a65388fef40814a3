"""Whether the probabilities that a classifier states come true.

The expected calibration error is that of Guo, Pleiss, Sun and Weinberger, On Calibration of Modern
Neural Networks, https://arxiv.org/abs/1706.04599, section 2; the Brier score is that of Brier,
Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78 (1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Predictions in `BINS` bins of equal width by their confidence, the highest probability.

    Bin m holds the confidences in (m / BINS, (m + 1) / BINS].
    """

    counts: np.ndarray  # int64 (BINS,), predictions in the bin
    confidence: np.ndarray  # float64 (BINS,), their mean confidence in [0, 1]; NaN in an empty bin
    accuracy: np.ndarray  # float64 (BINS,), the share of them that is right; NaN in an empty bin

    @property
    def excess(self) -> float:
        """Mean confidence minus accuracy, in [-1, 1]: above 0 where the network is too sure."""
        return float(np.nansum(self.counts * (self.confidence - self.accuracy)) / self.counts.sum())


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """Compare stated confidence with accuracy, bin by bin.

    Args:
        probabilities: float (N, K), of each class; rows sum to 1.
        labels: int (N,), in [0, K).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    # Inner edges only: a confidence that rounding took past 1 is still in the last bin.
    bins = np.searchsorted(np.arange(1, BINS) / BINS, confidence, side="left")
    return _means(
        np.bincount(bins, minlength=BINS),
        np.bincount(bins, weights=confidence, minlength=BINS),
        np.bincount(bins, weights=correct, minlength=BINS),
    )


def pooled(parts: Sequence[Reliability]) -> Reliability:
    """Return the reliability of all predictions of `parts` together."""
    return _means(
        np.sum([part.counts for part in parts], axis=0),
        np.nansum([part.counts * part.confidence for part in parts], axis=0),
        np.nansum([part.counts * part.accuracy for part in parts], axis=0),
    )


def expected_calibration_error(found: Reliability) -> float:
    """Return the mean distance of confidence and accuracy, in [0, 1]: equation 3 of Guo et al."""
    distances = np.abs(found.confidence - found.accuracy)
    return float(np.nansum(found.counts * distances) / found.counts.sum())


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the squared distance of probabilities and truth, summed over classes, in [0, 2].

    The arguments are those of `reliability`.
    """
    right = probabilities[np.arange(len(labels)), labels]
    return float(((probabilities**2).sum(axis=1) - 2 * right + 1).mean())


def _means(counts: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> Reliability:
    """Return the reliability from each bin's count and sums."""
    divisor = np.where(counts > 0, counts, np.nan)
    return Reliability(counts, confidence / divisor, correct / divisor)
