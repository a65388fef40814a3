"""How far a measured difference in accuracy can be trusted: the paired bootstrap.

Intervals are BCa, bias-corrected and accelerated: Efron and Tibshirani, An Introduction to the
Bootstrap (1993), chapter 14. Two sources of variation are resampled, the runs and the test images.
How they are drawn follows from the design: `CROSSED` where all runs are tested on the same images,
`NESTED` where each run has images of its own, as in cross-validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.stats import binomtest, norm

IntervalMethod = Literal["bca", "percentile", "exact"]

DRAWN_AT_ONCE = 2**22  # counts of 8 bytes: many patterns and resamples must not fill the memory


@dataclass(frozen=True)
class Estimate:
    """A mean over all images of all runs with its bootstrap interval, in percentage points."""

    mean: float
    low: float  # end of the interval
    high: float
    standard_error: float  # standard deviation of the resampled means
    confidence: float  # coverage of the interval, such as 0.95
    runs: int  # how many
    method: IntervalMethod  # plain percentiles of the resampled means where BCa is not defined


@dataclass(frozen=True)
class Resampling:
    """How runs and images are drawn."""

    # of integers (N_r,) for each run, a number of resamples and a generator: the means (resamples,)
    means: Callable[[Sequence[np.ndarray], int, np.random.Generator], np.ndarray]
    # of the same integers, for each source of variation: how much each of its members moves the
    # mean, float (members,), which is what the jackknife estimates
    influences: Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    resampling: Resampling  # `CROSSED` or `NESTED`
    confidence: float  # coverage of the interval, such as 0.95
    resamples: int  # how many
    seed: int  # of the resampling


def paired_gains(
    candidate: Sequence[np.ndarray], baseline: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return what a candidate wins over its baseline, int8 (N_r,) in {-1, 0, 1} for each run.

    Args:
        candidate: bool (N_r,) for each run r, whether it got the run's test image n right.
        baseline: the same, on the same images in the same runs.

    Raises:
        ValueError: if the two do not have the same runs of the same lengths.
    """
    shapes = [[run.shape for run in correct] for correct in (candidate, baseline)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"a paired comparison needs the same images in each run, not {shapes}")
    return [
        ours.astype(np.int8) - theirs.astype(np.int8)
        for ours, theirs in zip(candidate, baseline, strict=True)
    ]


def accuracy_estimate(correct: Sequence[np.ndarray], bootstrap: Bootstrap) -> Estimate:
    """Estimate an accuracy from `correct`, bool (N_r,) for each run; see `bootstrap_mean`.

    Where all answers are right, or all wrong, no resampling shows how sure that is: the interval is
    then the exact binomial one (Clopper and Pearson, Biometrika 26, 1934) of the largest run.
    """
    estimate = bootstrap_mean([run.astype(np.int8) for run in correct], bootstrap)
    if estimate.low < estimate.high or estimate.mean not in (0, 100):
        return estimate
    images = max(map(len, correct))
    right = images if estimate.mean else 0
    exact = binomtest(right, images).proportion_ci(bootstrap.confidence, method="exact")
    low, high = 100 * float(exact.low), 100 * float(exact.high)
    return replace(estimate, low=low, high=high, method="exact")


def recall_difference(
    gains: Sequence[np.ndarray], members: Sequence[np.ndarray], bootstrap: Bootstrap
) -> Estimate:
    """Estimate the difference of one class's recall, from that class's images alone.

    Args:
        gains: int8 (N_r,) for each run, from `paired_gains`.
        members: bool (N_r,) for each run, which images are of the class.
        bootstrap: how the interval is made.

    Returns:
        The difference over the runs that have images of the class; NaN if none has.
    """
    chosen = [run[member] for run, member in zip(gains, members, strict=True) if np.any(member)]
    if not chosen:
        nan = math.nan
        return Estimate(nan, nan, nan, nan, bootstrap.confidence, 0, "percentile")
    return bootstrap_mean(chosen, bootstrap)


def bootstrap_mean(values: Sequence[np.ndarray], bootstrap: Bootstrap) -> Estimate:
    """Estimate 100 times the mean of `values`, integers (N_r,) for each run.

    Of `paired_gains` it is how much more accurate a candidate is than its baseline.

    Raises:
        ValueError: if there is no run, or one of them is empty.
    """
    if not values or any(run.ndim != 1 or run.size == 0 for run in values):
        shapes = [run.shape for run in values]
        raise ValueError(f"expected runs with (images,), none of them empty, got shapes {shapes}")
    generator = np.random.default_rng(bootstrap.seed)
    means = bootstrap.resampling.means(values, bootstrap.resamples, generator)
    # One division of integers, as in the resampled means: equal means are equal to the last bit.
    mean = sum(int(run.sum()) for run in values) / sum(map(len, values))
    tail = (1 - bootstrap.confidence) / 2
    tails = np.array([tail, 1 - tail])
    levels = _bca_levels(means, mean, bootstrap.resampling.influences(values), tails)
    low, high = 100 * np.quantile(means, tails if levels is None else levels)
    return Estimate(
        mean=100 * mean,
        low=low.item(),
        high=high.item(),
        standard_error=100 * float(means.std()),
        confidence=bootstrap.confidence,
        runs=len(values),
        method="percentile" if levels is None else "bca",
    )


