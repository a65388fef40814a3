"""The mean over images with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """Means over images with their intervals, float64 of one shape; NaN where there is none."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    images: np.ndarray  # int64: how many have a value


def mean_over_images(values: np.ndarray, lowest: float, highest: float) -> Mean:
    """Return the mean of each column with Student's interval of 95 % for it.

    `values` are float (N, ...), of N images, NaN where an image has no value. The interval is cut
    at the `lowest` and the `highest` that a value can be.
    """
    known = np.isfinite(values)
    images = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0).sum(axis=0) / images
        squares = np.where(known, (values - mean) ** 2, 0).sum(axis=0)
        error = np.sqrt(squares / (images - 1) / images)
    half = t.ppf((1 + CONFIDENCE) / 2, images - 1) * error  # NaN for a single image
    return Mean(mean, np.maximum(mean - half, lowest), np.minimum(mean + half, highest), images)
