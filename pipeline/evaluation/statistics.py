"""How far a measured difference in accuracy can be trusted: paired bootstrap and verdict.

The percentile bootstrap is that of Efron and Tibshirani, An Introduction to the Bootstrap (1993),
chapter 13; both sources of chance, the test images and the training seeds, are resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["pays", "does not pay", "undecided"]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and images with its bootstrap interval, all in percentage points."""

    mean: float
    low: float
    high: float
    standard_error: float
    confidence: float
    seeds: int
    images: int


@dataclass(frozen=True)
class Difference(Estimate):
    """Accuracy of a candidate minus that of its baseline, in percentage points."""


def paired_difference(
    correct_candidate: np.ndarray,
    correct_baseline: np.ndarray,
    confidence: float,
    resamples: int,
    seed: int,
) -> Difference:
    """Estimate how much more accurate a candidate is than its baseline.

    Args:
        correct_candidate: bool (S, N), whether seed s of the candidate got test image n right.
        correct_baseline: bool (S, N), the same for the baseline, on the same images and seeds.
        confidence: coverage of the interval, such as 0.95.
        resamples: the number of bootstrap resamples.
        seed: of the resampling.

    Raises:
        ValueError: if the two do not have the same two-dimensional shape.
    """
    if correct_candidate.shape != correct_baseline.shape:
        shapes = f"{correct_candidate.shape} and {correct_baseline.shape}"
        raise ValueError(f"a paired comparison needs equal shapes (seeds, images), not {shapes}")
    gained = correct_candidate.astype(np.int8) - correct_baseline.astype(np.int8)
    return Difference(*_bootstrapped(gained, confidence, resamples, seed))


def accuracy_estimate(
    correct: np.ndarray, confidence: float, resamples: int, seed: int
) -> Estimate:
    """Estimate an accuracy from `correct`, bool (S, N); see `paired_difference`."""
    return Estimate(*_bootstrapped(correct.astype(np.int8), confidence, resamples, seed))


def verdict(difference: Estimate, margin: float) -> Verdict:
    """Say whether a difference is worth having.

    It pays if the whole interval lies above 0. Otherwise it does not pay if the whole interval
    lies below `margin`: an improvement as large as that is then excluded. Otherwise the data
    leave it undecided. A single seed decides nothing: it doesn't show how much seeds differ.

    Args:
        difference: in percentage points.
        margin: the smallest improvement, in percentage points, that would matter.
    """
    if difference.seeds < 2:
        return "undecided"
    if difference.low > 0:
        return "pays"
    if difference.high < margin:
        return "does not pay"
    return "undecided"


def _bootstrapped(
    values: np.ndarray, confidence: float, resamples: int, seed: int
) -> tuple[float, float, float, float, float, int, int]:
    """Return the fields of `Estimate` for the mean of `values`, integers (S, N)."""
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"expected (seeds, images), neither of them 0, got shape {values.shape}")
    seeds, images = values.shape
    means = 100 * _resampled_means(values, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    mean = 100 * float(values.mean())
    return mean, float(low), float(high), float(means.std()), confidence, seeds, images


def _resampled_means(
    values: np.ndarray, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the means (resamples,) of `values` (S, N) with seeds and images drawn anew.

    Images with the same values in every seed are interchangeable, so how often each such group is
    drawn is itself multinomial: the same distribution as drawing images, at a fraction of the work.
    """
    seeds, images = values.shape
    patterns, counts = np.unique(values.T, axis=0, return_counts=True)  # (G, S), (G,)
    image_weights = generator.multinomial(images, counts / images, size=resamples)  # (R, G)
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)  # (R, S)
    per_seed = image_weights @ patterns  # (R, S)
    return (per_seed * seed_weights).sum(axis=1) / (seeds * images)