def crossed_means(
    values: Sequence[np.ndarray], resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the means (resamples,) of integers (N,) for each run, of the same images in order.

    Every run was tested on the same images, so one draw of images holds for all runs. Images with
    the same values in every run are interchangeable, so how often each such group is drawn is
    itself multinomial: the same distribution as drawing images, at a fraction of the work.
    """
    by_run = np.stack(values)  # (R, N)
    runs, images = by_run.shape
    patterns, counts = np.unique(by_run.T, axis=0, return_counts=True)  # (G, R), (G,)
    shares, integers = counts / images, patterns.astype(np.float64)  # a fast product, still exact
    parts = np.array_split(np.arange(resamples), -(-resamples * len(counts) // DRAWN_AT_ONCE))
    per_run = np.concatenate(  # (B, R)
        [generator.multinomial(images, shares, size=len(part)) @ integers for part in parts]
    )
    run_weights = generator.multinomial(runs, np.full(runs, 1 / runs), size=resamples)  # (B, R)
    return (per_run * run_weights).sum(axis=1) / (runs * images)


def crossed_influences(values: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return how much each run (R,) and each image (N,) moves the mean; see `crossed_means`."""
    by_run = np.stack(values)  # (R, N)
    mean = by_run.mean()
    return by_run.mean(axis=1) - mean, by_run.mean(axis=0) - mean


def nested_means(
    values: Sequence[np.ndarray], resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the means (resamples,) of integers (N_r,) for each run, drawing runs, then images.

    This is for cross-validation: each run has test images of its own, and the mean is that over
    all images drawn. The runs share training images, which no resampling of their results can
    undo: "No unbiased estimator of the variance of k-fold cross-validation" exists (Bengio and
    Grandvalet, Journal of Machine Learning Research 5, 2004), so the interval is approximate.
    """
    runs = len(values)
    drawn = generator.multinomial(runs, np.full(runs, 1 / runs), size=resamples)  # (B, R)
    totals = np.zeros(resamples, np.int64)
    for times, run in zip(drawn.T, values, strict=True):
        # As often as the run is drawn, so often are its images: one larger draw.
        kinds, counts = np.unique(run, return_counts=True)  # (G,), (G,)
        images = times * len(run)  # (B,)
        totals += generator.multinomial(images, counts / len(run)) @ kinds.astype(np.int64)
    return totals / (drawn @ np.array([len(run) for run in values]))


def nested_influences(values: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return how much each run (R,) and each image of a run (sum of N_r,) moves the mean."""
    sizes = np.array([len(run) for run in values])
    means = np.array([run.mean() for run in values])
    overall = np.average(means, weights=sizes)
    images = [run - mean for run, mean in zip(values, means, strict=True)]
    return (means - overall) * sizes / sizes.mean(), np.concatenate(images)


CROSSED = Resampling(crossed_means, crossed_influences)
NESTED = Resampling(nested_means, nested_influences)


def _bca_levels(
    means: np.ndarray, mean: float, influences: Sequence[np.ndarray], tails: np.ndarray
) -> np.ndarray | None:
    """Return which quantiles of the resampled means stand for `tails`, or None where none do.

    Equations 14.9, 14.10, 14.14 and 14.15 of Efron and Tibshirani; the acceleration is taken over
    all sources of variation, as for the several samples of `scipy.stats.bootstrap`. `mean` is that
    of the data, `influences` are those of `Resampling`.
    """
    below = (np.mean(means < mean) + np.mean(means <= mean)) / 2
    variance = sum((moved**2).sum() / len(moved) ** 2 for moved in influences)
    if not 0 < below < 1 or variance == 0:
        return None
    third = sum((moved**3).sum() / len(moved) ** 3 for moved in influences)
    acceleration = third / (6 * variance**1.5)
    bias = norm.ppf(below)
    shifted = bias + norm.ppf(tails)
    stretch = 1 - acceleration * shifted
    if (stretch <= 0).any():
        return None
    return np.asarray(norm.cdf(bias + shifted / stretch))
