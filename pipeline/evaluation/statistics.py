"""How far a measured difference in accuracy can be trusted: paired bootstrap and verdict.

The percentile bootstrap is that of Efron and Tibshirani, An Introduction to the Bootstrap (1993),
chapter 13. Two sources of chance are resampled, the runs and the test images. How they are drawn
follows from the design: `crossed_means` where all runs are tested on the same images,
`nested_means` where each run has images of its own, as in cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["pays", "does not pay", "undecided"]

# Gets integers (N_r,) for each run, the number of resamples and the generator; returns the means
# (resamples,) of what was drawn.
Resampling = Callable[[Sequence[np.ndarray], int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A mean over all images of all runs with its bootstrap interval, in percentage points."""

    mean: float
    low: float
    high: float
    standard_error: float
    confidence: float
    runs: int


@dataclass(frozen=True)
class Difference(Estimate):
    """Accuracy of a candidate minus that of its baseline, in percentage points."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        resampling: how runs and images are drawn: `crossed_means` or `nested_means`.
        confidence: coverage of the interval, such as 0.95.
        resamples: the number of bootstrap resamples.
        seed: of the resampling.
    """

    resampling: Resampling
    confidence: float
    resamples: int
    seed: int


def paired_difference(
    correct_candidate: Sequence[np.ndarray],
    correct_baseline: Sequence[np.ndarray],
    bootstrap: Bootstrap,
) -> Difference:
    """Estimate how much more accurate a candidate is than its baseline.

    Args:
        correct_candidate: bool (N_r,) for each run r, whether the candidate got the run's test
            image n right.
        correct_baseline: the same for the baseline, on the same images in the same runs.
        bootstrap: how the interval is made.

    Raises:
        ValueError: if the two do not have the same runs of the same lengths.
    """
    shapes = [[run.shape for run in correct] for correct in (correct_candidate, correct_baseline)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"a paired comparison needs the same images in each run, not {shapes}")
    gained = [
        candidate.astype(np.int8) - baseline.astype(np.int8)
        for candidate, baseline in zip(correct_candidate, correct_baseline, strict=True)
    ]
    return Difference(*_bootstrapped(gained, bootstrap))


def accuracy_estimate(correct: Sequence[np.ndarray], bootstrap: Bootstrap) -> Estimate:
    """Estimate an accuracy from `correct`, bool (N_r,) for each run; see `paired_difference`."""
    return Estimate(*_bootstrapped([run.astype(np.int8) for run in correct], bootstrap))


def verdict(difference: Estimate, margin: float) -> Verdict:
    """Say whether a difference is worth having.

    It pays if the whole interval lies above 0. Otherwise it does not pay if the whole interval
    lies below `margin`: an improvement as large as that is then excluded. Otherwise the data
    leave it undecided. A single run decides nothing: it doesn't show how much runs differ. Nor do
    networks that never disagree: their interval has no width, however few the images.

    Args:
        difference: in percentage points.
        margin: the smallest improvement, in percentage points, that would matter.
    """
    if difference.runs < 2 or difference.low == difference.high:
        return "undecided"
    if difference.low > 0:
        return "pays"
    if difference.high < margin:
        return "does not pay"
    return "undecided"


def crossed_means(
    values: Sequence[np.ndarray], resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the means (resamples,) of integers with runs and images drawn anew.

    Every run was tested on the same images, so one draw of images holds for all runs. Images with
    the same values in every run are interchangeable, so how often each such group is drawn is
    itself multinomial: the same distribution as drawing images, at a fraction of the work.

    Args:
        values: integers (N,) for each run, of the same images in the same order.
        resamples: the number of means.
        generator: of the draws.
    """
    by_run = np.stack(values)  # (R, N)
    runs, images = by_run.shape
    patterns, counts = np.unique(by_run.T, axis=0, return_counts=True)  # (G, R), (G,)
    image_weights = generator.multinomial(images, counts / images, size=resamples)  # (B, G)
    run_weights = generator.multinomial(runs, np.full(runs, 1 / runs), size=resamples)  # (B, R)
    per_run = image_weights @ patterns  # (B, R)
    return (per_run * run_weights).sum(axis=1) / (runs * images)


def nested_means(
    values: Sequence[np.ndarray], resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the means (resamples,) of integers with runs drawn anew, then images in each of them.

    This is for cross-validation: each run has test images of its own, and the mean is that over
    all images drawn. The runs share training images, which no resampling of their results can
    undo: "No unbiased estimator of the variance of k-fold cross-validation" exists (Bengio and
    Grandvalet, Journal of Machine Learning Research 5, 2004), so the interval is approximate.

    Args:
        values: integers (N_r,) for each run; the numbers of images may differ.
        resamples: the number of means.
        generator: of the draws.
    """
    runs = len(values)
    drawn = generator.multinomial(runs, np.full(runs, 1 / runs), size=resamples)  # (B, R)
    totals = np.zeros(resamples, np.int64)
    for run, of_run in enumerate(values):
        # As often as the run is drawn, so often its images are drawn afresh: one larger draw.
        kinds, counts = np.unique(of_run, return_counts=True)  # (G,), (G,)
        images = drawn[:, run] * len(of_run)  # (B,)
        totals += generator.multinomial(images, counts / len(of_run)) @ kinds.astype(np.int64)
    return totals / (drawn @ np.array([len(of_run) for of_run in values]))


def _bootstrapped(
    values: Sequence[np.ndarray], bootstrap: Bootstrap
) -> tuple[float, float, float, float, float, int]:
    """Return the fields of `Estimate` for the mean of `values`, integers (N_r,) for each run."""
    if not values or any(of_run.ndim != 1 or of_run.size == 0 for of_run in values):
        shapes = [of_run.shape for of_run in values]
        raise ValueError(f"expected runs with (images,), none of them empty, got shapes {shapes}")
    generator = np.random.default_rng(bootstrap.seed)
    means = 100 * bootstrap.resampling(values, bootstrap.resamples, generator)
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    mean = 100 * float(np.concatenate(values).mean())
    return mean, float(low), float(high), float(means.std()), bootstrap.confidence, len(values)
