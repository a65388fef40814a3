"""Means over images, and over random networks and images, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes a second to import

from pipeline.statistics.holm import holm

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """Means over images with their intervals, float64 of one shape; NaN where there is none."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    images: np.ndarray  # int64: how many have a value


@dataclass(frozen=True)
class Differences:
    """Means of paired differences, tested against 0; float64 (M,), NaN where there is none."""

    mean: np.ndarray
    low: np.ndarray  # ends of an interval that excludes 0 where `p_holm` is below 0.05
    high: np.ndarray
    p: np.ndarray  # two-sided, of no true difference
    p_holm: np.ndarray  # the same, corrected for the number of differences


def mean_over_images(values: np.ndarray, lowest: float, highest: float) -> Mean:
    """Return the mean of each column with Student's interval of 95 % for it.

    `values` are float (N, ...), of N images, NaN where an image has no value. The interval is cut
    at the `lowest` and the `highest` that a value can be.
    """
    mean, error, images = _mean_and_error(values)
    half = stdtrit(images - 1, (1 + CONFIDENCE) / 2) * error  # NaN for a single image
    return Mean(mean, np.maximum(mean - half, lowest), np.minimum(mean + half, highest), images)


def mean_differences(differences: np.ndarray) -> Differences:
    """Return the mean of each column with Student's interval and test, corrected for their number.

    The family-wise error is 5 % (`holm`): each interval has the confidence of the step at which its
    difference is tested. Where no image differs p is 1.

    Args:
        differences: float (N, M), of N images, M paired differences of values in [0, 1].
    """
    mean, error, images = _mean_and_error(differences)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * stdtr(images - 1, -np.abs(mean) / error)
    p = np.where((mean == 0) & (error == 0), 1.0, p)
    steps = holm(p.tolist(), 1 - CONFIDENCE)
    half = -stdtrit(images - 1, np.array([step.error for step in steps]) / 2) * error
    return Differences(
        mean,
        low=np.maximum(mean - half, -1),
        high=np.minimum(mean + half, 1),
        p=p,
        p_holm=np.array([step.p for step in steps]),
    )


def mean_over_networks_and_images(values: np.ndarray, lowest: float, highest: float) -> Mean:
    """Return the mean over random networks and images, with an interval of 95 % for both.

    Both are samples. The variance is that of the networks' means over their number plus that of the
    images' means over theirs. That counts what is left over, of one network and image, once too
    often, as Cameron, Gelbach and Miller subtract (Journal of Business & Economic Statistics 29,
    2011), and the degrees of freedom are those of the networks alone: the interval errs on the wide
    side, whatever is missing.

    Args:
        values: float (R, N), of R networks and N images, NaN where there is no value.
        lowest: what a value can be: the interval is cut there.
        highest: the same.
    """
    known = np.isfinite(values)
    images = known.any(axis=0).sum()
    if not images:
        nan = np.array(np.nan)
        return Mean(nan, nan, nan, images)
    mean = np.array(values[known].mean())
    _, error_of_images, _ = _mean_and_error(_mean_and_error(values)[0])
    _, error_of_networks, networks = _mean_and_error(_mean_and_error(values.T)[0])
    error = np.hypot(error_of_images, error_of_networks)
    half = stdtrit(networks - 1, (1 + CONFIDENCE) / 2) * error
    return Mean(mean, np.maximum(mean - half, lowest), np.minimum(mean + half, highest), images)


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean and standard error of each column of float (N, ...), and how many are known."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0).sum(axis=0) / count
        squares = np.where(known, (values - mean) ** 2, 0).sum(axis=0)
        return mean, np.sqrt(squares / (count - 1) / count), count
